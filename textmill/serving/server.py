"""`textmill serve`: the process. Its address, its signals, and the way from loading to the last text.

SIGTERM (or Ctrl-C): not ready any more; new requests are taken for the time of `linger` and then get 503; texts that
are being written go on for the time of grace and are then cut. A second one ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from textmill.errors import InputError, MachineError
from textmill.serving.app import make_app
from textmill.serving.connections import bounded
from textmill.serving.engine import Engine
from textmill.serving.fetching import local_checkpoint
from textmill.serving.guards import HEAD_BYTES, JsonLines, read_tokens
from textmill.serving.metrics import Metrics
from textmill.serving.service import Service
from textmill.serving.settings import TOKEN_VARIABLE, ServeSettings
from textmill.sources import without_secrets
from textmill.writing.generator import Generator

log = logging.getLogger("textmill.serving")

KEEP_ALIVE_SECONDS = 30
SWITCH_SECONDS = (
    0.0005  # after which the loop lets the engine's thread go on: a step takes a few milliseconds
)
LAST_SECONDS = 3.0  # for answers on their way when all texts have ended


def serve(checkpoint: str, settings: ServeSettings | None = None) -> None:
    """Serve the checkpoint in a folder or at an object store's address until SIGTERM or Ctrl-C.

    Raises InputError and MachineError: no such checkpoint, the address is taken, a token file that cannot be read.
    """
    settings = settings or ServeSettings()
    tokens = read_tokens(os.environ.get(TOKEN_VARIABLE, ""), settings.token_file)
    if settings.log == "json":
        _log_json()
    name = settings.name or name_of(checkpoint)

    def load() -> Generator:
        return Generator.open(local_checkpoint(checkpoint), settings.precision)

    sys.setswitchinterval(SWITCH_SECONDS)
    with listening(settings) as listener:
        asyncio.run(Serving(settings, load, name, tokens).run(listener))


def name_of(checkpoint: str) -> str:
    """The model's name where none is given: the last part of its address."""
    path = without_secrets(checkpoint).partition("://")[2] or str(Path(checkpoint).absolute())
    return path.partition("?")[0].rstrip("/").rpartition("/")[2] or "textmill"


class Serving:
    """One service from its start to its end."""

    def __init__(
        self, settings: ServeSettings, load: Callable[[], Generator], name: str, tokens: list[str]
    ) -> None:
        self._settings, self._load, self._name, self._tokens = settings, load, name, tokens

    async def run(self, listener: socket.socket) -> None:
        """Serve on a bound socket. Raises what loading raised."""
        settings, loop = self._settings, asyncio.get_running_loop()
        self.engine = Engine(
            self._load,
            slots=settings.slots,
            queue=settings.queue,
            metrics=Metrics(self._name),
            post=_poster(loop),
        )
        self._service = Service(settings, self.engine, self._name)
        app = make_app(self._service, self._tokens)
        config = uvicorn.Config(
            app,
            http=bounded(settings.connections),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(LAST_SECONDS),
            backlog=2048,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = _Server(config, lambda: loop.call_soon_threadsafe(self.stop))
        self._loop, self._address = loop, listener.getsockname()
        log.info("loading %s; listening on %s", self._name, self.url)
        self.engine.start(self._loaded)
        try:
            await self._server.serve([listener])
        finally:
            self.engine.drain()
            self.engine.cut("shutdown")
            await asyncio.to_thread(self.engine.join, LAST_SECONDS + 30)
        if self.engine.error is not None:
            raise self.engine.error

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host, port = self._address[:2]
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{shown}:{port}"

    def _loaded(self) -> None:
        if self.engine.state == "failed":
            self._server.should_exit = True
            return
        if self.engine.state != "ready":
            return
        token = f" -H 'Authorization: Bearer ${TOKEN_VARIABLE}'" if self._tokens else ""
        body = '{"prompt": "", "max_tokens": 100}'
        log.info("ready: %s at %s (%s)", self._name, self.url, self.engine.generator.decoder.describe())
        log.info(
            "try: curl %s/v1/completions -H 'Content-Type: application/json'%s -d '%s'", self.url, token, body
        )

    def stop(self) -> None:
        """The process is told to end; called in the loop."""
        self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        loading = self.engine.state == "loading"
        self._service.leaving = True
        if self._settings.linger and self.engine.state == "ready":
            log.info("stopping: new requests are taken for %g s more", self._settings.linger)
            await asyncio.sleep(self._settings.linger)
        left = self.engine.waiting + self.engine.running
        log.info("stopping: no new requests; %d texts go on, for %g s at most", left, self._settings.grace)
        self.engine.drain()
        self._server.close_idle()
        if not loading:
            await asyncio.to_thread(self.engine.join, self._settings.grace)
            self.engine.cut("shutdown")
            await asyncio.to_thread(self.engine.join, LAST_SECONDS)
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server, which ends when it is told to and not by itself on a signal."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], Any]) -> None:
        super().__init__(config)
        self._stop, self._stopping = stop, False

    def close_idle(self) -> None:
        """Close connections that were kept after an answer: their clients open new ones, elsewhere."""
        for connection in list(self.server_state.connections):
            if connection.cycle is not None and connection.cycle.response_complete:
                connection.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping:
            self.should_exit = self.force_exit = True
            return
        self._stopping = True
        self._stop()


def _poster(loop: asyncio.AbstractEventLoop) -> Callable[[Callable[[], None]], Any]:
    def post(call: Callable[[], None]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(call)

    return post


def listening(settings: ServeSettings) -> socket.socket:
    """A socket bound to the address."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or "no such host"
        kind = InputError if isinstance(error, socket.gaierror | UnicodeError) else MachineError
        raise kind(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another one."
        ) from error
    made.setblocking(False)
    return made


def _log_json() -> None:
    for handler in logging.getLogger().handlers or [logging.StreamHandler(sys.stderr)]:
        handler.setFormatter(JsonLines())
