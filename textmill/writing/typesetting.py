"""Plain text -> blocks for reading: a script is set as a script, anything else as it stands.

Knows the layouts that generated plays come in: `NAME<TAB>speech` (Shakespeare), `[ NAME ]:  speech` and
`{{ direction }}` (television scripts), `NAME: speech`, `[stage direction]`, `ACT I`, `SCENE II`.
Every character is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from markupsafe import Markup, escape

OPEN, CLOSE = "\ue000", "\ue001"  # private-use characters that carry a highlight through the parsing

_NAME = r"[A-Z][A-Z0-9'’._&-]*(?:[ \t]+[A-Z0-9'’._&-]+){0,4}"
SPEECHES = [
    re.compile(rf"^(?P<name>{_NAME})\t(?P<text>.*)$"),
    re.compile(r"^\[ ?(?P<name>[^\[\]\t]{1,60}?) ?\]\s*:\s*(?P<text>.*)$"),
    re.compile(r"^(?P<name>[A-Z][\w'’. -]{0,40}?):\s+(?P<text>.*)$"),
]
HEADING = re.compile(r"^(?:ACT|SCENE|PROLOGUE|EPILOGUE|CHORUS)\b[^a-z]{0,12}(?:\t.*|\s.*)?$")
DIRECTION = re.compile(r"^(?:\[[^\]]*\]?|\{\{.*?(?:\}\})?[ .]*|\([^)]*\))$")


@dataclass
class Block:
    """`kind` is speech, direction, heading or plain; `typeset` returns `name` and `lines` as escaped markup."""

    kind: str
    name: str = ""
    lines: list[str] = field(default_factory=list)


def typeset(text: str, copied: str = "") -> list[Block]:
    """`text` as blocks; the first place that holds the run `copied` is wrapped in <mark>."""
    text = text.replace(OPEN, "").replace(CLOSE, "")
    if copied.strip() and copied in text:
        at = text.index(copied)
        text = text[:at] + OPEN + copied + CLOSE + text[at + len(copied) :]
    lines = text.split("\n")
    blocks = list(_script(lines) if _is_script(lines) else _plain(lines))
    _mark(blocks)
    return blocks


def _bare(line: str) -> str:
    return line.replace(OPEN, "").replace(CLOSE, "")


def _is_script(lines: list[str]) -> bool:
    full = [_bare(line) for line in lines if line.strip()]
    spoken = sum(1 for line in full if any(p.match(line) for p in SPEECHES))
    return spoken >= 2 and spoken * 8 >= len(full)


def _script(lines: list[str]) -> Iterator[Block]:
    open_block: Block | None = None  # what a further line belongs to
    for line in lines:
        bare = _bare(line).strip()
        if not bare:
            open_block = None
        elif DIRECTION.match(bare) and not any(p.match(_bare(line)) for p in SPEECHES):
            yield Block("direction", lines=[_trimmed(line)])
        elif HEADING.match(bare):
            open_block = None
            yield Block("heading", lines=[_trimmed(line).replace("\t", " · ")])
        elif spoken := _speech(line):
            open_block = spoken
            yield spoken
        elif open_block is not None:
            open_block.lines.append(_trimmed(line))
        else:
            open_block = Block("plain", lines=[_trimmed(line)])
            yield open_block


def _speech(line: str) -> Block | None:
    for pattern in SPEECHES:
        if pattern.match(_bare(line)):
            found = pattern.match(line)
            if (
                found is None
            ):  # the highlight begins inside the name: give up the highlight's start, not the layout
                found = pattern.match(_bare(line))
            assert found is not None
            name = found["name"].replace("_", " ").strip()
            first = found["text"].strip()
            return Block("speech", name, [first] if first else [])
    return None


def _plain(lines: list[str]) -> Iterator[Block]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield Block("plain", lines=paragraph)
            paragraph = []


def _trimmed(line: str) -> str:
    return re.sub(r"\}\}( \.)*", "", line).replace("{{", "").strip()


def _mark(blocks: list[Block]) -> None:
    """Escape every line; turn the two private characters into <mark> that opens and closes within each line."""
    inside = False

    def one(raw: str) -> Markup:
        nonlocal inside
        made = Markup("<mark>") if inside else Markup("")
        for piece in re.split(f"([{OPEN}{CLOSE}])", raw):
            if piece == OPEN:
                inside = True
                made += Markup("<mark>")
            elif piece == CLOSE:
                made += Markup("</mark>") if inside else Markup("")
                inside = False
            else:
                made += escape(piece)
        return made + Markup("</mark>") if inside else made

    for block in blocks:
        block.name = one(block.name)
        block.lines = [one(line) for line in block.lines]
