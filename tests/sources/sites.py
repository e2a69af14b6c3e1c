"""Loopback web sites and a wiki that behave as real ones do, also badly.

A Site's files are what Fake's are. Beside them, by path:
    scripts    statuses with headers that come first, one a request: [(429, {"Retry-After": "1"}), …]
    moved      where a redirect leads
    headers    headers of the answer
    manner     "drip" (a byte now and then, without end), "cut" (half of what was promised), "hang" (no answer)
It knows ETag and If-None-Match. `asked(path)` counts the requests for a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.sources.fakes import Fake, serving

KINDS = {"xml": "application/xml", "txt": "text/plain", "png": "image/png"}


class Site(Fake):
    """See the module."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        server = self.server
        server.agents.add(self.headers["User-Agent"])
        if server.scripts.get(path):
            status, headers = server.scripts[path].pop(0)
            self.send(status, b"not now", **headers)
        elif path in server.moved:
            self.send(302, b"", Location=server.moved[path])
        elif path in server.manner:
            self._badly(server.manner[path])
        else:
            self._well(path, server.files.get(path))

    def _well(self, path: str, data: bytes | None) -> None:
        headers = dict(self.server.headers.get(path, {}))
        if data is None:
            self.send(404, b"no such page", Content_Type="text/html")
            return
        headers.setdefault("Content-Type", KINDS.get(path.rpartition(".")[2], "text/html; charset=utf-8"))
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.server.tags:
            headers["ETag"] = tag
        if self.server.tags and self.headers["If-None-Match"] == tag:
            self.server.unchanged.append(path)
            self.send(304, b"", ETag=tag)
            return
        self.send(200, data, **headers)

    def _badly(self, manner: str) -> None:
        self.close_connection = True
        if manner == "hang":
            self.server.gone.wait(5)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"<html>")
        while manner == "drip" and not self.server.gone.wait(0.02):
            self.wfile.write(b".")
            self.wfile.flush()


class Wiki(Site):
    """As much of MediaWiki's API (formatversion 2) as reading takes; `titles` is {title: wikitext}.

    A page's revision changes with its text. `redirects` is {title: title}, `protected` titles are not given out,
    `batch` is how many pages a category's answer holds before it says to continue.
    """

    def answer(self, path: str, query: dict[str, str]) -> None:
        server = self.server
        if path != "/w/api.php":
            super().answer(path, query)
            return
        server.agents.add(self.headers["User-Agent"])
        server.queries.append(query)
        if server.scripts.get(path):
            status, headers = server.scripts[path].pop(0)
            error = {
                "error": {"code": headers.pop("error", "internal"), "info": "Waiting: 7 seconds lagged."}
            }
            self.send(status, json.dumps(error).encode(), **headers)
            return
        value = self._parse(query) if query["action"] == "parse" else self._query(query)
        self.send(200, json.dumps(value).encode(), Content_Type="application/json; charset=utf-8")

    def _query(self, query: dict[str, str]) -> dict[str, Any]:
        if "siteinfo" in query.get("meta", ""):
            general = {"sitename": "Millwiki", "generator": "MediaWiki 1.43.0", "base": self.server.address}
            spaces = {"6": {"id": 6, "name": "Datei", "canonical": "File"}, "0": {"id": 0, "name": ""}}
            rights = {"url": "https://creativecommons.org/licenses/by-sa/4.0/", "text": "CC BY-SA 4.0"}
            aliases = [{"id": 6, "alias": "Bild"}]
            parts = {
                "general": general,
                "namespaces": spaces,
                "namespacealiases": aliases,
                "rightsinfo": rights,
            }
            return {"batchcomplete": True, "query": parts}
        if query.get("generator") == "categorymembers":
            return self._category(query)
        if "revids" in query:
            wanted = [int(number) for number in query["revids"].split("|")]
            pages = [self._page(title) for title in self.server.titles if self._revision(title) in wanted]
            for page in pages:
                self._add_text(page)
            return {"batchcomplete": True, "query": {"pages": pages}}
        return self._named(query["titles"].split("|"))

    def _named(self, asked: list[str]) -> dict[str, Any]:
        normalized, redirects, pages = [], [], []
        for title in asked:
            at = title[:1].upper() + title[1:].replace("_", " ")
            if at != title:
                normalized.append({"fromencoded": False, "from": title, "to": at})
            if at in self.server.redirects:
                redirects.append({"from": at, "to": self.server.redirects[at]})
                at = self.server.redirects[at]
            page = self._page(at)
            if page not in pages:
                pages.append(page)
        answer: dict[str, Any] = {"pages": pages, "userinfo": {"id": 0, "name": "127.0.0.1", "anon": True}}
        answer |= ({"normalized": normalized} if normalized else {}) | (
            {"redirects": redirects} if redirects else {}
        )
        return {"batchcomplete": True, "query": answer}

    def _category(self, query: dict[str, str]) -> dict[str, Any]:
        name = query["gcmtitle"].removeprefix("Category:")
        titles = sorted(self.server.categories.get(name, []))
        start = int(query.get("gcmcontinue", "0"))
        part = titles[start : start + self.server.batch]
        answer: dict[str, Any] = {"query": {"pages": [self._page(title) for title in part]}} if part else {}
        if start + len(part) < len(titles):
            return answer | {"continue": {"gcmcontinue": str(start + len(part)), "continue": "gcmcontinue||"}}
        return answer | {"batchcomplete": True}

    def _revision(self, title: str) -> int:
        return int(hashlib.md5(f"{title}\n{self.server.titles[title]}".encode()).hexdigest()[:7], 16)

    def _page(self, title: str) -> dict[str, Any]:
        if "<" in title:
            reason = 'The requested page title contains invalid characters: "<".'
            return {"title": title, "invalidreason": reason, "invalid": True}
        if title not in self.server.titles:
            return {"ns": 0, "title": title, "missing": True}
        revision = self._revision(title)
        return {
            "pageid": 1000 + list(self.server.titles).index(title),
            "ns": 0,
            "title": title,
            "contentmodel": "wikitext",
            "touched": "2026-11-01T12:00:00Z",
            "lastrevid": revision,
            "length": len(self.server.titles[title]),
            "fullurl": f"{self.server.address}/wiki/{title.replace(' ', '_')}",
            "revisions": [{"revid": revision, "parentid": 0, "timestamp": "2026-10-31T08:00:00Z"}],
        }

    def _add_text(self, page: dict[str, Any]) -> None:
        main = {"contentmodel": "wikitext", "contentformat": "text/x-wiki"}
        hidden = page["title"] in self.server.protected
        content = {"texthidden": True} if hidden else {"content": self.server.titles[page["title"]]}
        page["revisions"][0]["slots"] = {"main": main | content}

    def _parse(self, query: dict[str, str]) -> dict[str, Any]:
        for title, text in self.server.titles.items():
            if str(self._revision(title)) == query["oldid"] and title not in self.server.protected:
                page = self._page(title)
                html = f'<div class="mw-content-ltr mw-parser-output" lang="en">{rendered(text)}</div>'
                return {
                    "parse": {
                        "title": title,
                        "pageid": page["pageid"],
                        "revid": page["lastrevid"],
                        "text": html,
                    }
                }
        info = f"There is no revision with ID {query['oldid']}."
        return {"error": {"code": "nosuchrevid", "info": info, "docref": "See /w/api.php for API usage."}}


