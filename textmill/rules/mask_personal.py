"""Personal data masked: mail addresses become EMAIL, telephone numbers PHONE.

A number is a telephone number when it is written as one: +49 30 1234567, (212) 555-0142, 020 7946 0958, 01 23 45 67 89,
or after a word such as "phone". Years, dates, scores, prices, numbers of episodes and ISBNs are left alone, and so is
a bare row of digits: what is written like anything else is not touched. Names and postal addresses are not looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from textmill.rules.base import Outcome, Rule
from textmill.settings import Settings, setting

# RFC 5321 bounds the local part to 64 characters and a label of the domain to 63: every repetition here is bounded, or
# its characters cannot be read in two ways, so a match takes linear time.
MAIL = re.compile(
    r"(?<![\w.+%@-])(?:mailto:)?[\w+%-]{1,64}(?:\.[\w+%-]{1,64}){0,8}"
    r"@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])"
)

_GAP = r"[ .\-\u00a0\u2010\u2011/]"  # one sign between groups of digits
_YEARS = r"(?:1[5-9]|20)\d\d[ \-\u2010\u2011/](?:1[5-9]|20)\d\d\b"
_DATE = r"\d{1,2}[-./]\d{1,2}[-./]\d{4}\b"
_WORD = (
    r"(?:tel|telephone|telefon|téléphone|phone|fon|mobile|mobil|handy|cellphone|fax|whatsapp|hotline)\b"
    r"\.?(?:[ ](?:number|nummer|no|nr)\b\.?)?[ ]?:?[ ]?"
)
PHONE = re.compile(
    rf"""
    (?<![\w.,:/@\#$€£+-])
    (?:
      (?P<word>\b{_WORD})(?!{_YEARS})(?!{_DATE})\+?\(?\d(?:[()]?{_GAP}?[()]?\d){{4,14}}   # phone: 1234567
    | (?:\+|00(?=\d))\d{{1,3}}(?:{_GAP}?\(\d{{1,4}}\))?(?:{_GAP}?\d){{6,14}}              # +49 30 1234567
    | (?:1[ .-])?\([2-9]\d\d\)[ ]?[2-9]\d\d[ .-]\d{{4}}                                   # (212) 555-0142
    | (?:1[.-])?[2-9]\d\d(?P<sign>[.-])[2-9]\d\d(?P=sign)\d{{4}}                          # 212-555-0142
    | \(0\d{{1,4}}\){_GAP}?\d(?:{_GAP}?\d){{4,9}}                                         # (030) 1234567
    | (?!{_DATE})0[1-9](?:[ .-]\d\d){{4}}                                                 # 01 23 45 67 89
    | (?!{_DATE})0[1-9]\d{{1,3}}[ /-]\d{{3,4}}(?:[ -]?\d{{2,4}}){{1,2}}                   # 020 7946 0958
    )
    (?![\w%€$£]|[.,:/-]\d|[ ]?[-–][ ]?\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DIGITS = re.compile(r"\d(?:[^\w\n]{0,2}\d){4}")  # what every number has: a fast look at a text without any


@dataclass(frozen=True)
class What(Settings):
    """What `mask_personal` masks."""

    mail: bool = setting(True, "Mail addresses become EMAIL.")
    phone: bool = setting(True, "Telephone numbers become PHONE.")


def apply(text: str, parameters: What = What()) -> Outcome:
    """Each change is one address or number; counts are by kind."""
    counts = {}
    if parameters.mail and "@" in text:
        text, n = MAIL.subn("EMAIL", text)
        counts["mail"] = n
    if parameters.phone and _DIGITS.search(text):
        text, n = PHONE.subn(lambda match: f"{match['word'] or ''}PHONE", text)
        counts["phone"] = n
    counts = {kind: n for kind, n in counts.items() if n}
    return Outcome(text, sum(counts.values()), counts)


RULE = Rule("mask_personal", "Mail addresses become EMAIL, telephone numbers PHONE.", apply, parameters=What)
