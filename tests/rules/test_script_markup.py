"""script_markup: layouts -> S1's tokens, tokens -> reading, and what holds for any text and any tokens."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.rule_contract import RuleContract
from textmill.rules import RULES, render
from textmill.rules.script_markup import TOKENS, apply, to_script

PLAY = """\
\tTHE MILL

\tDRAMATIS PERSONAE

MOLL\ta miller. (MOLL:)

TOBY\t|
\t|  her sons.
SAM\t|

\tA Pedlar,

SCENE\tA mill.

\tTHE MILL

ACT I

SCENE I\tThe mill-house.
\tNight.

\t[Enter MOLL and TOBY, with
\ta lamp]

MOLL\tIs it late? I can't say 'late'.
\tThe river's low!

TOBY\t[Aside]  O'er the hill--
\t[Thunder]
\tthere's one, two... three.

\t[Exit]

OLD
UNCLE SAM\tHush, you sleep-
\twalkers.

MOLL\t|
\t|  Good night.
TOBY\t|

\tA long pause (very long).
"""

MARKED = """\
<open-exp> THE MILL <close-exp>
<open-exp> DRAMATIS PERSONAE <close-exp>
<open-exp> MOLL , a miller <eos> <close-exp>
<open-exp> TOBY and SAM , her sons <eos> <close-exp>
<open-exp> A Pedlar <close-exp>
<open-exp> SCENE <eos> A mill <eos> <close-exp>
<open-exp> ACT I <close-exp>
<open-exp> SCENE I <eos> The mill-house <eos> Night <eos> <close-exp>
<open-exp> Enter MOLL and TOBY , with a lamp <close-exp>
<boname> MOLL <eoname> Is it late <question> I can 't say <boquote> late <eoquote> <eos> The river 's low <exclamation>
<boname> TOBY <eoname> <open-brack> Aside <close-brack> O 'er the hill -- <open-brack> Thunder <close-brack> \
there 's one , two <ellipsis> three <eos>
<open-exp> Exit <close-exp>
<boname> OLD_UNCLE_SAM <eoname> Hush , you sleep-walkers <eos>
<boname> MOLL_AND_TOBY <eoname> Good night <eos> A long pause ( very long ) <eos>
<eoepisode>
"""

READ = """\
{{ THE MILL }}
{{ DRAMATIS PERSONAE }}
{{ MOLL, a miller. }}
{{ TOBY and SAM, her sons. }}
{{ A Pedlar }}
{{ SCENE. A mill. }}
{{ ACT I }}
{{ SCENE I. The mill-house. Night. }}
{{ Enter MOLL and TOBY, with a lamp }}
[ MOLL ]: Is it late? I can't say 'late'. The river's low!
[ TOBY ]: [Aside] O'er the hill--[Thunder] there's one, two... three.
{{ Exit }}
[ OLD UNCLE SAM ]: Hush, you sleep-walkers.
[ MOLL AND TOBY ]: Good night. A long pause (very long).
"""


def lines(text: str) -> list[str]:
    """The marked-up lines of a text, without the end of the episode."""
    return apply(text).text.removesuffix("<eoepisode>\n").splitlines()


class TestScriptMarkup(RuleContract):
    rule = RULES["script_markup"]
    changed = [(PLAY, MARKED)]  # noqa: RUF012


def test_all_thirteen_tokens_are_made() -> None:
    assert set(TOKENS) == {token for token in MARKED.split() if token in TOKENS}
    assert len(TOKENS) == 13


def test_it_reads_well_again() -> None:
    assert to_script(MARKED) == READ
    assert render("script", MARKED) == READ
    assert render("", MARKED) == MARKED


def test_what_is_read_can_be_marked_up_again() -> None:
    assert apply(READ).text == MARKED


def test_what_was_recognized_is_counted() -> None:
    assert apply(PLAY + "\nWhat is this doing here?\n").counts == {
        "speeches": 4,
        "expositions": 11,
        "directions": 2,
        "heads": 3,
        "cast": 3,
        "running_titles": 1,
        "unrecognized": 1,
    }


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("MOLL: Well, then.", ["<boname> MOLL <eoname> Well , then <eos>"]),
        ("[ MOLL ]:  words . .\n{{ She goes }} .", [
            "<boname> MOLL <eoname> words <eos>", "<open-exp> She goes <close-exp>",
        ]),
        ("MOLL (aside): Well.", ["<boname> MOLL <eoname> <open-brack> aside <close-brack> Well <eos>"]),
        ("MOLL: One.\nTOBY grumbles.\nTOBY: Two.", [
            "<boname> MOLL <eoname> One <eos>", "<open-exp> TOBY grumbles <eos> <close-exp>",
            "<boname> TOBY <eoname> Two <eos>",
        ]),
        ("MOLL: One: two,\nand three.\n\nTOBY: Four.\n\n(Exit TOBY)\n\nMOLL: Five.", [
            "<boname> MOLL <eoname> One : two , and three <eos>", "<boname> TOBY <eoname> Four <eos>",
            "<open-exp> Exit TOBY <close-exp>", "<boname> MOLL <eoname> Five <eos>",
        ]),
        ("First Citizen:\nBefore we go:\nhear me.\n\nAll:\nSpeak: speak.\n\nServants, &c:\nAy.", [
            "<boname> FIRST_CITIZEN <eoname> Before we go : hear me <eos>",
            "<boname> ALL <eoname> Speak : speak <eos>", "<boname> SERVANTS_&C <eoname> Ay <eos>",
        ]),
        ("MOLL: [sits] Well.\n[ Thunder,\nfar away ]\nMOLL: Oh.", [
            "<boname> MOLL <eoname> <open-brack> sits <close-brack> Well <eos>",
            "<open-exp> Thunder , far away <close-exp>", "<boname> MOLL <eoname> Oh <eos>",
        ]),
        ("SCENE II: A street.\nMOLL: Well.", [
            "<open-exp> SCENE II <eos> A street <eos> <close-exp>", "<boname> MOLL <eoname> Well <eos>",
        ]),
        ("Nobody speaks here,\nnobody at all.\n\nOnly rain.", [
            "<open-exp> Nobody speaks here , nobody at all <eos> <close-exp>",
            "<open-exp> Only rain <eos> <close-exp>",
        ]),
    ],
)  # fmt: skip
def test_layouts(text: str, marked: list[str]) -> None:
    assert lines(text) == marked


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        ("They won't, o'er, king's, lords' 'tis", "They won 't , o 'er , king 's , lords ' 'tis"),
        ("What?! No... no…  no!", "What <question> <exclamation> No <ellipsis> no <ellipsis> no <exclamation>"),
        ("Go--now — or 3.50 at 10:30.", "Go -- now -- or 3.50 at 10:30 <eos>"),
        ("“Yes,” he said, ‘no’.", "<boquote> Yes , <eoquote> he said , <boquote> no <eoquote> <eos>"),
        ("'Go,' said he, 'the boys' ball.' Th' end", "<boquote> Go , <eoquote> said he , "
         "<boquote> the boys ' ball <eos> <eoquote> Th ' end"),
        ('a "b (c" d', "a <boquote> b ( c <eoquote> d"),
        ('an odd " mark', "an odd mark"),
        ("a <eos> <b> & c", "a < eos > < b > & c"),
        ("Mr. Fenn. . Yes.", "Mr <eos> Fenn <eos> Yes <eos>"),
        ("stray ] bracket", "stray bracket"),
    ],
)  # fmt: skip
def test_words_and_punctuation(words: str, marked: str) -> None:
    assert lines(f"MOLL\t{words}") == [f"<boname> MOLL <eoname> {marked}"]


def test_text_of_s1_is_mended() -> None:
    glued = ' <boname> GARED <eoname> Go <eos>" <boquote>The wall <eos>\n <open-exp> GARED grumbles <eos>\n'
    assert apply(glued).text == (
        '<boname> GARED <eoname> Go <eos> " <boquote> The wall <eos> <eoquote>\n'
        "<open-exp> GARED grumbles <eos> <close-exp>\n"
    )
    assert apply(glued).changes == 2


@pytest.mark.parametrize(
    ("markup", "read"),
    [
        (
            "<boname> A_B <eoname> yes <eos> <eos> <boname> C <eoname> no <question> <eos>",
            "[ A B ]: yes.\n[ C ]: no?\n",
        ),
        ("<boname> A <eoname> one , -- <eos> <boname> B <eoname> two", "[ A ]: one,--\n[ B ]: two\n"),
        (
            "<open-exp> he goes <boname> A <eoname> <open-brack> low <eos> yes",
            "{{ he goes }}\n[ A ]: [low. yes]\n",
        ),
        ("<boname> A said <question> <eoname> so", "[ A ]: said? so\n"),
        ("<boname> <unk> <eoname> the <unk> 's here", "[ SOMEONE ]: the ___'s here\n"),
        ("no name <eos> <close-exp> <eoname> ]x[ {y} <z>", "no name.\nx y z\n"),
        ("a <eos> <eoepisode> <eos> <eoepisode> b <eoepisode>", "a.\n\nb\n"),
        ("<boname> A <eoname> ( yes <open-brack> <close-brack> <boquote> no ) )", "[ A ]: (yes 'no)'\n"),
        ("", ""),
        ("<eos> <eos> <close-brack>", ""),
    ],
)
def test_reading_of_what_a_model_may_write(markup: str, read: str) -> None:
    assert to_script(markup) == read


WORD = st.sampled_from(
    ["yes", "'t", "'tis", "O", "MOLL_A", ",", "--", "-", "(", ")", "[", "{{", "<", ">", "<x>", '"', "<unk>"]
)
MARKUP = st.lists(st.sampled_from([*TOKENS, *TOKENS, "\n"]) | WORD, max_size=40).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(MARKUP)
def test_any_tokens_read_clean(markup: str) -> None:
    shown = to_script(markup)
    assert not re.search("<|>", shown), "raw markup"
    assert not re.search(r"\. *\.(?!\.)(?<!\.\.\.)", shown.replace("...", "…")), "a full stop after another"
    for line in shown.splitlines():
        assert balanced(line), line


@settings(max_examples=300, deadline=None)
@given(MARKUP)
def test_any_tokens_read_and_marked_up_are_balanced(markup: str) -> None:
    check_markup(apply(to_script(markup)).text)


SCRIPTISH = st.text(st.sampled_from("ABab \t\n'\".,?!:-[]{}()<>|…"), max_size=120)


@settings(max_examples=300, deadline=None)
@given(SCRIPTISH | MARKUP)
def test_any_text_is_marked_up_in_whole_lines(text: str) -> None:
    check_markup(apply(text).text)


def test_every_scene_of_the_sample_comes_back() -> None:
    scenes = sorted((Path(__file__).parents[2] / "samples" / "play").glob("*.txt"))
    assert scenes
    for scene in scenes:
        outcome = apply(scene.read_text(encoding="utf-8"))
        check_markup(outcome.text)
        assert outcome.counts["speeches"] > 10, scene.name
        assert outcome.counts.get("unrecognized", 0) == 0, scene.name
        made = outcome.text.splitlines()
        again = set(apply(to_script(outcome.text)).text.splitlines())
        lost = [line for line in made if line not in again]
        assert len(lost) <= len(made) // 50, (scene.name, lost)


@pytest.mark.slow
@pytest.mark.skipif("TEXTMILL_DATA" not in os.environ, reason="TEXTMILL_DATA names no folder of real texts")
def test_the_real_plays() -> None:
    counts: Counter[str] = Counter()
    made = lost = 0
    start = time.process_time()
    for play in sorted((Path(os.environ["TEXTMILL_DATA"]) / "shakespeare").glob("*.txt")):
        outcome = apply(play.read_text())
        counts.update(outcome.counts)
        check_markup(outcome.text)
        again = set(apply(to_script(outcome.text)).text.splitlines())
        made += len(outcome.text.splitlines())
        lost += sum(line not in again for line in outcome.text.splitlines())
    assert time.process_time() - start < 60
    assert counts["speeches"] > 31_000
    assert counts["unrecognized"] <= 1
    assert lost < made / 1000


def check_markup(text: str) -> None:
    """Each line is spoken or an exposition or the episode's end; pairs are nested; no token is glued."""
    for line in text.splitlines():
        tokens = line.split(" ")
        assert all(token in TOKENS or not any(t in token for t in TOKENS) for token in tokens), line
        if tokens == ["<eoepisode>"]:
            continue
        if tokens[0] == "<boname>":
            assert tokens[2] == "<eoname>", line
            inner = tokens[3:]
        else:
            assert (tokens[0], tokens[-1]) == ("<open-exp>", "<close-exp>"), line
            inner = tokens[1:-1]
        assert inner, line
        pairs = {"<close-brack>": "<open-brack>", "<eoquote>": "<boquote>"}
        stack = []
        for token in inner:
            assert token not in ("<boname>", "<eoname>", "<open-exp>", "<close-exp>", "<eoepisode>"), line
            if token in pairs.values():
                stack.append(token)
            elif token in pairs:
                assert stack.pop() == pairs[token], line
        assert not stack, line


def balanced(line: str) -> bool:
    stack = []
    for bracket in re.findall(r"\{\{|\}\}|[\[\](){}]", line):
        if bracket in ("{{", "[", "("):
            stack.append(bracket)
        elif not stack or {"{{": "}}", "[": "]", "(": ")"}[stack.pop()] != bracket:
            return False
    return not stack
