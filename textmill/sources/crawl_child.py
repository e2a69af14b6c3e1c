"""The process that crawls, by Scrapy: orders come as a line of JSON on stdin, progress goes to stdout, a line each.

Twisted's reactor runs once in a process, and a crawl's memory is given back with it. When stdin ends, because the one
who gave the orders ended, so does this process, at once: what is fetched is in the journal.

The journal, a JSON object a line:
    {"digest"}                                                            first: what was ordered
    {"url", "depth", "links", "redirects", "document", "problem", "passing"}    an address that was asked for
    {"stopped", "beyond"}                     last: "" when nothing is left to ask for; addresses beyond max_pages
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import scrapy
from protego import Protego
from scrapy import exceptions, signals
from scrapy.crawler import CrawlerProcess
from scrapy.extensions.httpcache import RFC2616Policy
from scrapy.http import Headers
from scrapy.linkextractors import IGNORED_EXTENSIONS
from scrapy.responsetypes import responsetypes
from scrapy.utils.url import url_has_any_extension
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from zope.interface import implementer, provider

from textmill.files import write_bytes
from textmill.sources import BadItem, too_large
from textmill.sources.crawl import Patterns
from textmill.sources.guarded_http import (
    AGAIN,
    AGENT,
    FORBIDDEN,
    REDIRECTS,
    Guard,
    Limits,
    clean_url,
    host_of,
    wait_before,
)
from textmill.sources.page_text import chosen, decoded, page_of

PAGES = ("text/html", "application/xhtml+xml", "text/plain")
NOT_PAGES = {f".{suffix}" for suffix in IGNORED_EXTENSIONS}


class Journal:
    """What was asked for and came of it. One writer; a line that a kill cut is taken back."""

    def __init__(self, path: Path, digest: str) -> None:
        self.records: list[dict[str, Any]] = []
        self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115
        fcntl.flock(self._file, fcntl.LOCK_EX)  # an orphan of a killed ingest is about to end
        self._recall(digest)

    def _recall(self, digest: str) -> None:
        self._file.seek(0)
        whole, same = 0, False
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            record = json.loads(line)
            same = same or record.get("digest") == digest
            if not same:
                break
            whole += len(line)
            if "url" in record:
                self.records.append({k: record[k] for k in ("url", "depth", "links", "redirects", "passing")})
        self._file.truncate(whole)
        if not whole:
            self.add({"digest": digest})

    def add(self, record: dict[str, Any]) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record, ensure_ascii=True, sort_keys=True).encode() + b"\n")
        self._file.flush()


class Frontier:
    """Which addresses were met, and which of them may still be asked for: breadth first, each once."""

    def __init__(self, orders: dict[str, Any], journal: Journal) -> None:
        self._patterns = Patterns(
            frozenset(orders["hosts"]),
            *(tuple(orders["patterns"][name]) for name in ("follow", "keep", "skip")),
        )
        self._rules = {host: Protego.parse(text) for host, text in orders["robots"].items()}
        self._depth, self._most = orders["depth"], orders["max_pages"]
        self._met: set[str] = set()
        self.asked = self.beyond = 0
        # An address that did not answer is asked again by the run that goes on.
        done = {record["url"]: record for record in journal.records if not record["passing"]}
        self.waiting: list[tuple[str, int, int]] = []  # address, depth, redirects
        found = [(url, 0, 0) for url in orders["start"]]
        for url, depth, redirects in found:  # it grows while it is read
            if not self.take(url, depth):
                continue
            if url in done:
                known = done[url]
                redirect = known["redirects"] + 1 if known["redirects"] >= 0 else 0
                found += [(link, depth + (not redirect), redirect) for link in known["links"]]
            else:
                self.waiting.append((url, depth, redirects))

    def take(self, url: str, depth: int) -> bool:
        """Is this address to be asked for now? Yes at most once. Depth 0 is a start, or where one redirects to."""
        if url in self._met:
            return False
        if depth and (depth > self._depth or not self._patterns.visits(url)):
            return False
        self._met.add(url)
        if self.asked >= self._most:
            self.beyond += 1
            return False
        self.asked += 1
        return True

    def forbidden(self, url: str) -> bool:
        return not self._rules[host_of(url)].can_fetch(url, AGENT)

    def visits(self, url: str) -> bool:
        return self._patterns.visits(url)

    def keeps(self, url: str) -> bool:
        return self._patterns.keeps(url)

    def allowed(self, url: str) -> bool:
        return host_of(url) in self._rules


class PagesSpider(scrapy.Spider):
    """Asks for what the frontier gives and writes down what comes."""

    name = AGENT

    def __init__(self, orders: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.orders = orders
        self.limits = Limits(**orders["limits"])
        self.journal = Journal(Path(orders["journal"]), orders["digest"])
        self.frontier = Frontier(orders, self.journal)
        self.done = len(self.journal.records)

    async def start(self) -> AsyncIterator[Any]:
        for url, depth, redirects in self.frontier.waiting:
            if request := self._request(url, depth, redirects):
                yield request

    def _request(self, url: str, depth: int, redirects: int) -> scrapy.Request | None:
        if self.frontier.forbidden(url):
            self._write(url, depth, problem=FORBIDDEN if depth == 0 else "")
            return None
        return scrapy.Request(
            url,
            callback=self.parse,
            errback=self.failed,
            headers={"Accept": "text/html, application/xhtml+xml;q=0.9, text/plain;q=0.5"},
            priority=-depth,
            dont_filter=True,  # the frontier knows what was met
            meta={"handle_httpstatus_all": True, "at": (depth, redirects)},
        )

    def _write(self, url: str, depth: int, **found: Any) -> None:
        empty: dict[str, Any] = {
            "links": [],
            "document": None,
            "problem": "",
            "passing": False,
            "redirects": -1,
        }
        self.journal.add({"url": url, "depth": depth} | empty | found)
        self.done += 1
        print(
            f"{self.done:,} page{'s' * (self.done != 1)}, {self.frontier.asked - self.done:,} waiting: {url}",
            flush=True,
        )

    def parse(self, response: Any, **kwargs: Any) -> Any:
        request = response.request
        url, (depth, redirects) = request.url, request.meta["at"]
        links: list[str] = []
        redirect = 0
        if response.status in REDIRECTS:
            location = response.headers.get("Location", b"").decode("utf-8", "replace")
            problem, links, redirect = self._redirected(url, location, depth, redirects)
            self._write(url, depth, problem=problem, links=links, redirects=redirects)
        elif response.status != 200:
            what = f"the server answered {response.status}"
            self._write(url, depth, problem=what, passing=response.status in AGAIN)
        else:
            links = self._read(response, url, depth)
        for link in links:
            at = depth + (not redirect)
            if self.frontier.take(link, at) and (asked := self._request(link, at, redirect)):
                yield asked

    def _redirected(self, url: str, location: str, depth: int, redirects: int) -> tuple[str, list[str], int]:
        try:
            to = clean_url(urljoin(url, location)) if location else ""
        except BadItem:
            to = ""
        if not to:
            return "a redirect to nowhere", [], 0
        if not self.frontier.allowed(to):
            return f"redirected to {host_of(to)}, which is not among the allowed hosts", [], 0
        if depth and not self.frontier.visits(to):
            return f"redirected to {to}, which is not to be visited", [], 0
        if redirects >= self.limits.max_redirects:
            return f"more than {self.limits.max_redirects} redirects", [], 0
        return "", [to], redirects + 1

    def _read(self, response: Any, url: str, depth: int) -> list[str]:
        """Write a page down; its links."""
        said = response.headers.get("Content-Type", b"").decode("latin-1")
        kind = said.partition(";")[0].strip().lower() or "text/html"
        if kind not in PAGES:
            self._write(url, depth, problem=f"of unknown kind ({kind})" if self.frontier.keeps(url) else "")
            return []
        text = decoded(response.body, said)
        if kind == "text/plain":
            document = {"text": text, "meta": {"url": url}} if self.frontier.keeps(url) else None
            self._write(url, depth, document=document)
            return []
        links, wishes = _links(text, url)
        if "nofollow" in wishes:
            links = []
        document, problem = None, ""
        if self.frontier.keeps(url) and "noindex" not in wishes:
            patterns = self.orders["patterns"]
            try:
                page = page_of(text, url, patterns["select"], patterns["remove"])
                document = {"text": page.text, "meta": page.meta() | {"url": url}}
            except BadItem as error:
                problem = error.reason
        self._write(url, depth, links=links, document=document, problem=problem)
        return links

    def failed(self, failure: Any) -> None:
        request, error = failure.request, failure.value
        depth, _ = request.meta["at"]
        problem, passing = self._reason(request.url, error)
        self._write(request.url, depth, problem=problem, passing=passing)

    def _reason(self, url: str, error: Exception) -> tuple[str, bool]:
        """(what is wrong, whether it may pass)"""
        refused = GuardedResolver.refusals.get(_name_only(url))
        if isinstance(error, exceptions.CannotResolveHostError):
            return (refused, False) if refused else (f"there is no host {host_of(url)}", True)
        if isinstance(error, exceptions.DownloadCancelledError) or "MAXSIZE" in str(error):
            return too_large(self.limits.max_bytes).reason, False
        if isinstance(error, zlib.error | EOFError | OSError) and not isinstance(
            error, ConnectionError | TimeoutError
        ):
            return f"damaged: {error}", False
        if isinstance(error, exceptions.DownloadTimeoutError):
            return f"no whole answer in {self.limits.timeout:g} s", True
        if isinstance(error, exceptions.DownloadConnectionRefusedError):
            return "the connection was refused", True
        return "the connection was cut", True


def _links(html: str, url: str) -> tuple[list[str], str]:
    """(the addresses a page links to, in order; what it wishes of robots)."""
    found: dict[str, None] = {}
    try:
        wishes = " ".join(each.get("content") or "" for each in chosen(html, ["meta[name=robots]"], ()))
        base = next((each.get("href") for each in chosen(html, ["base[href]"], ())), url)
        for element in chosen(html, ["//a[@href] | //area[@href]"], ()):
            with contextlib.suppress(BadItem, ValueError):
                to = clean_url(urljoin(urljoin(url, base), element.get("href")))
                if not url_has_any_extension(to, NOT_PAGES):
                    found[to] = None
    except BadItem:
        return [], ""
    return list(found), wishes.lower()


class Patience:
    """Downloader middleware: what may pass is asked again, later and later, and not before Retry-After.

    The request keeps its place among those in flight while it waits, so that its host gets no other one in between.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    @classmethod
    def from_crawler(cls, crawler: Any) -> Patience:
        return cls(crawler.spider.limits)

    async def process_response(self, request: Any, response: Any, spider: Any = None) -> Any:
        if response.status not in AGAIN:
            return response
        retry_after = (response.headers.get("Retry-After") or b"").decode("latin-1")
        return await self._later(request, f"{response.status}", retry_after) or response

    async def process_exception(self, request: Any, exception: Exception, spider: Any = None) -> Any:
        final = (exceptions.IgnoreRequest, exceptions.DownloadCancelledError, zlib.error, EOFError)
        refused = _name_only(request.url) in GuardedResolver.refusals
        if isinstance(exception, final) or refused:
            return None
        return await self._later(request, type(exception).__name__, "")

    async def _later(self, request: Any, what: str, retry_after: str) -> Any:
        attempt = request.meta.get("attempt", 1)
        wait = wait_before(attempt, self.limits, retry_after)
        if attempt >= self.limits.attempts or wait == float("inf"):
            return None
        print(f"{host_of(request.url)}: {what}; waiting {wait:,.0f} s", flush=True)
        await asyncio.sleep(wait)
        return request.replace(
            meta=request.meta | {"attempt": attempt + 1}, priority=request.priority + 1_000_000
        )


