"""What all ways in share: the engine, a request turned into an order, and its events turned into texts.

Knows prompts, settings and limits; knows nothing of how a request or an answer looks.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from textmill.errors import SettingsError
from textmill.serving.answers import Problem
from textmill.serving.engine import Busy, Closed, Engine
from textmill.serving.inbox import Inbox
from textmill.serving.orders import Done, Failed, Order, Piece
from textmill.serving.parameters import BadRequest
from textmill.serving.settings import ServeSettings
from textmill.serving.token_log import Token
from textmill.writing.drafts import Draft
from textmill.writing.generator import Text
from textmill.writing.settings import GenerateSettings

SHORT_PROMPT = 2000  # characters that are turned into tokens at once; more of them in a thread beside
LOADING_SECONDS = 5  # that a client is told to wait
SEED_BITS = 48  # a seed that every JSON reader keeps whole
LENGTHS = ("length", "characters", "deadline", "shutdown")  # reasons that are OpenAI's "length"


@dataclass(frozen=True)
class Asked:
    """What a request wants: `texts` settings for each prompt; log_tokens and likeliest as Order has them."""

    prompts: Sequence[str]
    settings: GenerateSettings
    stream: bool = False
    log_tokens: int = 0
    likeliest: int = 0
    score_only: bool = False


@dataclass(frozen=True)
class Written:
    """A text that has ended, with its tokens where they were asked for."""

    number: int
    text: Text
    prompt_tokens: int
    tokens: Sequence[Token]

    @property
    def finish_reason(self) -> str:
        """In OpenAI's words."""
        return openai_reason(self.text.finish_reason)


def openai_reason(reason: str) -> str:
    """ "stop" or "length"."""
    return "length" if reason in LENGTHS else "stop"


class Service:
    """One model, its engine, and what it allows."""

    def __init__(self, settings: ServeSettings, engine: Engine, name: str) -> None:
        self.settings, self.engine, self.name = settings, engine, name
        self.started = int(time.time())
        self.leaving = False  # about to stop: still answers, and says that nothing more should be sent

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.engine.state == "ready" and not self.leaving

    @property
    def fingerprint(self) -> str:
        """Names the weights: the checkpoint's digest."""
        model = self.engine.generator.model
        return f"textmill-{model.digest[:12]}" if model else "textmill"

    def check_name(self, name: str | None) -> None:
        """Raises Problem where a request names another model."""
        if name is not None and name != self.name:
            shown = name if len(name) <= 100 else f"{name[:97]}..."
            raise Problem(
                404,
                f"there is no model {shown!r} here; this service has {self.name!r}.",
                param="model",
                code="model_not_found",
            )

    def settings_for(self, values: Mapping[str, Any], **more: Any) -> GenerateSettings:
        """The settings of a text, from the checked parameters that all ways in share."""
        own = self.settings
        stop = values.get("stop", [])
        given = {
            "length": max(1, min(values.get("max_tokens", own.length), own.max_tokens)),
            "seed": secrets.randbits(SEED_BITS),
            "whole_sentences": own.whole_sentences,
            "recapitalize": own.recapitalize,
            "stop": [stop] if isinstance(stop, str) else stop,
        }
        same = {k: v for k, v in values.items() if k not in ("max_tokens", "stop")}
        try:
            return GenerateSettings.of(**{**given, **same, **more})
        except SettingsError as error:  # parameters.py has let through what it should not
            raise BadRequest(str(error)) from error

    async def write(self, asked: Asked, request: Request) -> Ordered:
        """Queue what is asked for. Raises Problem and BadRequest."""
        self._check_open()
        if sum(map(len, asked.prompts)) > SHORT_PROMPT:
            drafts = await asyncio.to_thread(self._drafts, asked)
        else:
            drafts = self._drafts(asked)
        inbox = Inbox()
        order = Order(
            drafts,
            inbox.put,
            time.monotonic() + self.settings.deadline,
            pieces=asked.stream,
            log_tokens=asked.log_tokens,
            likeliest=asked.likeliest,
            score_only=asked.score_only,
        )
        try:
            self.engine.submit(order)
        except Busy as busy:
            raise Problem(
                429,
                "too many requests wait already; try again later.",
                code="queue_full",
                retry_after=busy.wait,
            ) from None
        except Closed:
            raise self._closed() from None
        inbox.watch(request.receive)
        return Ordered(order, inbox)

    def _check_open(self) -> None:
        if self.engine.state != "ready":
            raise self._closed()

    def _closed(self) -> Problem:
        why = {
            "new": "the model is being loaded",
            "loading": "the model is being loaded",
            "failed": "the model has failed",
        }.get(self.engine.state, "the service is shutting down")
        return Problem(503, f"{why}; try again later.", code="unavailable", retry_after=LOADING_SECONDS)

    def _drafts(self, asked: Asked) -> list[Draft]:
        number = asked.settings.number
        if len(asked.prompts) * number > self.settings.max_texts:
            raise BadRequest(
                f"{len(asked.prompts)} prompts of {number} texts each are too many; one request may ask for "
                f"{self.settings.max_texts} texts.",
                "n",
            )
        generator = self.engine.generator
        drafts: list[Draft] = []
        for prompt in asked.prompts:
            if len(prompt) > self.settings.max_prompt:
                raise BadRequest(
                    f"prompt is {len(prompt)} characters long; it must be at most {self.settings.max_prompt}.",
                    "prompt",
                )
            for _ in range(number):
                draft = generator.draft(len(drafts), prompt, asked.settings)
                if draft.cut:
                    raise BadRequest(
                        f"the prompt has {len(draft.ids):,} tokens; this model reads at most {generator.context:,}.",
                        "prompt",
                        "context_length_exceeded",
                    )
                drafts.append(draft)
        return drafts


