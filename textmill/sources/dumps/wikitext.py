"""Dumps in the form of WikiText (`wikitext:wiki.train.tokens`): a document an article, which begins at ` = Title = `.

Headings of sections, ` = = Name = = `, become lines of their own; the signs that WikiText keeps apart inside numbers
and words, `1 @,@ 000`, are joined again. Its other spaces between tokens stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.texts import Reading, Row

_HEADING = re.compile(r"[ \t]*(?P<marks>=(?: ?=){0,5}) (?P<title>[^=\s](?:[^=\n]*[^=\s])?) (?P=marks)[ \t]*$")
_JOINED = re.compile(r" @([-,.])@ ")
LONGEST = 200  # characters of a heading


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """The articles in order, one in memory at a time. Lines before the first title belong to none, and are reported."""
    title, number = "", 0
    lines: list[str] = []
    for line in text:
        found = _HEADING.match(line.rstrip("\n")) if "=" in line[:LONGEST] and len(line) < LONGEST else None
        if found and found["marks"] == "=":
            if row := _article(title, lines, name, source, number):
                yield row
            title, lines, number = _JOINED.sub(r"\1", found["title"]), [], number + 1
        else:
            lines.append(f"\n{found['title']}\n\n" if found else line)
    if not number:
        raise BadItem("no heading of the form ' = Title = ' in it")
    if row := _article(title, lines, name, source, number):
        yield row


def _article(title: str, lines: list[str], name: str, source: str, number: int) -> Row | None:
    body = _JOINED.sub(r"\1", re.sub(r"\n\s*\n", "\n\n", "".join(lines))).strip()
    body = re.sub(r"^[ \t]+|[ \t]+$", "", body, flags=re.MULTILINE)
    if not number:
        return BadItem("text before the first heading is left out", 1) if body else None
    return Document(f"{name}#{number}", f"{title}\n\n{body}\n" if body else "", source, {"title": title})
