"""What the readers of screenplays share: a script written as `NAME<TAB>speech`, which the rule script_markup reads."""

from __future__ import annotations

import re

_EXTENSION = re.compile(r"\s*\([^()]*\)\s*")
_BRACKETS = str.maketrans("[]{}\t", "()() ")


class Screenplay:
    """Takes a screenplay's parts in order. Scenes are `SCENE<TAB>place`, action `[between brackets]`."""

    def __init__(self) -> None:
        self._paragraphs: list[str] = []
        self._name = ""  # who speaks
        self._said: list[str] = []

    def scene(self, heading: str) -> None:
        self._add(f"SCENE\t{_clean(heading)}", heading)

    def action(self, text: str) -> None:
        self._add(f"[{_clean(text)}]", text)

    def speaker(self, name: str) -> None:
        """Who speaks: without (V.O.), (CONT'D) and the like."""
        self._end_speech()
        self._name = _clean(_EXTENSION.sub(" ", name))

    def parenthetical(self, text: str) -> None:
        """How it is said: a direction inside the speech."""
        text = _clean(text.strip().strip("()"))
        if text and self._name:
            self._said.append(f"[{text}]")
        else:
            self.action(text)

    def speech(self, text: str) -> None:
        text = _clean(text)
        if text and self._name:
            self._said.append(text)
        else:
            self.action(text)

    def text(self) -> str:
        self._end_speech()
        return "\n\n".join(self._paragraphs) + "\n" if self._paragraphs else ""

    def _add(self, paragraph: str, text: str) -> None:
        if text.strip():
            self._end_speech()
            self._paragraphs.append(paragraph)

    def _end_speech(self) -> None:
        """One who says nothing is not mentioned."""
        if self._said:
            self._paragraphs.append(f"{self._name}\t{' '.join(self._said)}")
        self._name, self._said = "", []


def _clean(text: str) -> str:
    return " ".join(text.translate(_BRACKETS).split())
