"""Plays and scripts as S1's tokens, a spoken line or an exposition on each line; and back again for reading.

    <boname> WAYMAR_ROYCE <eoname> What d 'you expect <question> They 're savages <eos>
    <open-exp> GARED grumbles <eos> <close-exp>

Tokens (S1's, all thirteen): <boname> <eoname> around a speaker's name, one token with `_`; <open-exp> <close-exp>
around an exposition; <open-brack> <close-brack> around a direction inside a speech; <boquote> <eoquote>; <eos> for a
full stop, <question>, <exclamation>, <ellipsis>; <eoepisode> at the end of the document. Other punctuation is set off
by spaces and an apostrophe begins a token (`won 't`). Pairs are always closed, in order, within their line; no token is
glued to a word; what looks like a token in the source is taken apart.

Text that is marked up already (S1's own files) is mended: glued tokens are parted and pairs closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from textmill.rules.base import Outcome, Rule
from textmill.rules.script_layouts import DIRECTION, WORDS, Exposition, Line, read_script

TOKENS = (
    "<boname>", "<eoname>", "<open-exp>", "<close-exp>", "<open-brack>", "<close-brack>", "<boquote>", "<eoquote>",
    "<eos>", "<question>", "<exclamation>", "<ellipsis>", "<eoepisode>",
)  # fmt: skip
UNKNOWN_NAME = "SOMEONE"
UNKNOWN_WORD = "___"

_SIGNS_FIRST = frozenset(".?!…-[]{}")
_MARK = {".": "<eos>", "?": "<question>", "!": "<exclamation>"}
_SHOWN = {"<eos>": ".", "<question>": "?", "<exclamation>": "!", "<ellipsis>": "..."}
_PAIRS = {"<open-brack>": "<close-brack>", "<boquote>": "<eoquote>"}
_STRUCTURE = frozenset([*_PAIRS, *_PAIRS.values(), "<eos>"])

# Words with a leading apostrophe of their own: it opens no quotation and does not hang on the word before it.
_ELIDED = """
    'tis 'tisn 'twas 'twasn 'twere 'twill 'twould 'twixt 'tween 'gainst 'scape 'scapes 'scaped 'fore 'faith 'mong
    'mongst 'em 'gins 'gan 'bout 'zounds 'sblood 'swounds 'sdeath 'slid 'slight 'od 'ods 'oman 'prentice 'prentices
    'larum 'larums 'havior 'greed 'rested 'pless 'ild 'cause 'neath 'til 'till 'pon 'leven 'cept 'scuse 'ware
