"""RSS and Atom feeds: `feeds:https://host/feed.xml`, `feeds:list.txt` (an address a line), `feeds:news.yaml`.

    feeds: [https://example.org/feed.xml, https://example.net/atom]
    article: true                  # the page behind each entry, not the entry's own text
    select: [article .body]        # CSS or XPath of the article's text; without it trafilatura finds the text

An entry is a document: its content, or else its summary, or on request the article behind its link, which is fetched
with the guards, the pauses and the robots.txt of a crawl. A feed is asked for by ETag and Last-Modified, and an
article only when its entry is new or changed. Feeds forget: an entry that a feed no longer lists stays in the corpus.
Needs feedparser and lxml, for articles also trafilatura and protego.
"""

from __future__ import annotations

import calendar
import functools
import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import urljoin

from textmill.errors import InputError, MachineError, SettingsError
from textmill.settings import setting
from textmill.sources import BadItem, Item, Source, Unreachable, clean_name, without_secrets
from textmill.sources.described import PoliteSettings, check_address, read_description
from textmill.sources.guarded_http import Fetcher, Robots, clean_url, host_of
from textmill.sources.page_text import blocks, check_selectors, chosen, decoded, joined, page_of
from textmill.sources.texts import DOCUMENTS, packed

READER = 1  # raise it when the same entry and settings give another text
FEED = "application/atom+xml, application/rss+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.1"
HTML = "text/html, application/xhtml+xml;q=0.9, text/plain;q=0.5"


@dataclass(frozen=True)
class FeedsSettings(PoliteSettings):
    """What a `feeds:` description may say."""

    feeds: list = setting([], "Addresses of RSS or Atom feeds.")
    article: bool = setting(
        False, "Fetch the article behind each entry's link; otherwise the entry's own text."
    )
    select: list = setting([], "CSS or XPath of an article's text. Empty: trafilatura finds it.")
    remove: list = setting([], "CSS or XPath of what to leave out of it.")

    TEXTS: ClassVar[tuple[str, ...]] = (*PoliteSettings.TEXTS, "feeds", "select", "remove")

    def check(self) -> None:
        super().check()
        if not self.feeds:
            raise SettingsError("no feeds are named; give their addresses in 'feeds'.")
        for url in self.feeds:
            check_address("feeds", url)
        check_selectors("select", self.select)
        check_selectors("remove", self.remove)


