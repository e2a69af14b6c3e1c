"""A folder of this machine as a store: a path or file://…, for a disk or a network file system.

Files are written beside, fsynced and renamed, so a reader sees the old object or the new one. Compare-and-swap holds a
lock (flock on `.lock`) while it looks and renames; every machine that swaps must see the same locks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from textmill.errors import InputError, TextmillError
from textmill.files import replacing
from textmill.stores import CHUNK, Changed, Found, Missing, Refused, Store, StoreError, safe_name

PATIENCE = 60.0  # seconds to wait for the lock, which is held while one object is written
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)


class LocalStore(Store):
    """Objects are files below the folder; hidden names (locks, files being written) are none."""

    def __init__(self, uri: str) -> None:
        self.root = Path(
            unquote(urlsplit(uri).path) if uri.lower().startswith("file://") else uri
        ).expanduser()
        self.label = str(self.root)

    def read(self, name: str) -> Found:
        path = self._path(name)
        with self._errors(name):
            try:
                file = open(path, "rb")  # noqa: SIM115
            except FileNotFoundError:
                raise Missing(name) from None
            return Found(os.fstat(file.fileno()).st_size, _version(file), self._chunks(file, name))

    def _chunks(self, file: IO[bytes], name: str) -> Iterator[bytes]:
        with file, self._errors(name):
            while chunk := file.read(CHUNK):
                yield chunk

    def write(self, name: str, data: bytes | Path) -> None:
        with self._errors(name), replacing(self._path(name)) as file:
            _fill(file, data)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        with self._errors(prefix):
            found = sorted(
                (path.relative_to(self.root).as_posix(), path.stat().st_size)
                for path in self.root.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            )
        yield from (pair for pair in found if pair[0].startswith(prefix))

    def delete(self, name: str) -> None:
        path = self._path(name)
        with self._errors(name):
            path.unlink(missing_ok=True)
            for parent in path.parents:  # folders that hold nothing any more
                if parent == self.root or self.root not in parent.parents:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def write_if_unchanged(self, name: str, data: bytes, version: str) -> str:
        return self._swap(name, data, version)

    def write_file_if_unchanged(self, name: str, path: Path, version: str) -> None:
        self._swap(name, path, version)

    def version(self, name: str) -> str:
        path = self._path(name)
        with self._errors(name), contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            return _version(file)
        return ""

    def _swap(self, name: str, data: bytes | Path, version: str) -> str:
        path = self._path(name)
        with self._errors(name), self._locked():
            if self.version(name) != version:
                raise Changed(name)
            with replacing(path) as file:
                _fill(file, data)
            return self.version(name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "a") as lock:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreError(
                            f"{self.root / '.lock'} is held by a process that stands still"
                        ) from None
                    time.sleep(0.01)
            yield

    def _path(self, name: str) -> Path:
        return self.root / safe_name(name)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except TextmillError as error:  # how files.py says that a disk is full or may not be written
            kind = Refused if isinstance(error, InputError) else StoreError
            raise kind(f"cannot write to {self.label}: {error}") from error
        except OSError as error:
            reason = f"{self.root / name}: {error.strerror or type(error).__name__}"
            raise (Refused if error.errno in FORBIDDEN else StoreError)(reason) from error


def _fill(file: IO[bytes], data: bytes | Path) -> None:
    if isinstance(data, bytes):
        file.write(data)
        return
    with open(data, "rb") as source:
        _copy(source, file)


def _version(file: IO[bytes]) -> str:
    """Changes with every rename into place: a new file has its own inode, and time."""
    found = os.fstat(file.fileno())
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """By the kernel where it can, so that the bytes do not pass through this process."""
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        shutil.copyfileobj(source, target, CHUNK)
