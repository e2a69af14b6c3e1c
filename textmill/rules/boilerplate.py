"""Boilerplate across documents: lines or paragraphs that stand in more than a share of all documents are dropped.

Menus, notices and signatures, which no rule for one document can tell from its words. The corpus is read once before
it is cleaned, and the documents that hold each line are counted. Memory is bounded by a Misra-Gries summary: when more
than MOST different lines are held, the rarest give way, and counts may then be too low by a known number but never too
high, so no line is dropped that is not as frequent as asked. The same documents in the same order give the same counts.

Copies of one document count like different documents: many copies of one text look like boilerplate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import median_low
from typing import Self

from textmill.rules.base import Outcome, Rule, Survey
from textmill.settings import Settings, setting

_ENDS = {"line": re.compile(r"(\n)"), "paragraph": re.compile(r"(\n[^\S\n]*\n\s*)")}

MOST = 1_000_000  # different lines counted at a time, about 100 bytes each


@dataclass(frozen=True)
class Shared(Settings):
    """What `boilerplate` can be told."""

    share: float = setting(
        0.2, "Lines in more than this share of the documents are dropped.", minimum=0, maximum=1
    )
    documents: int = setting(5, "Lines in fewer documents than this stay, whatever their share.", minimum=2)
    characters: int = setting(15, "Shorter lines stay: they say little and are often common.", minimum=1)
    unit: str = setting("line", "What is compared and dropped.", choices=("line", "paragraph"))


class Boilerplate(Survey):
    """Counts, for each line or paragraph, the documents that hold it. Blanks make no difference."""

    def __init__(self, parameters: Shared = Shared(), most: int = MOST) -> None:
        self.parameters, self._most = parameters, most
        self.documents = 0
        self.missed = 0  # a count is too low by this at most
        self._counts: dict[bytes, int] = {}

    def add(self, text: str) -> None:
        self.documents += 1
        for key in dict.fromkeys(key for _, _, key in _parts(text, self.parameters) if key):
            self._counts[key] = self._counts.get(key, 0) + 1
        self._make_room()

    def merge(self, other: Self) -> None:
        self.documents += other.documents
        self.missed += other.missed
        for key, count in other._counts.items():
            self._counts[key] = self._counts.get(key, 0) + count
        self._make_room()

    def _make_room(self) -> None:
        """Take the median count from all, so that at least half of them reach nothing and go."""
        while len(self._counts) > self._most:
            low = median_low(self._counts.values())
            self.missed += low
            self._counts = {key: count - low for key, count in self._counts.items() if count > low}

    def apply(self, text: str) -> Outcome:
        """Drop what is boilerplate by the counts so far."""
        return self.learnt()(text)

    def learnt(self) -> Known:
        """The lines that are boilerplate. The counts of all others may change without a change of this."""
        least = max(self.parameters.documents, int(self.parameters.share * self.documents) + 1)
        return Known(
            self.parameters, tuple(sorted(key for key, count in self._counts.items() if count >= least))
        )


@dataclass(frozen=True)
class Known:
    """The boilerplate of a corpus, and what takes it out of a document."""

    parameters: Shared
    keys: tuple[bytes, ...]

    def __call__(self, text: str) -> Outcome:
        """Drop what is boilerplate; a change is a line or paragraph. `counts` has its characters too."""
        kept, dropped, characters = [], 0, 0
        for part, end, key in _parts(text, self.parameters) if self.keys else ():
            if key and key in self._found:
                dropped += 1
                characters += len(part)
            else:
                kept.append(part + end)
        if not dropped:
            return Outcome(text, 0)
        return Outcome(
            "".join(kept), dropped, {f"{self.parameters.unit}s": dropped, "characters": characters}
        )

    @cached_property
    def _found(self) -> frozenset[bytes]:
        return frozenset(self.keys)

    def __getstate__(self) -> tuple[Shared, tuple[bytes, ...]]:
        return self.parameters, self.keys

    def __setstate__(self, state: tuple[Shared, tuple[bytes, ...]]) -> None:
        self.__dict__.update(parameters=state[0], keys=state[1])


def _parts(text: str, parameters: Shared) -> Iterator[tuple[str, str, bytes]]:
    """(a line or paragraph, what ends it, its key or b"" when it is too short to be looked at)."""
    pieces = _ENDS[parameters.unit].split(text)
    for i in range(0, len(pieces), 2):
        words = " ".join(pieces[i].split())
        key = b""
        if len(words) >= parameters.characters:
            key = hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        yield pieces[i], pieces[i + 1] if i + 1 < len(pieces) else "", key


def apply(text: str, parameters: Shared = Shared()) -> Outcome:
    """Without a survey of the corpus nothing is known to be boilerplate."""
    return Outcome(text, 0)


RULE = Rule(
    "boilerplate",
    "Drops lines that many documents share: boilerplate(share=0.2, unit=paragraph).",
    apply,
    parameters=Shared,
    survey=Boilerplate,
)
