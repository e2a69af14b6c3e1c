"""Texts made to be slow: what a pattern that backtracks takes minutes for. Each is tens of thousands of characters."""

from __future__ import annotations

import pytest

from textmill.rules import RULES

N = 60_000
PIECES = [
    "a", " ", "\t", "\n", ".", "…", "..", "-", "<", "<a", "<a ", ">", "{", "}", "{}", "<b>", "@", "a@", "a@b.", "@a.",
    "@a-", "a.", "http://", "www.", "www..", "http://a.b)", "&", "&amp;", "&amp;amp;lt;", "#", "#1", "#1a", "RT ",
    "RT @a ", "RT @a: ", "@a ", "<|", "<|a", "=", "0", "0 ", "+1 ", "(030) ", "tel ", "phone number ", "01 23 ", "'",
    "“", "(", ")", "( ", "a \n", " \n", "\u00a0", "\u0301", "1.", "1,", "é", "İ",
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name", sorted(set(RULES) - {"script_markup", "language", "unicode_repair", "whitespace"})
)
def test_no_text_takes_more_than_linear_time(name: str) -> None:
    """Quadratic time would be hours: the time limit is the assertion, far from what a slow machine needs."""
    for piece in PIECES:
        text = piece * (N // len(piece))
        for adversary in (text + "!", "x" + text + "\n" + text + "@"):
            RULES[name].apply(adversary)
