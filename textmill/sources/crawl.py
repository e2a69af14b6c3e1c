"""Pages of web sites, found by their links: `crawl:site.yaml`, `crawl:https://example.org/plays/`.

    start: [https://example.org/plays/]
    follow: ["/plays/*"]               # `*` is anything; with a / in front it is for the path, else for the address
    keep: ["/plays/*/scene-*"]         # which pages become documents; empty: all that are followed
    skip: ["/plays/lost/*"]            # neither followed nor kept
    select: [article .scene]           # CSS or XPath of the text; without it trafilatura finds the main text

An address alone means that page and, to the default depth, all below its folder. The crawl is Scrapy's, in a process
of its own (crawl_child.py): it obeys robots.txt and its Crawl-delay, never leaves the hosts of `start` and `hosts`,
connects to no private address, and slows down with the server. What it fetched is in a journal: after a kill the same
command goes on, and fetches nothing twice. The next crawl asks the servers only for what changed (ETag,
Last-Modified). A page that does not answer now keeps its document of the last time. Needs scrapy and trafilatura.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from textmill.errors import InputError, MachineError, SettingsError
from textmill.settings import setting
from textmill.sources import BadItem, Item, Source, Unreachable, clean_name, without_secrets
from textmill.sources.described import PoliteSettings, check_address, read_description
from textmill.sources.guarded_http import Fetcher, Robots, clean_url, host_of
from textmill.sources.page_text import check_selectors
from textmill.sources.texts import DOCUMENTS, packed

log = logging.getLogger("textmill.ingest")

READER = 1  # raise it when the same page and settings give another text
JOURNAL = "journal.jsonl"
CACHE = "cache"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class CrawlSettings(PoliteSettings):
    """What a `crawl:` description may say."""

    start: list = setting([], "Addresses of the first pages.")
    hosts: list = setting(
        [], "More hosts to go to, beside those of `start`; a host's subdomains are other hosts."
    )
    follow: list = setting([], "Patterns of the pages to visit. Empty: every page of the hosts.")
    keep: list = setting([], "Patterns of the pages that become documents. Empty: all that are visited.")
    skip: list = setting([], "Patterns of pages never to visit.")
    depth: int = setting(5, "The most links between a start and a page.", minimum=0)
    max_pages: int = setting(1000, "The most addresses to ask for.", minimum=1)
    max_minutes: float = setting(
        0.0, "Stop after so long (0: no limit); the same command goes on from there.", minimum=0
    )
    concurrency: int = setting(1, "The most requests to one host at a time.", minimum=1, maximum=16)
    select: list = setting([], "CSS or XPath of a page's text. Empty: trafilatura finds it.")
    remove: list = setting([], "CSS or XPath of what to leave out of it.")
    cache_hours: float = setting(
        0.0, "Take a page from the cache of the last crawl while it is younger than this.", minimum=0
    )
    keep_cache: bool = setting(
        True, "Keep the pages in the corpus folder, to ask only for what changed next time."
    )

    LISTS: ClassVar[tuple[str, ...]] = ("start", "hosts", "follow", "keep", "skip", "select", "remove")
    TEXTS: ClassVar[tuple[str, ...]] = (*PoliteSettings.TEXTS, *LISTS)

    def check(self) -> None:
        super().check()
        if not self.start:
            raise SettingsError("no pages are named; give the first ones in 'start'.")
        for url in self.start:
            check_address("start", url)
        for host in self.hosts:
            check_address("hosts", f"http://{host}/")
            if "/" in host:
                raise SettingsError(f"setting 'hosts' holds {host!r}; give a host such as example.org.")
        check_selectors("select", self.select)
        check_selectors("remove", self.remove)


@dataclass(frozen=True)
class Patterns:
    """Which addresses to visit and which to keep."""

    hosts: frozenset[str]
    follow: tuple[str, ...]
    keep: tuple[str, ...]
    skip: tuple[str, ...]

    def visits(self, url: str) -> bool:
        if host_of(url) not in self.hosts or _any(self.skip, url):
            return False
        return not self.follow or _any(self.follow, url) or bool(self.keep and _any(self.keep, url))

    def keeps(self, url: str) -> bool:
        return (not self.keep or _any(self.keep, url)) and not _any(self.skip, url)


def _any(patterns: tuple[str, ...], url: str) -> bool:
    return any(_matches(pattern, url) for pattern in patterns)


def _matches(pattern: str, url: str) -> bool:
    """`/path*` is for the path and query, `https://…` for the whole address, another for host and path."""
    parts = urlsplit(url)
    path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    text = path if pattern.startswith("/") else url if "://" in pattern else parts.netloc + path
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL))


class CrawlSource(Source):
    """The pages that a crawl finds and keeps, one item each, named by their address without scheme."""

    lists_all = False

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        self.settings, self.label = read_description(CrawlSettings, address, url=_from_address)
        self.start = list(dict.fromkeys(clean_url(url) for url in self.settings.start))
        self.hosts = {
            host_of(url): f"{urlsplit(url).scheme}://{host_of(url)}/" for url in reversed(self.start)
        }
        for host in self.settings.hosts:
            url = clean_url(f"{urlsplit(self.start[0]).scheme}://{host}/")
            self.hosts.setdefault(host_of(url), url)
        self._whole = False
        self._stopped = ""
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def used(self) -> dict[str, Any]:
        return self.settings.changed() | {"start": [without_secrets(url) for url in self.start]}

    def stays(self, name: str) -> bool:
        """While a part of the sites does not answer, no page counts as gone."""
        return not self._whole and name.partition("/")[0] in self.hosts

    def items(self) -> list[Item]:
        robots, items = self._ask_robots()
        folder = self._folder()
        journal = folder / JOURNAL
        try:
            self._crawl(folder, robots)
            pages = self._pages(journal)
        finally:
            if not _holds_pages(journal):
                journal.unlink(missing_ok=True)
                for empty in (folder / CACHE, folder, folder.parent):
                    with contextlib.suppress(OSError):
                        empty.rmdir()
        self._whole = not self._stopped and not any(item.passing for item in (*items, *pages))
        if not any(not item.problem for item in pages):
            self._nothing([*items, *pages])
        return [*items, *pages]

    def preview(self) -> list[Item]:
        """The first pages, after asking for each host's robots.txt."""
        robots, items = self._ask_robots()
        delay = max([self.settings.delay, *robots.fetcher.delays.values()])
        hours = self.settings.max_pages * delay / 3600
        self.notes = [
            f"at most {self.settings.max_pages:,} pages of {', '.join(self.hosts)}, at most {self.settings.depth} "
            f"links deep, one each {delay:g} s or slower: {hours:,.1f} hours for all of them"
        ]
        for url in self.start:
            items.append(Item(_name_of(url), _never, url, problem=_refusal(robots, url), kind=DOCUMENTS))
        return items

    def finished(self) -> None:
        """The journal goes once its pages are in a corpus, unless the crawl was stopped by its time limit."""
        if self._temporary:
            self._temporary.cleanup()
        elif self.work and not self._stopped:
            (self.work / "crawl" / JOURNAL).unlink(missing_ok=True)
            if not self.settings.keep_cache:
                shutil.rmtree(self.work / "crawl", ignore_errors=True)

    def _folder(self) -> Path:
        if self.work is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="textmill-")
            return Path(self._temporary.name)
        return self.work / "crawl"

    def _ask_robots(self) -> tuple[Robots, list[Item]]:
        """robots.txt of every host. One that cannot be asked is left out, and said; the first host must answer."""
        limits = self.settings.limits(self.max_bytes)
        fetcher = Fetcher(
            self.settings.guard(), limits, agent=self.settings.agent(), tick=lambda note: self.tick(note)
        )
        robots, silent = Robots(fetcher, self._among_hosts), []
        for host, url in list(self.hosts.items()):
            self.tick(f"reading the robots.txt of {host}")
            try:
                robots.read(url)
            except BadItem as error:
                passing = isinstance(error, Unreachable)
                silent.append(Item(host, _never, host, problem=error.reason, passing=passing, kind=DOCUMENTS))
        if len(silent) == len(self.hosts):
            self._nothing(silent)
        return robots, silent

    def _among_hosts(self, url: str) -> None:
        if host_of(url) not in self.hosts:
            raise BadItem(f"redirected to {host_of(url)}, which is not among the allowed hosts")

    def _nothing(self, items: list[Item]) -> None:
        """No page could be had: whose fault is it?"""
        first = next((item for item in items if item.passing), items[0] if items else None)
        if first is None:
            raise InputError(
                f"{self.label}: no page was found that is to be kept; check 'follow' and 'keep'."
            )
        line = f"{self.label}: {first.name}: {first.problem}"
        raise (
            MachineError(f"{line}; the same command goes on later.")
            if first.passing
            else InputError(f"{line}.")
        )

    def _crawl(self, folder: Path, robots: Robots) -> None:
        """Run the crawl in its own process until it ends; its journal says what came of it."""
        folder.mkdir(parents=True, exist_ok=True)
        orders = self._orders(folder, robots)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        }
        command = [sys.executable, "-m", "textmill.sources.crawl_child"]
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours; the child ends when its stdin does
            )
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                child.stdin.write(json.dumps(orders).encode() + b"\n")
                child.stdin.flush()
                for line in child.stdout:
                    self.tick(line.decode("utf-8", "replace").strip())
            except BrokenPipeError:
                pass
            finally:
                with contextlib.suppress(OSError):
                    child.stdin.close()
                status = child.wait()
            if status:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip().splitlines()
                reason = said[-1] if said else f"exit code {status}"
                raise MachineError(
                    f"{self.label}: the crawler ended badly ({reason}); the same command goes on."
                )

    def _orders(self, folder: Path, robots: Robots) -> dict[str, Any]:
        settings = self.settings
        limits = settings.limits(self.max_bytes)
        delay = max([settings.delay, *robots.fetcher.delays.values()])
        patterns = {name: getattr(settings, name) for name in ("follow", "keep", "skip", "select", "remove")}
        shape = [self.start, sorted(self.hosts), patterns, settings.depth, settings.max_pages, READER]
        return {
            "journal": str(folder / JOURNAL),
            "cache": str(folder / CACHE) if settings.keep_cache and self.work else "",
            "digest": hashlib.sha256(json.dumps(shape).encode()).hexdigest(),
            "start": [url for url in self.start if host_of(url) in robots.texts],
            "hosts": sorted(robots.texts),
            "robots": robots.texts,
            "patterns": patterns,
            "depth": settings.depth,
            "max_pages": settings.max_pages,
            "max_seconds": settings.max_minutes * 60,
            "concurrency": settings.concurrency,
            "cache_seconds": settings.cache_hours * 3600,
            "limits": asdict(limits) | {"delay": delay},
            "agent": settings.agent(),
            "allow": settings.allow,
        }

    def _pages(self, journal: Path) -> list[Item]:
        """The items of a journal; the texts stay in it."""
        items: dict[str, Item] = {}
        beyond = 0
        for place, record in _records(journal):
            self._stopped = record.get("stopped", self._stopped)
            beyond = record.get("beyond", beyond)
            if "url" not in record or not (record["document"] or record["problem"]):
                continue
            name, source = _name_of(record["url"]), record["url"]
            if record["problem"]:
                problem, passing = record["problem"], record["passing"]
                items.setdefault(
                    name, Item(name, _never, source, problem=problem, passing=passing, kind=DOCUMENTS)
                )
                continue
            shape = json.dumps([record["document"], READER], sort_keys=True)
            stamp = hashlib.sha256(shape.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            opened = functools.partial(self._open, journal, place)
            items[name] = Item(name, opened, source, stamp=stamp, kind=DOCUMENTS)
        if self._stopped:
            log.warning("%s: stopped before its end; the same command goes on", self.label)
        if beyond:
            most = self.settings.max_pages
            log.warning("%s: %d pages more were met than max_pages (%d)", self.label, beyond, most)
        return list(items.values())

    def _open(self, journal: Path, place: int) -> IO[bytes]:  # a method: the source holds a temporary journal
        with open(journal, "rb") as file:
            file.seek(place)
            document = json.loads(file.readline())["document"]
        return io.BytesIO(packed(document["text"], document["meta"]))


def _refusal(robots: Robots, url: str) -> str:
    try:
        robots.check(url)
    except BadItem as error:
        return error.reason
    return ""


def _records(journal: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(offset, record) of each whole line of a journal."""
    with contextlib.suppress(FileNotFoundError), open(journal, "rb") as file:
        place = 0
        for line in file:
            with contextlib.suppress(ValueError):
                yield place, json.loads(line)
            place += len(line)


def _holds_pages(journal: Path) -> bool:
    return any(record.get("document") for _, record in _records(journal))


def _name_of(url: str) -> str:
    return clean_name(url.partition("://")[2])


def _from_address(url: str) -> dict[str, Any]:
    """One page, and what lies below its folder."""
    path = urlsplit(clean_url(url)).path or "/"
    folder = path if path.endswith("/") else posixpath.dirname(path).rstrip("/") + "/"
    return {"start": [url], "follow": [f"{folder}*"]}


def _never() -> IO[bytes]:
    raise AssertionError("a page with a problem is not opened")
