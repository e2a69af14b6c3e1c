"""Unicode repair: mojibake, HTML entities, ligatures, full-width letters, control characters, curly quotes; then NFC.

The work is ftfy's (`ftfy.fix_text`, its defaults). Curly quotes become straight ones, which keeps the alphabet of a
character model small and fits S3's 98 codes.
"""

from __future__ import annotations

import re

import ftfy

from textmill.rules.base import Outcome, Rule

# ASCII that ftfy may change too: entities, terminal escapes and other controls (but tab and line feed).
_SUSPECT_ASCII = re.compile(r"[&\x00-\x08\x0b-\x1f\x7f]")
_CONFIG = ftfy.TextFixerConfig(explain=False)


def apply(text: str) -> Outcome:
    """Repair each line; a change is a changed line. Lines of plain ASCII are not looked at twice: that is most text."""
    if text.isascii() and not _SUSPECT_ASCII.search(text):
        return Outcome(text, 0)
    config = _CONFIG._replace(unescape_html=False) if "<" in text else _CONFIG
    before = text.replace("\r\n", "\n").split("\n")
    after = [line if _is_plain(line) else ftfy.fix_text(line, config) for line in before]
    changes = sum(old != new for old, new in zip(before, after, strict=True)) + text.count("\r\n")
    repaired = "\n".join(after)
    if repaired.count("\n") >= len(before):
        # Other line ends became line feeds: what is a line of its own now may read otherwise without its neighbours.
        again = apply(repaired)
        return Outcome(again.text, changes + again.changes)
    return Outcome(repaired, changes)


def _is_plain(line: str) -> bool:
    return line.isascii() and not _SUSPECT_ASCII.search(line)


RULE = Rule(
    "unicode_repair", "Repairs broken encodings, entities and odd characters (ftfy), then NFC.", apply
)
