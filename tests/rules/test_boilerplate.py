"""boilerplate: lines that many documents share go, after one look at the whole corpus in bounded memory."""

from __future__ import annotations

import random

from tests.contracts.rule_contract import RuleContract
from textmill.rules import RULES, Rule, find_rules, surveyed
from textmill.rules.boilerplate import Boilerplate, Shared

NOTICE = "Subscribe to our newsletter for more of this"
DOCUMENTS = [f"Story number {i} is told here.\n{NOTICE}\n  The end of story {i}.\nYes!\n" for i in range(20)]


class TestBoilerplate(RuleContract):
    rule = RULES["boilerplate"]
    changed = []  # noqa: RUF012


def ready(written: str, documents: list[str]) -> Rule:
    *_, rule = surveyed(find_rules(written), lambda: documents)
    return rule


def test_a_line_that_many_documents_share_goes_and_short_ones_stay() -> None:
    outcome = ready("boilerplate", DOCUMENTS).apply(DOCUMENTS[3])
    assert outcome.text == "Story number 3 is told here.\n  The end of story 3.\nYes!\n"
    assert (outcome.changes, outcome.counts) == (1, {"lines": 1, "characters": len(NOTICE)})


def test_share_and_number_of_documents_decide_together() -> None:
    some = [*DOCUMENTS[:4], *(f"Another text, number {i}." for i in range(12))]
    assert (
        ready("boilerplate(share=0.2)", some).apply(DOCUMENTS[0]).changes == 0
    )  # in 4 of 16, but in fewer than 5
    assert ready("boilerplate(0.2, documents=4)", some).apply(DOCUMENTS[0]).changes == 1
    assert (
        ready("boilerplate(0.25, documents=4)", some).apply(DOCUMENTS[0]).changes == 0
    )  # not more than a quarter
    assert ready("boilerplate(characters=100)", DOCUMENTS).apply(DOCUMENTS[0]).changes == 0


def test_a_line_counts_once_for_each_document_and_blanks_make_no_difference() -> None:
    refrain = ["\n".join([NOTICE] * 30), *(f"Another text, number {i}." for i in range(9))]
    assert ready("boilerplate(documents=2)", refrain).apply(refrain[0]).changes == 0
    spaced = [text.replace(NOTICE, NOTICE.replace(" ", "  ") + " ") for text in DOCUMENTS[:10]] + DOCUMENTS[
        10:
    ]
    assert ready("boilerplate(0.9)", spaced).apply(spaced[0]).changes == 1


def test_paragraphs_can_be_the_unit() -> None:
    texts = [
        f"One line {i}.\nAnother line.\n\n{NOTICE}\nin two lines\n\nLast words {i}.\n" for i in range(10)
    ]
    outcome = ready("boilerplate(unit=paragraph)", texts).apply(texts[0])
    assert outcome.text == "One line 0.\nAnother line.\n\nLast words 0.\n"
    assert outcome.counts["paragraphs"] == 1


def test_it_sees_what_the_rules_before_it_left() -> None:
    dated = [text.replace(NOTICE, f"{NOTICE} {1000 + i}") for i, text in enumerate(DOCUMENTS)]
    assert ready("boilerplate", dated).apply(dated[0]).changes == 0
    rules = surveyed(find_rules("mask_digits, max_length(200), boilerplate"), lambda: [*dated, "x" * 300])
    assert rules[-1].apply(f"{NOTICE} 0000\n").changes == 1


def test_a_corpus_without_such_a_rule_is_not_read() -> None:
    def never() -> list[str]:
        raise AssertionError

    assert [rule.name for rule in surveyed(find_rules("whitespace"), never)] == ["whitespace"]


def test_memory_is_bounded_and_no_line_is_dropped_that_is_not_frequent() -> None:
    draw = random.Random(5)
    texts = []
    for i in range(400):
        lines = [f"this line is rare, number {draw.random()}" for _ in range(50)]
        lines += [NOTICE] * (i % 2) + ["every third text has this"] * (i % 3 == 0)
        texts.append("\n".join(lines))
    survey = Boilerplate(Shared.of(share=0.4), most=2000)
    for text in texts:
        survey.add(text)
        assert len(survey._counts) <= 2000
    assert 0 < survey.missed <= 20  # 20,000 lines, of which each time 1,000 and more gave way
    assert survey.apply(texts[1]).changes == 1
    assert "every third" in survey.apply(texts[3]).text


def test_parts_of_a_corpus_are_surveyed_apart_and_merged() -> None:
    whole, first, second = Boilerplate(), Boilerplate(), Boilerplate()
    for i, text in enumerate(DOCUMENTS):
        whole.add(text)
        (first if i % 2 else second).add(text)
    first.merge(second)
    assert first._counts == whole._counts
    assert first.documents == 20
    assert first.apply(DOCUMENTS[0]) == whole.apply(DOCUMENTS[0])