def rendered(wikitext: str) -> str:
    """The HTML of a few simple forms, in the shape that MediaWiki 1.43 gives it."""
    html = []
    for line in wikitext.splitlines():
        if line.startswith("=="):
            text, level = line.strip("= "), (len(line) - len(line.lstrip("=")))
            edit = '<span class="mw-editsection">[<a>edit</a>]</span>'
            html.append(
                f'<div class="mw-heading mw-heading{level}"><h{level} id="{text}">{text}</h{level}>{edit}</div>'
            )
        elif line.startswith("{{"):
            html.append(f'<table class="ambox"><tbody><tr><td>{line.strip("{}")}</td></tr></tbody></table>')
        elif line:
            html.append(f"<p>{line}<sup class='reference'>[1]</sup></p>")
    return "\n".join(html)


@contextlib.contextmanager
def site(kind: type[Site] = Site) -> Iterator[Any]:
    """A server on a free loopback port."""
    import threading

    with serving(kind) as server:
        server.scripts, server.moved, server.headers, server.manner = {}, {}, {}, {}
        server.agents, server.unchanged, server.tags, server.gone = set(), [], True, threading.Event()
        server.titles, server.redirects, server.categories, server.batch = {}, {}, {}, 500
        server.protected, server.queries = set(), []
        server.asked = lambda path: sum(urlsplit(r.split(" ", 1)[1]).path == path for r in server.requests)
        try:
            yield server
        finally:
            server.gone.set()
            time.sleep(0)


def page(title: str, text: str, *links: str, head: str = "") -> bytes:
    """A page with a menu, an article and links below it."""
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n\n"))
    listed = "".join(f'<li><a href="{link}">more</a></li>' for link in links)
    return (
        f"<!DOCTYPE html><html lang='en'><head><title>{title}</title>{head}</head><body>"
        f"<nav><a href='/'>Home</a> | About | Shop</nav><article class='scene'><h1>{title}</h1>{paragraphs}</article>"
        f"<footer><ul>{listed}</ul>Nobody reads this.</footer></body></html>"
    ).encode()


def scene(name: str) -> str:
    """A text long enough for trafilatura to take it for one."""
    return (
        f"The mill of {name} stands by the river, and the wheel has been turning since the first snow fell.\n\n"
        f"Nobody in {name} can say who built it, but everyone who eats bread there knows the sound of its stone."
    )


def feed(address: str, entries: Mapping[str, str]) -> bytes:
    """An Atom feed; {name: text}."""
    rows = "".join(
        f"<entry><id>tag:mill,2026:{name}</id><title>{name}</title><link href='{address}/{name}.html'/>"
        f"<published>2026-11-02T10:00:00Z</published><author><name>Moll</name></author>"
        f"<content type='html'>&lt;p&gt;{text}&lt;/p&gt;</content></entry>"
        for name, text in entries.items()
    )
    return (
        f"<?xml version='1.0' encoding='utf-8'?><feed xmlns='http://www.w3.org/2005/Atom'><title>The Mill</title>"
        f"<id>tag:mill,2026:feed</id><updated>2026-11-03T10:00:00Z</updated><rights>CC0</rights>{rows}</feed>"
    ).encode()
