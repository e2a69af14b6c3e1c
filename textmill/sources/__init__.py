"""Where text comes from: a table from an address's scheme to the class that lists and opens its items.

A source knows names and bytes; nothing of texts, encodings or shards (texts.py and ingest.py do). A new kind is one
file here, one row in SOURCES (or an entry point of another package), and a test class that inherits
tests/contracts/source_contract.py.
"""

from __future__ import annotations

import abc
import difflib
import importlib
import importlib.util
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from textmill import extensions
from textmill.errors import InputError, MachineError
from textmill.files import writing_failed
from textmill.settings import unknown_name

CHUNK = 1 << 18
SPOOL = (
    8 << 20
)  # downloads and archive members up to this size stay in memory, larger ones go to a temporary file


class BadItem(Exception):
    """An item, or one line of it, that cannot be used: reported and skipped, or under `strict` the end."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class Unreachable(BadItem):
    """An item that cannot be had now, but may later (a server that is down): what was read of it before stays."""


@dataclass(frozen=True)
class Item:
    """One thing a source holds: a text, a table of texts, or an archive of them.

    name: relative to the source's root, posix, NFC; the corpus is sorted by it.
    open: the raw bytes from their beginning, seekable. May download. A member of a tar only while it is the latest.
    source: where it came from, without secrets and without this machine's paths.
    stamp: changes when the bytes change (an ETag, say), known without reading them; "" when there is none.
    named: the user named it, or its suffix: it is text whatever its suffix.
    alone: it is all that the address means.
    problem: why it cannot be opened; "" when it can.
    passing: the problem may pass by itself; what was read of the item before stays.
    kind: how the bytes are read where the name's suffix does not say it: "" or texts.DOCUMENTS.
    terms: under what terms it is given out, where that is known without reading it: a licence, or where they stand.
    """

    name: str
    open: Callable[[], IO[bytes]]
    source: str
    stamp: str = ""
    named: bool = False
    alone: bool = False
    problem: str = ""
    passing: bool = False
    kind: str = ""
    terms: str = ""


class Source(abc.ABC):
    """What an address means. The constructor checks the address and the packages it needs, and reads nothing.

    label: the address as shown in logs and kept in the manifest: no secrets, no path of this machine.
    lists_all: does `preview` know every item? notes: what it has to say beside them, a line each.
    tick: called with a short text while something long goes on.
    unchanged: will this item not be opened, as its stamp is known or no one asked for it? For fetching ahead.
    work: a folder beside the shards for what the source needs to go on after a kill, and to ask a server only for
        what changed. None: nothing is kept. The source makes it when it needs it.
    """

    label: str
    lists_all = True

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        self.address, self.max_bytes, self.ignore = address, max_bytes, ignore
        self.tick: Callable[[str], None] = lambda note: None
        self.unchanged: Callable[[Item], bool] = lambda item: False
        self.work: Path | None = None
        self.notes: list[str] = []

    @abc.abstractmethod
    def items(self) -> list[Item]:
        """All items, in any order. Raises InputError when there is nothing at the address."""

    def preview(self) -> list[Item]:
        """What `items` would find, as far as it is known without fetching texts; nothing of it is opened."""
        return self.items()

    def member(self, item: Item) -> Item | None:
        """A member of an archive as the source wants it read; None when it is none of its texts."""
        return item

    def stays(self, name: str) -> bool:
        """Does an item that was read before stay when `items` did not list it now (an old entry of a feed)?"""
        return False

    def taken(self) -> None:  # noqa: B027
        """Every item was taken or reported. Raises InputError where one reason concerns all of them."""

    def used(self) -> dict[str, Any]:
        """What decides which texts come, besides the address: kept in the manifest. No secrets."""
        return {}

    def finished(self) -> None:  # noqa: B027
        """The corpus is complete: what was kept in `work` only to go on after a kill can go."""


@dataclass(frozen=True)
class Kind:
    """A row of SOURCES: the class as "module:name", imported when used, and the packages it needs with their hint.

    path: may be the class itself, in another package.
    described: the address is `scheme:` and a description (sources/described.py), not `scheme://`.
    """

    path: str | type[Source]
    packages: str = ""
    hint: str = ""
    described: bool = False

    def load(self, address: str) -> type[Source]:
        """The class, imported now. Raises MachineError naming a package that is not installed."""
        for package in self.packages.split():
            if importlib.util.find_spec(package) is None:
                raise MachineError(f"{address} needs the package {package}: {self.hint}.")
        if not isinstance(self.path, str):
            return self.path
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(f"textmill.sources.{module}"), name)


CRAWL = "pip install 'textmill[crawl]'"
SOCIAL = "pip install 'textmill[social]'"

SOURCES: dict[str, Kind] = {
    "bluesky": Kind("bluesky:BlueskySource", "atproto_client requests", SOCIAL, described=True),
    "crawl": Kind("crawl:CrawlSource", "scrapy trafilatura", CRAWL, described=True),
    "feeds": Kind("feeds:FeedsSource", "feedparser lxml", CRAWL, described=True),
    "file": Kind("local:LocalSource"),
    "gcs": Kind("bucket:BucketSource", "gcsfs", "pip install 'textmill[gcs]'"),
    "gs": Kind("bucket:BucketSource", "gcsfs", "pip install 'textmill[gcs]'"),
    "http": Kind("web:WebSource"),
    "https": Kind("web:WebSource"),
    "mastodon": Kind("mastodon:MastodonSource", "mastodon", SOCIAL, described=True),
    "mediawiki": Kind("mediawiki:MediaWikiSource", "mwclient mwparserfromhell lxml", CRAWL, described=True),
    "memory": Kind("bucket:BucketSource"),
    "s3": Kind("bucket:BucketSource", "s3fs", "pip install 'textmill[s3]'"),
    "sample": Kind("sample:SampleSource", described=True),
    "x": Kind("x:XSource", "xdk", SOCIAL, described=True),
    # Formats of files, each a row of dumps.FORMATS with the packages it needs: `epub:books/`.
    **dict.fromkeys(
        (
            "epub",
            "fdx",
            "fountain",
            "gutenberg",
            "html",
            "markdown",
            "mastodon-archive",
            "parquet",
            "pdf",
            "subtitles",
            "wikitext",
            "x-archive",
        ),
        Kind("dumps:DumpSource", described=True),
    ),
}


def open_source(address: str, *, max_bytes: int, ignore: Path | None = None) -> Source:
    """The source an address means: `scheme://…`, `crawl:…` and its like, or else a path or glob on this machine.

    `ignore` is a folder to leave out (the corpus itself, where it lies below the source).
    Raises InputError for an unknown scheme, MachineError for a package that is not installed.
    """
    if not address.strip():
        raise InputError("no source is given; name a file, folder, glob, archive or address to read.")
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", address)
    scheme, slashes = (found[1].lower(), found[2] or "") if found else ("", "")
    kind = extensions.look_up(SOURCES, "sources", scheme, Kind) if scheme else None
    known = extensions.known(SOURCES, "sources") if scheme and not kind else []
    mistyped = difflib.get_close_matches(scheme, known, 1) and not os.path.lexists(address)
    if not (slashes or mistyped or (kind and kind.described)):
        kind = SOURCES["file"]
    if kind is None:
        plain = {name for name, row in SOURCES.items() if not row.described}
        shown_names = [f"{name}://" if name in plain else f"{name}:" for name in known]
        raise InputError(unknown_name("kind of source", f"{scheme}:{slashes}", shown_names))
    shown = f"{scheme}:" if kind.described and "\n" in address else without_secrets(address)
    return kind.load(shown)(address, max_bytes=max_bytes, ignore=ignore)


def without_secrets(address: str) -> str:
    """An address for people to see: without user, password and query."""
    address = re.sub(r"(?<=://)[^/?#]*@", "", address)
    return re.sub(r"[?#].*", "", address) if re.match(r"([a-z-]+:)?http", address.lower()) else address


def clean_name(name: str) -> str:
    """A name fit for every file system and for JSON: NFC, and bytes that are not UTF-8 as \\xNN."""
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Files that people do not mean: names that begin with a dot, and what macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def spool(chunks: Iterator[bytes], max_bytes: int) -> IO[bytes]:
    """Copy chunks into a seekable temporary file, in memory while small. Raises BadItem above `max_bytes`."""
    file = tempfile.SpooledTemporaryFile(SPOOL, prefix="textmill-")  # noqa: SIM115
    try:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise too_large(max_bytes)
            _write(file, chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise writing_failed(Path(tempfile.gettempdir()), error) from error


def too_large(max_bytes: int) -> BadItem:
    return BadItem(f"holds more than {max_bytes:,} bytes; raise max_bytes if that is meant")


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file, in pieces."""
    while chunk := file.read(CHUNK):
        yield chunk
