"""Duplicates: what is found, what is not, and who stays."""

from __future__ import annotations

import random
import time

import numpy as np

from textmill.duplicates import (
    Duplicate,
    DuplicateFinder,
    near_duplicates,
    signature,
    similarity,
)

WORDS = [f"word{i}" for i in range(2_000)]


def story(seed: int, words: int = 300) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def found(texts: list[str], exact: bool = True, near: float = 0.8) -> list[Duplicate]:
    finder = DuplicateFinder(exact, near)
    repeats = [finder.add(index, text) for index, text in enumerate(texts)]
    return [repeat for repeat in repeats if repeat] + finder.near_duplicates()


def test_an_exact_copy_is_found_and_the_first_stays() -> None:
    assert found(["a b", "c", "a b", "a b"]) == [Duplicate(2, 0, 1.0, True), Duplicate(3, 0, 1.0, True)]


def test_a_near_copy_is_found_and_the_first_stays() -> None:
    original = story(1)
    changed = original.replace("word1", "other", 3)
    [repeat] = found([story(2), original, story(3), changed])
    assert (repeat.index, repeat.of, repeat.exact) == (3, 1, False)
    assert 0.8 <= repeat.similarity < 1


def test_case_and_punctuation_do_not_tell_texts_apart() -> None:
    assert [
        d.index for d in found(["To be, or not to be: that is it.", "TO BE or not to be -- that is it!"])
    ] == [1]


def test_short_texts_are_compared_whole() -> None:
    assert found(["Good morning.", "Good evening.", "Morning.", "Good morning!"]) == [
        Duplicate(3, 0, 1.0, False)
    ]


def test_texts_without_a_word_are_no_copies_of_each_other() -> None:
    assert found(["...", "!!!", "?"]) == []


def test_words_in_another_script_count() -> None:
    assert [d.index for d in found(["мама мыла раму", "папа мыл машину", "Мама мыла раму!"])] == [2]


def test_nothing_is_looked_for_when_it_is_off() -> None:
    assert found(["a b c", "a b c", "A B C"], exact=False, near=0) == []
    assert [d.index for d in found(["a b c", "a b c"], exact=False)] == [1]
    assert [d.index for d in found(["a b c", "a b c", "A B C"], near=0)] == [1]


def test_half_like_texts_stay_at_the_default_and_go_at_a_low_threshold() -> None:
    texts = [story(1), f"{story(1, 200)} {story(2, 100)}"]  # about half of the 5-grams in common
    assert found(texts) == []
    assert [d.index for d in found(texts, near=0.35)] == [1]


def test_a_chain_of_copies_is_measured_against_what_stays() -> None:
    """The third is like the second, which is dropped, but not like the first: it stays."""
    words = story(1, 400).split()
    second = words[:360] + story(2, 40).split()
    third = second[:20] + story(3, 60).split() + second[80:]
    a, b, c = (signature(" ".join(x)) for x in (words, second, third))
    assert similarity(a, b) >= 0.75
    assert similarity(b, c) >= 0.65 > similarity(a, c)
    assert [(row, of) for row, of, _ in near_duplicates(np.stack([a, b, c]), 0.65)] == [(1, 0)]


def test_the_estimate_is_close_to_jaccard() -> None:
    for share in (0.5, 0.8, 0.95):
        estimates = []
        for seed in range(20):
            common = story(seed, round(1000 * 2 * share / (1 + share)))
            own = round(1000 - 1000 * 2 * share / (1 + share))
            a, b = (f"{common} {story(seed + k, own)}" for k in (100, 200))
            estimates.append(similarity(signature(a), signature(b)))
        assert abs(float(np.mean(estimates)) - share) < 0.03


def test_nearly_all_copies_at_the_threshold_are_compared() -> None:
    """Locality-sensitive hashing must not lose pairs: of 60 with similarity 0.9, none is missed at 0.8."""
    texts = []
    for seed in range(60):
        words = story(seed, 400).split()
        words[200:204] = ["x"] * 4
        texts += [story(seed, 400), " ".join(words)]
    assert sum(1 for d in found(texts) if d.index % 2) == 60


def test_signatures_do_not_depend_on_the_run() -> None:
    assert signature("to be or not to be that is the question")[:4].tolist() == [
        3546851916,
        2207297712,
        3408788262,
        3233316147,
    ]


def test_five_megabytes_take_a_moment_and_memory_is_signatures_only() -> None:
    text = story(1, 100_000)
    start = time.process_time()
    finder = DuplicateFinder()
    for index in range(8):
        finder.add(index, f"{index} {text}")
    assert time.process_time() - start < 4
    assert len(finder._signatures) == 8 * 512
