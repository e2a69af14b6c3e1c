"""Bounds on a document's length, in characters without the blanks at its ends. Two rules: min_length and max_length."""

from __future__ import annotations

from dataclasses import dataclass

from textmill.rules.base import Outcome, Rule
from textmill.settings import Settings, setting


@dataclass(frozen=True)
class Least(Settings):
    characters: int = setting(20, "Shorter documents are dropped.", minimum=1)


@dataclass(frozen=True)
class Most(Settings):
    characters: int = setting(1_000_000, "Longer documents are dropped.", minimum=1)


def at_least(text: str, parameters: Least = Least()) -> Outcome:
    """Drop a text that is too short. One that is empty is dropped as empty, by normalize."""
    length = len(text.strip())
    if 0 < length < parameters.characters:
        return Outcome(text, 0, drop="too short", detail=f"{length:,} characters")
    return Outcome(text, 0)


def at_most(text: str, parameters: Most = Most()) -> Outcome:
    """Drop a text that is too long."""
    length = len(text.strip())
    if length > parameters.characters:
        return Outcome(text, 0, drop="too long", detail=f"{length:,} characters")
    return Outcome(text, 0)


MIN_LENGTH = Rule(
    "min_length", "Drops documents of fewer characters: min_length(20).", at_least, parameters=Least
)
MAX_LENGTH = Rule(
    "max_length", "Drops documents of more characters: max_length(1000000).", at_most, parameters=Most
)
