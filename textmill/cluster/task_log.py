"""The end of a failed task's log, as its own program wrote it: KFP's and Go's lines left out."""

from __future__ import annotations

import re

NOISE = re.compile(
    r"^(\[KFP Executor [^\]]*\]: (?!.*[Ee]rror)|[IWEF]\d{4} |time=\"|\{?\"?(level|time)\"?[=:]|"
    r"\d{4}-\d\d-\d\dT[\d:.]+Z? (INFO|WARN)|F\d{4} )"
)


def last_words(lines: list[str], count: int) -> list[str]:
    """At most `count` lines from the end, without the launcher's; with them where nothing else was said."""
    own = [line.rstrip() for line in lines if line.strip() and not NOISE.match(line)]
    return (own or [line.rstrip() for line in lines if line.strip()])[-count:]
