"""HTTP for addresses that a stranger wrote: links, redirects, feeds. By the standard library alone.

`Guard` decides which addresses may be connected to, on the address itself and at the moment of connecting: so neither
a redirect nor a name that resolves differently the second time leads into a private network. `Fetcher` gets one
answer, bounded in size (also unpacked), time and redirects, with pauses, retries and Retry-After; with a cache folder
it asks again only for what changed (ETag, Last-Modified). `Robots` is robots.txt. For the clients built on requests
there is guarded_session.py; Scrapy is guarded in crawl_child.py.

Connections are direct: a proxy would resolve names itself, and nothing could be checked. Knows nothing of texts.
"""

from __future__ import annotations

import contextlib
import email.message
import email.utils
import hashlib
import http.client
import ipaddress
import json
import random
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from textmill import __version__
from textmill.files import write_bytes
from textmill.sources import CHUNK, BadItem, Unreachable, too_large

AGENT = "textmill"  # the one name, in the User-Agent and towards robots.txt
FORBIDDEN = "forbidden by the robots.txt of its host"
REDIRECTS = (301, 302, 303, 307, 308)
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others later
AZURE = ipaddress.ip_address("168.63.129.16")  # a metadata service at an address that looks public
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Not public (RFC 6890 and its registries), whatever this Python's own tables say: they differ between versions.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
        *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("64:ff9b:1::/48", "100::/64", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fec0::/10"),
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def user_agent(contact: str = "") -> str:
    """`textmill/1.0`, with who answers for it where that is given."""
    return f"{AGENT}/{__version__}" + (f" (+{contact})" if contact else "")


class Refused(BadItem):
    """The address may not be connected to."""


class Guard:
    """Which hosts may be connected to: those with public addresses, and the `allowed` names.

    An allowed name, as it stands in the URL, may have private and loopback addresses; a literal address may be
    allowed too, and does not allow the names that resolve to it. Link-local and metadata addresses are reached only
    as literal addresses.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self.allowed = frozenset(name.strip("[]").lower() for name in allowed)

    def refusal(self, host: str, address: str) -> str:
        """Why `address`, to which `host` resolved, may not be connected to; "" when it may."""
        found = ipaddress.ip_address(address.partition("%")[0])
        what = kind_of_address(found)
        name = host.strip("[]").lower()
        if not what or (name in self.allowed and (what in ("private", "loopback") or name == str(found))):
            return ""
        return f"refused: {host} is at {found}, a {what} address; allow it by name if that is meant"

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        """A TCP connection to the first address of `host` that may be reached and answers.

        Raises Refused, or the OSError of the last address tried.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a label that is too long
            raise BadItem(f"there is no host {host}") from None
        refusals = [self.refusal(host, str(place[0])) for *_, place in found]
        if not found or all(refusals):
            raise Refused(refusals[0] if refusals else f"{host} has no address")
        failed: OSError | None = None
        for (family, kind, protocol, _, place), refusal in zip(found, refusals, strict=True):
            if refusal:
                continue
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(timeout)
                made.connect(place)
                return made
            except OSError as error:
                made.close()
                failed = error
        assert failed is not None
        raise failed


def kind_of_address(address: Address) -> str:
    """What keeps an address from being public; "" for a public one. An IPv4 address inside an IPv6 one counts."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in NAT64:
            inner = ipaddress.ip_address(int(address) & 0xFFFFFFFF)  # type: ignore[assignment]
        if inner:
            return kind_of_address(inner)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local or address == AZURE:
        return "link-local or metadata"
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return "special"
    public = address.is_global and not any(address in network for network in NOT_PUBLIC)
    return "" if public else "private"


@dataclass(frozen=True)
class Limits:
    """How much, how long, how often. Seconds and bytes."""

    timeout: float = 30.0  # one answer from connecting to its last byte
    max_bytes: int = 10 << 20  # one body, unpacked
    max_redirects: int = 5
    attempts: int = 4
    wait: float = 2.0  # before the second attempt; it doubles each time
    max_wait: float = 300.0  # a Retry-After beyond it is not waited for
    delay: float = 1.0  # between two requests to one host


def wait_before(attempt: int, limits: Limits, retry_after: str | None) -> float:
    """Seconds to wait after the failed `attempt` (1, 2…): doubling, up to half longer so that not all come at once,
    and never less than the server's Retry-After (seconds or a date). Beyond `max_wait` it is infinite."""
    wait = limits.wait * 2 ** (attempt - 1) * (1 + random.random() / 2)
    asked = _seconds(retry_after or "")
    return max(min(wait, limits.max_wait), asked if asked <= limits.max_wait else float("inf"))


def asked_wait(headers: Mapping[str, str]) -> str | None:
    """How long an answer asks to wait: Retry-After, or the time until its rate limit is reset, which X and Bluesky
    give in seconds since 1970 and Mastodon as a date."""
    reset = (
        headers.get("x-rate-limit-reset")
        or headers.get("ratelimit-reset")
        or headers.get("X-RateLimit-Reset")
    )
    if headers.get("Retry-After") or not reset:
        return headers.get("Retry-After")
    with contextlib.suppress(ValueError):
        at = float(reset) if re.fullmatch(r"\d{9,11}", reset) else datetime.fromisoformat(reset).timestamp()
        return str(max(1, int(at - time.time()) + 1))
    return None


def _seconds(retry_after: str) -> float:
    if re.fullmatch(r"\s*\d{1,9}\s*", retry_after):
        return float(retry_after)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


@dataclass(frozen=True)
class Answer:
    """A whole answer with status 200: `url` is where it came from in the end; `stamp` changes with the body."""

    url: str
    headers: email.message.Message
    body: bytes

    @property
    def stamp(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:32]


class Status(BadItem):
    """The server answered with another status than 200."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"the server answered {status} {reason}".rstrip())
        self.status = status


class Fetcher:
    """Gets one body after the other, politely. Not for two threads.

    cache: a folder of earlier answers; new ones are added where it `remembers`.
    tick: called with a short text before a long wait.
    """

    def __init__(
        self,
        guard: Guard,
        limits: Limits = Limits(),
        *,
        agent: str = "",
        cache: Path | None = None,
        remembers: bool = True,
        tick: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.guard, self.limits, self.agent = guard, limits, agent or user_agent()
        self.cache, self.remembers, self.tick = cache, remembers, tick
        self.delays: dict[str, float] = {}  # host -> seconds, where it asks for more than limits.delay
        self._last: dict[str, float] = {}  # host -> when it was last asked

    def get(self, url: str, accept: str = "*/*", check: Callable[[str], None] = lambda url: None) -> Answer:
        """The body at `url`, through redirects; `check` raises BadItem for an address that is not to be asked.

        Raises BadItem: Refused, Status, Unreachable or what else is wrong.
        """
        known = self._known(url)
        headers = {"User-Agent": self.agent, "Accept": accept, "Accept-Encoding": "gzip, deflate"}
        at, failed = clean_url(url), ""
        for _ in range(self.limits.max_redirects + 1):
            check(at)
            asked = headers | (known.conditions if known and known.url == at else {})
            status, answer = self._try(at, asked)
            if status == 304 and known:
                return known.answer
            if status not in REDIRECTS:
                self._remember(url, answer)
                return answer
            at, failed = self._redirected(at, answer), f"more than {self.limits.max_redirects} redirects"
        raise BadItem(failed)

    def _redirected(self, at: str, answer: Answer) -> str:
        to = clean_url(urljoin(at, answer.headers.get("Location", "")))
        if urlsplit(to).scheme not in ("http", "https") or not urlsplit(to).hostname:
            raise BadItem("a redirect to nowhere")
        return to

    def _try(self, url: str, headers: dict[str, str]) -> tuple[int, Answer]:
        """One request until it is answered by more than "not now". Raises BadItem."""
        for attempt in range(1, self.limits.attempts + 1):
            retry_after = None
            try:
                self._pause(url)
                status, reason, answer = self._ask(url, headers)
                if status == 200 or status in REDIRECTS or (status == 304 and "If-None-Match" in headers):
                    return status, answer
                if status == 304 and "If-Modified-Since" in headers:
                    return status, answer
                if status not in AGAIN:
                    raise Status(status, reason)
                failed, retry_after = Status(status, reason).reason, answer.headers.get("Retry-After")
            except (OSError, http.client.HTTPException, zlib.error) as error:
                failed = why(error)
                if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
                    raise Unreachable(f"there is no host {host_of(url)}") from error
            wait = wait_before(attempt, self.limits, retry_after)
            if wait == float("inf"):
                raise Unreachable(f"{failed} and wants {retry_after} as the time to wait")
            if attempt < self.limits.attempts:
                self.tick(f"{host_of(url)}: {failed}; waiting {wait:,.0f} s")
                time.sleep(wait)
        raise Unreachable(f"{failed} ({self.limits.attempts} times)")

    def _pause(self, url: str) -> None:
        host = host_of(url)
        delay = max(self.limits.delay, self.delays.get(host, 0.0))
        time.sleep(max(0.0, self._last.get(host, -delay) + delay - time.monotonic()))
        self._last[host] = time.monotonic()

    def _ask(self, url: str, headers: dict[str, str]) -> tuple[int, str, Answer]:
        parts = urlsplit(url)
        connection = _connection(
            self.guard, parts.scheme, parts.hostname or "", parts.port, self.limits.timeout
        )
        try:
            with _deadline(connection, self.limits.timeout) as late:
                try:
                    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
                    connection.request("GET", path, headers=headers)
                    response = connection.getresponse()
                    body = b""
                    if response.status == 200:
                        body = b"".join(bounded(response, response.headers, self.limits.max_bytes))
                except (OSError, http.client.HTTPException, ValueError) as error:
                    if late.is_set():
                        raise TimeoutError from error
                    raise
            if late.is_set():
                raise TimeoutError
            return response.status, response.reason, Answer(url, response.headers, body)
        finally:
            connection.close()

    def _known(self, url: str) -> _Known | None:
        if self.cache is None:
            return None
        with contextlib.suppress(OSError, ValueError, KeyError):
            head, _, body = self._place(url).read_bytes().partition(b"\n")
            value = json.loads(head)
            headers = email.message.Message()
            for name, text in value["headers"]:
                headers[name] = text
            answer = Answer(value["url"], headers, body)
            if answer.stamp == value["stamp"]:
                return _Known(value["url"], answer)
        return None

    def _remember(self, url: str, answer: Answer) -> None:
        headers = [[name, text] for name, text in answer.headers.items() if name.lower() in _KEPT]
        if (
            self.cache is not None
            and self.remembers
            and any(name.lower() in _VALIDATORS for name, _ in headers)
        ):
            head = {"url": answer.url, "headers": headers, "stamp": answer.stamp}
            write_bytes(self._place(url), json.dumps(head).encode() + b"\n" + answer.body)

    def _place(self, url: str) -> Path:
        assert self.cache is not None
        return self.cache / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]


_VALIDATORS = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
_KEPT = {*_VALIDATORS, "content-type", "content-location"}


@dataclass(frozen=True)
class _Known:
    """An answer in the cache."""

    url: str
    answer: Answer

    @property
    def conditions(self) -> dict[str, str]:
        headers = self.answer.headers
        return {asked: headers[name] for name, asked in _VALIDATORS.items() if headers[name]}


class Robots:
    """What the hosts' robots.txt say to us, each fetched once; `check` raises BadItem for an address that a redirect
    must not lead to. Needs the package protego, which Scrapy brings."""

    def __init__(self, fetcher: Fetcher, check: Callable[[str], None] = lambda url: None) -> None:
        self.fetcher, self._check = fetcher, check
        self.texts: dict[str, str] = {}  # host -> its robots.txt; "" where it has none
        self._rules: dict[str, Any] = {}

    def read(self, url: str) -> Any:
        """The rules of this address's host, as protego reads them. Raises BadItem when the host cannot be asked:
        as long as it cannot say what it allows, nothing is allowed (RFC 9309)."""
        from protego import Protego

        host = host_of(url)
        if host not in self._rules:
            place = urlunsplit((urlsplit(url).scheme, urlsplit(url).netloc, "/robots.txt", "", ""))
            try:
                answer = self.fetcher.get(place, check=self._check)
                text = answer.body[: 500 << 10].decode("utf-8-sig", "replace")
            except Status:
                text = ""  # 404 and its like: it has none
            self.texts[host], self._rules[host] = text, Protego.parse(text)
            self.fetcher.delays[host] = robots_delay(self._rules[host])
        return self._rules[host]

    def check(self, url: str) -> None:
        """Raise BadItem when the host's robots.txt forbids this address."""
        if not self.read(url).can_fetch(url, AGENT):
            raise BadItem(FORBIDDEN)


def robots_delay(rules: Any) -> float:
    """Seconds between two requests that a robots.txt asks for: Crawl-delay, or Request-rate."""
    rate = rules.request_rate(AGENT)
    return max(float(rules.crawl_delay(AGENT) or 0.0), rate.seconds / rate.requests if rate else 0.0)


def clean_url(url: str) -> str:
    """An address as it goes over the wire: no fragment, spaces and letters beyond ASCII quoted, the host in IDNA.

    Raises BadItem for what is no http address, and for one with a user or password.
    """
    try:
        parts = urlsplit(re.sub(r"[\t\r\n]", "", url.strip()))
        host, port = parts.hostname or "", parts.port
        host = host if host.isascii() else host.encode("idna").decode()
    except (ValueError, UnicodeError):
        raise BadItem("not a web address") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise BadItem("not a web address")
    if parts.username is not None or parts.password is not None:
        raise BadItem("an address with a user or password")
    host = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}[parts.scheme.lower()]
    place = f"{host}:{port}" if port and port != standard else host
    safe = "%/:=&?~+!$,;'@()*[]"
    path, query = quote(parts.path, safe=safe, errors="surrogatepass"), quote(parts.query, safe=safe)
    return urlunsplit((parts.scheme.lower(), place, path, query, ""))


