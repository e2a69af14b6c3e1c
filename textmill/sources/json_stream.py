"""The elements of a long JSON array, one in memory at a time, wherever in a file the array begins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from textmill.sources import BadItem

PIECE = 1 << 18  # characters read at a time
MOST = 16 << 20  # characters of one element
HEAD = 1 << 20  # characters before the array


def elements(text: IO[str], opening: re.Pattern[str], what: str) -> Iterator[Any]:
    """The array whose `[` is the last character that `opening` matches. Raises BadItem: not there, damaged, cut."""
    buffer = text.read(HEAD)
    found = opening.search(buffer)
    problem = "it ends in the middle"
    if found is None:
        raise BadItem(f"not {what}")
    decoder, at = json.JSONDecoder(), _behind(buffer, found.end(), " \t\r\n")
    while True:
        if buffer.startswith("]", at):
            return
        try:
            value, end = decoder.raw_decode(buffer, at)
            whole = end < len(buffer)  # or else a number might go on
        except json.JSONDecodeError as error:
            whole, problem = False, "it ends in the middle" if error.pos >= len(buffer) else error.msg
        except RecursionError:
            raise BadItem(f"not {what} (nested too deeply)") from None
        if whole:
            yield value
            at = _behind(buffer, end, " \t\r\n,")
            continue
        left = len(buffer) - at
        more = text.read(max(PIECE, left)) if left < MOST else ""
        if not more:
            raise BadItem(f"not {what} ({problem})")
        # White space that was cut from its element is passed over once the rest is there.
        buffer, at = buffer[at:] + more, 0
        at = _behind(buffer, at, " \t\r\n,")


def _behind(text: str, position: int, signs: str) -> int:
    while position < len(text) and text[position] in signs:
        position += 1
    return position
