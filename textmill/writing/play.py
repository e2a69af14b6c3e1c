"""Text without end on the terminal, as tensorflow-rnn-shakespeare's rnn_play.py writes it, until Ctrl-C.

Knows lines; the text comes from `Generator.stream`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from textmill.writing.generator import Generator
from textmill.writing.settings import GenerateSettings

WIDTH = 100


def play(
    checkpoint: Path, settings: GenerateSettings | None = None, out: IO[str] | None = None, width: int = WIDTH
) -> None:
    """Write to `out` (stdout) until Ctrl-C, lines broken after `width` characters; a length that is set is kept."""
    settings = settings or GenerateSettings()
    out = out or sys.stdout
    generator = Generator.open(Path(checkpoint), settings.precision)
    endless = "length" not in settings.changed()
    pieces = wrap(generator.stream(settings=settings, endless=endless), width)
    try:
        for piece in pieces:
            out.write(piece)
            out.flush()
    except KeyboardInterrupt:
        pass  # how a play ends
    out.write("\n")
    out.flush()


def wrap(pieces: Iterable[str], width: int = WIDTH) -> Iterator[str]:
    """Put a line feed after `width` characters without one, as S3 does: at once, so that nothing waits for a space."""
    column = 0
    for piece in pieces:
        made = []
        for character in piece:
            if column == width and character != "\n":
                made.append("\n")
                column = 0
            made.append(character)
            column = 0 if character == "\n" else column + 1
        yield "".join(made)