@implementer(IHostnameResolver)
class GuardedResolver:
    """Lets the reactor see only addresses that may be connected to; every connection by Scrapy asks it first."""

    refusals: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, guard: Guard, reactor: Any) -> None:
        self.guard, self.reactor, self.inner = guard, reactor, reactor.nameResolver

    @classmethod
    def from_crawler(cls, crawler: Any, reactor: Any) -> GuardedResolver:
        return cls(Guard(crawler.settings.getlist("TEXTMILL_ALLOW")), reactor)

    def install_on_reactor(self) -> None:
        self.reactor.installNameResolver(self)

    def resolveHostName(self, receiver: Any, hostName: str, *args: Any, **kwargs: Any) -> Any:  # noqa: N802, N803
        return self.inner.resolveHostName(self._checking(receiver, hostName), hostName, *args, **kwargs)

    def _checking(self, receiver: Any, name: str) -> Any:
        guard, refusals = self.guard, self.refusals

        @provider(IResolutionReceiver)
        class Checking:
            resolutionBegan = staticmethod(receiver.resolutionBegan)  # noqa: N815
            resolutionComplete = staticmethod(receiver.resolutionComplete)  # noqa: N815

            @staticmethod
            def addressResolved(address: Any) -> None:  # noqa: N802
                if refusal := guard.refusal(name, address.host):
                    refusals[name.lower()] = refusal
                else:
                    receiver.addressResolved(address)

        return Checking


