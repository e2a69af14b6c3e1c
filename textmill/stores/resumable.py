"""Fetching large files so that nothing is fetched twice: by ranges, with retries, from HTTP servers and object stores.

A file grows as `.<name>.part` in its folder and is renamed when it is whole. Beside it `.<name>.part.json` says which
version of the file it begins (ETag or date, and size): a cut connection, a killed process or another day goes on from
there, and starts anew if the file has changed or the server cannot send ranges. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from textmill import __version__
from textmill.errors import FolderError, InputError, MachineError
from textmill.files import sync_file, sync_folder, write_json, writing_failed
from textmill.progress import Progress
from textmill.sources import CHUNK, SOURCES, without_secrets
from textmill.sources.bucket import BLOCK, STAMPS, open_store
from textmill.sources.redirects import open_address

log = logging.getLogger("textmill.resumable")

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 6  # in a row without a new byte
WAIT = 1.0  # seconds before the second attempt, doubled before each further one
LONGEST_WAIT = 60.0
SPARE = 64 << 20  # bytes of disk that must stay free


class Missing(Exception):
    """There is no such file, or it may not be read."""


class MayPass(Exception):
    """The attempt failed; another one may not. `wait`: seconds that the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Answer:
    """What a server sends: bytes from `start` on of a file of `total` bytes (None: not said), of the version `tag`."""

    start: int
    total: int | None
    tag: str
    chunks: Iterator[bytes]


class Remote(Protocol):
    """A folder elsewhere."""

    label: str

    def open(self, name: str, start: int, tag: str) -> Answer:
        """The file from `start` on if its version is still `tag`, else from 0. Raises Missing, MayPass, InputError."""
        ...


def open_remote(uri: str) -> Remote:
    """The folder at an address: http(s)://, s3://, gs://, file:// or a path of this machine; minio:// as KFP calls the
    S3 store that it brings along."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    scheme = found[1].lower() if found else "file"
    if scheme in ("http", "https"):
        return WebFolder(uri)
    if scheme == "minio":
        return open_remote(f"s3{uri[5:]}")
    if scheme not in ("file", "s3", "gs", "gcs", "memory"):
        raise InputError(
            f"{without_secrets(uri)}: a model is fetched from https://, s3://, gs://, file:// or a path."
        )
    SOURCES[scheme].load(without_secrets(uri))  # says which package is not installed
    return StoreFolder(scheme, uri)


def fetch(
    remote: Remote,
    name: str,
    folder: Path,
    *,
    size: int | None = None,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Bring remote `name` to folder/name, unless it is there; it goes on from what an earlier call left.

    `size`, if known, is what the file must have. `check` looks at the whole file and raises FolderError to have it
    fetched again. Raises Missing, InputError, and MachineError when ATTEMPTS in a row brought nothing.
    """
    target = folder / name
    if target.is_file() and (size is None or target.stat().st_size == size):
        with contextlib.suppress(FolderError):
            if check is not None:
                check(target)
            return
    part = _Part(folder, name)
    failures = 0
    while True:
        before = part.size
        try:
            _attempt(remote, name, part, size)
            part.finish(check)
            return
        except MayPass as problem:
            if part.size > before and not part.spoiled:
                failures = 0
            failures += 1
            if failures >= ATTEMPTS:
                raise MachineError(
                    f"cannot fetch {name} from {remote.label}: {problem}; what has come is kept, start again later."
                ) from problem
            wait = min(max(WAIT * 2 ** (failures - 1), problem.wait), LONGEST_WAIT)
            log.info("fetching %s: %s; again in %.0f s", name, problem, wait)
            time.sleep(wait)
        except OSError as error:
            raise writing_failed(target, error) from error


def _attempt(remote: Remote, name: str, part: _Part, size: int | None) -> None:
    answer = remote.open(name, part.size, part.tag)
    if answer.start not in (0, part.size) or (answer.start and answer.tag != part.tag):
        part.restart("", None)
        raise MayPass("the file changed while it was fetched")
    if size is not None and answer.total not in (None, size):
        part.spoiled = True
        raise MayPass(f"the server has {answer.total:,} bytes where there must be {size:,}")
    total = answer.total if answer.total is not None else size
    if answer.start == 0:
        part.restart(answer.tag, total)
    _check_space(part.folder, (total or 0) - part.size)
    with (
        Progress(f"fetching {name}", total, unit="bytes", initial=part.size) as progress,
        part.growing() as grow,
    ):
        for chunk in answer.chunks:
            grow(chunk)
            progress.advance(len(chunk))
    if total is not None and part.size != total:
        missing = total - part.size
        if missing < 0:
            part.restart("", None)
        raise MayPass(
            f"the connection was cut {missing:,} bytes before the end"
            if missing > 0
            else "more bytes came than said"
        )


class _Part:
    """The beginning of a file that is being fetched."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.path = folder / f".{name}.part"
        self.note = folder / f".{name}.part.json"
        self.tag = ""
        self.spoiled = False
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self.note.read_bytes())
            if noted["total"] is None or self.size <= noted["total"]:
                self.tag = str(noted["tag"])
        if not self.tag:  # what cannot be told from another version is not gone on with
            self.path.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def restart(self, tag: str, total: int | None) -> None:
        """Begin at byte 0 of this version."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.tag = tag
        write_json(self.note, {"tag": tag, "total": total})

    @contextlib.contextmanager
    def growing(self) -> Iterator[Callable[[bytes], object]]:
        self.spoiled = False
        with open(self.path, "ab") as file:
            yield file.write

    def finish(self, check: Callable[[Path], object] | None) -> None:
        """Rename the whole file; raise MayPass and begin anew if it is not what it should be."""
        sync_file(self.path)
        os.replace(self.path, self.folder / self.name)
        self.note.unlink(missing_ok=True)
        sync_folder(self.folder)
        if check is None:
            return
        try:
            check(self.folder / self.name)
        except FolderError as error:
            (self.folder / self.name).unlink()
            self.tag, self.spoiled = "", True
            raise MayPass(f"what came is not whole ({error})") from error


