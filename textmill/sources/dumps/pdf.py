"""PDF by pypdf: the text that is in it, page after page, without what stands at the edge of most pages.

A PDF says where glyphs are, not what is a word, a paragraph or a column: read what comes out before training on it.
Scanned pages hold no text at all.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.texts import Reading, Row

_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u00ad\u2010]\n(?=[^\W\d_])(?=\w*[a-zß-ÿ])")
FEWEST_PAGES = 4  # of fewer pages nothing can be said about what repeats


def read(file: IO[bytes], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document. meta: title and author. Raises BadItem: damaged, encrypted, too much in it, or scanned."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs what it also raises, and what it mends
    try:
        reader = pypdf.PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise BadItem("encrypted, and it wants a password")
        pages, size = [], 0
        for page in reader.pages:
            pages.append((page.extract_text() or "").replace("\0", "").strip().split("\n"))
            size += sum(map(len, pages[-1]))
            if size > reading.max_bytes:
                raise BadItem(
                    f"holds more than {reading.max_bytes:,} characters; raise max_bytes if that is meant"
                )
        meta = _meta(reader.metadata)
    except BadItem:
        raise
    except Exception as error:  # a parser in Python of a format that anyone can break: it fails in every way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadItem(f"damaged: {reason}") from None
    if pages and not any(line.strip() for page in pages for line in page):
        raise BadItem("no text in it, only pictures of pages (a scan)")
    text = "\n\n".join("\n".join(page) for page in _without_edges(pages) if page)
    text = _HYPHEN.sub("", text)
    yield Document(name, text + "\n" if text.strip() else "", source, meta)


def _meta(found: Any) -> dict[str, str]:
    said = {"title": found and found.title, "author": found and found.author}
    return {key: " ".join(str(value).split()) for key, value in said.items() if value and str(value).strip()}


def _without_edges(pages: list[list[str]]) -> list[list[str]]:
    """Pages without first and last lines that stand there on half of them, whatever number they hold."""
    if len(pages) < FEWEST_PAGES:
        return pages
    for edge in (0, -1):
        for _ in range(2):  # a running title and a number
            common = Counter(_key(page[edge]) for page in pages if page)
            for page in pages:
                if page and common[_key(page[edge])] * 2 > len(pages):
                    page.pop(edge)
    return pages


def _key(line: str) -> str:
    return re.sub(r"\d+", "0", " ".join(line.split()))
