"""Pages of a wiki through its API: `mediawiki:series.yaml`, `mediawiki:https://wiki/w/api.php?category=Plays`.

The description names the wiki and its pages: a list, a category, or numbered series; and which sections are wanted:

    api: https://wiki.example.org/w/api.php
    series: ["EP{001..274}", "AG{001..192}"]     # EP001, EP002 … EP274, AG001 …
    skip: [AG120]
    from_heading: 2                              # a name, or the number of a == heading ==, from 1
    to_heading: Major events
    remove_text: ["This article is incomplete."]

Behind an address, `?category=Plays`, `?pages=Hamlet|Macbeth` or `?series=EP{001..274}`, with any other setting after &.

The listing asks for each page's revision, fifty pages a request: pages that are not there are reported, and a page
whose revision is the one of the last time is not fetched again. Requests go one after the other, with a pause, with
maxlag, and with the server's Retry-After. Needs mwclient, mwparserfromhell and lxml; uses no account.
"""

from __future__ import annotations

import functools
import io
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from textmill.errors import InputError, MachineError, SettingsError
from textmill.settings import setting
from textmill.sources import BadItem, Item, Source, Unreachable, clean_name, without_secrets
from textmill.sources.described import PoliteSettings, check_address, read_description
from textmill.sources.guarded_http import Refused, host_of, wait_before
from textmill.sources.page_text import Block, check_selectors, joined
from textmill.sources.texts import DOCUMENTS, packed
from textmill.sources.wiki_text import html_blocks, section, wikitext_blocks

TITLES = 50  # pages a request may name, for a client without an account
LATER = ("maxlag", "ratelimited", "readonly")
GONE = ("nosuchrevid", "missingtitle", "missingcontent", "permissiondenied", "contentnotsupported")
READER = 1  # raise it when the same page and settings give another text


@dataclass(frozen=True)
class MediaWikiSettings(PoliteSettings):
    """What a `mediawiki:` description may say."""

    api: str = setting("", "The wiki's api.php, such as https://en.wikipedia.org/w/api.php.")
    pages: list = setting([], "Titles of pages.")
    category: str = setting("", "A category whose pages are wanted, without its prefix.")
    series: list = setting([], "Titles with a range in braces, which is counted through: 'EP{001..274}'.")
    skip: list = setting([], "Titles to leave out.")
    max_pages: int = setting(10_000, "Stop with an error where more pages are listed.", minimum=1)
    content: str = setting(
        "html",
        "What is read: html, the page as the wiki renders it; wikitext, its source, twenty pages a request.",
        choices=("html", "wikitext"),
    )
    from_heading: str | int = setting(
        "", "Where the text begins: a heading's name or number. Empty: at the top."
    )
    to_heading: str | int = setting("", "The heading before which the text ends. Empty: at the page's end.")
    headings: bool = setting(False, "Keep the headings inside the text as paragraphs.")
    minimum_paragraph: int = setting(0, "Leave out paragraphs with fewer characters.", minimum=0)
    remove_text: list = setting([], "Sentences to take out wherever they stand, such as warnings.")
    select: list = setting([".mw-parser-output"], "html: CSS or XPath of the page's text.")
    remove: list = setting([], "html: CSS or XPath of more to leave out than boxes, notes and tables.")
    templates: dict = setting(
        {}, "wikitext: templates that stand for text, with their argument: {p: 1, lang: 2, link: -1}."
    )
    pages_at_once: int = setting(20, "wikitext: pages a request, at most.", minimum=1, maximum=TITLES)
    maxlag: int = setting(5, "Wait while the wiki's databases lag by more than these seconds.", minimum=1)

    TEXTS: ClassVar[tuple[str, ...]] = (
        *PoliteSettings.TEXTS,
        "pages",
        "series",
        "skip",
        "remove_text",
        "select",
        "remove",
    )

    def check(self) -> None:
        super().check()
        if not self.api:
            raise SettingsError("setting 'api' is missing; give the address of the wiki's api.php.")
        check_address("api", self.api)
        if not urlsplit(self.api).path.endswith("/api.php"):
            raise SettingsError(f"setting 'api' is {without_secrets(self.api)!r}; it must end in /api.php.")
        if not (self.pages or self.category or self.series):
            raise SettingsError("no pages are named; give 'pages', 'category' or 'series'.")
        check_selectors("select", self.select)
        check_selectors("remove", self.remove)
        for name, which in self.templates.items():
            if not isinstance(which, int | str) or isinstance(which, bool) or which in (0, ""):
                raise SettingsError(
                    f"setting 'templates': {name}: {which!r} is no argument's number or name."
                )
        count = sum(len(range(*_range(title)[1])) for title in self.series)
        if len(self.pages) + count > self.max_pages:
            raise SettingsError(
                f"{len(self.pages) + count:,} pages are named; setting 'max_pages' is {self.max_pages:,}."
            )


