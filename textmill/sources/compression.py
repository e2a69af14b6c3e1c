"""Decompressing as a stream, bounded: a file cannot unpack to more than it is allowed, and damage is one clear line."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from textmill.sources import BadItem, too_large

MAX_RATIO = 200  # text compresses 3 to 50 times; a bomb a thousand times and more
FREE = 16 << 20  # bytes that anything may unpack to, whatever the ratio
FEED = 1 << 10  # compressed bytes at a time: zstd can turn 4 bytes into 128 KiB, and hands out all it has

DAMAGE = (
    EOFError,
    NotImplementedError,
    OSError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    zstandard.ZstdError,
)


class _ZstdFile(io.RawIOBase):
    """Frames of zstd read one after the other. zstandard's own reader takes a cut file for its end; this does not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._ready, self._view = file, b"", 0
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._view == len(self._ready):
            data = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            data = data or self._file.read(FEED)
            if not data:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("it ends in the middle")
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready, self._view = self._frame.decompress(data), 0
        size = min(len(buffer), len(self._ready) - self._view)
        buffer[:size] = self._ready[self._view : self._view + size]
        self._view += size
        return size


COMPRESSIONS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".bz2": bz2.BZ2File,
    ".gz": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    ".xz": lzma.LZMAFile,
    ".zst": _ZstdFile,
}


class Bounded(io.RawIOBase):
    """A stream that raises BadItem when more than `limit` bytes come out of it, or when it is damaged; `count` came."""

    def __init__(self, stream: Any, limit: int, excess: BadItem) -> None:
        self._stream, self._limit, self._excess = stream, limit, excess
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except DAMAGE as error:
            raise damaged(error) from error
        self.count += len(data)
        if self.count > self._limit:
            raise self._excess
        buffer[: len(data)] = data
        return len(data)

    @contextlib.contextmanager
    def at_most(self, size: int, excess: BadItem) -> Iterator[None]:
        """A narrower bound for what is read in the block."""
        before = self._limit, self._excess
        if self.count + size < self._limit:
            self._limit, self._excess = self.count + size, excess
        try:
            yield
        finally:
            self._limit, self._excess = before


def unpacking_bound(packed: int, max_bytes: int) -> tuple[int, BadItem]:
    """How many bytes `packed` bytes may unpack to, and the line for more."""
    most = max(FREE, packed * MAX_RATIO)
    if most < max_bytes:
        bomb = f"unpacks to more than {MAX_RATIO} times its size, as a decompression bomb does"
        return most, BadItem(f"{bomb}; unpack it first if it is none")
    return max_bytes, too_large(max_bytes)


def decompressed(file: IO[bytes], suffix: str, max_bytes: int) -> Bounded:
    """The bytes of a compressed file as a bounded stream; `suffix` "" passes them through. `file` is seekable."""
    if not suffix:
        return Bounded(file, max_bytes, too_large(max_bytes))
    limit, excess = unpacking_bound(size_of(file), max_bytes)
    return Bounded(COMPRESSIONS[suffix](file), limit, excess)


def size_of(file: IO[bytes]) -> int:
    """Bytes in a seekable file; leaves it at its beginning."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def damaged(error: Exception) -> BadItem:
    """The line for what a decompressor or archive reader found wrong."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BadItem(f"damaged: {'it ends in the middle' if isinstance(error, EOFError) else reason}")