def _check_space(folder: Path, needed: int) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed + SPARE > free:
        raise MachineError(
            f"{folder} has {free / 1e9:,.1f} GB free, {needed / 1e9:,.1f} GB are to come; free some or choose another "
            "folder."
        )


class WebFolder:
    """Files below an http(s) address; its query (a signature) goes with each of them. Proxies: the environment's."""

    def __init__(self, uri: str) -> None:
        self.label = without_secrets(uri)
        self._parts = urlsplit(uri)
        if self._parts.username or self._parts.password:
            raise InputError(
                f"{self.label}: a user and password in an address end up in logs; use a signed address."
            )
        if not self._parts.hostname:
            raise InputError(f"{self.label} is not an address of the form https://host/path.")

    def open(self, name: str, start: int, tag: str) -> Answer:
        path = quote(f"{self._parts.path.rstrip('/')}/{name}", safe="%/:=&~+!$,;'@()*")
        address = urlunsplit(self._parts._replace(path=path, fragment=""))
        headers = {"User-Agent": f"textmill/{__version__}", "Accept-Encoding": "identity"}
        if start and tag:
            headers |= {"Range": f"bytes={start}-", "If-Range": tag}
        try:
            response = open_address(urllib.request.Request(address, headers=headers), TIMEOUT)
        except urllib.error.HTTPError as error:
            return self._refused(error, start, tag)
        except (OSError, http.client.HTTPException) as error:
            raise MayPass(_reason(error)) from error
        with contextlib.suppress(ValueError):
            return self._answer(response)
        response.close()
        raise MayPass("the server's answer makes no sense")

    def _answer(self, response: Any) -> Answer:
        tag, chunks = _tag(response.headers), self._chunks(response)
        if response.status == 206:
            found = re.fullmatch(
                r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
            )
            if not found:
                raise ValueError
            return Answer(int(found[1]), int(found[2]) if found[2] != "*" else None, tag, chunks)
        length = response.headers.get("Content-Length")
        return Answer(0, int(length) if length is not None else None, tag, chunks)

    def _chunks(self, response: Any) -> Iterator[bytes]:
        with response:
            while True:
                try:
                    chunk = response.read1(CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise MayPass(_reason(error)) from error
                if not chunk:
                    return
                yield chunk

    def _refused(self, error: urllib.error.HTTPError, start: int, tag: str) -> Answer:
        with error:
            said = f"the server answered {error.code} {error.reason}".rstrip()
            if error.code == 416:  # nothing is left to send
                found = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", "").strip())
                if found and int(found[1]) == start:
                    return Answer(start, start, tag, iter(()))
                return Answer(-1, None, "", iter(()))
            if error.code in (401, 403, 404, 410):  # stores say 403 of what is not there and cannot be listed
                raise Missing(said) from error
            if error.code in (408, 425, 429) or error.code >= 500:
                raise MayPass(said, _seconds(error.headers.get("Retry-After", ""))) from error
        raise InputError(f"cannot fetch from {self.label}: {said}; check the address.")


class StoreFolder:
    """Objects below a prefix of a store, or files below a folder of this machine, through fsspec."""

    def __init__(self, scheme: str, uri: str) -> None:
        path = uri.partition("://")[2] if "://" in uri else uri
        self.label = without_secrets(uri)
        if scheme == "file":
            import fsspec

            self._store, self._path = fsspec.filesystem("file"), os.path.abspath(path)
        else:
            self._store, self._path = open_store(scheme), path.rstrip("/")

    def open(self, name: str, start: int, tag: str) -> Answer:
        path = f"{self._path}/{name}"
        try:
            info = self._store.info(path)
            if info["type"] != "file":
                raise FileNotFoundError(path)
            found = next((str(info[key]) for key in (*STAMPS, "mtime") if info.get(key)), "")
            start = start if found and found == tag and start <= info["size"] else 0
            return Answer(start, int(info["size"]), found, self._chunks(path, start))
        except Exception as error:
            raise self._failed(error) from error

    def _chunks(self, path: str, start: int) -> Iterator[bytes]:
        try:
            with self._store.open(path, "rb", block_size=BLOCK) as file:
                file.seek(start)
                while chunk := file.read(CHUNK):
                    yield chunk
        except GeneratorExit:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> Exception:
        """The stores' libraries raise whatever their HTTP client does; split by who can act."""
        if isinstance(error, FileNotFoundError):
            return Missing("no such file")
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, PermissionError) or "credential" in reason.lower():
            return InputError(f"no permission to read {self.label} ({reason}); give credentials.")
        return MayPass(reason)


def _tag(headers: Any) -> str:
    """What names this version of the file in a later If-Range: a strong ETag, or the date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _seconds(retry_after: str) -> float:
    if retry_after.strip().isdigit():
        return float(retry_after)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut"
    reason = getattr(error, "reason", None) or error
    reason = getattr(reason, "strerror", None) or reason  # without the number
    return str(reason).splitlines()[0] if str(reason) else type(error).__name__
