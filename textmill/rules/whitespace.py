"""White space: one kind of line end and of space, no trailing blanks, one blank line at most, one line end at the end.

Tabs and the indentation of lines stay: they are structure in plays (`NAME<TAB>speech`) and in program text.
"""

from __future__ import annotations

import re

from textmill.rules.base import Outcome, Rule

_STEPS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("line_ends", re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]"), "\n"),
    ("invisible", re.compile("[\u200b\u2060\ufeff\u00ad]"), ""),
    ("odd_spaces", re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"), " "),
    ("trailing", re.compile(r"[ \t]+(?=\n|\Z)"), ""),
    ("double_spaces", re.compile(r" (?<=[^ \t\n] ) +(?=[^ \t\n])"), " "),  # a literal first: twice as fast
    ("blank_lines", re.compile(r"\n\n\n+"), "\n\n"),
)


def apply(text: str) -> Outcome:
    """Each change is one replaced run; `counts` has them by kind. A text of white space only becomes empty."""
    counts = {}
    for kind, pattern, replacement in _STEPS:
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