def host_of(url: str) -> str:
    """The host of an address, with its port where that is not the usual one."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def bounded(stream: Any, headers: email.message.Message, max_bytes: int) -> Iterator[bytes]:
    """The body of an answer, unpacked, in pieces. Raises BadItem beyond `max_bytes`, also of packed bytes, and
    http.client's or zlib's errors for a body that is cut or damaged."""
    packing = (headers.get("Content-Encoding") or "").strip().lower()
    if packing not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise BadItem(f"packed by {packing}, which was not asked for")
    length = headers.get("Content-Length")
    if length and length.isdigit() and int(length) > max_bytes:
        raise too_large(max_bytes)
    unpacker = (
        None if packing in ("", "identity") else zlib.decompressobj(47)
    )  # 47: gzip or zlib, by its header
    read = unpacked = 0
    while chunk := stream.read(min(CHUNK, max_bytes + 1)):
        read += len(chunk)
        if unpacker is None:
            if read > max_bytes:
                raise too_large(max_bytes)
            yield chunk
            continue
        while chunk:
            piece = unpacker.decompress(chunk, CHUNK)
            chunk, unpacked = unpacker.unconsumed_tail, unpacked + len(piece)
            if max(read, unpacked) > max_bytes:
                raise too_large(max_bytes)
            yield piece
    if unpacker is not None and not unpacker.eof and read:
        raise http.client.IncompleteRead(b"")
    if (
        length and length.isdigit() and read < int(length)
    ):  # http.client says nothing when sized reads end early
        raise http.client.IncompleteRead(b"", int(length) - read)


def why(error: Exception) -> str:
    """A network error in a few words."""
    if isinstance(error, TimeoutError):
        return "no whole answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was cut"
    if isinstance(error, ssl.SSLError):
        return f"no safe connection ({getattr(error, 'verify_message', '') or error.reason or 'TLS'})"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


class _Plain(http.client.HTTPConnection):
    guard: Guard

    def connect(self) -> None:
        self.sock = self.guard.connect(self.host, self.port, self.timeout or 30.0)


class _Secure(http.client.HTTPSConnection):
    guard: Guard
    context: ssl.SSLContext

    def connect(self) -> None:
        plain = self.guard.connect(self.host, self.port, self.timeout or 30.0)
        self.sock = self.context.wrap_socket(plain, server_hostname=self.host)


def _connection(
    guard: Guard, scheme: str, host: str, port: int | None, timeout: float
) -> http.client.HTTPConnection:
    made: _Plain | _Secure
    if scheme == "https":
        context = ssl.create_default_context()
        made = _Secure(host, port, timeout=timeout, context=context)
        made.context = context
    else:
        made = _Plain(host, port, timeout=timeout)
    made.guard = guard
    return made


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[threading.Event]:
    """Cut the connection when the block takes longer, however busily the server drips; the event says so."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
