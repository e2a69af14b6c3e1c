"""KServe's way in: the Open Inference Protocol's health, metadata, and its generate extension, under /v2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from textmill import __version__
from textmill.serving import parameters
from textmill.serving.answers import Problem, answer, to_json
from textmill.serving.bodies import read_json
from textmill.serving.inbox import EventStream
from textmill.serving.orders import Piece
from textmill.serving.service import Asked, Ordered, Service, Written

REASONS = {"stop": "stop_sequence", "end_of_document": "eos_token"}  # others are the protocol's "length"


class KServe:
    """The endpoints, for one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._schema = parameters.generation(service.settings)

    async def server(self, request: Request) -> Response:
        """GET /v2"""
        return answer({"name": "textmill", "version": __version__, "extensions": ["generate"]})

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live: false where only a new process helps."""
        live = self._service.engine.state != "failed"
        return answer({"live": live}, 200 if live else 503)

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: true when the model is loaded and warm, until the service shuts down."""
        ready = self._service.ready
        return answer({"ready": ready}, 200 if ready else 503)

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{model}"""
        self._check(request)
        text = {"datatype": "BYTES", "shape": [1]}
        return answer(
            {
                "name": self._service.name,
                "versions": [],
                "platform": "textmill",
                "inputs": [{"name": "text_input", **text}],
                "outputs": [{"name": "text_output", **text}],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{model}/ready"""
        self._check(request)
        ready = self._service.ready
        return answer({"name": self._service.name, "ready": ready}, 200 if ready else 503)

    async def generate(self, request: Request) -> Response:
        """POST /v2/models/{model}/generate"""
        head, ordered = await self._order(request, stream=False)
        [written] = await ordered.whole()
        return answer({**head, "text_output": written.text.text, "details": _details(written)})

    async def generate_stream(self, request: Request) -> ASGIApp:
        """POST /v2/models/{model}/generate_stream"""
        head, ordered = await self._order(request, stream=True)
        await ordered.begun()
        return EventStream(_events(head, ordered))

    async def _order(self, request: Request, *, stream: bool) -> tuple[dict[str, Any], Ordered]:
        self._check(request)
        body = await read_json(request, self._service.settings.max_body)
        values = parameters.check(body, self._schema)
        drawn = parameters.shared(values.get("parameters", {}))
        settings = self._service.settings_for(drawn, include_prompt=False)
        score_only = drawn.get("max_tokens") == 0
        asked = Asked([values["text_input"]], settings, stream=stream, score_only=score_only)
        head = {"model_name": self._service.name, "model_version": None}
        if "id" in values:
            head["id"] = values["id"]
        return head, await self._service.write(asked, request)

    def _check(self, request: Request) -> None:
        self._service.check_name(request.path_params["model"])


def _details(written: Written) -> dict[str, Any]:
    reason = written.text.finish_reason
    return {
        "finish_reason": REASONS.get(reason, "length"),
        "ended_by": reason,
        "seed": written.text.seed,
        "prompt_tokens": written.prompt_tokens,
        "generated_tokens": written.text.tokens,
    }


async def _events(head: dict[str, Any], ordered: Ordered) -> AsyncIterator[bytes]:
    try:
        async for item in ordered.items():
            if isinstance(item, Piece):
                yield to_json({**head, "text_output": item.text})
            else:
                yield to_json({**head, "text_output": "", "details": _details(item)})
    except Problem as problem:
        yield to_json(problem.as_dict())