def _range(title: str) -> tuple[tuple[str, int, str], tuple[int, int]]:
    """((before, digits, after), (first, last + 1)) of a title with a range."""
    found = re.fullmatch(r"([^{}]*)\{(\d+)\.\.(\d+)\}([^{}]*)", title)
    if not found or int(found[2]) > int(found[3]):
        raise SettingsError(f"setting 'series': {title!r} has no range such as {{001..274}}.")
    digits = len(found[2]) if found[2].startswith("0") else 1
    return (found[1], digits, found[4]), (int(found[2]), int(found[3]) + 1)


def counted(title: str) -> list[str]:
    """EP{001..003} -> EP001, EP002, EP003."""
    (before, digits, after), bounds = _range(title)
    return [f"{before}{number:0{digits}}{after}" for number in range(*bounds)]


@dataclass(frozen=True)
class _Listed:
    """One wanted page: the title that was asked for, and what the wiki says of it ({} when it is not there)."""

    asked: str
    info: dict[str, Any]


class MediaWikiSource(Source):
    """The pages of a description, one item each, named by the title that was asked for."""

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        self.settings, self.label = read_description(MediaWikiSettings, address, url=_from_address)
        self._ready: dict[int, dict[str, Any]] = {}  # revision -> page with its wikitext, fetched with others
        self._queue: list[Item] = []

    def used(self) -> dict[str, Any]:
        return self.settings.changed() | {"licence": self._licence} if hasattr(self, "_licence") else {}

    def items(self) -> list[Item]:
        with self._talking(listing=True):
            self._open_wiki()
            listed = [page for batch in self._batches() for page in batch]
        if not listed:
            raise InputError(
                f"{self.label}: the category {self.settings.category!r} has no pages, or is not there."
            )
        if len(listed) > self.settings.max_pages:
            raise InputError(
                f"{self.label}: it lists {len(listed):,} pages; setting 'max_pages' is {self.settings.max_pages:,}."
            )
        first: dict[int, str] = {}
        items = [self._item(page, first) for page in listed]
        if all(item.problem for item in items):
            raise InputError(f"{self.label}: none of its {len(items):,} pages is there: {items[0].problem}.")
        self._queue = sorted((item for item in items if not item.problem), key=lambda item: item.name)
        return items

    def _open_wiki(self) -> None:
        import mwclient
        from mwclient.errors import InvalidResponse

        from textmill.sources.guarded_session import guarded_session

        logging.getLogger("mwclient").setLevel(logging.ERROR)
        session = guarded_session(
            self.settings.guard(),
            self.settings.limits(self.max_bytes),
            agent=self.settings.agent(),
            tick=lambda note: self.tick(note),
        )
        parts = urlsplit(self.settings.api)
        path = parts.path.removesuffix("api.php")
        self._site = mwclient.Site(
            parts.netloc,
            path,
            scheme=parts.scheme,
            pool=session,
            max_retries=0,  # the session tries again
            connection_options={"timeout": self.settings.timeout},
            do_init=False,
        )
        siteinfo = "general|namespaces|namespacealiases|rightsinfo"
        about = self._get("query", meta="siteinfo", siprop=siteinfo).get("query", {})
        rights = about.get("rightsinfo", {})
        if "generator" not in about.get("general", {}):
            raise InvalidResponse
        self._licence = str(rights.get("url") or rights.get("text") or "")
        self._wiki = str(about.get("general", {}).get("sitename") or host_of(self.settings.api))
        self._prefixes = _prefixes(about)

    def _get(self, action: str, **query: Any) -> dict[str, Any]:
        """One answer of the API; "not now" as an error inside it is waited out, as the session does for statuses."""
        from mwclient.errors import APIError, InvalidResponse

        limits = self.settings.limits(self.max_bytes)
        for attempt in range(1, limits.attempts + 1):
            try:
                return self._site.get(action, **query, maxlag=str(self.settings.maxlag), formatversion="2")
            except (AttributeError, KeyError, TypeError, ValueError):  # mwclient trusts the JSON's form
                raise InvalidResponse from None
            except APIError as error:
                if error.code not in LATER or attempt == limits.attempts:
                    raise
                wait = wait_before(attempt, limits, None)
                self.tick(f"{self._site.host}: {error.code}; waiting {wait:,.0f} s")
                time.sleep(wait)
        raise AssertionError

    def _batches(self) -> Iterator[list[_Listed]]:
        titles = [*self.settings.pages, *(title for each in self.settings.series for title in counted(each))]
        skip = {_key(title) for title in self.settings.skip}
        titles = [title for title in dict.fromkeys(titles) if _key(title) not in skip]
        about = {"prop": "info|revisions", "inprop": "url", "rvprop": "ids|timestamp"}
        for start in range(0, len(titles), TITLES):
            asked = titles[start : start + TITLES]
            self.tick(f"{start:,} of {len(titles):,} titles looked up")
            found = self._all(titles="|".join(asked), redirects="1", **about)
            yield [_Listed(title, _page_of(title, found)) for title in asked]
        if self.settings.category:
            name = self.settings.category.partition(":")[2] or self.settings.category
            found = self._all(
                generator="categorymembers",
                gcmtitle=f"Category:{name.strip()}",
                gcmtype="page",
                gcmlimit="500",
                **about,
            )
            pages = sorted(found["pages"], key=lambda page: page["title"])
            yield [_Listed(page["title"], page) for page in pages if _key(page["title"]) not in skip]

    def _all(self, **query: Any) -> dict[str, list[dict[str, Any]]]:
        """A query with all that its `continue` leads to, put together."""
        whole: dict[str, Any] = {"pages": {}, "redirects": [], "normalized": []}
        more: dict[str, str] = {"continue": ""}
        while more:
            answer = self._get("query", **query, **more)
            part = answer.get("query", {})
            for page in part.get("pages", []):
                key = page.get("pageid") or page.get("title")
                whole["pages"][key] = whole["pages"].get(key, {}) | page
            for name in ("redirects", "normalized"):
                whole[name] += part.get(name, [])
            again = answer.get("continue", {})
            if again == more:
                raise BadItem("the wiki repeats its answer without end")
            more = again
            if len(whole["pages"]) > self.settings.max_pages:
                break
            self.tick(f"{len(whole['pages']):,} pages listed")
        return whole | {"pages": list(whole["pages"].values())}

    def _item(self, page: _Listed, first: dict[int, str]) -> Item:
        name, info = clean_name(page.asked), page.info
        url = str(info.get("fullurl") or self.settings.api)
        problem = ""
        if not info or info.get("missing") or info.get("invalid"):
            problem = f"no such page on {self._wiki}" + (
                f" ({info['invalidreason']})" if "invalidreason" in info else ""
            )
        elif info["pageid"] in first:
            problem = f"the same page as {first[info['pageid']]!r}"
        elif not info.get("lastrevid"):
            problem = "a page without a revision"
        if problem:
            return Item(name, _never, source=url, problem=problem, kind=DOCUMENTS)
        first[info["pageid"]] = page.asked
        leave_out = ("api", "pages", "category", "series", "skip", "max_pages", "pages_at_once", "maxlag")
        stamp = f"{info['lastrevid']} {self.settings.digest(*leave_out)} {READER}"
        return Item(name, functools.partial(self._open, info), source=url, stamp=stamp, kind=DOCUMENTS)

    def _open(self, info: dict[str, Any]) -> IO[bytes]:
        with self._talking():
            found = self._rendered(info) if self.settings.content == "html" else self._wikitext(info)
        text = self._text(found)
        meta = {
            "url": info.get("fullurl", ""),
            "title": info["title"],
            "author": f"contributors to {self._wiki}",
            "date": next((each.get("timestamp", "") for each in info.get("revisions", [])), ""),
            "licence": self._licence,
            "site": self._wiki,
            "revision": info["lastrevid"],
        }
        return io.BytesIO(packed(text, {name: value for name, value in meta.items() if value}))

    def _rendered(self, info: dict[str, Any]) -> list[Block]:
        from mwclient.errors import APIError

        try:
            page = self._get(
                "parse", oldid=str(info["lastrevid"]), prop="text", disableeditsection="1", disabletoc="1"
            )
        except APIError as error:
            if error.code in GONE:
                raise BadItem(f"cannot be read: {' '.join(str(error.info).split())}") from None
            raise
        html = page.get("parse", {}).get("text", "")
        return html_blocks(html, self.settings.select, self.settings.remove) if html.strip() else []

    def _wikitext(self, info: dict[str, Any]) -> list[Block]:
        if info["lastrevid"] not in self._ready:
            self._fetch_with_others(info["lastrevid"])
        revision = self._ready.pop(info["lastrevid"], {})
        main = revision.get("slots", {}).get("main", {})
        if "content" not in main:
            raise BadItem("cannot be read: the wiki does not give out its text")
        return wikitext_blocks(main["content"], self.settings.templates, self._prefixes)

    def _fetch_with_others(self, wanted: int) -> None:
        """The wikitext of a page, and in the same request that of the next ones that will be asked for."""
        names = [item for item in self._queue if int(item.stamp.split()[0]) == wanted]
        start = self._queue.index(names[0])
        ahead = [item for item in self._queue[start + 1 :] if not self.unchanged(item)]
        revisions = [wanted, *(int(item.stamp.split()[0]) for item in ahead)][: self.settings.pages_at_once]
        found = self._all(
            revids="|".join(map(str, revisions)),
            prop="revisions",
            rvprop="ids|timestamp|content",
            rvslots="main",
        )
        self._ready = {
            revision["revid"]: revision for page in found["pages"] for revision in page.get("revisions", [])
        }

    def _text(self, found: list[Block]) -> str:
        settings = self.settings
        if not found:
            return ""
        taken = section(found, settings.from_heading, settings.to_heading, settings.headings)
        shown: list[Block] = []
        for block in taken:
            text = block.text
            for sentence in settings.remove_text:
                text = text.replace(sentence, "")
            text = re.sub(r"  +", " ", text).strip()
            if text and (block.level or len(text) >= settings.minimum_paragraph):
                shown.append(Block(text, block.level))
        return joined(shown)

    def _talking(self, listing: bool = False) -> _Talk:
        return _Talk(self.label, self.settings.api, listing)


