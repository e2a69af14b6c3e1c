"""One file of several named sections and a summary: what one unit of work leaves for those that come after it.

    <section> … <section> <summary: JSON> <its length: 8 bytes> TMSEC1

Sections are streamed one after the other or side by side; a file is written beside and renamed, so one that is there is
whole. Knows nothing of what the sections hold.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import zstandard

from textmill.errors import FolderError
from textmill.files import writing_failed

LEVEL = 1  # of texts that are read again soon: half the time of level 3, a tenth more bytes
SPOOL = 1 << 18  # bytes of a section held in memory before a file takes it

_MAGIC = b"TMSEC1"
_TAIL = 8 + len(_MAGIC)


class SectionsWriter:
    """Write a file of sections: the first goes to the file at once, the others are spooled until the end.

    Use as a context manager; the file is there when the block ends well and `summary` was given.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self.path, self.summary = path, dict[str, Any]()
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._names = names

    def __enter__(self) -> Self:
        try:
            self._file = open(self._part, "wb")
        except OSError as error:
            raise writing_failed(self.path, error) from error
        folder = self.path.parent
        spooled = {n: tempfile.SpooledTemporaryFile(SPOOL, dir=str(folder)) for n in self._names[1:]}  # noqa: SIM115
        self.sections: dict[str, IO[bytes]] = {self._names[0]: self._file, **spooled}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
            elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise writing_failed(self.path, error) from error
        except OSError as failed:
            raise writing_failed(self.path, failed) from failed
        finally:
            for section in self.sections.values():
                section.close()
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        places = {self._names[0]: [0, self._file.tell()]}
        for name in self._names[1:]:
            start = self._file.tell()
            self.sections[name].seek(0)
            shutil.copyfileobj(self.sections[name], self._file, SPOOL)
            places[name] = [start, self._file.tell() - start]
        data = json.dumps({"sections": places, "summary": self.summary}, ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        self._file.write(data + len(data).to_bytes(8, "little") + _MAGIC)
        self._file.close()
        os.replace(self._part, self.path)


class Sections:
    """A file of sections, opened. Raises FolderError where it is missing or no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - _TAIL))
                tail = file.read()
                length = int.from_bytes(tail[:8], "little")
                if tail[8:] != _MAGIC or length > size - _TAIL:
                    raise ValueError
                file.seek(size - _TAIL - length)
                value = json.loads(file.read(length).decode("utf-8", "surrogatepass"))
            self.places: dict[str, list[int]] = value["sections"]
            self.summary: dict[str, Any] = value["summary"]
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(path) from error

    def read(self, name: str) -> bytes:
        """A whole section."""
        start, size = self.places[name]
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(size)

    def mapped(self, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """A section as an array that is read where it is looked at."""
        start, size = self.places[name]
        if not size:
            return np.empty(0, dtype)
        return np.memmap(self.path, dtype, "r", start, (size // dtype.itemsize,))

    def copy(self, name: str, to: IO[bytes]) -> int:
        """Append a section to a file; return its size."""
        start, size = self.places[name]
        with open(self.path, "rb") as file:
            file.seek(start)
            left = size
            while left and (data := file.read(min(left, SPOOL))):
                to.write(data)
                left -= len(data)
        if left:
            raise _damaged(self.path)
        return size

    @contextlib.contextmanager
    def unpacked(self, name: str) -> Iterator[IO[bytes]]:
        """A section that is one zstd frame, or none at all, as a stream of what is in it."""
        start, size = self.places[name]
        try:
            with open(self.path, "rb") as file:
                if not size:
                    yield io.BytesIO()
                    return
                file.seek(start)
                section = _Span(file, size)
                reader: Any = (
                    zstandard.ZstdDecompressor()
                )  # its stubs want a whole file where read() is enough
                stream = reader.stream_reader(section, read_size=1 << 18, closefd=False)
                yield io.BufferedReader(stream, 1 << 18)
        except (zstandard.ZstdError, EOFError) as error:
            raise _damaged(self.path) from error


class _Span(io.RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def is_whole(path: Path) -> bool:
    """Is there a complete file of sections?"""
    try:
        Sections(path)
    except FolderError:
        return False
    return True


def _damaged(path: Path) -> FolderError:
    return FolderError(
        f"{path} is missing or damaged; remove the folder {path.parent.parent} and start again: it is made anew."
    )
