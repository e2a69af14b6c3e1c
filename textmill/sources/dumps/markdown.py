"""Markdown (CommonMark, by markdown-it-py) as plain text: the words without the marks, an empty line between blocks.

YAML between `---` lines at the top is not text; its title, author, date and licence become the document's meta.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

import yaml

from textmill.corpora.corpus import Document
from textmill.sources.texts import Reading, Row

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FIELDS = {"title": "title", "author": "author", "date": "date", "licence": "licence", "license": "licence"}


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document. Code stays as it is; of pictures their description; HTML is left out."""
    from markdown_it import MarkdownIt

    whole = text.read()
    front = _FRONT.match(whole)
    meta = _meta(front[1]) if front else {}
    made = []
    for token in MarkdownIt("commonmark").enable("table").parse(whole[front.end() :] if front else whole):
        block = _words(token.children) if token.type == "inline" else ""
        if token.type in ("fence", "code_block"):
            block = token.content.rstrip("\n")
        if block.strip():
            made.append(block.strip("\n"))
    yield Document(name, "\n\n".join(made) + "\n" if made else "", source, meta)


def _words(tokens: list[Any] | None) -> str:
    parts = []
    for token in tokens or ():
        if token.type in ("text", "code_inline"):
            parts.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif token.type == "image":
            parts.append(_words(token.children))
    return "".join(parts)


def _meta(front: str) -> dict[str, str]:
    try:
        found = yaml.safe_load(front)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    fields = found.items() if isinstance(found, dict) else ()
    return {_FIELDS[k]: str(v) for k, v in fields if k in _FIELDS and v and not isinstance(v, dict | list)}
