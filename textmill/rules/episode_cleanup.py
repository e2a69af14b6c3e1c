"""Clean-up of episode summaries from wikis: each step is a rule of its own, `episode_cleanup` is all of them in order.

The steps are those of the script that prepared S5's corpus. Two of them did damage that its web page could only partly
repair, lower_case and drop_quotes: `episode_cleanup` leaves them out unless told otherwise. A step is turned off or on
by its name, `episode_cleanup(mask_digits=no, lower_case=yes)`, or named alone as a rule.

Each pattern reads a text in linear time, whatever stands in it; pairs of brackets are found with a stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import make_dataclass
from typing import Any

from textmill.rules.base import Outcome, Rule
from textmill.rules.mask_personal import MAIL
from textmill.settings import Settings, setting

# Typographic signs, and the C1 controls that stand where a cp1252 text was read as Latin-1.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛‹›\x82\x8b\x91\x92\x9b´", "'"),
        **dict.fromkeys("“”„‟«»\x84\x93\x94", '"'),
        **dict.fromkeys("\u2010\u2011\u2212", "-"),
        **dict.fromkeys("—―\x97", "--"),
        **dict.fromkeys("\u00a0\u2007\u202f", " "),
        "\x85": "…",
        "\x96": "–",
        "¼": "1/4",
        "½": "1/2",
        "¾": "3/4",
        "⅓": "1/3",
        "⅔": "2/3",
    }
)
_HIGH = re.compile("[" + re.escape("".join(map(chr, _PLAIN))) + "]")


def plain_signs(text: str) -> Outcome:
    """Curly quotes, dashes, fractions and odd spaces as a typewriter has them; a change is a sign."""
    n = 0 if text.isascii() else len(_HIGH.findall(text))
    return Outcome(text.translate(_PLAIN) if n else text, n)


def lower_case(text: str) -> Outcome:
    """Small letters only; a change is a word. One of S5's two damages."""
    lowered = text.lower()
    return Outcome(lowered, sum(a != b for a, b in zip(text.split(), lowered.split(), strict=True)))


_QUOTES = re.compile("[\"'`“”„‟‘’‚‛«»‹›]")


def drop_quotes(text: str) -> Outcome:
    """Quotation marks and apostrophes dropped: don't becomes dont. One of S5's two damages."""
    return Outcome(*_QUOTES.subn("", text))


_DOTS = re.compile(r"[.…]{2,}|…")


def drop_ellipses(text: str) -> Outcome:
    """`…` and three full stops or more are dropped; words that only they part are parted by a space."""
    if "…" not in text and "..." not in text:
        return Outcome(text, 0)
    n = 0

    def dropped(match: re.Match[str]) -> str:
        nonlocal n
        dots = match[0]
        if "…" not in dots and len(dots) < 3:
            return dots
        n += 1
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        return " " if before.strip() and after.strip() else ""

    return Outcome(_DOTS.sub(dropped, text), n)


def drop_braces(text: str) -> Outcome:
    """What stands in {braces} is dropped, with all that is nested in it; a brace without its partner stays."""
    return Outcome(*(_without_pairs(text, _BRACES, "") if "{" in text else (text, 0)))


_DASHES = re.compile("[–—―\x96\x97-]{2,}|[–—―\x96\x97]")


def plain_dashes(text: str) -> Outcome:
    """Every dash, and every row of hyphens and dashes, becomes a hyphen."""
    if text.isascii() and "--" not in text:
        return Outcome(text, 0)
    return Outcome(*_DASHES.subn("-", text))


def drop_tags(text: str) -> Outcome:
    """An HTML tag or comment becomes a space. `<3` and `a < b` are none; a tag ends on its own line."""
    return Outcome(*(_without_pairs(text, _TAGS, " ") if "<" in text else (text, 0)))


LINK = re.compile(r"(?<!\w)(?:https?://|ftp://|www\.)[^\s<>\"']*[^\s<>\"'.,;:!?()\[\]{}]", re.IGNORECASE)


def mask_links(text: str) -> Outcome:
    """A web address becomes URL; the full stop or bracket behind it stays."""
    return Outcome(*LINK.subn("URL", text))


def mask_mail(text: str) -> Outcome:
    """A mail address becomes EMAIL."""
    return Outcome(*(MAIL.subn("EMAIL", text) if "@" in text else (text, 0)))


_DIGIT = re.compile(r"[^\D0]")


def mask_digits(text: str) -> Outcome:
    """Every digit, of any script, becomes 0; a change is a digit."""
    return Outcome(*_DIGIT.subn("0", text))


_TWO_STOPS = re.compile(r"(?<!\.)\.\.(?!\.)")