def _name_only(url: str) -> str:
    return host_of(url).rpartition(":")[0].strip("[]") if ":" in host_of(url) else host_of(url)


class AskAgain(RFC2616Policy):
    """HTTP cache: a page that the server can recognise is kept, and asked for again with what recognises it."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.seconds = settings.getfloat("TEXTMILL_CACHE_SECONDS")

    def should_cache_response(self, response: Any, request: Any) -> bool:
        recognised = b"ETag" in response.headers or b"Last-Modified" in response.headers
        return response.status == 200 and (recognised or self.seconds > 0)

    def is_cached_response_fresh(self, cachedresponse: Any, request: Any) -> bool:
        fetched = float(cachedresponse.headers.get("X-Textmill-Fetched", b"0"))
        if time.time() - fetched < self.seconds:
            return True
        self._set_conditional_validators(request, cachedresponse)
        return False

    def is_cached_response_valid(self, cachedresponse: Any, response: Any, request: Any) -> bool:
        return response.status == 304


class Storage:
    """Pages as they came, a file each: a line of JSON, then the body, compressed. One that is damaged is not known.

    Scrapy's own storages unpickle, and a cache that came with a corpus from elsewhere is a stranger's; and six files a
    page take a cluster's launcher six times as long to move.
    """

    def __init__(self, settings: Any) -> None:
        self._folder = Path(settings["HTTPCACHE_DIR"])

    def open_spider(self, spider: Any) -> None:
        self._fingerprinter = spider.crawler.request_fingerprinter

    def close_spider(self, spider: Any) -> None:
        pass

    def store_response(self, spider: Any, request: Any, response: Any) -> None:
        headers = [
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, values in response.headers.items()
            for value in values
        ]
        said = {"url": response.url, "status": response.status, "fetched": time.time(), "headers": headers}
        write_bytes(self._path(request), json.dumps(said).encode() + b"\n" + zlib.compress(response.body))

    def retrieve_response(self, spider: Any, request: Any) -> Any:
        try:
            head, _, packed = self._path(request).read_bytes().partition(b"\n")
            said, body = json.loads(head), zlib.decompress(packed)
            headers = Headers()
            for name, value in said["headers"]:
                headers.appendlist(name, value.encode("latin-1"))
            headers["X-Textmill-Fetched"] = str(float(said["fetched"]))
            made = responsetypes.from_args(headers=headers, url=said["url"], body=body)
            return made(url=said["url"], status=int(said["status"]), headers=headers, body=body)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error):
            return None

    def _path(self, request: Any) -> Path:
        key = self._fingerprinter.fingerprint(request).hex()
        return self._folder / key[:2] / key


def settings_of(orders: dict[str, Any]) -> dict[str, Any]:
    """Scrapy's settings. Our classes stand there themselves: their names would mean another import of this file."""
    limits = Limits(**orders["limits"])
    number = max(1, orders["concurrency"] * len(orders["hosts"]))
    return {
        "USER_AGENT": orders["agent"],
        "ROBOTSTXT_OBEY": False,  # Frontier does, by what was fetched with its redirects before the first page
        "DOWNLOAD_DELAY": limits.delay,
        "DOWNLOAD_DELAY_JITTER": 0.0,  # never below what robots.txt asks for
        "AUTOTHROTTLE_ENABLED": True,
        "AUTOTHROTTLE_START_DELAY": limits.delay,
        "AUTOTHROTTLE_MAX_DELAY": max(60.0, limits.delay),
        "AUTOTHROTTLE_TARGET_CONCURRENCY": float(orders["concurrency"]),
        "CONCURRENT_REQUESTS": number,
        "CONCURRENT_REQUESTS_PER_DOMAIN": orders["concurrency"],
        "SCHEDULER_MEMORY_QUEUE": "scrapy.squeues.FifoMemoryQueue",
        "DOWNLOAD_TIMEOUT": limits.timeout,
        "DOWNLOAD_MAXSIZE": limits.max_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "DOWNLOAD_HANDLERS": {"file": None, "ftp": None, "s3": None, "data": None},
        "DOWNLOADER_MIDDLEWARES": {Patience: 550},
        "RETRY_ENABLED": False,
        "REDIRECT_ENABLED": False,  # a redirect is a link: checked, journalled and fetched once like any other
        "METAREFRESH_ENABLED": False,
        "COOKIES_ENABLED": False,
        "HTTPPROXY_ENABLED": False,  # a proxy would resolve names itself
        "TWISTED_DNS_RESOLVER": GuardedResolver,
        "HTTPCACHE_ENABLED": bool(orders["cache"]),
        "HTTPCACHE_DIR": orders["cache"],
        "HTTPCACHE_POLICY": AskAgain,
        "HTTPCACHE_STORAGE": Storage,
        "CLOSESPIDER_TIMEOUT": orders["max_seconds"],
        "TELNETCONSOLE_ENABLED": False,
        "LOG_LEVEL": "ERROR",
        "TEXTMILL_ALLOW": orders["allow"],
        "TEXTMILL_CACHE_SECONDS": orders["cache_seconds"],
    }


def _end_with_stdin() -> None:
    while os.read(0, 1024):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os._exit(0)


def main() -> None:
    orders = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    process = CrawlerProcess(settings_of(orders))
    crawler = process.create_crawler(PagesSpider)
    ended: dict[str, str] = {}

    def closed(spider: Any, reason: str) -> None:
        stopped = "" if reason == "finished" else reason
        spider.journal.add({"stopped": stopped, "beyond": spider.frontier.beyond})
        ended["reason"] = reason

    def failed(failure: Any, **kwargs: Any) -> None:
        ended["error"] = failure.getErrorMessage()

    crawler.signals.connect(closed, signal=signals.spider_closed)
    crawler.signals.connect(failed, signal=signals.spider_error)
    process.crawl(crawler, orders=orders)
    process.start(install_signal_handlers=False)
    if "error" in ended or "reason" not in ended:  # a page would be missing without a word
        sys.exit(f"{ended.get('error', 'the crawl did not end')}")


if __name__ == "__main__":
    main()