class FeedsSource(Source):
    """The entries of one or more feeds, one item each, named <feed>/<the entry's own id>."""

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        self.settings, self.label = read_description(
            FeedsSettings, address, url=lambda url: {"feeds": [url]}, lines="feeds"
        )
        self._names = {feed: _name_of(feed) for feed in self.settings.feeds}

    def used(self) -> dict[str, Any]:
        return self.settings.changed() | {"feeds": [without_secrets(url) for url in self.settings.feeds]}

    def stays(self, name: str) -> bool:
        """An old entry of a feed that is still read."""
        return any(name.startswith(f"{feed}/") for feed in self._names.values())

    def items(self) -> list[Item]:
        return self._list(remembers=True)

    def preview(self) -> list[Item]:
        return self._list(remembers=False)

    def _list(self, remembers: bool) -> list[Item]:
        self._fetcher = Fetcher(
            self.settings.guard(),
            self.settings.limits(self.max_bytes),
            agent=self.settings.agent(),
            cache=self.work and self.work / "feeds",
            remembers=remembers,
            tick=lambda note: self.tick(note),
        )
        self._robots = Robots(self._fetcher)
        items: dict[str, Item] = {}
        broken: list[Item] = []
        for url, name in self._names.items():
            try:
                for item in self._entries(url, name):
                    items.setdefault(item.name, item)
            except BadItem as error:
                passing = isinstance(error, Unreachable)
                broken.append(Item(name, _never, name, problem=error.reason, passing=passing, kind=DOCUMENTS))
        if len(broken) == len(self._names):
            problem = f"{self.label}: {broken[0].name}: {broken[0].problem}"
            raise (
                MachineError(f"{problem}; try again later.")
                if broken[0].passing
                else InputError(f"{problem}.")
            )
        return [*items.values(), *broken]

    def _entries(self, url: str, name: str) -> Iterator[Item]:
        import feedparser

        self.tick(f"reading {name}")
        answer = self._fetcher.get(url, accept=FEED)
        headers = {key.lower(): value for key, value in answer.headers.items()}
        # Relative links are relative to where the feed lies; what it does not say itself, its header does.
        found = feedparser.parse(
            io.BytesIO(answer.body),
            response_headers={
                "content-location": answer.url,
                "content-type": headers.get("content-type", "application/xml"),
            },
            sanitize_html=False,
        )
        if not found.entries and (found.bozo or not found.version):
            reason = str(found.get("bozo_exception", "")).splitlines()
            raise BadItem("not a feed" + (f" ({reason[0]})" if reason else ""))
        for entry in found.entries:
            yield self._item(entry, found.feed, answer.url, name)

    def _item(self, entry: Any, feed: Any, feed_url: str, name: str) -> Item:
        link = urljoin(feed_url, str(entry.get("link", "")))
        identity = str(entry.get("id") or entry.get("link") or entry.get("title") or "")
        meta = {
            "url": link if entry.get("link") else feed_url,
            "title": " ".join(_plain(str(entry.get("title", ""))).split()),
            "author": str(entry.get("author") or feed.get("author") or ""),
            "date": _date(entry),
            "licence": _licence(entry) or _licence(feed),
            "feed": " ".join(_plain(str(feed.get("title", ""))).split()),
        }
        content = next((each.get("value", "") for each in entry.get("content", [])), "")
        html = content or str(entry.get("summary", ""))
        identity = identity or hashlib.sha256(html.encode("utf-8", "replace")).hexdigest()[:32]
        item_name = clean_name(f"{name}/{identity.partition('://')[2] or identity}")
        known = {key: value for key, value in meta.items() if value}
        shape = json.dumps([html, known, self.settings.digest("feeds"), READER], sort_keys=True)
        stamp = hashlib.sha256(shape.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        source = without_secrets(meta["url"])
        if not self.settings.article:
            return Item(item_name, functools.partial(_own, html, known), source, stamp=stamp, kind=DOCUMENTS)
        if not entry.get("link"):
            return Item(item_name, _never, source, problem="has no link to an article", kind=DOCUMENTS)
        opened = functools.partial(self._article, link, known)
        return Item(item_name, opened, source, stamp=stamp, kind=DOCUMENTS)

    def _article(self, link: str, known: dict[str, str]) -> IO[bytes]:
        url = clean_url(link)
        self.tick(url)
        answer = self._fetcher.get(url, accept=HTML, check=self._robots.check)
        kind = answer.headers.get_content_type()
        if kind == "text/plain":
            return io.BytesIO(packed(decoded(answer.body, str(answer.headers["Content-Type"])), known))
        if kind not in ("text/html", "application/xhtml+xml"):
            raise BadItem(f"its article is {kind}, not a page")
        html = decoded(answer.body, str(answer.headers["Content-Type"]))
        page = page_of(html, answer.url, self.settings.select, self.settings.remove)
        return io.BytesIO(packed(page.text, page.meta() | known | {"url": answer.url}))


def _own(html: str, known: dict[str, str]) -> IO[bytes]:
    return io.BytesIO(packed(_plain(html), known))


def _plain(html: str) -> str:
    """The text of an entry, which is HTML more often than its feed says."""
    if "<" not in html and "&" not in html:
        return html
    try:
        return joined(blocks(chosen(f"<body>{html}</body>", (), ())))
    except BadItem:
        return ""


def _date(entry: Any) -> str:
    """When it was published, or else changed: UTC, ISO 8601."""
    found = entry.get("published_parsed") or entry.get("updated_parsed")
    if not found:
        return ""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(calendar.timegm(found)))
    except (ValueError, OverflowError):
        return ""


def _licence(said: Any) -> str:
    links = [link.get("href", "") for link in said.get("links", []) if link.get("rel") == "license"]
    return str(said.get("license") or next(iter(links), "") or said.get("rights") or "")


def _name_of(url: str) -> str:
    """What a feed is called in the corpus: its address without scheme and query."""
    at = clean_url(url)
    path = at.partition("://")[2].partition("?")[0]
    query = at.partition("?")[2]
    shown = path.rstrip("/") or host_of(at)
    return clean_name(shown + (f"~{hashlib.sha256(query.encode()).hexdigest()[:8]}" if query else ""))


def _never() -> IO[bytes]:
    raise AssertionError("an item with a problem is not opened")
