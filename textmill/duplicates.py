"""Exact and near duplicates among documents; the first in order stays. Knows signatures only, never the texts.

Near: documents as sets of word 5-grams (Broder's shingles, case and punctuation ignored); their Jaccard similarity
estimated by MinHash, 128 permutations (rensa), which is right to about 0.04; candidates by locality-sensitive hashing.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

PERMUTATIONS = 128
SHINGLE = 5
RECALL = 0.99  # chance that two documents exactly at the threshold are compared at all

_SEED = 1
_BLOCK = 1 << 20  # characters hashed at a time, so that a large document takes little memory beside its text
_WORD = re.compile(rb"[0-9a-z_\x80-\xff]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.iinfo(np.uint32).max

Signatures = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Duplicate:
    """Document `index` repeats document `of`, which stays. `similarity` is estimated; 1.0 when `exact`."""

    index: int
    of: int
    similarity: float
    exact: bool


class DuplicateFinder:
    """Sees each document once, in order; remembers 16 bytes for exact and 512 bytes for near duplicates."""

    def __init__(self, exact: bool = True, near: float = 0.8) -> None:
        self.exact, self.near = exact, near
        self._first: dict[bytes, int] = {}
        self._signatures = bytearray()
        self._indices: list[int] = []  # of the documents that have a signature

    def add(self, index: int, text: str) -> Duplicate | None:
        """Note the document; return what it repeats exactly, if anything. The near ones come at the end."""
        if self.exact:
            key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            first = self._first.setdefault(key, index)
            if first != index:
                return Duplicate(index, first, 1.0, exact=True)
        if self.near > 0:
            self._signatures += signature(text).tobytes()
            self._indices.append(index)
        return None

    def near_duplicates(self) -> list[Duplicate]:
        """The documents to drop, by index, each with the earlier one that stays and is most like it."""
        if self.near <= 0:
            return []
        signatures = np.frombuffer(self._signatures, dtype=np.uint32).reshape(-1, PERMUTATIONS)
        found = near_duplicates(signatures, self.near)
        return [Duplicate(self._indices[i], self._indices[of], like, exact=False) for i, of, like in found]


def signature(text: str) -> Signatures:
    """The MinHash signature of a text, [128] uint32; of a text without a word, the largest number throughout."""
    least = np.full(PERMUTATIONS, _EMPTY, dtype=np.uint32)
    for shingles in _shingles(text):
        rows = RMinHash.digest_matrix_from_flat_token_hashes(
            shingles, np.array([0, len(shingles)], dtype=np.uint64), PERMUTATIONS, _SEED
        ).to_rows()
        least = np.minimum(least, np.array(rows[0], dtype=np.uint32))
    return least


def similarity(a: Signatures, b: Signatures) -> float:
    """Estimated Jaccard similarity of two signatures; texts without a word are like nothing."""
    return float(np.mean(a == b)) if a[0] != _EMPTY or b[0] != _EMPTY else 0.0


def near_duplicates(signatures: Signatures, threshold: float) -> list[tuple[int, int, float]]:
    """(row, earlier row that stays, similarity) for each row of [N, 128] that is to be dropped."""
    keys = _band_keys(signatures, threshold)
    alone = np.all([_is_alone(keys[:, band]) for band in range(keys.shape[1])], axis=0)
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)
    dropped = []
    for row in np.flatnonzero(~alone).tolist():
        if signatures[row][0] == _EMPTY:
            continue
        bands = [(band, key) for band, key in enumerate(keys[row].tolist())]
        candidates = sorted({other for band in bands for other in kept.get(band, ())})
        alike = [(similarity(signatures[row], signatures[other]), -other) for other in candidates]
        best, other = max(alike, default=(0.0, 0))
        if best >= threshold:
            dropped.append((row, -other, best))
        else:
            for band in bands:
                kept[band].append(row)
    return dropped


def _shingles(text: str) -> Iterator[npt.NDArray[np.uint64]]:
    """Hashes of the text's word 5-grams, in blocks; of a shorter text, of all its words."""
    last = np.empty(0, dtype=np.uint64)
    whole = True
    for block in _blocks(text.lower()):
        words = _WORD.findall(block.encode("utf-8", "surrogatepass"))
        hashes = np.concatenate(
            [last, np.fromiter(map(zlib.crc32, words), dtype=np.uint64, count=len(words))]
        )
        if len(hashes) >= SHINGLE:
            whole = False
            yield _combined([hashes[i : len(hashes) - SHINGLE + 1 + i] for i in range(SHINGLE)])
        last = hashes[-(SHINGLE - 1) :]
    if whole and len(last):
        yield _combined([last[i : i + 1] for i in range(len(last))])


def _combined(columns: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """One 64-bit hash from the word hashes at each place, all of its bits mixed."""
    value = np.zeros_like(columns[0])
    for column in columns:
        value = (value ^ column) * _FACTOR
        value ^= value >> np.uint64(29)
    return value


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find(" ", start + _BLOCK)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end


def _band_keys(signatures: Signatures, threshold: float) -> npt.NDArray[np.uint64]:
    """A key for each band of a signature's rows, [N, bands]: documents that share one are candidates."""
    rows = _rows_per_band(threshold)
    bands = signatures.astype(np.uint64).reshape(len(signatures), PERMUTATIONS // rows, rows)
    return _combined([np.ascontiguousarray(bands[:, :, i]) for i in range(rows)])


def _rows_per_band(threshold: float) -> int:
    """The longest bands that still find RECALL of the pairs at the threshold."""
    for rows in (16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def _is_alone(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which keys stand only once."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[inverse] == 1
