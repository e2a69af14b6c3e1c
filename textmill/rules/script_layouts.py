"""Plays and scripts in their printed layouts -> a list of spoken lines and expositions. Knows nothing of tokens.

Layouts, told apart by `layout_of`:

* "tabs": `NAME<TAB>speech`, further lines begin with a tab; `[stage direction]` anywhere, over several lines too; `ACT`
  and `SCENE` heads; a list headed DRAMATIS PERSONAE; lines spoken together, bracketed by `|`; names over two lines;
* "colons": `NAME: speech`, `[ NAME ]: speech`, or `Name:` alone above its speech; `{{ exposition }}`, `(direction)`;
* "prose": no speaker at all: each paragraph is one exposition.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

WORDS, DIRECTION = False, True


@dataclass
class Speech:
    """What one speaker says: (DIRECTION | WORDS, text) parts in order."""

    name: str
    parts: list[tuple[bool, str]] = field(default_factory=list)


@dataclass
class Exposition:
    """A stage direction, a head, an entry of the cast, or a paragraph that nobody speaks."""

    text: str


Line = Speech | Exposition

_NUMERAL = r"(?:[IVXLC]+|\d+)"
_HEAD = re.compile(
    rf"(?P<head>(?:ACT|SCENE)(?:\s+{_NUMERAL})?|(?:Act|Scene)\s+{_NUMERAL})(?:\s*[.:,\t—–-]+\s*(?P<rest>.*))?$"
    r"|(?P<alone>PROLOGUE|EPILOGUE|INDUCTION)[.:]?$"
)
_CAST = re.compile(r"\s*DRAMATIS\s+PERSON(?:AE|Æ)\W*$", re.IGNORECASE)
_TAB_NAME = re.compile(r"(?=[^\t]*[^\W\d_])[^\t\s][^\t]{0,59}\t")
_COLON_NAME = re.compile(
    r"""\s*(?:\[\s*(?P<boxed>[^\[\]:]{1,60}?)\s*\]|(?P<plain>[^\W\d_][^:\[\](){}<>\t?!;",]{0,39}?))
        \s*(?:[(\[](?P<aside>[^()\[\]]{1,80})[)\]]\s*)?:(?!//)\s*(?P<rest>.*)$""",
    re.VERBOSE | re.DOTALL,
)
_SMALL_WORDS = frozenset(["of", "the", "and", "de", "la", "du", "von", "van", "to", "in", "with", "a", "an"])
_BRACKETS = re.compile(r"\{\{|\}\}|[\[\]]")
_ALIAS = re.compile(r"\([^()]*:\)")
_PARENTHESISED = re.compile(r"\s*\(([^()]+)\)\s*$")


def read_script(text: str) -> tuple[list[Line], Counter[str]]:
    """The lines of a play or script, and counts of what was recognized.

    Counts: speeches, expositions, directions (inside speeches), heads, cast, running_titles, and unrecognized: physical
    lines of a play that fit none of its layout's forms and were kept as exposition.
    """
    layout = layout_of(text)
    builder = _Builder()
    if layout == "tabs":
        _read_tabs(text, builder)
    elif layout == "colons":
        _read_colons(text, builder)
    else:
        for paragraph in _paragraphs(text.split("\n")):
            builder.end_paragraph()
            builder.expose(_joined(paragraph))
    builder.end_line()
    lines = [line for line in builder.lines if not isinstance(line, Speech) or line.parts]
    builder.counts["speeches"] = sum(isinstance(line, Speech) for line in lines)
    builder.counts["expositions"] = len(lines) - builder.counts["speeches"]
    return lines, builder.counts


def layout_of(text: str) -> str:
    """Which layout most of the speakers' lines of this text have: "tabs", "colons" or "prose"."""
    lines = [line for line in text.split("\n") if line.strip()]
    tabs = sum(_TAB_NAME.match(line) is not None for line in lines)
    colons = sum(line.startswith("{{") or _name_before_colon(line) is not None for line in lines)
    if max(tabs, colons) < max(1, len(lines) // 50):
        return "prose"
    return "tabs" if tabs >= colons else "colons"


class _Builder:
    """Puts words and directions where they belong: a direction between two lines of one speech is part of the speech,
    one that no speech follows is an exposition of its own."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.counts: Counter[str] = Counter()
        self._speech: Speech | None = None
        self._unspoken: Exposition | None = None  # a paragraph that nobody speaks and that may go on
        self._waiting: list[
            str
        ] = []  # directions that stand alone: part of the speech if it goes on after them
        self._bracket: list[str] | None = None  # text of a bracket that is still open
        self._braced = False

    def speak(self, name: str) -> None:
        """A new speaker begins."""
        self.end_line()
        self._speech = Speech(name)
        self.lines.append(self._speech)

    def speaking(self) -> bool:
        return self._speech is not None

    def in_bracket(self) -> bool:
        return self._bracket is not None

    def end_line(self) -> None:
        """Nobody speaks any more; the directions that waited stand on their own."""
        self._close_bracket(alone=True)
        self.lines.extend(Exposition(text) for text in self._waiting)
        self._waiting = []
        self._speech = self._unspoken = None

    def end_paragraph(self) -> None:
        """A blank line: a bracket that was never closed ends here."""
        self._close_bracket(alone=True)
        self._unspoken = None

    def head(self, line: str) -> None:
        """An act's or scene's head, such as `SCENE II<TAB>A street.`"""
        match = _HEAD.match(line.strip())
        assert match is not None, line
        self.counts["heads"] += 1
        head, rest = match["head"] or match["alone"], match["rest"] or ""
        self.end_line()
        self.expose(f"{head}. {rest}" if rest else head)

    def expose(self, text: str) -> None:
        """Text that nobody speaks; it goes on with the next line if that has no speaker either."""
        text = " ".join(_BRACKETS.sub(" ", text).split())
        if not text:
            return
        if self._speech is None and not self._waiting and self._unspoken is not None:
            self._unspoken.text = _joined([self._unspoken.text, text])
            return
        self.end_line()
        self._unspoken = Exposition(text)
        self.lines.append(self._unspoken)

    def direct(self, text: str) -> None:
        """A direction that stands alone on its line."""
        if " ".join(text.split()):
            self._waiting.append(" ".join(text.split()))

    def say(self, text: str, *, alone: bool) -> None:
        """A physical line's text: words with [directions] and {{expositions}}, open ones going on in the next line.

        `alone`: no speaker's name stands before it on the line, so that a bracket which fills it is a direction alone.
        """
        alone = alone and (self.in_bracket() or text.lstrip().startswith(("[", "{{")))
        position = 0
        for match in _BRACKETS.finditer(text):
            self._add(text[position : match.start()])
            position = match.end()
            if match[0] in ("[", "{{"):
                if self._bracket is None:
                    self._bracket, self._braced = [], match[0] == "{{"
            elif self._bracket is not None:
                self._close_bracket(alone and not text[position:].strip())
        self._add(text[position:])

    def _add(self, text: str) -> None:
        if not text.strip():
            return
        if self._bracket is not None:
            self._bracket.append(text)
        elif self._speech is not None:
            self._settle()
            self._say_words(text)
        else:
            self.expose(text)

    def _settle(self) -> None:
        """The speech goes on: the directions that waited are part of it."""
        assert self._speech is not None
        self._speech.parts.extend((DIRECTION, text) for text in self._waiting)
        self.counts["directions"] += len(self._waiting)
        self._waiting = []

    def _say_words(self, text: str) -> None:
        assert self._speech is not None
        parts = self._speech.parts
        if parts and parts[-1][0] == WORDS:
            parts[-1] = (WORDS, _joined([parts[-1][1], text]))
        else:
            parts.append((WORDS, text.strip()))

    def _close_bracket(self, alone: bool) -> None:
        if self._bracket is None:
            return
        text, braced = " ".join(_joined(self._bracket or [""]).split()), self._braced
        self._bracket, self._braced = None, False
        if not text:
            return
        if braced:
            self.end_line()
            self.lines.append(Exposition(text))
        elif alone or self._speech is None:
            self._waiting.append(text)
        else:
            self._waiting.append(text)
            self._settle()


# --- NAME<TAB>speech


def _read_tabs(text: str, builder: _Builder) -> None:
    lines = text.split("\n")
    title = _running_title(lines)
    in_cast = False
    for paragraph in _paragraphs(lines):
        builder.end_paragraph()
        first = paragraph[0].strip()
        if first == title and len(paragraph) == 1 and builder.lines:
            builder.counts["running_titles"] += 1
            builder.end_line()
        elif _CAST.match(first):
            in_cast = True
            builder.expose(first)
            _read_cast(paragraph[1:], builder)
        elif in_cast and not _HEAD.match(first):
            _read_cast(paragraph, builder)
        elif any("\t|" in line for line in paragraph):
            _read_together(paragraph, builder)
        else:
            in_cast = False
            _read_tab_lines(paragraph, builder)


def _read_tab_lines(paragraph: list[str], builder: _Builder) -> None:
    prefix = ""
    for index, line in enumerate(paragraph):
        name, tab, rest = line.partition("\t")
        said = None if tab and builder.speaking() else _name_before_colon(line)
        if builder.in_bracket():
            builder.say(line, alone=True)
        elif _HEAD.match(line.strip()):
            builder.head(line)
        elif _TAB_NAME.match(line):
            builder.speak(f"{prefix} {name}")
            builder.say(rest, alone=False)
            prefix = ""
        elif said:
            builder.speak(said[0])
            builder.say(said[1], alone=False)
        elif tab:
            builder.say(line, alone=True)
        elif len(line) < 40 and any(
            _TAB_NAME.match(follower) for follower in paragraph[index + 1 : index + 2]
        ):
            prefix = f"{prefix} {line}".strip()  # the first half of a name over two lines
        else:
            builder.counts["unrecognized"] += 1
            if builder.speaking():
                builder.end_line()
            builder.say(line, alone=True)


def _read_together(paragraph: list[str], builder: _Builder) -> None:
    """`A<TAB>|`, `<TAB>|  words`, `B<TAB>|`: words that A and B speak together."""
    names, words = _bracketed(paragraph)
    builder.speak(_listed(names))
    for text in words:
        builder.say(text, alone=False)


def _read_cast(lines: list[str], builder: _Builder) -> None:
    """One exposition for each person, `NAME, description`, without the short name in `(NAME:)`."""
    for line in _cast_entries(lines):
        builder.counts["cast"] += 1
        builder.end_line()
        builder.expose(line)


def _cast_entries(lines: list[str]) -> Iterator[str]:
    lines = [_ALIAS.sub("", line) for line in lines]
    lines = [line for line in lines if line.strip(" \t.")]
    if any("\t|" in line for line in lines):
        names, words = _bracketed(lines)
        yield ", ".join([_listed(names), " ".join(words)]).strip(" ,:")
        return
    entry, half = "", False
    for line in lines:
        name, tab, rest = line.partition("\t")
        # A name begins an entry; an indented line goes on with the one above, or is an entry when that is finished;
        # a line without a tab is the first half of a name over two lines.
        if entry and not half and ((tab and name.strip()) or entry.endswith(".")):
            yield entry.strip(" ,:")
            entry = ""
        half = not tab
        parts = [name.strip(), " ".join(rest.split())]
        text = ", ".join(part for part in parts if part)
        entry = f"{entry} {text}".strip()
    if entry:
        yield entry.strip(" ,:")


def _bracketed(lines: list[str]) -> tuple[list[str], list[str]]:
    """What stands left of the `|` (names; a second line `OF …` belongs to the name above) and right of it."""
    names: list[str] = []
    words: list[str] = []
    for line in lines:
        left, _, right = line.partition("|")
        left = ", ".join(part.strip(" ,.") for part in left.split("\t") if part.strip(" ,."))
        if left and names and (left.split()[0] in ("OF", "of") or names[-1].split()[-1] in ("OF", "of")):
            names[-1] += f" {left}"
        elif left:
            names.append(left)
        if right.strip(" \t|"):
            words.append(right.strip(" \t|"))
    return names, words


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def _running_title(lines: list[str]) -> str:
    """The play's title, printed again above each act; "" if the first line is not one."""
    first = next((line for line in lines if line.strip()), "")
    return first.strip() if first.startswith(("\t", " ")) and first.isupper() else ""


# --- NAME: speech


@dataclass(frozen=True)
class _ColonStyle:
    """How this text sets its speakers' names, so that a colon in a speech is not taken for one."""

    alone: bool  # the name stands on a line of its own
    after_blank: bool  # a blank line stands before the name, so that lines without one go on with a speech
    upper: bool  # names are in capitals

    @classmethod
    def of(cls, lines: list[str]) -> _ColonStyle:
        rests, blanks, uppers = [], [], []
        for index, line in enumerate(lines):
            name = _name_before_colon(line)
            if name:
                rests.append(not name[1].strip())
                blanks += [not lines[index - 1].strip()] if index else []
                uppers.append(name[0].isupper())
        return cls(_most(rests, 0.5), _most(blanks, 0.5), _most(uppers, 0.8))


def _most(values: list[bool], share: float) -> bool:
    return bool(values) and sum(values) >= share * len(values)


def _read_colons(text: str, builder: _Builder) -> None:
    lines = text.split("\n")
    style = _ColonStyle.of(lines)
    blank = True
    for line in lines:
        if not line.strip():
            builder.end_paragraph()
            blank = True
            continue
        said = _styled_name(line, style, blank) if not builder.in_bracket() else None
        direction = _PARENTHESISED.match(line)
        head = _HEAD.match(line.strip())
        if head:
            builder.head(line)
        elif said:
            builder.speak(said[0])
            builder.say(said[1], alone=False)
        elif direction and not builder.in_bracket():
            builder.direct(direction[1])
        elif builder.in_bracket() or line.lstrip().startswith(("[", "{{")) or _goes_on(line, style, blank):
            builder.say(line, alone=True)
        else:
            builder.end_line()
            builder.say(line, alone=True)
        blank = False


def _goes_on(line: str, style: _ColonStyle, blank: bool) -> bool:
    """Whether a line without a name belongs to the speech above it."""
    if blank:
        return False
    return style.alone or style.after_blank or line[0].isspace() or line[0].islower()


def _styled_name(line: str, style: _ColonStyle, blank: bool) -> tuple[str, str] | None:
    said = _name_before_colon(line)
    if style.alone and style.after_blank and blank and line.rstrip().endswith(":") and len(line) < 60:
        return line.rstrip()[:-1], ""  # where nothing but a name can stand, any name will do
    if said is None or line.lstrip().startswith("["):
        return said
    if style.after_blank and not blank:
        return None
    if style.alone:
        return None if said[1].strip() else said
    return said if said[0].isupper() or not style.upper else None


def _name_before_colon(line: str) -> tuple[str, str] | None:
    """(name, text after the colon) of a line such as `NAME: text`, `Name (aside): text`, `[ NAME ]: text`."""
    match = _COLON_NAME.match(line) if ":" in line else None
    if match is None or _HEAD.match(line.strip()):
        return None
    aside = f"[{match['aside']}] " if match["aside"] else ""
    if match["boxed"]:
        return match["boxed"], aside + match["rest"]
    words = match["plain"].split()
    if len(words) > 5 or words[-1].lower() in _SMALL_WORDS:
        return None
    if not all(word[0].isupper() or word[0].isdigit() or word in _SMALL_WORDS for word in words):
        return None
    return match["plain"], aside + match["rest"]


def _joined(lines: list[str]) -> str:
    """Lines of one paragraph as one; a word that was broken at its hyphen is whole again."""
    text = lines[0].strip()
    for line in lines[1:]:
        line = line.strip()
        broken = text.endswith("-") and text[-2:-1].isalpha() and line[:1].islower()
        text += line if broken else f" {line}"
    return text


# --- both


def _paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones."""
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield paragraph
            paragraph = []
    if paragraph:
        yield paragraph