def single_stops(text: str) -> Outcome:
    """`..` becomes `.`"""
    return Outcome(*(_TWO_STOPS.subn(".", text) if ".." in text else (text, 0)))


_SIGNS = re.compile(r"[.,:;!?…()]+")
_PARTS = re.compile(r"[()]|[^()]+")


def spaced_punctuation(text: str) -> Outcome:
    """Punctuation is set off by spaces, but for that in 3.14, 1,000 and 7:30; runs such as `?!` stay together, and a
    parenthesis stands alone. A change is a space."""
    n = 0

    def spaced(match: re.Match[str]) -> str:
        nonlocal n
        start, end = match.span()
        signs, before, after = match[0], text[start - 1 : start], text[end : end + 1]
        if signs in (".", ",", ":") and before.isdecimal() and after.isdecimal():
            return signs
        made = " ".join(_PARTS.findall(signs)) if "(" in signs or ")" in signs else signs
        if before and not before.isspace():
            made = " " + made
        if after and not after.isspace():
            made += " "
        n += len(made) - len(signs)
        return made

    return Outcome(_SIGNS.sub(spaced, text), n)


_BLANKS = re.compile(r"\s{2,}|[^\S \n]")


def collapse_blanks(text: str) -> Outcome:
    """One space between words, one line end between lines. S5 joined the lines too; their ends are kept here."""
    return Outcome(*_BLANKS.subn(lambda match: "\n" if "\n" in match[0] else " ", text))


_BRACES = re.compile(r"(?P<open>\{)|(?P<close>\})")
_TAGS = re.compile(r"(?P<open><(?:/?[A-Za-z]|!--))|(?P<close>>)|(?P<end>\n)")


def _without_pairs(text: str, signs: re.Pattern[str], replacement: str) -> tuple[str, int]:
    """(text without the outermost pairs of brackets and what is in them, how many those were), in one pass."""
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []  # outermost, in order
    for match in signs.finditer(text):
        if match.lastgroup == "open":
            opened.append(match.start())
        elif match.lastgroup == "end":
            opened.clear()
        elif opened:
            start = opened.pop()
            while pairs and pairs[-1][0] > start:
                pairs.pop()
            pairs.append((start, match.end()))
    kept, position = [], 0
    for start, end in pairs:
        kept += [text[position:start], replacement]
        position = end
    return "".join([*kept, text[position:]]), len(pairs)


_ORDER: tuple[tuple[str, Callable[[str], Outcome], bool, str], ...] = (
    ("plain_signs", plain_signs, True, "Curly quotes, fractions and odd spaces become a typewriter's."),
    ("lower_case", lower_case, False, "Small letters only (S5's damage)."),
    ("drop_quotes", drop_quotes, False, "Quotation marks and apostrophes are dropped (S5's damage)."),
    ("drop_braces", drop_braces, True, "What stands in {braces} is dropped."),
    ("drop_tags", drop_tags, True, "An HTML tag becomes a space."),
    ("drop_ellipses", drop_ellipses, True, "An ellipsis is dropped."),
    ("single_stops", single_stops, True, "Two full stops become one."),
    ("plain_dashes", plain_dashes, True, "A dash becomes a hyphen."),
    ("mask_links", mask_links, True, "A web address becomes URL."),
    ("mask_mail", mask_mail, True, "A mail address becomes EMAIL."),
    ("mask_digits", mask_digits, True, "A digit becomes 0."),
    ("spaced_punctuation", spaced_punctuation, True, "Punctuation is set off by spaces."),
    ("collapse_blanks", collapse_blanks, True, "One space between words, one line end between lines."),
)

Switches: Any = make_dataclass(
    "Switches",
    [(name, bool, setting(on, help)) for name, _, on, help in _ORDER],
    bases=(Settings,),
    frozen=True,
)


_DEFAULT: Settings = Switches()


def apply(text: str, parameters: Settings = _DEFAULT) -> Outcome:
    """The steps that are on, in order; `counts` has the changes of each."""
    counts = {}
    switched = parameters.as_dict()
    for name, step, _, _ in _ORDER:
        if switched[name]:
            outcome = step(text)
            text = outcome.text
            if outcome.changes:
                counts[name] = outcome.changes
    return Outcome(text, sum(counts.values()), counts)


_NAMES = "Wiki summaries made plain, S5's steps but its two damages: episode_cleanup(mask_digits=no)."
RULE = Rule("episode_cleanup", _NAMES, apply, "sentences", Switches)
STEPS = tuple(
    Rule(name, help, step, "sentences" if name == "spaced_punctuation" else "")
    for name, step, _, help in _ORDER
)
