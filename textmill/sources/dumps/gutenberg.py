"""Plain texts of Project Gutenberg (`gutenberg:books/`): the book without the header and the licence around it.

The header says title, author and language, which become the document's meta.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.texts import Reading, Row

# Since 1990 the marks have been written in many ways; these take all of them, and the "small print" of the 1990s.
_START = re.compile(
    r"^[ \t]*(?:\*{2,3} ?START OF TH(?:E|IS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b[^\n]*(?:\n[^\n]+)?\*{3}"
    r"|\*{2,3} ?START OF TH(?:E|IS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b[^\n]*"
    r"|\*END[ *]+THE SMALL PRINT![^\n]*)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(
    r"^[ \t]*(?:\*{2,3} ?END OF TH(?:E|IS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b"
    r"|END OF (?:THE |THIS )?PROJECT GUTENBERG(?:'S|’S)?(?: E(?:BOOK|TEXT))?\b)[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_CREDITS = re.compile(
    r"\s*(?:produced by|e-?text prepared by|this e-?(?:text|book) was (?:prepared|produced)|transcribed (?:from|by)"
    r"|\[?(?:illustration|cover)\b|project gutenberg)[^\n]*(?:\n[^\n]+)*",
    re.IGNORECASE,
)
_FIELD = re.compile(r"^(Title|Author|Translator|Language|Release Date):[ \t]*(\S[^\n]*)$", re.MULTILINE)
_LICENCE = "public domain in the USA (Project Gutenberg)"


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document, between the marks. Raises BadItem where there is no mark of the beginning or of the end."""
    whole = text.read()
    starts = list(_START.finditer(whole))
    if not starts:
        raise BadItem("no line '*** START OF THE PROJECT GUTENBERG EBOOK' in it")
    start = starts[-1].end()
    end = _END.search(whole, start)
    if end is None:
        raise BadItem("no line '*** END OF THE PROJECT GUTENBERG EBOOK' in it; the file is cut")
    while credits := _CREDITS.match(whole, start, end.start()):
        start = credits.end()
    book = whole[start : end.start()].strip("\n")
    head = whole[: starts[-1].end()]
    fields = {key.lower().replace(" ", "_"): value.strip() for key, value in _FIELD.findall(head)}
    meta = {"licence": _LICENCE, **fields}
    yield Document(name, book + "\n" if book.strip() else "", source, meta)