"""
_ELISIONS = frozenset(_ELIDED.split())
# th', o', i' …: their apostrophe closes no quotation.
_CLIPPED = frozenset(["th", "o", "i", "a", "wi", "ha", "t"])
_PLAIN = r"[^\s.,;:!?'\"()\[\]{}<>…—–-]+(?:-[^\s.,;:!?'\"()\[\]{}<>…—–-]+)*"
_WORD = re.compile(rf"\.{{2,}}|\.(?: \.){{2,}}|…|\d+(?:[.,:]\d+)+|{_PLAIN}|'{_PLAIN}|--+|\S")
_QUOTES = re.compile(r"\"|(?<!\w)'|'(?!\w)")
_CURLY = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "—": "--", "–": "--"})
_TOKEN = re.compile("(" + "|".join(TOKENS) + ")")
_MARKED_UP = re.compile("<boname>|<open-exp>")


def apply(text: str) -> Outcome:
    """Mark a document up. `changes` counts the lines made; `counts` what was recognized (see `read_script`)."""
    if _MARKED_UP.search(text):
        return _mend(text)
    lines, counts = read_script(text)
    marked = [made for made in map(_mark_line, lines) if made]
    if not marked:
        return Outcome("", int(bool(text)), dict(counts))
    return Outcome("\n".join([*marked, "<eoepisode>", ""]), len(marked), dict(counts))


def to_script(markup: str) -> str:
    """Marked-up text (a document's, or whatever a model wrote) for reading: `[ NAME ]: words.` and `{{ exposition }}`.

    For any tokens in any order: no raw markup is shown, brackets are balanced in each line, no full stop follows
    another. A rare name (`<unk>`) becomes SOMEONE, a rare word ___; the end of an episode an empty line.
    """
    shown: list[str] = []
    for line in read_markup(markup):
        text = _show_line(line)
        if text or (line.kind == "end" and shown and shown[-1]):
            shown.append(text)
    while shown and not shown[-1]:
        shown.pop()
    return "\n".join(shown) + "\n" if shown else ""


# --- words -> tokens


def _mark_line(line: Line) -> str:
    """One line of markup, or "" if nothing is left of it."""
    if isinstance(line, Exposition):
        words = _mark_words([(WORDS, line.text)])
        return f"<open-exp> {words} <close-exp>" if words else ""
    words = _mark_words(line.parts)
    return f"<boname> {name_token(line.name)} <eoname> {words}" if words else ""


def name_token(name: str) -> str:
    """A speaker's name as one token: capitals, words joined by `_`."""
    words = re.findall(r"[^\s<>\[\]{}()|:;,.!?\"_]+", name.translate(_CURLY).upper())
    return "_".join(words) or UNKNOWN_NAME


def _mark_words(parts: list[tuple[bool, str]]) -> str:
    """Tokens of a line's parts. Quotations are matched over its words, with each direction as one block."""
    pieces: list[str] = []
    marks: list[_Mark] = []
    for kind, text in parts:
        text = text.translate(_CURLY)
        if kind == DIRECTION:
            pieces += ["<open-brack>", *_mark_words([(WORDS, text)]).split(), "<close-brack>"]
        elif _QUOTES.search(text):
            _add_quotable(text, pieces, marks)
        else:
            pieces += [_token_of(word) for word in _WORD.findall(text)]
    for index, quote in _matched(marks).items():
        pieces[index] = f"{quote} {pieces[index][1:]}"
    line = MarkedLine("words")
    for token in " ".join(pieces).split() if marks else pieces:
        if token and token != '"':
            line.add(token)
    line.close()
    return " ".join(line.tokens)


def _token_of(word: str) -> str:
    if word[0] not in _SIGNS_FIRST:
        return word
    if word[:2] == "--":
        return "--"
    return _MARK.get(word) or ("<ellipsis>" if word[0] in ".…" else "" if word in "[]{}" else word)


@dataclass(frozen=True)
class _Mark:
    """A quotation mark that may open or close: where it is, and whether a closing one is more likely an apostrophe."""

    index: int
    kind: str  # open, close, double
    weak: bool = False


def _add_quotable(text: str, pieces: list[str], marks: list[_Mark]) -> None:
    """Append the tokens of `text`, and note the marks among them."""
    previous = ""
    for match in _WORD.finditer(text):
        word, start, end = match[0], match.start(), match.end()
        touches = start > 0 and not text[start - 1].isspace()
        if word == '"':
            marks.append(_Mark(len(pieces), "double"))
        elif word == "'" and previous.lower() not in _CLIPPED:
            possessive = previous.endswith("s") and text[end : end + 2].lstrip().islower()
            marks.append(_Mark(len(pieces), "close", weak=possessive or not touches))
        elif (
            word[0] == "'"
            and _opens(word)
            and not (touches and (text[start - 1].isalnum() or text[start - 1] == "."))
        ):
            marks.append(_Mark(len(pieces), "open"))
        pieces.append(_token_of(word))
        previous = word


def _opens(word: str) -> bool:
    """Whether the apostrophe that `word` begins with is none of its own ('tis, 'a, '90s)."""
    return len(word) > 1 and word.lower() not in _ELISIONS and word != "'a" and not word[1].isdigit()


def _matched(marks: list[_Mark]) -> dict[int, str]:
    """Index of a piece -> <boquote> or <eoquote>, for marks that pair up; pairs are nested, never crossed."""
    matched: dict[int, str] = {}
    stack: list[_Mark] = []
    for position, mark in enumerate(marks):
        opener = "double" if mark.kind == "double" else "open"
        if mark.kind == "open" or (mark.kind == "double" and all(m.kind != "double" for m in stack)):
            stack.append(mark)
            continue
        if all(m.kind != opener for m in stack) or (mark.weak and _closes_later(marks[position + 1 :])):
            continue
        if mark.kind == "close" and stack[-1].kind != "open":
            continue  # an apostrophe inside a double quotation
        while stack[-1].kind != opener:
            stack.pop()
        matched[stack.pop().index] = "<boquote>"
        matched[mark.index] = "<eoquote>"
    return matched


def _closes_later(marks: list[_Mark]) -> bool:
    for mark in marks:
        if mark.kind == "open":
            return False
        if mark.kind == "close" and not mark.weak:
            return True
    return False


# --- tokens -> lines


@dataclass
class MarkedLine:
    """A line of markup: its tokens are balanced, without those that only frame it.

    `kind` is "speech" (with `name`, "" if it had none), "exposition", "words" (neither), or "end" (of an episode).
    """

    kind: str
    name: str = ""
    tokens: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)

    def add(self, token: str) -> None:
        """Append, keeping pairs balanced; a pair is written only once something is in it."""
        if token not in _STRUCTURE:
            if self._pending:
                self._write_pending()
            self.tokens.append(token)
        elif token in _PAIRS:
            if token not in self._open and token not in self._pending:
                self._pending.append(token)
        elif token in _PAIRS.values():
            self._close(token)
        elif self._ends_in_word():
            self.tokens.append(token)

    def close(self) -> None:
        self._pending = []
        self.tokens += [_PAIRS[opener] for opener in reversed(self._open)]
        self._open = []

    def _write_pending(self) -> None:
        self.tokens += self._pending
        self._open += self._pending
        self._pending = []

    def _close(self, token: str) -> None:
        opener = next(o for o, c in _PAIRS.items() if c == token)
        if opener in self._pending:
            self._pending = self._pending[: self._pending.index(opener)]
        elif opener in self._open:
            self._pending = []
            while self._open:
                last = self._open.pop()
                self.tokens.append(_PAIRS[last])
                if last == opener:
                    break

    def _ends_in_word(self) -> bool:
        """Whether a full stop makes sense here: not at the start, after another end mark, or after a comma."""
        if self._pending:
            return False
        last = next((t for t in reversed(self.tokens) if t not in _PAIRS.values()), "<eos>")
        return last not in (
            "<eos>",
            "<question>",
            "<exclamation>",
            "<ellipsis>",
            "--",
            ",",
            ";",
            ":",
            *_PAIRS,
        )