class _Talk:
    """Makes one line of whatever mwclient, requests and the guard raise, split by who can act.

    A BadItem concerns one page, but while `listing` all of them.
    """

    def __init__(self, label: str, api: str, listing: bool) -> None:
        self.label, self.api, self.listing = label, without_secrets(api), listing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, InputError | MachineError):
            return
        import mwclient.errors
        import requests

        if isinstance(error, Refused):
            raise InputError(f"{self.label}: {error.reason}.") from None
        if isinstance(error, Unreachable):
            raise MachineError(
                f"cannot reach {self.api}: {error.reason}; the same command goes on later."
            ) from None
        if isinstance(error, BadItem) and self.listing:
            raise InputError(f"{self.label}: {error.reason}.") from None
        if isinstance(error, mwclient.errors.APIError):
            raise self._refused(str(error.code), " ".join(str(error.info).split())) from None
        if isinstance(error, mwclient.errors.InvalidResponse | requests.exceptions.JSONDecodeError):
            raise InputError(f"{self.api} does not answer as a wiki's api.php does; check 'api'.") from None
        if isinstance(error, requests.HTTPError) and error.response is not None:
            status = error.response.status_code
            line = f"{self.api} answered {status} {error.response.reason}"
            if status in (408, 425, 429) or status >= 500:
                raise MachineError(f"{line}; the same command goes on later.") from None
            raise InputError(f"{line}; check 'api'.") from None
        if isinstance(error, mwclient.errors.MwClientError | requests.RequestException):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise MachineError(f"cannot read from {self.api}: {reason}.") from None

    def _refused(self, code: str, info: str) -> Exception:
        if code in LATER or code.startswith("internal_api_error"):
            return MachineError(f"{self.api}: {info} ({code}); the same command goes on later.")
        return InputError(f"{self.api} refused: {info} ({code}).")


