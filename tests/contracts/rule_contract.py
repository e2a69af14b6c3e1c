"""What every rule must do. A new rule's test class inherits RuleContract and supplies `rule` and `changed`.

class TestMine(RuleContract):
    rule = RULES["mine"]
    changed = [("before", "after"), …]     # what the rule is for, one pair for each thing it does
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from textmill.rules import RENDERERS, RULES, Rule

ANY_TEXT = st.text(
    st.sampled_from("aZé 9\t\n\r.,'\"[]{}<>:|—…&\u00a0\u200b") | st.characters(codec="utf-8"), max_size=200
)

# A property is checked by a function inside the test: hypothesis refuses one method run by several classes.
HYPOTHESIS = settings(max_examples=150, deadline=None)


class RuleContract:
    rule: ClassVar[Rule]
    changed: ClassVar[list[tuple[str, str]]]

    def test_it_is_in_the_table_under_its_name(self) -> None:
        assert RULES[self.rule.name] is self.rule
        assert self.rule.help.endswith(".")
        assert self.rule.render in ("", *RENDERERS)

    def test_what_it_is_for(self) -> None:
        for before, after in self.changed:
            outcome = self.rule.apply(before)
            assert outcome.text == after
            assert outcome.changes > 0, before

    def test_its_own_output_is_left_alone(self) -> None:
        for _, after in self.changed:
            outcome = self.rule.apply(after)
            assert outcome.text == after
            assert outcome.changes == 0, after

    def test_an_empty_text_stays_empty(self) -> None:
        outcome = self.rule.apply("")
        assert (outcome.text, outcome.changes) == ("", 0)

    def test_any_text_is_taken_and_a_change_is_counted(self) -> None:
        @HYPOTHESIS
        @given(ANY_TEXT)
        def check(text: str) -> None:
            outcome = self.rule.apply(text)
            assert (outcome.changes > 0) == (outcome.text != text)
            assert all(count >= 0 for count in outcome.counts.values())

        check()

    def test_twice_is_as_once(self) -> None:
        @HYPOTHESIS
        @given(ANY_TEXT)
        def check(text: str) -> None:
            once = self.rule.apply(text).text
            assert self.rule.apply(once).text == once

        check()

    def test_the_same_text_gives_the_same_outcome(self) -> None:
        for before, _ in self.changed:
            assert self.rule.apply(before) == self.rule.apply(before)