def read_markup(markup: str) -> Iterator[MarkedLine]:
    """The lines of any text with S1's tokens, well-formed or not, glued or not. A line feed ends a line, where there
    is one; `<boname>`, `<open-exp>`, `<close-exp>` and `<eoepisode>` do in any case."""
    line = MarkedLine("words")
    naming = False
    for token in _split(markup):
        if naming and not (token in TOKENS or token == "\n"):
            line.name = f"{line.name}_{token}".strip("_")
            continue
        if naming:
            naming = False
            if token == "<eoname>":
                continue
            line.name, words = _first_word(line.name)
            for word in words:
                line.add(word)
        if token in ("<boname>", "<open-exp>", "<close-exp>", "<eoepisode>", "\n"):
            yield from _ended(line)
            line = MarkedLine({"<boname>": "speech", "<open-exp>": "exposition"}.get(token, "words"))
            naming = token == "<boname>"
            if token == "<eoepisode>":
                yield MarkedLine("end")
        elif token != "<eoname>":
            line.add(token)
    if naming:
        line.name, line.tokens = _first_word(line.name)
    yield from _ended(line)


def _split(markup: str) -> list[str]:
    """Tokens and line feeds; a token glued to its neighbours is parted from them."""
    return re.findall(r"\n|[^\s]+", _TOKEN.sub(r" \1 ", markup))


