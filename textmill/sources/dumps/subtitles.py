"""Subtitles, SubRip (.srt) and WebVTT (.vtt): what is said, a line a caption, without numbers, times and colours.

An empty line stands where nobody speaks for some seconds. A voice that WebVTT names, `<v Ann>Hello`, becomes
`Ann<TAB>Hello`, which the rule script_markup reads as a play's. Captions that repeat the one before, as live captions
do, stand once.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import IO

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.texts import Reading, Row

PAUSE = 5.0  # seconds without words that end a paragraph

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?=\s|$)")
_MARKUP = re.compile(r"</?[A-Za-z\d][^<>\n]*>|\{\\[^{}\n]*\}")
_VOICE = re.compile(r"\s*<v(?:\.[^\s<>]*)?[ \t]+([^<>\n]+)>")


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """One document. Raises BadItem when there is no caption in it."""
    spoken: list[str] = []
    times = None
    ended = 0.0
    last: list[str] = []
    for start, end, lines in _captions(text):
        times = start
        lines = [line for line in map(_plain, lines) if line]
        if not lines or lines == last:
            continue
        if spoken and start - ended > PAUSE:
            spoken.append("")
        # Rolling captions show the last line again above the new one.
        spoken += _joined(lines[1:] if last and len(lines) > 1 and lines[0] == last[-1] else lines)
        last, ended = lines, end
    if times is None:
        raise BadItem("no caption (00:00:01,000 --> 00:00:02,000) in it")
    yield Document(name, "\n".join(spoken) + "\n" if spoken else "", source)


def _captions(text: IO[str]) -> Iterator[tuple[float, float, list[str]]]:
    """(start, end, lines) of each caption; what stands between captions (numbers, notes, styles) belongs to none."""
    times: tuple[float, float] | None = None
    lines: list[str] = []
    for line in text:
        line = line.rstrip("\n")
        found = _TIMES.match(line)
        if times and (found or not line.strip()):
            yield (*times, lines)
            times, lines = None, []
        if found:
            times = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
        elif times:
            lines.append(line)
    if times:
        yield (*times, lines)


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _plain(line: str) -> str:
    voice = _VOICE.match(line)
    words = " ".join(html.unescape(_MARKUP.sub("", line[voice.end() :] if voice else line)).split())
    return f"{' '.join(voice[1].split())}\t{words}" if voice and words else words


def _joined(lines: list[str]) -> list[str]:
    """A caption's lines as one, but for those that another speaker begins (`- No.`, or a voice)."""
    made: list[str] = []
    for line in lines:
        if made and not line.startswith(("-", "–", "—")) and "\t" not in line:
            made[-1] += " " + line
        else:
            made.append(line)
    return made
