"""Dumps and documents that others made: an archive of posts, e-books, subtitles, screenplays, tables, pages.

A format is one file here with `read`, and one row in FORMATS, which names the files that are its own and the packages
it needs. `epub:PLACE` reads the e-books at a place that ingest reads (a file, folder, archive, bucket…) and nothing
else there; a file that is named, or chosen by a pattern with a suffix, is read by its suffix without that.

`read(file, name, source, reading)` gives documents, and a BadItem for each part that cannot be used; it raises BadItem
when the whole cannot. `file` is text, or seekable bytes for a `binary` format. All of it may come from a stranger: no
entity is expanded, nothing is written or fetched, and what is unpacked is bounded.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textmill.errors import InputError, MachineError
from textmill.sources import SOURCES, BadItem, Item, Source, open_source, without_secrets
from textmill.sources.archive import archive_suffix
from textmill.sources.compression import COMPRESSIONS

Read = Callable[..., Iterator[Any]]


@dataclass(frozen=True)
class Format:
    """A row of FORMATS. names: globs of file names. extra: textmill's, which brings the packages it needs.

    by_name: a file so named, which the user named, is read so without being told.
    """

    path: str
    names: str
    binary: bool = False
    packages: str = ""
    extra: str = "dumps"
    by_name: bool = True

    def matches(self, name: str) -> bool:
        """Is a file of this name, whatever its folder and its compression, one of the format's?"""
        name = name.rpartition("/")[2].lower()
        name = next((name.removesuffix(suffix) for suffix in COMPRESSIONS if name.endswith(suffix)), name)
        return any(fnmatch.fnmatchcase(name, glob) for glob in self.names.split())

    def check(self, name: str) -> None:
        """Raise MachineError for a package that is not installed; `name` is the file or address that needs it."""
        for package in self.packages.split():
            if importlib.util.find_spec(package) is None:
                raise MachineError(
                    f"{name} needs the package {package}: pip install 'textmill[{self.extra}]'."
                )

    def load(self, name: str) -> Read:
        """Its reader."""
        self.check(name)
        return importlib.import_module(f"textmill.sources.dumps.{self.path}").read


FORMATS: dict[str, Format] = {
    "epub": Format("epub", "*.epub", binary=True, packages="lxml"),
    "fdx": Format("final_draft", "*.fdx", binary=True, packages="lxml"),
    "fountain": Format("fountain", "*.fountain *.spmd"),
    "gutenberg": Format("gutenberg", "*.txt", by_name=False),
    "html": Format("html_file", "*.html *.htm *.xhtml", binary=True, packages="trafilatura lxml"),
    "markdown": Format("markdown", "*.md *.markdown", packages="markdown_it"),
    "mastodon-archive": Format("mastodon_archive", "outbox.json"),
    "parquet": Format("parquet", "*.parquet", binary=True, packages="pyarrow", extra="parquet"),
    "pdf": Format("pdf", "*.pdf", binary=True, packages="pypdf"),
    "subtitles": Format("subtitles", "*.srt *.vtt"),
    "wikitext": Format("wikitext", "*.txt *.tokens *.raw", by_name=False),
    "x-archive": Format("x_archive", "tweets.js tweets-part*.js tweet.js"),
}


def format_of(name: str) -> str:
    """The format whose files are named so; "" for none."""
    return next((key for key, form in FORMATS.items() if form.by_name and form.matches(name)), "")


class DumpSource(Source):
    """`FORMAT:PLACE`: those files at a place that are of the format, also in archives there."""

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        self.format, _, place = address.partition(":")
        self.format = self.format.lower()
        if not place.strip():
            raise InputError(
                f"{self.format}: names no place; write {self.format}:FILE or {self.format}:FOLDER."
            )
        inner = SOURCES.get(place.strip().partition(":")[0].lower())
        if inner and inner.described and "://" not in place and inner.path != "sample:SampleSource":
            raise InputError(f"{place.strip()!r} is no place of files; write {self.format}:FILE or …:FOLDER.")
        FORMATS[self.format].check(without_secrets(address))
        self._inner = open_source(place, max_bytes=max_bytes, ignore=ignore)
        self.label = f"{self.format}:{self._inner.label}"

    def items(self) -> list[Item]:
        self._inner.tick = self.tick
        found = self._inner.items()
        wanted = [item for item in map(self.member, found) if item]
        if not wanted:
            names = FORMATS[self.format].names.replace(" ", ", ")
            raise InputError(f"no {self.format} in {self._inner.label}: none of its files is named {names}.")
        return wanted

    def member(self, item: Item) -> Item | None:
        if archive_suffix(item.name):
            return dataclasses.replace(item, source=f"{self.format}:{item.source}")
        if not item.alone and not FORMATS[self.format].matches(item.name):
            return None
        source = item.source.removeprefix(f"{self.format}:")
        return dataclasses.replace(item, kind=self.format, named=True, source=f"{self.format}:{source}")


def xml_root(data: bytes, what: str) -> Any:
    """The root of an XML document: no entity is expanded, no DTD is loaded, nothing is fetched. Raises BadItem."""
    import lxml.etree

    parser = lxml.etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = lxml.etree.fromstring(data, parser)
    except (lxml.etree.LxmlError, ValueError) as error:
        raise BadItem(f"{what} is not valid XML ({str(error).splitlines()[0]})") from None
    if root.getroottree().docinfo.internalDTD is not None and any(
        isinstance(node, lxml.etree._Entity) for node in root.iter()
    ):
        raise BadItem(f"{what} has entities of its own, which are not expanded")
    return root


def local(element: Any) -> str:
    """An element's name without its namespace; "" for comments and the like."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