def _from_address(url: str) -> dict[str, Any]:
    """`https://wiki/api.php?category=…`: the query holds settings, lists with | between."""
    api, _, query = url.partition("?")
    values: dict[str, Any] = {"api": api}
    kinds = MediaWikiSettings.kinds()
    for name, value in parse_qsl(query, keep_blank_values=True):
        values[name] = value.split("|") if kinds.get(name) is list else value
    return values


def _prefixes(about: dict[str, Any]) -> set[str]:
    """What the wiki calls files and categories, beside their English names."""
    names = {"File", "Image", "Media", "Category"}
    for space in about.get("namespaces", {}).values():
        if space.get("id") in (-2, 6, 14):
            names |= {space.get("name", ""), space.get("canonical", "")}
    names |= {
        each.get("alias", "") for each in about.get("namespacealiases", []) if each.get("id") in (-2, 6, 14)
    }
    return names - {""}


def _page_of(title: str, found: dict[str, Any]) -> dict[str, Any]:
    """The page that an asked title led to, through normalisation and redirects."""
    steps = {each["from"]: each["to"] for each in found["normalized"]}
    turns = {each["from"]: each["to"] for each in found["redirects"]}
    at = steps.get(title, title)
    for _ in range(len(turns)):
        at = turns.get(at, at)
    return next((page for page in found["pages"] if page.get("title") == at), {})


def _key(title: str) -> str:
    """Titles are equal up to underscores and the first letter's case."""
    title = " ".join(title.replace("_", " ").split())
    return title[:1].upper() + title[1:]


def _never() -> IO[bytes]:
    raise AssertionError("a page with a problem is not opened")
