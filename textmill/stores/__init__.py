"""Where copies of a checkpoint are kept while it is trained: a table from a URI's scheme to the class, and the verbs.

    read                 an object's bytes in pieces, with its size and version
    write                an object from bytes or from a file, whole or not at all, in place of what was there
    list                 names and sizes of the objects below a prefix
    delete               an object; one that is not there is no error
    write_if_unchanged   compare and swap: only while the object still has a version, or is not there

A store knows names and bytes, nothing of checkpoints. A new one is one file here, one row in STORES (or an entry point
of another package), and a test class that inherits tests/contracts/store_contract.py. Endpoints and credentials come
from the environment alone; no message of a store holds one (`without_credentials`).

    StoreError (MachineError)   it did not work and may work later: down, slow, an error of the server, full
    Refused (InputError)        it will not work: no such bucket, no credentials, no permission
    Missing, Changed            no such object; the object has another version
"""

from __future__ import annotations

import abc
import hashlib
import importlib
import importlib.util
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from textmill import extensions
from textmill.errors import InputError, MachineError
from textmill.files import replacing
from textmill.settings import unknown_name

log = logging.getLogger("textmill.stores")

CHUNK = 1 << 20  # bytes of one piece that is read
PART = 16 << 20  # bytes of one part of a large upload: the most that is held in memory
ATTEMPTS = 4  # of a download that breaks off
WAIT = 1.0  # seconds before the second attempt, doubled before each further one
SECRETS = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_?KEY|CREDENTIAL|^accesskey$|^secretkey$", re.IGNORECASE)


class StoreError(MachineError):
    """The store could not do it now: down, slow, an error of its own, full. Another time it may."""


class Refused(InputError):
    """The store will not do it: no such bucket, no credentials, no permission. Another try is useless."""


class Missing(Exception):
    """There is no such object."""


class Changed(Exception):
    """The object has another version than the one it should be swapped for."""


@dataclass(frozen=True)
class Found:
    """An object being read. `version` names these bytes in `write_if_unchanged`; `chunks` may raise StoreError."""

    size: int
    version: str
    chunks: Iterator[bytes]


class Store(abc.ABC):
    """The objects below a URI; names are relative to it, posix, without "..". All methods raise StoreError, Refused.

    label: the URI as shown in logs, without secrets.
    """

    label: str

    @abc.abstractmethod
    def read(self, name: str) -> Found:
        """Raises Missing."""

    @abc.abstractmethod
    def write(self, name: str, data: bytes | Path) -> None:
        """`data` is a file's path for what is large: at most PART bytes of it are in memory."""

    @abc.abstractmethod
    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(name, bytes) of the objects whose names begin with `prefix`, in the order of their names."""

    @abc.abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""

    @abc.abstractmethod
    def write_if_unchanged(self, name: str, data: bytes, version: str) -> str:
        """Write while the object's version is `version` ("": while there is none); return the new one.

        Raises Changed. An answer that is lost on the way may raise Changed after the write was done: then the object
        holds `data`.
        """

    def version(self, name: str) -> str:
        """The object's version, "" where there is none."""
        try:
            return self.read(name).version
        except Missing:
            return ""

    def write_file_if_unchanged(self, name: str, path: Path, version: str) -> None:
        """The same as write_if_unchanged for what is large; a store that takes files in parts has its own."""
        self.write_if_unchanged(name, path.read_bytes(), version)


@dataclass(frozen=True)
class Kind:
    """A row of STORES: the class as "module:name", imported when used, and the package it needs with its hint.

    path: may be the class itself, in another package.
    """

    path: str | type[Store]
    package: str = ""
    hint: str = ""

    def load(self, label: str) -> type[Store]:
        """The class, imported now. Raises MachineError naming a package that is not installed."""
        if self.package and _find(self.package) is None:
            raise MachineError(f"{label} needs the package {self.package}: {self.hint}.")
        if not isinstance(self.path, str):
            return self.path
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(f"textmill.stores.{module}"), name)


_S3 = Kind("s3:S3Store", "boto3", "pip install 'textmill[s3]'")
_GCS = Kind("gcs:GCSStore", "google.cloud.storage", "pip install 'textmill[gcs]'")

STORES: dict[str, Kind] = {
    "file": Kind("local:LocalStore"),
    "gcs": _GCS,
    "gs": _GCS,
    "memory": Kind("memory:MemoryStore"),
    "minio": _S3,
    "s3": _S3,
}


def open_store(uri: str) -> Store:
    """The store at scheme://… or at a folder of this machine; nothing is asked of it yet.

    Raises InputError for an unknown scheme or a URI without a bucket, MachineError for a package not installed.
    """
    if not uri.strip():
        raise InputError("no store is given; name a folder, s3://bucket/prefix, minio://… or gs://….")
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    scheme = found[1].lower() if found else "file"
    kind = extensions.look_up(STORES, "stores", scheme, Kind)
    if kind is None:
        there = [f"{name}://" for name in extensions.known(STORES, "stores")]
        raise InputError(unknown_name("kind of store", f"{scheme}://", there))
    store = kind.load(label_of(uri))
    return store(uri)  # type: ignore[call-arg]


def label_of(uri: str) -> str:
    """A URI for people to see: without user, password and query."""
    return re.sub(r"(?<=://)[^/?#]*@", "", uri).partition("?")[0].rstrip("/")


def without_credentials(text: str) -> str:
    """One line of a library's message, without the values of any secret in the environment."""
    line = " ".join(text.split())[:300]
    for name, value in os.environ.items():
        if SECRETS.search(name) and len(value) > 3:
            line = line.replace(value, "***")
    return re.sub(r"(?<=://)[^/\s@]*@", "", line)


def safe_name(name: str) -> str:
    """The name, if it stays below the store's URI. Raises InputError for one that does not."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(f"{name!r} is no name of an object below a store's URI.")
    return name


def read_bytes(store: Store, name: str, most: int = 64 << 20) -> tuple[bytes, str]:
    """A small object's bytes and version. Raises Missing, and StoreError above `most` bytes."""
    found = store.read(name)
    if found.size > most:
        raise StoreError(f"{store.label}/{name} has {found.size:,} bytes, more than it should.")
    data = b"".join(found.chunks)
    if len(data) != found.size:
        raise StoreError(f"reading {store.label}/{name} broke off.")
    return data, found.version


def download(store: Store, name: str, path: Path) -> str:
    """Copy an object to a file; return its SHA-256. A download that breaks off is tried again. Raises Missing."""
    for attempt in range(ATTEMPTS):
        try:
            return _download(store, name, path)
        except StoreError as error:
            if attempt == ATTEMPTS - 1:
                raise
            log.info("%s; once more", error)
            time.sleep(WAIT * 2**attempt)
    raise AssertionError


def _download(store: Store, name: str, path: Path) -> str:
    digest, done = hashlib.sha256(), 0
    found = store.read(name)
    with replacing(path) as file:
        for chunk in found.chunks:
            digest.update(chunk)
            file.write(chunk)
            done += len(chunk)
        if done != found.size:
            raise StoreError(f"reading {store.label}/{name} broke off at {done:,} of {found.size:,} bytes")
    return digest.hexdigest()


def _find(package: str) -> object:
    try:
        return importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return None
