"""episode_cleanup: S5's steps, each alone and all in order; its two damages only when asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.rule_contract import RuleContract
from textmill.errors import SettingsError
from textmill.rules import RULES, find_rules, render

RAW = (
    "Ash and “Misty” don’t stop – they run… It’s 7:30 in {{episode|EP012}} <b>Pewter City</b>.. See "
    "https://wiki.example/EP012 or mail prof.oak@lab.example, said Oak (No. 25).\n\n  The   end.\n"
)


class TestEpisodeCleanup(RuleContract):
    rule = RULES["episode_cleanup"]
    changed = [  # noqa: RUF012
        (
            RAW,
            "Ash and \"Misty\" don't stop - they run It's 0:00 in Pewter City . See URL or mail EMAIL , "
            "said Oak ( No . 00 ) .\nThe end .\n",
        ),
        ("Half of it: ½", "Half of it : 0/0"),
    ]


class TestPlainSigns(RuleContract):
    rule = RULES["plain_signs"]
    changed = [  # noqa: RUF012
        ("“No,”\u00a0he\u2019d say — ½", '"No," he\'d say -- 1/2'),
        ("it\x92s \x93so\x94", 'it\'s "so"'),
    ]


class TestLowerCase(RuleContract):
    rule = RULES["lower_case"]
    changed = [("The END of Ümit", "the end of ümit")]  # noqa: RUF012


class TestDropQuotes(RuleContract):
    rule = RULES["drop_quotes"]
    changed = [('don\'t say "no" or “yes”', "dont say no or yes")]  # noqa: RUF012


class TestDropBraces(RuleContract):
    rule = RULES["drop_braces"]
    changed = [  # noqa: RUF012
        ("a {{main|b}} c {d{e}f}g", "a  c g"),
        ("keep this {not this} and this {nor this} too", "keep this  and this  too"),
        ("} open { {x}", "} open { "),
    ]


class TestDropTags(RuleContract):
    rule = RULES["drop_tags"]
    changed = [  # noqa: RUF012
        ('a<br/>b <a href="x">c</a> <!-- d -->', "a b  c   "),
        ("<p>I <3 you, 1 < 2 and 3 > 2</p>", " I <3 you, 1 < 2 and 3 > 2 "),
        ("a <b that ends on\nanother> line <i>", "a <b that ends on\nanother> line  "),
    ]


class TestDropEllipses(RuleContract):
    rule = RULES["drop_ellipses"]
    changed = [("Wait... what…no....", "Wait what no"), ("..… and …", " and ")]  # noqa: RUF012


class TestSingleStops(RuleContract):
    rule = RULES["single_stops"]
    changed = [("The end.. Or..", "The end. Or.")]  # noqa: RUF012

    def test_an_ellipsis_is_none_of_its_business(self) -> None:
        assert self.rule.apply("wait...").text == "wait..."


class TestPlainDashes(RuleContract):
    rule = RULES["plain_dashes"]
    changed = [("1990–95 — and -- so —-on", "1990-95 - and - so -on")]  # noqa: RUF012


class TestMaskLinks(RuleContract):
    rule = RULES["mask_links"]
    changed = [("(see http://a.b/c?d=1, or www.e.f).", "(see URL, or URL).")]  # noqa: RUF012


class TestMaskMail(RuleContract):
    rule = RULES["mask_mail"]
    changed = [("<a.b+c@d-e.co.uk>, mailto:x@y.de.", "<EMAIL>, EMAIL.")]  # noqa: RUF012


class TestMaskDigits(RuleContract):
    rule = RULES["mask_digits"]
    changed = [("in 1998, ٣ times", "in 0000, 0 times")]  # noqa: RUF012


class TestSpacedPunctuation(RuleContract):
    rule = RULES["spaced_punctuation"]
    changed = [  # noqa: RUF012
        ("Yes, no; (well!) 3.14 at 7:30?!", "Yes , no ; ( well ! ) 3.14 at 7:30 ?!"),
    ]


class TestCollapseBlanks(RuleContract):
    rule = RULES["collapse_blanks"]
    changed = [("a  b\t\tc \n\n  d\te", "a b c\nd e")]  # noqa: RUF012


def test_the_two_damages_are_done_only_when_asked_for() -> None:
    (damaging,) = find_rules("episode_cleanup(lower_case=yes, drop_quotes=yes, mask_digits=no)")
    assert damaging.apply("Don't go to “Room 7”!").text == "dont go to room 7 !"
    assert RULES["episode_cleanup"].apply("Don't go.").text == "Don't go ."


def test_counts_are_by_step_and_a_step_can_be_turned_off() -> None:
    assert RULES["episode_cleanup"].apply("See www.a.b on page 12…").counts == {
        "drop_ellipses": 1, "mask_links": 1, "mask_digits": 2,
    }  # fmt: skip
    (rule,) = find_rules("episode_cleanup(mask_links=off, mask_digits=no, spaced_punctuation=no)")
    assert rule.apply("See www.a.b on page 12.").text == "See www.a.b on page 12."
    with pytest.raises(
        SettingsError, match=r"unknown setting 'mask_links2' in rule episode_cleanup\. Did you mean"
    ):
        find_rules("episode_cleanup(mask_links2=no)")


def test_what_was_set_apart_is_joined_again_for_reading() -> None:
    text = "Ash ( and Misty ) ran . they won , at last ! the end ."
    assert render("sentences", text) == "Ash (and Misty) ran. They won, at last! The end."
    assert RULES["episode_cleanup"].render == RULES["spaced_punctuation"].render == "sentences"


STEPS = [name for name, rule in RULES.items() if rule.apply.__module__ == "textmill.rules.episode_cleanup"]
SIGNS = st.text(st.sampled_from("aZ1.,:@/w<>{}…–-'\"!( )\n“\x85½&"), max_size=60)


def test_thirteen_steps_and_their_set() -> None:
    assert len(STEPS) == 14
    assert set(STEPS) - {"episode_cleanup"} == set(RULES["episode_cleanup"].parameters.kinds())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", STEPS)
def test_signs_in_any_order_are_cleaned_once_and_for_all(name: str) -> None:
    rules = [RULES[name]]
    if name == "episode_cleanup":
        rules += find_rules("episode_cleanup(lower_case=yes, drop_quotes=yes)")

    @settings(max_examples=400, deadline=None)
    @given(SIGNS)
    def check(text: str) -> None:
        for rule in rules:
            once = rule.apply(text)
            assert (once.changes > 0) == (once.text != text)
            assert rule.apply(once.text).text == once.text

    check()
