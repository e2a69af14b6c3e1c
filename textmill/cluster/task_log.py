"""The end of a failed task's log, as its own program wrote it: KFP's and Go's lines left out."""

from __future__ import annotations

import re

NOISE = re.compile(
    r"^(\[KFP Executor [^\]]*\]: (?!.*[Ee]rror)|[IWEF]\d{4} |time=\"|\{?\"?(level|time)\"?[=:]|"
    r"\d{4}-\d\d-\d\dT[\d:.]+Z? (INFO|WARN)|F\d{4} )"
)


OURS = re.compile(r"textmill\.errors\.\w+: (?P<message>.+)")
TRACEBACK = "Traceback (most recent call last):"


def last_words(lines: list[str], count: int) -> list[str]:
    """At most `count` lines from the end, without the launcher's; with them where nothing else was said.

    An error of textmill's own is its one line, without the traceback before it.
    """
    own = [line.rstrip() for line in lines if line.strip() and not NOISE.match(line)]
    for place in range(len(own) - 1, -1, -1):
        if found := OURS.match(own[place].strip()):
            begin = next((i for i in range(place, -1, -1) if own[i].strip() == TRACEBACK), place)
            own = [*own[:begin], found["message"]]
            break
    return (own or [line.rstrip() for line in lines if line.strip()])[-count:]
