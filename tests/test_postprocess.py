"""Finished texts: whole sentences, so many characters, capitals; the same however a text comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textmill.postprocess import Finish, Finisher, count_characters, finished

FAMILY = "👩‍👩‍👧‍👦"  # one character of seven code points


def in_pieces(text: str, cuts: list[int], finish: Finish, prompt: int) -> tuple[str, str]:
    finisher, given_out, start = Finisher(finish, prompt), [], 0
    for cut in [*sorted(cuts), len(text)]:
        given_out.append(finisher.feed(text[start:cut]))
        start = cut
    return "".join([*given_out, finisher.close()]), finisher.reason


# --- whole sentences


@pytest.mark.parametrize(
    ("text", "cut", "reason"),
    [
        ("He ran. She hid. And th", "He ran. She hid.", "sentence"),
        ("He ran! She hid? Yes… an", "He ran! She hid? Yes…", "sentence"),
        ("He ran. She hid.", "He ran. She hid.", ""),
        ("He ran. She hid. \n", "He ran. She hid.", ""),
        ("no full stop at al", "no full stop at al", ""),  # S5 showed "." here
        ("", "", ""),
        (" \n", "", ""),
        ('He said: "Run." Then', 'He said: "Run."', "sentence"),
        ('"Where?" she said. Then', '"Where?" she said.', "sentence"),
        ("It is 3.5 miles. It", "It is 3.5 miles.", "sentence"),
        ("She ran. Mr. Tarry and Dr. No", "She ran.", "sentence"),
        ("mr . tarry slept . he w", "mr . tarry slept .", "sentence"),
        ("Wait. . . what? And", "Wait. . . what?", "sentence"),
        (
            "彼は走った。彼女は「待って！」と言った。それ",
            "彼は走った。彼女は「待って！」と言った。",
            "sentence",
        ),
    ],
)
def test_cut_after_the_last_full_sentence(text: str, cut: str, reason: str) -> None:
    assert finished(text, Finish(whole_sentences=True)) == (cut, reason)


def test_a_prompt_is_not_cut_into() -> None:
    prompt = "He ran. And then"
    assert finished(prompt + " she", Finish(whole_sentences=True), len(prompt)) == (prompt + " she", "")
    whole = prompt + " she hid."
    assert finished(whole + " It was", Finish(whole_sentences=True), len(prompt)) == (whole, "sentence")


@pytest.mark.parametrize(
    ("sentences", "kept", "reason"),
    [(1, "He ran.", "sentence"), (2, "He ran. She hid!", "sentence"), (3, "He ran. She hid! The en", "")],
)
def test_so_many_sentences(sentences: int, kept: str, reason: str) -> None:
    assert finished("He ran. She hid! The en", Finish(sentences=sentences)) == (kept, reason)


def test_sentences_of_the_prompt_are_not_counted() -> None:
    text = "One. Two. Three is short. Four."
    assert finished(text, Finish(sentences=1), len("One. Two. Three")) == (
        "One. Two. Three is short.",
        "sentence",
    )
    assert finished(text, Finish(sentences=1), len("One.")) == ("One. Two.", "sentence")


# --- characters


@pytest.mark.parametrize(
    ("text", "characters"),
    [("abc", 3), ("né", 2), ("ne\u0301", 2), (FAMILY, 1), ("🇫🇷🥖👍🏽", 3), ("a\r\nb", 3)],
)
def test_characters_are_counted_as_a_person_counts(text: str, characters: int) -> None:
    assert count_characters(text) == characters


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("short", 280, "short"),
        ("exactly ten", 11, "exactly ten"),
        ("one two three", 11, "one two"),  # at a word's end
        ("one two three", 7, "one two"),
        ("one two three", 6, "one"),
        ("unbreakable", 5, "unbre"),
        ("One two. Three four five", 15, "One two."),  # a sentence that fills half of the room is the end
        ("One. Three four five", 15, "One. Three four"),
        ("  padded  ", 6, "padded"),
        (FAMILY * 5, 3, FAMILY * 3),
        ("ne\u0301e ne\u0301e ne\u0301e", 7, "ne\u0301e ne\u0301e"),
        ("早い。遅い。とても遅い。", 6, "早い。遅い。"),
    ],
)
def test_at_most_so_many_characters(text: str, most: int, kept: str) -> None:
    assert finished(text, Finish(most_characters=most)) == (
        kept,
        "" if kept == text.strip() else "characters",
    )


def test_whole_sentences_come_before_a_full_room() -> None:
    text = "One. Three four five"
    assert finished(text, Finish(most_characters=15, whole_sentences=True)) == ("One.", "characters")


# --- capitals


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ash ran , and ran . misty hid .", "Ash ran, and ran. Misty hid."),
        ("he ran .", "He ran."),
        ("why ? no !", "Why? No!"),
        ('"who is it ?" he said .', '"Who is it?" he said.'),
        ("0 people came . then more", "0 people came. Then more"),
        ("version .5 is out .", "Version .5 is out."),
        ("élan . été", "Élan. Été"),
        ("ßa", "ßa"),
        ("( he ran , then ) .", "(He ran, then)."),
        ("the bell\n\nmaud ran .\n... and ran", "The bell\n\nMaud ran.\n... And ran"),
    ],
)
def test_recapitalized(text: str, shown: str) -> None:
    assert finished(text, Finish(recapitalize=True)) == (shown, "")


def test_cut_and_recapitalize_as_s5() -> None:
    text = "ash and pikachu were tired . they slept , and slept . then the"
    assert finished(text, Finish(whole_sentences=True, recapitalize=True), prompt=20) == (
        "Ash and pikachu were tired. They slept, and slept.",
        "sentence",
    )


def test_nothing_is_changed_unless_asked_for() -> None:
    assert finished(" a , b . \n", Finish()) == (" a , b . \n", "")


# --- in pieces

PARTS = [*"aB .,!?()\"'\n", "é", "e\u0301", "\u0301", "。", FAMILY, "Mr. "]
texts = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)
rules = st.builds(
    Finish,
    sentences=st.integers(0, 3),
    whole_sentences=st.booleans(),
    most_characters=st.integers(0, 30),
    recapitalize=st.booleans(),
)


@given(texts, st.lists(st.integers(0, 80), max_size=20), rules, st.integers(0, 20))
def test_pieces_do_not_matter(text: str, cuts: list[int], finish: Finish, prompt: int) -> None:
    assert in_pieces(text, cuts, finish, prompt) == finished(text, finish, prompt)


@given(texts, rules)
def test_a_finished_text_keeps_its_limits(text: str, finish: Finish) -> None:
    shown, _ = finished(text, finish)
    if finish.most_characters:
        assert count_characters(shown) <= finish.most_characters
    if not finish.recapitalize:
        assert shown in text
    if finish != Finish():
        assert shown == shown.strip()
    assert not text.strip() or shown, "a text is not emptied"


@given(texts, rules, texts)
def test_what_comes_after_a_reason_changes_nothing(text: str, finish: Finish, more: str) -> None:
    finisher = Finisher(finish)
    shown = finisher.feed(text)
    if finisher.reason:
        assert finished(text + more, finish) == (shown, finisher.reason)


def test_sentences_come_as_soon_as_the_next_one_begins() -> None:
    finisher = Finisher(Finish(recapitalize=True))
    assert [finisher.feed(piece) for piece in ("he ran ", ".", " ", "she", " hid .")] == [
        "",
        "",
        "",
        "He ran.",
        "",
    ]
    assert finisher.close() == " She hid."


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_a_sentence_without_end_is_given_out_in_parts(size: int) -> None:
    text = "on and on " * 5000 + ". the end ."
    finisher, longest, given_out = Finisher(Finish(recapitalize=True)), 0, []
    for at in range(0, len(text), max(size, 100)):
        given_out.append(finisher.feed(text[at : at + max(size, 100)]))
        longest = max(longest, len(finisher._waiting))
    assert "".join(given_out) + finisher.close() == "O" + text[1:].replace(" . the end .", ". The end.")
    if size < 10**6:
        assert longest < 6000, "memory is flat"
