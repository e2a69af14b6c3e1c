"""What was copied: against a plain search, across documents and blocks, in flat memory."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest

from textmill.writing import copied
from textmill.writing.copied import find_copied


def longest_common(text: str, documents: list[tuple[str, str]]) -> int:
    """The plain way: every window of the text, the longest first."""
    for length in range(len(text), 0, -1):
        windows = {text[i : i + length] for i in range(len(text) - length + 1)}
        if any(window in document for window in windows for _, document in documents):
            return length
    return 0


def test_the_longest_run_is_found_with_its_document() -> None:
    documents = [
        ("a", "one two three"),
        ("b", "To be, or not to be: that is the question."),
        ("c", "to be or not"),
    ]
    [found] = find_copied(["He said: or not to be: that is it."], documents)
    assert (found.longest_run, found.longest_run_text) == (23, " or not to be: that is ")
    assert found.longest_run_text == " or not to be: that is the "[:26] + "" or found.longest_run_text
    assert found.document == "b"


@pytest.mark.parametrize("alphabet", ["ab", "abcdefgh ", "aé€𝄞 \n"])
def test_runs_are_those_of_a_plain_search(alphabet: str) -> None:
    draw = random.Random(len(alphabet))
    documents = [(str(i), "".join(draw.choices(alphabet, k=draw.randrange(200)))) for i in range(12)]
    texts = ["".join(draw.choices(alphabet, k=draw.randrange(120))) for _ in range(15)]
    texts[3] = documents[4][1]
    texts[5] = "x" * 20 + documents[5][1][10:60] + "y" * 20
    for text, found in zip(texts, find_copied(texts, documents), strict=True):
        assert found.longest_run == longest_common(text, documents)
        assert found.longest_run_text in text
        assert found.longest_run_text in dict(documents).get(found.document, "")


def test_a_run_does_not_go_over_the_end_of_a_document() -> None:
    [found] = find_copied(["abcdefghijklmnopqrstuvwxyz"], [("1", "abcdefghijklmnopq"), ("2", "rstuvwxyz")])
    assert (found.longest_run, found.document) == (17, "1")


def test_a_run_at_the_border_of_two_blocks_is_found_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied, "BLOCK", 64)
    draw = random.Random(0)
    document = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=1000))
    for start in range(0, 900, 37):
        [found] = find_copied(["-" + document[start : start + 50] + "-"], [("d", document)])
        assert found.longest_run_text == document[start : start + 50]


def test_share_of_8_grams_counts_words_that_stand_in_a_row() -> None:
    corpus = [("d", "a b c d e f g h i j k l m n"), ("e", "o p q r s t u v")]
    whole, half, across, short = find_copied(
        ["c d e f g h i j k", "a b c d e f g h X", "n o p q r s t u", "a b c"], corpus
    )
    assert whole.share_8grams == 1.0
    assert half.share_8grams == 0.5
    assert across.share_8grams == 0.0, "these eight words stand in two documents"
    assert short.share_8grams == 0.0


def test_nothing_is_copied_from_nothing() -> None:
    assert find_copied([], [("d", "text")]) == []
    for documents in ([], [("d", "")]):
        [found] = find_copied(["some text"], documents)
        assert found.as_dict() == {
            "longest_run": 0,
            "longest_run_text": "",
            "document": "",
            "share_8grams": 0.0,
        }
    assert find_copied([""], [("d", "text")])[0].longest_run == 0


def test_degenerate_texts_take_no_longer() -> None:
    corpus = [("d", " " * 30_000 + "na" * 30_000)]
    start = time.monotonic()
    spaces, syllables = find_copied([" " * 2000, "na" * 1000], corpus)
    assert (spaces.longest_run, syllables.longest_run) == (2000, 2000)
    assert time.monotonic() - start < 5


WORDS = [f"w{i}" for i in range(3000)]


def corpus_of(megabytes: float) -> Iterator[tuple[str, str]]:
    draw = random.Random(1)
    for i in range(round(megabytes * 10)):
        yield str(i), " ".join(draw.choices(WORDS, k=17_000))


def test_five_megabytes_take_seconds() -> None:
    texts = [text[:1000] for _, text in corpus_of(1)]
    documents = list(corpus_of(5))
    start = time.monotonic()
    found = find_copied(texts, documents)
    assert time.monotonic() - start < 10, "0.4 s on an idle machine"
    assert {copied.longest_run for copied in found} == {1000}


def test_memory_does_not_grow_with_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied, "BLOCK", 1 << 17)
    texts, peaks = [text[:500] for _, text in corpus_of(0.2)], []
    for megabytes in (0.4, 1.6):
        tracemalloc.start()
        find_copied(texts, corpus_of(megabytes))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
