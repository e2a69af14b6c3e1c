"""Exact and near duplicates among documents; the first in order stays. Knows signatures only, never the texts.

Near: documents as sets of word 5-grams (Broder's shingles, case and punctuation ignored); their Jaccard similarity
estimated by MinHash, 128 permutations (rensa), which is right to about 0.04; candidates by locality-sensitive hashing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

PERMUTATIONS = 128
SHINGLE = 5
RECALL = 0.99  # chance that two documents exactly at the threshold are compared at all

_SEED = 1
_BLOCK = 1 << 20  # characters hashed at a time, so that a large document takes little memory beside its text
_AT_ONCE = 1 << 14  # signatures, 8 MB
_BANDS = 8  # keys of so many bands at a time, 8 bytes each
_WORD = b"0123456789abcdefghijklmnopqrstuvwxyz_" + bytes(range(128, 256))
_SPACED = bytes(byte if byte in _WORD else 32 for byte in range(256))  # all but words becomes space
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.iinfo(np.uint32).max

Signatures = npt.NDArray[np.uint32]


def content_key(data: bytes) -> bytes:
    """16 bytes that tell a text from all others."""
    return hashlib.blake2b(data, digest_size=16).digest()


def exact_duplicates(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """For each row of [N, 16] the first row that is the same: itself, where none came before."""
    values = np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)
    order = np.lexsort((values[:, 1], values[:, 0]))  # stable: the same ones stay in their order
    ordered = values[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return first


def signature(text: str) -> Signatures:
    """The MinHash signature of a text, [128] uint32; of a text without a word, the largest number throughout."""
    least = np.full(PERMUTATIONS, _EMPTY, dtype=np.uint32)
    for shingles in _shingles(text):
        rows = RMinHash.digest_matrix_from_flat_token_hashes(
            shingles, np.array([0, len(shingles)], dtype=np.uint64), PERMUTATIONS, _SEED
        ).to_rows()
        least = np.minimum(least, np.array(rows[0], dtype=np.uint32))
    return least


def near_duplicates(signatures: Signatures, threshold: float) -> list[tuple[int, int, float]]:
    """(row, earlier row that stays, similarity) for each row of [N, 128] that is to be dropped.

    Takes 100 bytes a row; the signatures may be a map of a file.
    """
    rows = np.flatnonzero(_has_company(signatures, threshold))
    keys = _band_keys(signatures, threshold, rows)
    kept: dict[tuple[int, int], list[int]] = defaultdict(list)
    dropped = []
    for row, of_row in zip(rows.tolist(), keys, strict=True):
        if signatures[row][0] == _EMPTY:
            continue
        bands = list(enumerate(of_row.tolist()))
        candidates = sorted({other for band in bands for other in kept.get(band, ())})
        best, other = _most_alike(signatures, row, candidates)
        if best >= threshold:
            dropped.append((row, other, best))
        else:
            for band in bands:
                kept[band].append(row)
    return dropped


def _most_alike(signatures: Signatures, row: int, candidates: list[int]) -> tuple[float, int]:
    """The greatest similarity to a row and the first candidate that has it; 0 without candidates."""
    if not candidates:
        return 0.0, 0
    alike = np.mean(signatures[candidates] == signatures[row], axis=1)
    best = int(np.argmax(alike))
    return float(alike[best]), candidates[best]


def _shingles(text: str) -> Iterator[npt.NDArray[np.uint64]]:
    """Hashes of the text's word 5-grams, in blocks; of a shorter text, of all its words."""
    last = np.empty(0, dtype=np.uint64)
    whole = True
    for block in _blocks(text.lower()):
        words = block.encode("utf-8", "surrogatepass").translate(_SPACED).split()
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


def _band_keys(
    signatures: Signatures, threshold: float, rows: npt.NDArray[np.int64], bands: slice = slice(None)
) -> npt.NDArray[np.uint64]:
    """A key for each band of a row's numbers, [rows, bands]: documents that share one are candidates."""
    length = _rows_per_band(threshold)
    keys = np.empty((len(rows), len(range(PERMUTATIONS // length)[bands])), np.uint64)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        block = signatures[some].reshape(len(some), -1, length)[:, bands].astype(np.uint64)
        keys[start : start + _AT_ONCE] = _combined(
            [np.ascontiguousarray(block[:, :, i]) for i in range(length)]
        )
    return keys


def _has_company(signatures: Signatures, threshold: float) -> npt.NDArray[np.bool_]:
    """Which rows share the key of a band with another one; a few bands at a time."""
    found = np.zeros(len(signatures), bool)
    every = np.arange(len(signatures))
    for start in range(0, PERMUTATIONS // _rows_per_band(threshold), _BANDS):
        keys = _band_keys(signatures, threshold, every, slice(start, start + _BANDS))
        for band in range(keys.shape[1]):
            found |= _stands_twice(keys[:, band])
    return found


def _rows_per_band(threshold: float) -> int:
    """The longest bands that still find RECALL of the pairs at the threshold."""
    for rows in (16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return rows
    return 1


def _stands_twice(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which keys stand more than once."""
    ordered = np.sort(keys)
    return np.isin(keys, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
