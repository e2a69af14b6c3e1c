"""Duplicates: what is found, what is not, and who stays."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from textmill.datasets.duplicates import content_key, exact_duplicates, near_duplicates, signature

WORDS = [f"word{i}" for i in range(2_000)]


def story(seed: int, words: int = 300) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


class Duplicate(NamedTuple):
    index: int
    of: int
    similarity: float


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """What two signatures say of their texts' Jaccard similarity."""
    return float(np.mean(a == b))


def found(texts: list[str], near: float = 0.8) -> list[Duplicate]:
    """The near duplicates among texts."""
    signatures = np.stack([signature(text) for text in texts])
    return [Duplicate(*repeat) for repeat in near_duplicates(signatures, near)]


def test_exact_copies_are_found_and_the_first_stays() -> None:
    keys = np.stack(
        [np.frombuffer(content_key(text), np.uint8) for text in (b"a b", b"c", b"a b", b"d", b"a b")]
    )
    assert exact_duplicates(keys).tolist() == [0, 1, 0, 3, 0]
    assert exact_duplicates(np.empty((0, 16), np.uint8)).tolist() == []


def test_a_near_copy_is_found_and_the_first_stays() -> None:
    original = story(1)
    changed = original.replace("word1", "other", 3)
    [repeat] = found([story(2), original, story(3), changed])
    assert (repeat.index, repeat.of) == (3, 1)
    assert 0.8 <= repeat.similarity < 1


def test_case_and_punctuation_do_not_tell_texts_apart() -> None:
    assert [
        d.index for d in found(["To be, or not to be: that is it.", "TO BE or not to be -- that is it!"])
    ] == [1]


def test_short_texts_are_compared_whole() -> None:
    assert found(["Good morning.", "Good evening.", "Morning.", "Good morning!"]) == [Duplicate(3, 0, 1.0)]


def test_texts_without_a_word_are_no_copies_of_each_other() -> None:
    assert found(["...", "!!!", "?"]) == []


def test_words_in_another_script_count() -> None:
    assert [d.index for d in found(["мама мыла раму", "папа мыл машину", "Мама мыла раму!"])] == [2]


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


def test_five_megabytes_take_a_moment() -> None:
    text = story(1, 100_000)
    start = time.process_time()
    for index in range(8):
        signature(f"{index} {text}")
    assert time.process_time() - start < 4


def test_signatures_may_lie_in_a_file_and_be_many(tmp_path: Path) -> None:
    """Of more rows than are looked at together, each pair is found, and nothing else."""
    random_rows = np.random.default_rng(0).integers(0, 2**32, (40_000, 128), dtype=np.uint32)
    random_rows[39_999] = random_rows[7]
    random_rows[20_000, 10:] = random_rows[3, 10:]
    random_rows.tofile(tmp_path / "signatures")
    mapped = np.memmap(tmp_path / "signatures", np.uint32, "r", shape=(40_000, 128))
    assert near_duplicates(mapped, 0.8) == [(20_000, 3, 118 / 128), (39_999, 7, 1.0)]
