"""E-books, EPUB 2 and 3: a document a book, its chapters in reading order. By zipfile and lxml.

The package is a zip with XHTML; what it says of title, author, language and rights becomes the document's meta. Tables
of contents and covers without text are left out, and what the reading order marks as aside.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.compression import DAMAGE, Bounded, damaged, size_of, unpacking_bound
from textmill.sources.dumps import local, xml_root
from textmill.sources.page_text import blocks, chosen, decoded, joined
from textmill.sources.texts import Reading, Row

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def read(file: IO[bytes], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document. Raises BadItem: damaged, encrypted, a bomb, or not an EPUB."""
    try:
        with zipfile.ZipFile(file) as archive:
            book = _Book(archive, *unpacking_bound(size_of(file), reading.max_bytes))
            chapters = list(book.chapters())
            yield Document(name, "\n".join(chapters), source, book.meta)
    except BadItem:
        raise
    except DAMAGE as error:
        raise damaged(error) from error
    except (KeyError, RuntimeError) as error:  # zipfile: no such member, a member that wants a password
        raise BadItem(f"damaged: {error.args[0] if error.args else error}") from None


class _Book:
    """An open EPUB: its package document, read; and its pages, as they are asked for."""

    def __init__(self, archive: zipfile.ZipFile, limit: int, excess: BadItem) -> None:
        self._archive, self._limit, self._excess = archive, limit, excess
        self._members = set(archive.namelist())
        if CONTAINER not in self._members:
            raise BadItem(f"not an EPUB (no {CONTAINER} in it)")
        container = xml_root(self._bytes(CONTAINER), CONTAINER)
        places = [element.get("full-path") for element in container.iter() if local(element) == "rootfile"]
        self._place = next((place for place in places if place in self._members), None)
        if self._place is None:
            raise BadItem("not an EPUB (its container names no package that is there)")
        self._package = xml_root(self._bytes(self._place), self._place)
        self.meta = self._said()

    def chapters(self) -> Iterator[str]:
        """The text of each page in reading order that has any."""
        manifest = {e.get("id"): e for e in self._package.iter() if local(e) == "item"}
        sealed = self._encrypted()
        for reference in (e for e in self._package.iter() if local(e) == "itemref"):
            item = manifest.get(reference.get("idref"))
            if item is None or reference.get("linear") == "no" or "nav" in item.get("properties", "").split():
                continue
            place = self._member(item)
            if item.get("media-type") not in PAGES or place not in self._members:
                continue
            if place in sealed:
                raise BadItem("encrypted (protected against copying)")
            if text := _page_text(self._bytes(place)):
                yield text

    def _member(self, item: Any) -> str:
        path = unquote(urlsplit(item.get("href", "")).path)
        return posixpath.normpath(posixpath.join(posixpath.dirname(self._place or ""), path))

    def _encrypted(self) -> set[str]:
        if ENCRYPTION not in self._members:
            return set()
        root = xml_root(self._bytes(ENCRYPTION), ENCRYPTION)
        return {unquote(e.get("URI", "")) for e in root.iter() if local(e) == "CipherReference"}

    def _bytes(self, member: str) -> bytes:
        """A member, unpacked; the bound holds for all together."""
        with self._archive.open(member) as raw:
            opened = Bounded(raw, self._limit, self._excess)
            data = b"".join(iter(lambda: opened.read(1 << 16), b""))
        self._limit -= opened.count
        return data

    def _said(self) -> dict[str, str]:
        names = {
            "title": "title",
            "creator": "author",
            "language": "language",
            "date": "date",
            "rights": "licence",
        }
        meta: dict[str, str] = {}
        for element in self._package.iter():
            key = names.get(local(element), "") if "purl.org/dc" in str(element.tag) else ""
            value = " ".join((element.text or "").split())
            if key and value:
                meta[key] = (
                    f"{meta[key]}, {value}" if key == "author" and key in meta else meta.get(key, value)
                )
        return meta


def _page_text(data: bytes) -> str:
    try:
        return joined(blocks(chosen(decoded(data, ""), (), ())))
    except BadItem:  # an empty page
        return ""
