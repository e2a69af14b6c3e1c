"""Screenplays of Final Draft (.fdx, XML), into the layout that the rule script_markup reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.dumps import local, xml_root
from textmill.sources.dumps.screenplay import Screenplay
from textmill.sources.texts import Reading, Row

LARGEST = 64 << 20  # bytes; a screenplay has a few hundred thousand


def read(file: IO[bytes], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document. Paragraphs of kinds that are not known (notes of a production, say) are read as action."""
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadItem(f"larger than {LARGEST:,} bytes, which no screenplay is")
    root = xml_root(data, "the file")
    content = next((element for element in root if local(element) == "Content"), None)
    if local(root) != "FinalDraft" or content is None:
        raise BadItem("not a Final Draft script (no FinalDraft/Content in it)")
    play = Screenplay()
    for paragraph in content.iter():
        if local(paragraph) != "Paragraph":
            continue
        kind, text = paragraph.get("Type", "Action"), _text(paragraph)
        if kind == "Scene Heading":
            play.scene(text)
        elif kind == "Character":
            play.speaker(text)
        elif kind == "Parenthetical":
            play.parenthetical(text)
        elif kind == "Dialogue":
            play.speech(text)
        else:
            play.action(text)
    yield Document(name, play.text(), source)


def _text(paragraph: Any) -> str:
    return "".join(child.text or "" for child in paragraph if local(child) == "Text")
