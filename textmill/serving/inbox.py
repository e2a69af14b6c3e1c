"""From the engine to a client: the events of an order, awaited; server-sent events; clients that go away.

Knows ASGI's messages; knows nothing of what the events say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Receive, Scope, Send

from textmill.serving.orders import Event

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would hold the events back
}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Inbox:
    """The events of one order, on the loop's side. `put` is called in the loop's thread."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._wake = asyncio.Event()
        self._gone = False
        self._watch: asyncio.Task[None] | None = None

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._wake.set()

    async def get(self) -> list[Event]:
        """All events since the last call, at least one. Raises ClientGone."""
        await self._wake.wait()
        if self._gone:
            raise ClientGone
        self._wake.clear()
        events, self._events = self._events, []
        return events

    def watch(self, receive: Receive) -> None:
        """Notice when the client goes away; the request's body must have been read."""
        self._watch = asyncio.create_task(self._until_gone(receive))

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()


class EventStream:
    """An answer of server-sent events: each item of `events` is one event's data."""

    status_code = 200

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in STREAM_HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for data in self._events:
                await send(_body(b"data: " + data + b"\n\n"))
        except (ClientGone, OSError):
            return
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]
        await send(_body(b"", more=False))


def _body(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
