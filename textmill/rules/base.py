"""What a rule is: a named function from a document's text to its cleaned text, which says how much it changed.

A rule may have parameters (a Settings class; `rules: "min_length(200), language(en de)"`), may drop a document, and may
need to see the whole corpus before it can clean one document (a survey, as boilerplate does).
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from textmill.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """A rule's result on one document: the text, how many places it changed, and what it counted on its way.

    `drop` is why the document is to be left out, in a few words that are the same for all documents dropped for this
    reason ("" to keep it); `detail` is about this document.
    """

    text: str
    changes: int
    counts: dict[str, int] = field(default_factory=dict)
    drop: str = ""
    detail: str = ""


class Survey(abc.ABC):
    """What a rule learns from the whole corpus, in bounded memory. Surveys of parts of a corpus can be merged.

    It travels as a pickle, which may hold plain values, Counters and objects of classes in the survey's own module.
    """

    @abc.abstractmethod
    def add(self, text: str) -> None:
        """See one document, as the rules before this one left it."""

    @abc.abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another survey saw, of other documents."""

    @abc.abstractmethod
    def apply(self, text: str) -> Outcome:
        """Clean a document by what was learnt."""

    def learnt(self) -> Callable[[str], Outcome]:
        """`apply` with no more than it depends on: surveys that learnt the same give the same pickle."""
        return self.apply


@dataclass(frozen=True)
class Rule:
    """One row of RULES. `render` names how text made by this rule is shown for reading ("": as it is).

    parameters: the settings that `apply` takes as its second argument, all with defaults; the first one may be given
        without its name.
    packages: on whose versions its outcome depends.
    survey: makes the survey that a rule needs, from the parameters; `apply` is then the survey's.
    """

    name: str
    help: str
    apply: Callable[..., Outcome]
    render: str = ""
    parameters: type[Settings] | None = None
    survey: Callable[..., Survey] | None = None
    packages: tuple[str, ...] = ()

    def given(self, shown: str, parameters: Settings) -> Rule:
        """This rule with these parameters, under the name `shown`."""
        survey: Any = functools.partial(self.survey, parameters) if self.survey else None
        return replace(
            self, name=shown, apply=functools.partial(self.apply, parameters=parameters), survey=survey
        )
