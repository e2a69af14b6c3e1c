"""What is asked of the engine, and what it tells: an order is a request's texts, an event is news of one of them.

Plain data between two threads. Knows nothing of HTTP and of models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from textmill.serving.token_log import Token, TokenLog
from textmill.writing.drafts import Draft
from textmill.writing.generator import Text
from textmill.writing.shown import Shown


@dataclass(frozen=True)
class Piece:
    """More of text `number` of the order, whole characters."""

    number: int
    text: str
    tokens: Sequence[Token] = ()


@dataclass(frozen=True)
class Done:
    """Text `number` has ended. `tokens`: those not told with a piece."""

    number: int
    text: Text
    prompt_tokens: int
    tokens: Sequence[Token] = ()


@dataclass(frozen=True)
class Failed:
    """The order has failed; there is no more news of it. `late`: no slot became free in time."""

    message: str
    late: bool = False


Event = Piece | Done | Failed


@dataclass(eq=False)
class Order:
    """The texts of one request.

    `tell` is called with each event. `pieces`: wanted while a text is written. `log_tokens`: 0 no, 1 those drawn, 2
    those of the prompt too. `likeliest`: so many of the likeliest tokens beside each. `score_only`: the texts are to be
    read, not gone on with.
    """

    drafts: list[Draft]
    tell: Callable[[Event], None]
    deadline: float  # of time.monotonic
    pieces: bool = False
    log_tokens: int = 0
    likeliest: int = 0
    score_only: bool = False
    gone: bool = False  # set by whoever listens, from any thread: nobody is interested any more
    arrived: float = field(default_factory=time.monotonic)

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self.gone = True


@dataclass(eq=False)
class Writing:
    """One text of an order, from the queue to its end."""

    order: Order
    number: int
    draft: Draft
    shown: Shown | None = None  # of an order that wants pieces
    skip: int = 0  # characters to pass over: they were told before the text started again
    taken: int = 0  # characters taken from the draft
    seated: float = 0.0
    told: float = 0.0  # when its last token came
    log: TokenLog | None = None  # of an order that wants tokens
    tokens: list[Token] = field(default_factory=list)  # those that are to be told first