def _first_word(name: str) -> tuple[str, list[str]]:
    """A name that was never closed: its first word is the name, the rest was spoken."""
    first, _, rest = name.partition("_")
    return first, [word for word in rest.split("_") if word]


def _ended(line: MarkedLine) -> Iterator[MarkedLine]:
    line.close()
    if line.tokens or line.kind == "speech":
        yield line


def _mend(text: str) -> Outcome:
    """Markup as it should be. A change is a line that was not."""
    made = []
    for line in read_markup(text):
        tokens = " ".join(line.tokens)
        if line.kind == "end":
            made.append("<eoepisode>")
        elif line.kind == "speech" and tokens:
            made.append(f"<boname> {name_token(line.name.replace('_', ' '))} <eoname> {tokens}")
        elif tokens:
            made.append(f"<open-exp> {tokens} <close-exp>")
    mended = "".join(f"{line}\n" for line in made)
    before = text.split("\n")
    changes = sum(old != new for old, new in zip_longest(before, mended.split("\n")))
    return Outcome(mended, changes)


# --- lines -> reading

_FRAMES = str.maketrans("", "", "<>[]{}()")


def _show_line(line: MarkedLine) -> str:
    words = _typeset(line.tokens)
    if line.kind == "speech":
        name = UNKNOWN_NAME if "<unk>" in line.name else name_token(line.name.replace("_", " "))
        return f"[ {name.replace('_', ' ')} ]: {words}".rstrip()
    return f"{{{{ {words} }}}}" if words and line.kind == "exposition" else words


def _typeset(tokens: list[str]) -> str:
    """Tokens with spaces as a printer sets them. They are balanced but for parentheses, which are balanced here."""
    text = ""
    glue = True  # no space before the next token
    open_ones = [""]  # brackets that are open: "(" and "["
    for token in tokens:
        shown = _shown(token)
        if token == ")" and open_ones[-1] != "(":
            continue
        if token == "<close-brack>":
            while open_ones[-1] == "(":
                text += ")"
                open_ones.pop()
        if shown in (")", "]"):
            open_ones.pop()
        elif shown in ("(", "["):
            open_ones.append(shown)
        if not shown or (not text and shown in ",;:.--"):
            continue
        if shown == "." and text.rstrip(")]'")[-1:] in tuple(".?!,;:-"):
            continue  # a stop after one that only a dropped token stood behind
        attached = token in _CLOSING or (token[0] == "'" and _hangs(token, text))
        text += shown if glue or attached else f" {shown}"
        glue = token in _OPENING
    return text + ")" * open_ones.count("(")


_OPENING = frozenset(["(", "<open-brack>", "<boquote>", "--", "-"])
_CLOSING = frozenset([*_SHOWN, *",;:.!?)%", "<close-brack>", "<eoquote>", "--", "-", "'"])
_SIGNS = {
    **_SHOWN,
    "<open-brack>": "[",
    "<close-brack>": "]",
    "<boquote>": "'",
    "<eoquote>": "'",
    "<unk>": UNKNOWN_WORD,
}


def _shown(token: str) -> str:
    return _SIGNS.get(token) or (token if token in "()" else token.translate(_FRAMES))


def _hangs(token: str, text: str) -> bool:
    """Whether a token such as 's or 't belongs to the word before it."""
    return _opens(token) and (text[-1:].isalnum() or text.endswith(UNKNOWN_WORD))


RULE = Rule(
    "script_markup", "Turns plays and scripts into S1's markup tokens, a spoken line a line.", apply, "script"
)
