"""Reading a request's JSON: its type, its size and how long it may take are bounded."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from textmill.serving.answers import Problem
from textmill.serving.inbox import ClientGone
from textmill.serving.parameters import parse_json

BODY_SECONDS = 20.0

CLOSE = {"connection": "close"}  # what is left of the body is not read


async def read_json(request: Request, most: int) -> dict[str, Any]:
    """The object in the request's body. Raises Problem, BadRequest, ClientGone."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "send JSON, with the header Content-Type: application/json.", headers=CLOSE)
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise _too_large(most)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise Problem(
            408, f"the body did not come within {BODY_SECONDS:.0f} seconds.", headers=CLOSE
        ) from None
    except ClientDisconnect:
        raise ClientGone from None
    return parse_json(bytes(body))


def _too_large(most: int) -> Problem:
    return Problem(413, f"the body must be at most {most:,} bytes.", headers=CLOSE)
