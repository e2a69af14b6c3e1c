"""A checkpoint that lies in an object store, brought to this machine before it is served; what is there is kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.errors import FolderError, InputError, MachineError
from textmill.stores.resumable import Answer, Missing, Remote, fetch, open_remote

log = logging.getLogger("textmill.serving")

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def local_checkpoint(checkpoint: str, cache: Path | None = None) -> Path:
    """The checkpoint's folder on this machine: itself, or a copy of what lies at its address.

    Raises InputError where there is no checkpoint, MachineError where it cannot be fetched or kept.
    """
    if not REMOTE.match(checkpoint):
        return Path(checkpoint)
    address = checkpoint.rstrip("/")
    folder = (cache or _cache()) / hashlib.sha256(address.encode()).hexdigest()[:16]
    fetch_checkpoint(address, folder)
    return folder


def fetch_checkpoint(address: str, folder: Path, sha256: str = "") -> int:
    """Make `folder` the checkpoint at an address, every file as its manifest says; what is there already is kept.
    Returns the bytes of its files.

    `sha256`: the digest that the manifest must have, so that it is this checkpoint and no other.
    Raises InputError where there is no such checkpoint, MachineError where it cannot be fetched or kept.
    """
    remote = open_remote(address.rstrip("/"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / manifest.NAME).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot write to {folder}: {error.strerror}.") from error
    log.info("fetching the checkpoint at %s", remote.label)
    fresh = folder / "fetched"  # the manifest is put into place last
    (fresh / manifest.NAME).unlink(missing_ok=True)
    try:
        fetch(remote, manifest.NAME, fresh)
        files = _files(fresh / manifest.NAME, remote.label)
        found = manifest.Manifest("checkpoint", files).digest
        if sha256 and found != sha256:
            raise InputError(
                f"the checkpoint at {remote.label} has the SHA-256 {found}, not {sha256}: it is another one by now."
            )
        for name, entry in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fetch(
                _Below(remote, name),
                target.name,
                target.parent,
                size=entry["size"],
                check=_same(entry["sha256"]),
            )
    except Missing as problem:
        raise InputError(f"there is no whole checkpoint at {remote.label}: {problem}.") from None
    os.replace(fresh / manifest.NAME, folder / manifest.NAME)
    return sum(entry["size"] for entry in files.values())


class _Below:
    """A remote file in a folder of a remote folder: it is asked for by its whole name, and kept by its last part."""

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote, self._name, self.label = remote, name, remote.label

    def open(self, name: str, start: int, tag: str) -> Answer:
        return self._remote.open(self._name, start, tag)


def _files(path: Path, label: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
        files = dict(found["files"])
        if found["format"] != "textmill/checkpoint":
            raise InputError(f"{label} holds no checkpoint, but: {found['format']}.")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{label} holds no checkpoint: its {manifest.NAME} cannot be read.") from error
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{label}: its {manifest.NAME} names a file outside of it.")
    return files


def _same(digest: str) -> Callable[[Path], None]:
    """A check that a file has this SHA-256."""

    def check(path: Path) -> None:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise FolderError(f"{path} is not what the manifest says.")

    return check


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "textmill" / "served"
