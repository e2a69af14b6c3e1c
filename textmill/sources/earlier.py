"""The corpus of an earlier run, brought to where the next ingest writes, so that it reads only what is new.

On one machine an ingest finds its last corpus in its folder. On a cluster every run writes to a place of its own, and
is told where an earlier corpus lies: a folder here, or below s3://, minio://, gs:// or memory://. A place with `*` in
it may match several, of which the newest whole one is taken, or none yet, so that a schedule can always name the same.

What comes is the corpus and the folder in which its source keeps what it needs to go on; nothing in it is trusted to
be more than data. Knows nothing of sources.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from textmill import manifest
from textmill.corpora.corpus import WORK
from textmill.errors import FolderError, InputError, MachineError, TextmillError
from textmill.files import writing_failed
from textmill.progress import Progress
from textmill.sources import SOURCES, without_secrets
from textmill.sources.bucket import open_store

log = logging.getLogger("textmill.ingest")

AT_ONCE = 64  # files a request to the store
HALF = ".earlier"  # where files lie until all of them are here
SCHEMES = {"s3": "s3", "minio": "s3", "gs": "gs", "gcs": "gs", "memory": "memory"}


@dataclass(frozen=True)
class Found:
    """A whole corpus elsewhere. files: {path in the corpus: bytes}, without the manifest, whose text is `said`."""

    path: str
    files: dict[str, int]
    said: bytes


def bring(place: str, corpus: Path) -> bool:
    """Bring the corpus at `place` into the folder `corpus`, unless a corpus stands there; say whether one was brought.

    The manifest comes last, so a kill leaves a folder that the next call fills. What a stopped ingest kept there stays.
    Raises InputError where a place without `*` holds no corpus, FolderError where it is damaged or altered.
    """
    if (corpus / manifest.NAME).exists():
        log.info("%s holds a corpus; the earlier one is not needed", corpus)
        return False
    store, path = _opened(place)
    try:
        found = _find(store, path, without_secrets(place))
        if found is None:
            log.info("no earlier corpus at %s; everything is read", without_secrets(place))
            return False
        _copy(store, found, corpus)
    except TextmillError:
        raise
    except Exception as error:
        raise _failed(without_secrets(place), error) from error
    finally:
        shutil.rmtree(corpus / HALF, ignore_errors=True)
    log.info("going on from the corpus at %s", _shown(place, found.path))
    return True


def _opened(place: str) -> tuple[Any, str]:
    """The store, and the place's path in it."""
    address = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", place.strip(), re.DOTALL)
    scheme = address[1].lower() if address else "file"
    if scheme == "file":
        import fsspec

        return fsspec.filesystem("file"), os.path.abspath(address[2] if address else place.strip())
    if scheme not in SCHEMES:
        raise InputError(f"an earlier corpus is a folder, or lies at s3:// or gs://, not at {scheme}://.")
    SOURCES[SCHEMES[scheme]].load(without_secrets(place))  # says which package is not installed
    return open_store(SCHEMES[scheme]), address[2].rstrip("/") if address else ""


def _find(store: Any, path: str, place: str) -> Found | None:
    """The newest whole corpus of those that the path means."""
    if not glob.has_magic(path):
        if not store.exists(f"{path}/{manifest.NAME}"):
            raise InputError(
                f"there is no corpus at {place}: it has no {manifest.NAME}; name the corpus of an earlier run."
            )
        return _whole(store, path, place)
    manifests = store.glob(f"{path.rstrip('/')}/{manifest.NAME}")
    for found in sorted(manifests, key=lambda name: (str(store.modified(name)), name), reverse=True):
        folder = found.rpartition("/")[0]
        try:
            return _whole(store, folder, folder)
        except FolderError as error:
            log.warning("%s It is passed over.", error)
    return None


def _whole(store: Any, path: str, place: str) -> Found:
    """What is there, once it is known that all of it is."""
    said = store.cat_file(f"{path}/{manifest.NAME}")
    try:
        value = json.loads(said)
        kind, listed = value["format"], {name: int(entry["size"]) for name, entry in value["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FolderError(f"{place}/{manifest.NAME} is not a textmill manifest.") from None
    if kind != "textmill/corpus":
        raise FolderError(f"{place} holds a {str(kind).removeprefix('textmill/')}; a corpus is wanted here.")
    for name in listed:
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise FolderError(
                f"the corpus at {place} names {name!r}, a path out of the folder; do not use it."
            )
    there = {}
    for name, info in store.find(path, detail=True).items():
        relative = "/" + name.strip("/")
        there[relative.removeprefix("/" + path.strip("/") + "/")] = int(info["size"])
    for name, size in listed.items():
        if there.get(name) != size:
            what = f"{there[name]:,} bytes" if name in there else "nothing"
            raise FolderError(
                f"the corpus at {place} is not whole: of {name}, {size:,} bytes, {what} is there."
            )
    kept = {
        name: size
        for name, size in there.items()
        if name.startswith(f"{WORK}/") and ".." not in PurePosixPath(name).parts
    }
    return Found(path, listed | kept, said)


def _copy(store: Any, found: Found, corpus: Path) -> None:
    """All files beside, then each to its place, the manifest last."""
    half = corpus / HALF
    wanted = [name for name in found.files if not (corpus / name).exists()]
    try:
        with Progress("earlier corpus", sum(found.files[name] for name in wanted), unit="bytes") as progress:
            for some in _parts(wanted):
                for name in some:
                    (half / name).parent.mkdir(parents=True, exist_ok=True)
                store.get([f"{found.path}/{name}" for name in some], [str(half / name) for name in some])
                progress.advance(sum(found.files[name] for name in some))
        half.mkdir(parents=True, exist_ok=True)
        (half / manifest.NAME).write_bytes(found.said)
        for name in (*wanted, manifest.NAME):
            (corpus / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(half / name, corpus / name)
    except OSError as error:
        if error.errno is None:  # the store's
            raise
        raise writing_failed(corpus, error) from error
    try:
        manifest.read(corpus, "corpus", verify=True)
    except FolderError:
        (corpus / manifest.NAME).unlink()
        for name in wanted:
            (corpus / name).unlink()
        raise


def _parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), AT_ONCE):
        yield names[start : start + AT_ONCE]


def _shown(place: str, path: str) -> str:
    """Which one it is, where the place could mean several."""
    if not glob.has_magic(place):
        return without_secrets(place)
    scheme, sep, _ = place.partition("://")
    return f"{scheme}{sep}{path}" if sep else path


def _failed(place: str, error: Exception) -> Exception:
    """The stores' libraries raise whatever their HTTP client does; make it one line, split by who can act."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is nothing at {place}; name the corpus of an earlier run.")
    if isinstance(error, PermissionError) or "credential" in reason.lower():
        return InputError(f"no permission to read {place} ({reason}); give credentials.")
    return MachineError(f"cannot read the earlier corpus at {place}: {reason}.")
