"""What a rule is: a named function from a document's text to its cleaned text, which says how much it changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """A rule's result on one document: the text, how many places it changed, and what it counted on its way."""

    text: str
    changes: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One row of RULES. `render` names how text made by this rule is shown for reading ("": as it is)."""

    name: str
    help: str
    apply: Callable[[str], Outcome]
    render: str = ""
