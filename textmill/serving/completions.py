"""OpenAI's way in: POST /v1/completions, GET /v1/models, GET /v1/models/{model}."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from textmill.serving import parameters
from textmill.serving.answers import Problem, answer, to_json
from textmill.serving.bodies import read_json
from textmill.serving.inbox import EventStream
from textmill.serving.orders import Piece
from textmill.serving.parameters import BadRequest
from textmill.serving.service import Asked, Ordered, Service, Written
from textmill.serving.token_log import Token

DONE = b"[DONE]"
# With log probabilities a text is given as the model writes it: what is finished has no tokens of its own.
FINISHING = ("whole_sentences", "recapitalize", "sentences", "most_characters")


class Completions:
    """The endpoints, for one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._schema = parameters.completion(service.settings)

    async def completions(self, request: Request) -> Response | ASGIApp:
        """POST /v1/completions"""
        values = parameters.check(await read_json(request, self._service.settings.max_body), self._schema)
        self._service.check_name(values.get("model"))
        asked = self._asked(values)
        ordered = await self._service.write(asked, request)
        shape = _Shape(self._service, asked, values)
        if asked.stream:
            await ordered.begun()
            return EventStream(shape.events(ordered))
        return answer(shape.whole(await ordered.whole()))

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return answer({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{model}"""
        self._service.check_name(request.path_params["model"])
        return answer(self._model())

    def _model(self) -> dict[str, Any]:
        service = self._service
        return {"id": service.name, "object": "model", "created": service.started, "owned_by": "textmill"}

    def _asked(self, values: dict[str, Any]) -> Asked:
        number = values.get("n", 1)
        if values.get("best_of", number) != number:
            raise BadRequest("best_of is supported only where it equals n.", "best_of")
        prompt, echo = values.get("prompt", ""), values.get("echo", False)
        texts = parameters.shared(values)
        if "logprobs" in values:
            for name in FINISHING:
                if values.get(name):
                    raise BadRequest(f"{name} and logprobs cannot be had together.", name)
            if values.get("render", "auto") not in ("auto", "plain"):
                raise BadRequest("render and logprobs cannot be had together.", "render")
            texts |= {"render": "plain", "whole_sentences": False, "recapitalize": False}
        return Asked(
            prompts=[prompt] if isinstance(prompt, str) else prompt,
            settings=self._service.settings_for(texts, number=number, include_prompt=echo),
            stream=values.get("stream", False),
            log_tokens=(2 if echo else 1) if "logprobs" in values else 0,
            likeliest=values.get("logprobs", 0),
            score_only=values.get("max_tokens") == 0,
        )


class _Shape:
    """What the answers to one request have in common."""

    def __init__(self, service: Service, asked: Asked, values: Mapping[str, Any]) -> None:
        self._asked = asked
        self._usage = bool(values.get("stream_options", {}).get("include_usage"))
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": service.fingerprint,
            "seed": asked.settings.seed,
        }

    def whole(self, written: Sequence[Written]) -> dict[str, Any]:
        """The answer with all texts."""
        choices = [
            self._choice(w.number, w.text.text, w.tokens, w.finish_reason, w.text.finish_reason)
            for w in written
        ]
        return {**self._head, "choices": choices, "usage": self._used(written)}

    async def events(self, ordered: Ordered) -> AsyncIterator[bytes]:
        """The data of each event."""
        ended: list[Written] = []
        try:
            async for item in ordered.items():
                if isinstance(item, Piece):
                    choice = self._choice(item.number, item.text, item.tokens, None, None)
                else:
                    ended.append(item)
                    reason = item.text.finish_reason
                    choice = self._choice(item.number, "", item.tokens, item.finish_reason, reason)
                yield to_json({**self._head, "choices": [choice]})
        except Problem as problem:
            yield to_json(problem.as_dict())
            return
        if self._usage:
            yield to_json({**self._head, "choices": [], "usage": self._used(ended)})
        yield DONE

    def _choice(
        self, number: int, text: str, tokens: Sequence[Token], reason: str | None, ended_by: str | None
    ) -> dict[str, Any]:
        logged = self._logged(tokens) if self._asked.log_tokens else None
        made = {"index": number, "text": text, "logprobs": logged, "finish_reason": reason}
        return {**made, "ended_by": ended_by} if ended_by else made

    def _logged(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.log_probability for token in tokens],
            "top_logprobs": [token.likeliest for token in tokens] if self._asked.likeliest else None,
            "text_offset": [token.offset for token in tokens],
        }

    def _used(self, written: Sequence[Written]) -> dict[str, int]:
        each = self._asked.settings.number
        prompts = sum(w.prompt_tokens for w in written if w.number % each == 0)
        drawn = sum(w.text.tokens for w in written)
        return {"prompt_tokens": prompts, "completion_tokens": drawn, "total_tokens": prompts + drawn}
