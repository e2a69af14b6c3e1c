"""The way in of the service before this one, for its clients: GET /?sample=…&callback=… and GET /mock.

A text of 256 tokens at temperature 0.7, its prompt before it, cut after the last full sentence; as JSON, or as a call
of `callback` for pages of other origins (JSONP).
"""

from __future__ import annotations

import json
import re

from starlette.requests import Request
from starlette.responses import Response

from textmill.serving.answers import Problem, answer
from textmill.serving.service import Asked, Service

TOKENS, TEMPERATURE = 256, 0.7
CALLBACK = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*", re.ASCII)
LONGEST_CALLBACK = 100
MOCK = "The lamp was lit, and nobody had lit it. Moll looked at the lamp, and the lamp looked at the door."


class SampleAPI:
    """The endpoints, for one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def sample(self, request: Request) -> Response:
        """GET /?sample=…&callback=…"""
        callback = _callback(request)
        own = self._service.settings
        prompt = request.query_params.get("sample", "") or own.default_prompt
        if len(prompt) > own.max_prompt:
            raise Problem(
                400,
                f"sample is {len(prompt)} characters long; it must be at most {own.max_prompt}.",
                param="sample",
            )
        settings = self._service.settings_for(
            {"max_tokens": min(TOKENS, own.max_tokens)}, temperature=TEMPERATURE, whole_sentences=True
        )
        ordered = await self._service.write(Asked([prompt], settings), request)
        [written] = await ordered.whole()
        return _shown(written.text.text, callback)

    async def mock(self, request: Request) -> Response:
        """GET /mock: a fixed text, for trying a page without a model."""
        return _shown(MOCK, _callback(request))


def _callback(request: Request) -> str:
    """The name of the function to call, or "". Raises Problem: anything but a name would be a script of the asker's."""
    name = request.query_params.get("callback", "")
    if name and (len(name) > LONGEST_CALLBACK or not CALLBACK.fullmatch(name)):
        raise Problem(
            400,
            f"callback must be the name of a function, of at most {LONGEST_CALLBACK} characters: letters, digits, _, $ "
            "and dots.",
            param="callback",
        )
    return name


def _shown(text: str, callback: str) -> Response:
    body = {"sample_text": text}
    if not callback:
        return answer(body)
    script = json.dumps(body).replace("<", "\\u003c")  # ASCII: line separators end a script's line
    return Response(f"/**/{callback}({script});", media_type="application/javascript")
