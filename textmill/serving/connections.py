"""HTTP connections that cannot be held for nothing: heads that come drop by drop, answers that nobody reads, too many.

uvicorn's h11 protocol with bounds that it does not have. Every bound ends in a closed connection.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from textmill.serving.answers import error_body, to_json
from textmill.serving.guards import LARGE_HEAD

HEAD_SECONDS = 10.0  # from its first byte, or from the connection
WRITE_SECONDS = 30.0  # without a reader taking anything
CLOSE_SECONDS = 5.0  # for the last bytes of a connection that is being closed


class Connection(H11Protocol):
    """One client's connection. `most` is set by `bounded`."""

    most = 1000
    _head: asyncio.TimerHandle | None = None
    _write: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "too many connections; try again later.")
            return
        self._head = self.loop.call_later(HEAD_SECONDS, self._late)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop("_head")
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._late)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write is None:
            self._write = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("_write")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop("_head")
        self._stop("_write")
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._refuse(400, "there are no web sockets here.")

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too large a head; uvicorn calls this while it handles h11's error."""
        if getattr(sys.exception(), "error_status_hint", 0) == 431:
            self._refuse(431, LARGE_HEAD)
        else:
            self._refuse(400, "this is no HTTP/1.1 request.")

    def _late(self) -> None:
        self._head = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(408, f"the request's head did not come within {HEAD_SECONDS:.0f} seconds.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer and close, whatever state the connection is in."""
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete
        if idle:
            body = to_json(error_body(status, message))
            head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _stop(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)


def bounded(most: int) -> type[Any]:
    """The protocol for at most so many connections."""
    return type("Connection", (Connection,), {"most": most})
