"""Compressed streams: what comes out, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard

from textmill.sources import BadItem
from textmill.sources.compression import decompressed

PACK: dict[str, Callable[[bytes], bytes]] = {
    ".bz2": lambda data: bz2.compress(data, 1),
    ".gz": gzip.compress,
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": zstandard.compress,
}
TEXT = b"".join(b"%d bottles on the wall\n" % n for n in range(20_000))

suffixes = pytest.mark.parametrize("suffix", PACK)


def unpacked(data: bytes, suffix: str, max_bytes: int = 1 << 30) -> bytes:
    return io.BufferedReader(decompressed(io.BytesIO(data), suffix, max_bytes)).read()


@suffixes
def test_what_was_packed_comes_out_also_in_several_parts(suffix: str) -> None:
    assert unpacked(PACK[suffix](TEXT), suffix) == TEXT
    assert unpacked(PACK[suffix](TEXT) + PACK[suffix](b"more"), suffix) == TEXT + b"more"


@suffixes
def test_a_cut_file_is_not_taken_for_a_short_one(suffix: str) -> None:
    packed = PACK[suffix](TEXT)
    for length in (len(packed) // 2, len(packed) - 1):
        with pytest.raises(BadItem, match="damaged: it ends in the middle"):
            unpacked(packed[:length], suffix)


@suffixes
def test_what_is_not_that_format_is_damaged(suffix: str) -> None:
    with pytest.raises(BadItem, match="damaged: "):
        unpacked(b"plain words, " * 100, suffix)


@suffixes
def test_a_bomb_is_refused_by_ratio_and_by_size(suffix: str) -> None:
    bomb = PACK[suffix](b"0" * (24 << 20))
    assert len(bomb) < 100_000
    with pytest.raises(
        BadItem, match="unpacks to more than 200 times its size, as a decompression bomb does"
    ):
        unpacked(bomb, suffix)
    with pytest.raises(BadItem, match="holds more than 1,000 bytes; raise max_bytes if that is meant"):
        unpacked(bomb, suffix, max_bytes=1_000)


def test_a_small_file_of_one_letter_is_not_a_bomb() -> None:
    assert len(unpacked(gzip.compress(b"0" * (8 << 20)), ".gz")) == 8 << 20
