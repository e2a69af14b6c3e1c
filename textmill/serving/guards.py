"""Around every request: a request id, a log line, figures, security headers; who may ask, and how often.

ASGI middleware. Knows HTTP; knows nothing of models.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textmill.errors import SettingsError
from textmill.serving.answers import Problem
from textmill.serving.metrics import Metrics

log = logging.getLogger("textmill.serving")

REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
# What a probe, a scraper or a person's first look needs; none of it writes a text.
ASKING = frozenset(("sample", "callback", "prompt", "seed"))  # in the query of `/`: a text is to be written
OPEN = re.compile(r"/(?:v2/health/(?:live|ready)|metrics|openapi\.json|page/.*)?", re.DOTALL)
UNLIMITED = re.compile(r"/(?:v2/health/(?:live|ready)|metrics|page/.*)", re.DOTALL)
FAILED = "the service has failed to answer; its log says why."
HEAD_BYTES = 64 << 10  # of a request's line and headers
LARGE_HEAD = f"the request's head is larger than {HEAD_BYTES:,} bytes."
CLIENTS = 10_000  # whose last requests are remembered
SHORTEST_TOKEN = 8


def is_open(scope: Scope) -> bool:
    """Whether a request needs no token."""
    asks_for_text = scope["path"] == "/" and not ASKING.isdisjoint(Request(scope).query_params)
    return bool(OPEN.fullmatch(scope["path"])) and not asks_for_text


# ---------------------------------------------------------------------- what is said of a request


class Noted:
    """Gives each request an id, answers with security headers, and notes how it ended. While `leaving` is true, each
    connection is closed after its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, leaving: Callable[[], bool]) -> None:
        self._app, self._metrics, self._leaving = app, metrics, leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Request(scope).headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"] = request_id
        status, size, started = 0, 0, time.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                more = {**HEADERS, "x-request-id": request_id}
                if self._leaving():
                    more["connection"] = "close"
                message["headers"] = _with_headers(message.get("headers", ()), more)
            else:
                size += len(message.get("body", b""))
            await send(message)

        self._metrics.opened()
        try:
            await self._app(scope, receive, noting)
        except Exception:
            log.exception("%s: no answer", request_id)
            if status:
                raise  # the connection is closed: the client sees that its answer is not whole
            await Problem(500, FAILED).answer()(scope, receive, noting)
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "other")
            status = status or 499  # the client went away before there was an answer
            self._metrics.answered(route, status)
            quiet = UNLIMITED.fullmatch(scope["path"])
            log.log(
                logging.DEBUG if quiet else logging.INFO,
                "%s",
                Line(
                    client=(scope.get("client") or ["-"])[0],
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    seconds=round(time.monotonic() - started, 4),
                    bytes=size,
                    request_id=request_id,
                ),
            )


def _with_headers(headers: Any, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    found = list(headers)
    there = {name.lower() for name, _ in found}
    return found + [(k.encode(), v.encode()) for k, v in more.items() if k.encode() not in there]


class Line:
    """A request's log line: words for a person, fields for JsonLines. Queries and bodies hold people's texts, so that
    they are not in it."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def __str__(self) -> str:
        f = self.fields
        path = f["path"].encode("unicode_escape").decode()[:200]
        return (
            f"{f['client']} {f['method']} {path} {f['status']} {f['seconds']:.3f} s {f['bytes']} bytes "
            f"{f['request_id']}"
        )


class JsonLines(logging.Formatter):
    """A log line as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = record.args[0] if isinstance(record.args, tuple) and record.args else None
        said = (
            {"event": "request", **line.fields}
            if isinstance(line, Line)
            else {"message": record.getMessage()}
        )
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = {"time": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        return json.dumps({**head, **said})


# ---------------------------------------------------------------------- who may ask, and how often


class Access:
    """Refuses requests without a token where there are tokens, and clients that ask too often."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str], rate_limit: int) -> None:
        self._app = app
        self._tokens = [hashlib.sha256(token.encode()).digest() for token in tokens]
        self._rates = Rates(rate_limit) if rate_limit else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except Problem as problem:
                await problem.answer()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        head = len(scope["raw_path"]) + len(scope["query_string"]) + sum(map(_size, scope["headers"]))
        if head > HEAD_BYTES:  # the parser lets a larger one pass that comes at once
            raise Problem(431, LARGE_HEAD, headers={"connection": "close"})
        if self._rates is not None and not UNLIMITED.fullmatch(scope["path"]):
            self._rates.check(_client(scope))
        if self._tokens and not is_open(scope):
            self._check_token(Request(scope).headers.get("authorization", ""))

    def _check_token(self, header: str) -> None:
        scheme, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        known = [hmac.compare_digest(given, token) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(known):
            what = "is not known here" if header else "is missing"
            raise Problem(
                401,
                f"the bearer token {what}; send the header Authorization: Bearer ….",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1])


class Rates:
    """A bucket of `limit` requests for each client, filled in a minute. The clients seen longest ago are forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, when

    def check(self, client: str, now: float | None = None) -> None:
        """Take one. Raises Problem where there is none."""
        now = time.monotonic() if now is None else now
        left, when = self._buckets.pop(client, (float(self._limit), now))
        left = min(self._limit, left + (now - when) * self._limit / 60)
        self._buckets[client] = (max(0.0, left - 1) if left >= 1 else left, now)
        while len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise Problem(
                429,
                f"more than {self._limit} requests a minute; slow down.",
                code="rate_limit_exceeded",
                retry_after=math.ceil((1 - left) * 60 / self._limit),
            )


def _client(scope: Scope) -> str:
    """Who asks: an address, or an IPv6 network of one household."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def read_tokens(environment: str, file: str) -> list[str]:
    """The tokens of a variable and of a file, one a line. Raises SettingsError; no token stands in its message."""
    tokens = [environment] if environment else []
    if file:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise SettingsError(f"cannot read the token file {file}: {reason}.") from error
        found = [line.strip() for line in lines if line.strip()]
        if not found:
            raise SettingsError(f"the token file {file} holds no token.")
        tokens += found
    if any(len(token) < SHORTEST_TOKEN for token in tokens):
        raise SettingsError(f"a bearer token is shorter than {SHORTEST_TOKEN} characters; take a longer one.")
    return tokens
