"""A real service on the loopback, in a thread of this process; raw requests that no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from textmill.serving.server import Serving, listening
from textmill.serving.settings import ServeSettings
from textmill.writing.generator import Generator

PATIENCE = 240.0  # seconds; a machine that stands still for a while is no failure
LOOKS = 20_000  # each some 5 ms after the one before


class Running:
    """A service that is up."""

    def __init__(self, serving: Serving, loop: asyncio.AbstractEventLoop) -> None:
        self.serving, self.loop = serving, loop
        self.engine = serving.engine
        self.url = serving.url
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    def complete(self, **values: Any) -> httpx.Response:
        return self.client.post("/v1/completions", json=values)

    def text(self, **values: Any) -> str:
        answer = self.complete(**values)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])

    def figure(self, name: str, **labels: str) -> float:
        """A figure of /metrics; the sum over all series that have these labels."""
        lines = [
            line for line in self.client.get("/metrics").text.splitlines() if line.startswith(name + "{")
        ]
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.serving.stop)

    def until(self, what: Callable[[], bool], why: str) -> None:
        wait_until(what, why)


def wait_until(what: Callable[[], bool], why: str) -> None:
    for _ in range(
        LOOKS
    ):  # and not by the clock: a process that was stopped for a while has not looked meanwhile
        if what():
            return
        time.sleep(0.005)
    raise AssertionError(why)


@contextlib.contextmanager
def running(
    load: Generator | Callable[[], Generator],
    *,
    tokens: tuple[str, ...] = (),
    ready: bool = True,
    **values: Any,
) -> Iterator[Running]:
    """A service with these settings; `ready`: wait until its model is loaded."""
    settings = ServeSettings.of(**{"name": "mill", "port": 0, "slots": 4, "grace": 0.2, **values})
    made: list[Any] = []
    up = threading.Event()
    make = load if not isinstance(load, Generator) else lambda: load

    async def run() -> None:
        with listening(settings) as listener:
            serving = Serving(settings, make, "mill", list(tokens))
            task = asyncio.create_task(serving.run(listener))
            while not hasattr(serving, "_address") and not task.done():
                await asyncio.sleep(0.001)
            made.extend((serving, asyncio.get_running_loop()))
            up.set()
            try:
                await task
            except Exception as error:
                made[0].error = error

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert up.wait(PATIENCE)
    service = Running(*made)
    try:
        if ready:
            wait_until(lambda: service.engine.state != "loading", "the model is not loaded")
            assert service.engine.state == "ready", service.engine.error
        yield service
    finally:
        service.client.close()
        with contextlib.suppress(RuntimeError):
            service.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the service has not ended"


def raw(port: int, data: bytes, *, read: bool = True) -> bytes:
    """Send bytes on a connection of their own; what comes back until it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        found = b""
        while read and (piece := connection.recv(65536)):
            found += piece
        return found


def request(path: str, value: Any = None, *, method: str = "POST", headers: str = "") -> bytes:
    """An HTTP/1.1 request whose connection is closed after the answer."""
    body = json.dumps(value).encode() if value is not None else b""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nConnection: close\r\n"
    )
    return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def events(answer: bytes | str) -> list[Any]:
    """The data of server-sent events, JSON read."""
    text = answer.decode() if isinstance(answer, bytes) else answer
    found = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [value if value == "[DONE]" else json.loads(value) for value in found]
