"""White space: one kind of line end and of space, no trailing blanks, one blank line at most, one line end at the end.

Tabs and the indentation of lines stay: they are structure in plays (`NAME<TAB>speech`) and in program text.
"""

from __future__ import annotations

import re

from textmill.rules.base import Outcome, Rule

# (kind, pattern, replacement, what some of must stand in a text that the pattern finds, is one of them not ASCII)
_STEPS: tuple[tuple[str, re.Pattern[str], str, tuple[str, ...], bool], ...] = (
    ("line_ends", re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]"), "\n", ("\r", "\x0b", "\x0c"), True),
    ("invisible", re.compile("[\u200b\u2060\ufeff\u00ad]"), "", (), True),
    ("odd_spaces", re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"), " ", (), True),
    ("trailing", re.compile(r"[ \t]+(?=\n|\Z)"), "", (" \n", "\t\n"), False),
    # a literal first: twice as fast
    ("double_spaces", re.compile(r" (?<=[^ \t\n] ) +(?=[^ \t\n])"), " ", ("  ",), False),
    ("blank_lines", re.compile(r"\n\n\n+"), "\n\n", ("\n\n\n",), False),
)


def apply(text: str) -> Outcome:
    """Each change is one replaced run; `counts` has them by kind. A text of white space only becomes empty."""
    counts = {}
    ascii = text.isascii()
    for kind, pattern, replacement, signs, beyond in _STEPS:
        # Looking for a literal takes a tenth of the pattern's time, and most texts are clean.
        possible = (beyond and not ascii) or any(sign in text for sign in signs)
        if not possible and not (kind == "trailing" and text.endswith((" ", "\t"))):
            continue
        text, n = pattern.subn(replacement, text)
        if n:
            counts[kind] = n
    trimmed = text.strip("\n") + "\n" if text.strip() else ""
    if trimmed != text:
        counts["document_ends"] = 1
    return Outcome(trimmed, sum(counts.values()), counts)


RULE = Rule(
    "whitespace", "One kind of line end and space, no trailing blanks, one blank line at most.", apply
)
