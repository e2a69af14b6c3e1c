"""unicode_repair: broken encodings, entities, composed characters."""

from __future__ import annotations

from tests.contracts.rule_contract import RuleContract
from textmill.rules import RULES

apply = RULES["unicode_repair"].apply


class TestUnicodeRepair(RuleContract):
    rule = RULES["unicode_repair"]
    changed = [  # noqa: RUF012
        ("cafÃ© au lait\n", "café au lait\n"),
        ("e\u0301tude", "étude"),
        ("bread &amp; salt", "bread & salt"),
        ("“Yes,” he said, ‘no’.", "\"Yes,\" he said, 'no'."),
        ("ﬁre", "fire"),
        ("bell\x07", "bell"),
        ("a\r\nb", "a\nb"),
    ]


def test_plain_ascii_is_returned_as_it_is() -> None:
    text = "HAMLET\tTo be, or not to be: that is the question.\n" * 3
    assert apply(text).text is text


def test_changes_are_lines() -> None:
    assert apply("one\ncafÃ©\nthree\nnaÃ¯ve\n").changes == 2


def test_entities_stay_where_there_are_tags() -> None:
    assert apply("<p>bread &amp; salt</p>").text == "<p>bread &amp; salt</p>"


def test_a_line_end_that_was_repaired_parts_what_stands_around_it() -> None:
    """With its neighbour line the second would be read as mojibake once, and not the next time."""
    once = apply("\x9bß\r\x80").text
    assert once == "ݧ\n€"
    assert apply(once).text == once