class Ordered:
    """An order that was taken, and its events."""

    def __init__(self, order: Order, inbox: Inbox) -> None:
        self._order, self._inbox = order, inbox
        self._left = len(order.drafts)
        self._first: list[Any] = []

    async def begun(self) -> None:
        """Wait for the first event, so that an order that fails at once is an error and not a stream. Raises Problem,
        ClientGone."""
        try:
            self._first = await self._next()
        except BaseException:
            self.close()
            raise

    async def whole(self) -> list[Written]:
        """All texts, in order. Raises Problem, ClientGone."""
        found = [item async for item in self.items() if isinstance(item, Written)]
        return sorted(found, key=lambda written: written.number)

    async def items(self) -> AsyncIterator[Piece | Written]:
        """Pieces, those of a text that came together as one, and texts that have ended."""
        try:
            while self._left:
                events, self._first = self._first or await self._next(), []
                for item in _joined(events):
                    self._left -= isinstance(item, Written)
                    yield item
        finally:
            self.close()

    async def _next(self) -> list[Any]:
        events = await self._inbox.get()
        for event in events:
            if isinstance(event, Failed):
                status = 503 if event.late else 500
                raise Problem(status, event.message, code="unavailable" if event.late else None,
                              retry_after=LOADING_SECONDS if event.late else None)  # fmt: skip
        return events

    def close(self) -> None:
        """Nobody waits any more: what is not written need not be."""
        self._order.leave()
        self._inbox.close()


def _joined(events: Sequence[Any]) -> list[Piece | Written]:
    """Pieces of the same text one after the other become one."""
    found: list[Piece | Written] = []
    places: dict[int, int] = {}
    for event in events:
        if isinstance(event, Done):
            found.append(Written(event.number, event.text, event.prompt_tokens, event.tokens))
            continue
        if event.number in places:
            place = places[event.number]
            before = found[place]
            assert isinstance(before, Piece)
            tokens = [*before.tokens, *event.tokens]
            found[place] = Piece(event.number, before.text + event.text, tokens)
        else:
            places[event.number] = len(found)
            found.append(event)
    return found
