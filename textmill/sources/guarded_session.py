"""A requests session whose every connection is guarded, for the clients that are built on requests.

The same bounds, pauses and retries as guarded_http.Fetcher. Answers that never come right are handed to the client as
they are. Needs requests, which those clients bring.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import zlib
from collections.abc import Callable
from typing import Any

import requests
import requests.adapters
import urllib3

from textmill.sources import BadItem, Unreachable
from textmill.sources.guarded_http import (
    AGAIN,
    Guard,
    Limits,
    asked_wait,
    bounded,
    host_of,
    user_agent,
    wait_before,
    why,
)

LIMITS = Limits()


def guarded_session(
    guard: Guard,
    limits: Limits = LIMITS,
    *,
    agent: str = "",
    tick: Callable[[str], None] = lambda note: None,
) -> requests.Session:
    """A session for one client. It raises BadItem (Refused, Unreachable) beside what requests raises."""
    session = requests.Session()
    session.trust_env = False  # no proxies, no .netrc
    session.max_redirects = limits.max_redirects
    session.headers.update({"User-Agent": agent or user_agent(), "Accept-Encoding": "gzip, deflate"})
    adapter = GuardedAdapter(guard, limits, tick)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class GuardedAdapter(requests.adapters.HTTPAdapter):
    """Sends one request after the other, each checked, bounded and tried again as Limits say."""

    def __init__(self, guard: Guard, limits: Limits, tick: Callable[[str], None]) -> None:
        self.guard, self.limits, self.tick = guard, limits, tick
        self._last: dict[str, float] = {}
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        guard = self.guard

        class Plain(urllib3.connection.HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return _connected(guard, self)

        class Secure(urllib3.connection.HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return _connected(guard, self)

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The answer with its whole body read. What may pass is tried again."""
        url, kwargs["stream"] = str(request.url), True
        kwargs["timeout"] = kwargs.get("timeout") or self.limits.timeout
        for attempt in range(1, self.limits.attempts + 1):
            response, retry_after = None, None
            try:
                self._pause(host_of(url))
                response = super().send(request, *args, **kwargs)
                self._read(response)
                if response.status_code not in AGAIN and "X-Database-Lag" not in response.headers:
                    return response
                failed, retry_after = f"{response.status_code}", asked_wait(response.headers)
            except (requests.ConnectionError, requests.Timeout, OSError, http.client.HTTPException) as error:
                failed = _why(error)
            except (zlib.error, urllib3.exceptions.HTTPError) as error:
                failed = why(error)
            wait = wait_before(attempt, self.limits, retry_after)
            if attempt == self.limits.attempts or wait == float("inf"):
                whole = response is not None and response._content is not False
                if response is not None and whole and "X-Database-Lag" not in response.headers:
                    return response
                raise Unreachable(f"{host_of(url)}: {failed} ({attempt} times)")
            self.tick(f"{host_of(url)}: {failed}; waiting {wait:,.0f} s")
            time.sleep(wait)
        raise AssertionError

    def _pause(self, host: str) -> None:
        time.sleep(max(0.0, self._last.get(host, -self.limits.delay) + self.limits.delay - time.monotonic()))
        self._last[host] = time.monotonic()

    def _read(self, response: requests.Response) -> None:
        """Read the body, bounded in bytes and time, so that `response.content` has it."""
        raw, end, body = response.raw, time.monotonic() + self.limits.timeout, io.BytesIO()

        class Timed:
            def read(self, size: int) -> bytes:
                if time.monotonic() > end:
                    raise TimeoutError
                return raw.read1(size, decode_content=False)

        try:
            for piece in bounded(Timed(), response.headers, self.limits.max_bytes):
                body.write(piece)
        except BaseException:
            response.close()
            raise
        response._content, response._content_consumed = body.getvalue(), True
        raw.release_conn()


def _connected(guard: Guard, connection: Any) -> socket.socket:
    timeout = connection.timeout if isinstance(connection.timeout, int | float) else 30.0
    try:
        return guard.connect(connection.host, connection.port, timeout)
    except BadItem:
        raise
    except TimeoutError as error:
        raise urllib3.exceptions.ConnectTimeoutError(connection, why(error)) from error
    except OSError as error:
        raise urllib3.exceptions.NewConnectionError(connection, why(error)) from error


def _why(error: Exception) -> str:
    """requests wraps urllib3, which wraps what happened."""
    inner: Any = error
    while True:
        deeper = getattr(inner, "reason", None) or next(
            (arg for arg in getattr(inner, "args", ()) if isinstance(arg, Exception)), None
        )
        if not isinstance(deeper, Exception):
            break
        inner = deeper
    text = str(inner).rpartition(": ")[2] if isinstance(inner, urllib3.exceptions.HTTPError) else why(inner)
    return text.splitlines()[0] if text else type(inner).__name__
