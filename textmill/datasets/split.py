"""Which document trains, which validates, which tests. Knows ids and lengths, never the texts.

Methods: "fraction" (by a hash of the id), "documents" (named by globs), "validation_book" (S3's rule). None depends on
the order in which documents come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from textmill.errors import InputError

SPLITS = ("train", "valid", "test")


def by_fraction(ids: Sequence[str], valid_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """The split of each document: those whose hash of (seed, id) is smallest test, the next validate, the rest train.

    Each fraction is a share of the documents, rounded, and at least one document while one is left to train on
    (validation first), unless the fraction is 0.
    """
    order = _ranked(seed, ids)
    left = len(ids) - 1
    valid = min(left, max(1, round(valid_fraction * len(ids)))) if valid_fraction else 0
    test = min(left - valid, max(1, round(test_fraction * len(ids)))) if test_fraction else 0
    splits = ["train"] * len(ids)
    for i in order[:valid]:
        splits[i] = "valid"
    for i in order[valid : valid + test]:
        splits[i] = "test"
    return splits


def by_name(ids: Sequence[str], valid: Sequence[str], test: Sequence[str]) -> list[str]:
    """The split of each document by globs on its id (`winterstale.txt`, `2020/*`). Test wins where both match.

    Raises InputError when a glob matches no document, or when nothing is left to train on.
    """
    for pattern in [*valid, *test]:
        if not any(_matches(name, pattern) for name in ids):
            raise InputError(
                f"no document's id matches {pattern!r} (the first of {len(ids):,} ids: {', '.join(ids[:3])}); "
                "name ids or globs of ids in valid_documents and test_documents."
            )
    splits = ["train"] * len(ids)
    for i, name in enumerate(ids):
        if any(_matches(name, pattern) for pattern in test):
            splits[i] = "test"
        elif any(_matches(name, pattern) for pattern in valid):
            splits[i] = "valid"
    if "train" not in splits:
        raise InputError("valid_documents and test_documents match every document; leave some to train on.")
    return splits


def by_validation_book(ids: Sequence[str], lengths: Sequence[int]) -> list[str]:
    """S3's rule (martin-gorner/tensorflow-rnn-shakespeare, my_txtutils.py): books from the end of the sorted list.

    As many as the least of: books until they hold more than 10 % of the text; books until they hold more than 90 kB;
    one book in five. None for four books or fewer.
    """
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    backwards = [lengths[i] for i in reversed(order)]
    books = min(
        _books_until(backwards, sum(lengths) // 10), _books_until(backwards, 90 * 1024), len(ids) // 5
    )
    splits = ["train"] * len(ids)
    for i in order[len(order) - books :]:
        splits[i] = "valid"
    return splits


def cut_points(text: str, valid_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Where to cut one document: training text up to the first, validation up to the second, test after it.

    Cuts fall between paragraphs, or else lines, or else words, close to the wanted place.
    """
    first = _boundary(text, round(len(text) * (1 - valid_fraction - test_fraction)))
    second = _boundary(text, round(len(text) * (1 - test_fraction))) if test_fraction else len(text)
    first = first if valid_fraction or test_fraction else len(text)
    return first, max(first, second if valid_fraction else first)


def _ranked(seed: int, ids: Sequence[str]) -> list[int]:
    """Indices by the hash of (seed, id), equal ones by the id. 8 bytes for each id, not a tuple of it."""
    ranks = np.fromiter((_rank(seed, name) for name in ids), np.uint64, len(ids))
    order = np.argsort(ranks, kind="stable")
    if (np.diff(ranks[order]) == 0).any():  # the same id twice
        return sorted(order.tolist(), key=lambda i: (ranks[i], ids[i], i))
    return order.tolist()


def _rank(seed: int, name: str) -> int:
    data = f"{seed}\n{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _matches(name: str, pattern: str) -> bool:
    """By the whole id, or by its last part; a row's id, "<item>#<row>", matches by its item too."""
    item = name.partition("#")[0]
    return any(fnmatchcase(part, pattern) for part in (name, item, item.rpartition("/")[2]))


def _books_until(lengths: Sequence[int], more_than: int) -> int:
    held = 0
    for count, length in enumerate(lengths, start=1):
        held += length
        if held > more_than:
            return count
    return len(lengths)


def _boundary(text: str, wanted: int) -> int:
    """The best place to cut near `wanted`, within a fiftieth of the text; for a paragraph, line or word."""
    reach = max(len(text) // 50, 200)
    low, high = max(0, wanted - reach), min(len(text), wanted + reach)
    for mark in ("\n\n", "\n", " "):
        before = text.rfind(mark, low, wanted)
        after = text.find(mark, wanted, high)
        places = [place + len(mark) for place in (before, after) if place >= 0]
        places = [place for place in places if 0 < place < len(text)]
        if places:
            return min(places, key=lambda place: abs(place - wanted))
    return len(text)
