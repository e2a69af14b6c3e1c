"""Saved web pages (.html): what a page is about, as trafilatura finds it; where it finds nothing, all of its text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.page_text import Page, blocks, chosen, decoded, joined, page_of
from textmill.sources.texts import Reading, Row

LARGEST = 64 << 20  # bytes of one page


def read(file: IO[bytes], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document. meta: title, author, date and licence, where the page says them."""
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadItem(f"larger than {LARGEST:,} bytes, which no page is")
    html = decoded(data, "")
    try:
        page = page_of(html, "")
    except BadItem:
        page = Page(joined(blocks(chosen(html, (), ()))))
    yield Document(name, page.text, source, page.meta())
