"""Screenplays in Fountain (fountain.io), a markup of plain text, into the layout that the rule script_markup reads.

Read are title page, scene headings, action, characters (also forced by @), parentheticals, dialogue, lyrics, centred
text and transitions; notes, boneyard, sections, synopses and page breaks are left out, and so are marks of emphasis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from textmill.corpora.corpus import Document
from textmill.sources.dumps.screenplay import Screenplay
from textmill.sources.texts import Reading, Row

_BONEYARD = re.compile(r"/\*|\*/")
_NOTE = re.compile(r"\[\[[^\[\]]*\]\]")
_FIELD = re.compile(r"([A-Za-z][A-Za-z ]{0,30}):[ \t]*(.*)$")
_SCENE = re.compile(r"(?:INT|EXT|EST|INT\.?/EXT|I/E)[. ]", re.IGNORECASE)
_SCENE_NUMBER = re.compile(r"#[\w.-]+#\s*$")
_EMPHASIS = re.compile(r"(?<!\\)(?:\*{1,3}|_)(?=\S)|(?<=\S)(?<!\\)(?:\*{1,3}|_)")


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document; meta has what the title page says of title, author and date."""
    whole = _NOTE.sub("", _without_boneyard(text.read()))
    meta, lines = _title_page(whole.split("\n"))
    play = Screenplay()
    for paragraph in _paragraphs(lines):
        _read_paragraph(paragraph, play)
    yield Document(name, play.text(), source, meta)


def _without_boneyard(text: str) -> str:
    """Without /* what was cut */; a mark without its partner stays."""
    kept, position, opened = [], 0, -1
    for mark in _BONEYARD.finditer(text):
        if mark[0] == "/*" and opened < 0:
            opened = mark.start()
        elif mark[0] == "*/" and opened >= 0:
            kept.append(text[position:opened])
            position, opened = mark.end(), -1
    return "".join([*kept, text[position:]])


def _title_page(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """(meta, the lines after the title page). It is `Key: value` from the first line to the first empty one."""
    if not lines or not _FIELD.match(lines[0]) or _SCENE.match(lines[0]) or lines[0].rstrip().endswith("TO:"):
        return {}, lines
    end = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    fields: dict[str, list[str]] = {}
    key = ""
    for line in lines[:end]:
        found = None if line[0] in " \t" else _FIELD.match(line)
        if found:
            key = found[1].strip().lower()
        fields.setdefault(key, []).append(found[2] if found else line)
    names = {"title": "title", "author": "author", "authors": "author", "draft date": "date"}
    meta = {
        names[key]: value
        for key, texts in fields.items()
        if key in names and (value := _plain(" ".join(" ".join(texts).split())))
    }
    return meta, lines[end:]


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Lines up to an empty one; a line of two blanks goes on with a speech."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip() or (line == "  " and paragraph):
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []


def _read_paragraph(lines: list[str], play: Screenplay) -> None:
    """Headings of scenes and what is left out may stand without an empty line behind them."""
    start = 0
    while start < len(lines):
        first = lines[start].strip()
        if _is_scene(first):
            play.scene(_SCENE_NUMBER.sub("", _plain(first.removeprefix("."))))
        elif first and not first.startswith("#") and not re.match(r"=(?!=)|===", first):
            break
        start += 1
    lines, first = lines[start:], lines[start].strip() if start < len(lines) else ""
    if not lines:
        return
    if first.startswith(">"):
        play.action(_plain(first.strip("> \t").removesuffix("<")))
    elif len(lines) > 1 and _is_character(first):
        play.speaker(first.removeprefix("@").removesuffix("^"))
        for line in map(str.strip, lines[1:]):
            if line.startswith("(") and line.endswith(")"):
                play.parenthetical(_plain(line))
            else:
                play.speech(_plain(line.removeprefix("~")))
    else:
        play.action(_plain(" ".join(line.strip() for line in lines).removeprefix("!").removeprefix("~")))


def _is_scene(line: str) -> bool:
    forced = line[:1] == "." and line[1:2] not in (".", "")
    return forced or (line[:1] != "!" and _SCENE.match(line) is not None)


def _is_character(line: str) -> bool:
    """In capitals, with a letter, whatever is in parentheses behind; or after @."""
    name = line.partition("(")[0]
    return line[0] == "@" or (name.isupper() and line[0] != "!" and not line.endswith(("TO:", ".", "!", "?")))


def _plain(text: str) -> str:
    return _EMPHASIS.sub("", text).replace("\\*", "*").replace("\\_", "_")
