"""whitespace: what becomes of each kind of white space, and what stays."""

from __future__ import annotations

from tests.contracts.rule_contract import RuleContract
from textmill.rules import RULES

apply = RULES["whitespace"].apply


class TestWhitespace(RuleContract):
    rule = RULES["whitespace"]
    changed = [  # noqa: RUF012
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd\n"),
        ("a \t\nb  \n", "a\nb\n"),
        ("a   b\n", "a b\n"),
        ("a\u00a0b\u200bc\n", "a bc\n"),
        ("\n\na\n\n\n\nb\n\n", "a\n\nb\n"),
        ("no end", "no end\n"),
    ]


def test_tabs_and_indentation_stay() -> None:
    text = "HAMLET\tTo be,\n\tor not to be\n  indented\n\tif x:\n\t\treturn  \n"
    assert apply(text).text == text.replace("return  ", "return")


def test_a_text_of_blanks_becomes_empty() -> None:
    assert apply(" \n\t\n").text == ""


def test_kinds_are_counted() -> None:
    assert apply("a  b  c \n\n\n\nd").counts == {
        "trailing": 1, "double_spaces": 2, "blank_lines": 1, "document_ends": 1,
    }  # fmt: skip
