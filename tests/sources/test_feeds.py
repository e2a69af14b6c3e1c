"""Feeds on loopback, and recorded forms of RSS and Atom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("feedparser")
pytest.importorskip("trafilatura")

from tests.contracts.collected_contract import QUICK, CollectedContract
from tests.sources.sites import feed, page, scene, site
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError
from textmill.ingest import ingest, plan


@pytest.fixture
def server() -> Iterator[Any]:
    with site() as server:
        yield server


def address(server: Any, **more: Any) -> str:
    return "feeds:" + json.dumps(QUICK | {"feeds": [f"{server.address}/feed.xml"]} | more)


def host(server: Any) -> str:
    return server.address.removeprefix("http://")


class OfFeed(CollectedContract):
    scheme = "feeds"
    forgets = False
    texts: ClassVar = {name: scene(name).replace("\n\n", " ") for name in ("Ash", "Birch", "Cedar")}
    article: ClassVar[bool]

    @pytest.fixture
    def server(self) -> Iterator[Any]:
        with site() as server:
            yield server

    def put(self, server: Any, texts: dict[str, str]) -> None:
        server.files = {"/feed.xml": feed(server.address, texts)} if texts else {}
        server.files |= {f"/{name}.html": page(name, text) for name, text in texts.items()}

    def settings(self, server: Any) -> dict[str, Any]:
        return {"feeds": [f"{server.address}/feed.xml"], "article": self.article}

    def item(self, server: Any, name: str) -> str:
        return f"{host(server)}/feed.xml/tag:mill,2026:{name}"

    def bodies(self, server: Any) -> list[str]:
        return [request for request in server.requests if ".html" in request]


class TestEntries(OfFeed):
    article = False


class TestArticles(OfFeed):
    article = True

    def test_articles_of_unchanged_entries_are_not_asked_for(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        ingest(self.address(server), tmp_path / "corpus")
        del server.requests[:]
        assert ingest(self.address(server), tmp_path / "corpus")["unchanged"] == 3
        assert server.requests == ["GET /feed.xml"]
        assert server.unchanged == ["/feed.xml"], "the feed itself was asked for by its tag"


def test_an_article_is_not_asked_for_against_robots_txt_nor_at_a_private_address(
    server: Any, tmp_path: Path
) -> None:
    server.files["/robots.txt"] = b"User-agent: *\nDisallow: /Secret.html\n"
    server.files["/feed.xml"] = (
        feed(server.address, {"Open": "o", "Secret": "s", "Away": "a", "Turned": "t"})
        .replace(f"{server.address}/Away.html".encode(), b"http://10.0.0.7/Away.html")
    )  # fmt: skip
    server.files |= {f"/{name}.html": page(name, scene(name)) for name in ("Open", "Secret", "Turned")}
    server.moved["/Turned.html"] = "/Secret.html"
    ingest(address(server, article=True), tmp_path / "corpus")
    corpus = read_corpus(tmp_path / "corpus")
    assert [document.meta["title"] for document in corpus.documents()] == ["Open"]
    reasons = {each["item"].rpartition(":")[2]: each["reason"] for each in corpus.skipped}
    assert reasons["Secret"] == reasons["Turned"] == "forbidden by the robots.txt of its host"
    assert reasons["Away"].startswith("refused: 10.0.0.7 is at 10.0.0.7, a private address")
    assert server.asked("/Secret.html") == 0


def test_an_article_that_does_not_answer_is_tried_again_next_time(server: Any, tmp_path: Path) -> None:
    server.files["/feed.xml"] = feed(server.address, {"Ash": "a", "Birch": "b"})
    server.files |= {f"/{name}.html": page(name, scene(name)) for name in ("Ash", "Birch")}
    server.scripts["/Birch.html"] = [(503, {})] * 2
    assert ingest(address(server, article=True), tmp_path / "corpus")["items"] == 1
    assert ingest(address(server, article=True), tmp_path / "corpus")["items"] == 2
    assert server.asked("/Ash.html") == 1


def test_a_list_of_feeds_and_a_broken_one_among_them(server: Any, tmp_path: Path) -> None:
    server.files = {"/a.xml": feed(server.address, {"Ash": "One text."}), "/b.xml": b"<html>no feed</html>"}
    (tmp_path / "list.txt").write_text(f"# ours\n{server.address}/a.xml\n\n{server.address}/b.xml\n")
    with pytest.raises(InputError, match="allow it by name"):
        ingest(f"feeds:{tmp_path / 'list.txt'}", tmp_path / "corpus")
    feeds = [f"{server.address}/{name}.xml" for name in ("a", "b", "c")]
    summary = ingest(address(server, feeds=feeds), tmp_path / "corpus")
    assert (summary["items"], summary["skipped"]) == (1, 2)
    reasons = {
        each["item"].rpartition("/")[2]: each["reason"] for each in read_corpus(tmp_path / "corpus").skipped
    }
    assert reasons["b.xml"].startswith("not a feed")
    assert reasons["c.xml"] == "the server answered 404 Not Found"


def test_a_feed_that_is_down_keeps_its_entries_and_one_that_is_no_longer_named_does_not(
    server: Any, tmp_path: Path
) -> None:
    server.files = {f"/{n}.xml": feed(server.address, {n: f"Text {n}."}) for n in ("a", "b")}
    feeds = [f"{server.address}/{n}.xml" for n in ("a", "b")]
    ingest(address(server, feeds=feeds), tmp_path / "corpus")
    server.scripts["/b.xml"] = [(503, {})] * 2
    summary = ingest(address(server, feeds=feeds), tmp_path / "corpus")
    assert (summary["items"], summary["skipped"], summary["gone"]) == (2, 1, 0)
    assert ingest(address(server, feeds=feeds[:1]), tmp_path / "corpus")["gone"] == 1


def test_a_dry_run_says_what_stays(server: Any, tmp_path: Path) -> None:
    server.files["/feed.xml"] = feed(server.address, {"Ash": "One text.", "Birch": "Two texts."})
    ingest(address(server), tmp_path / "corpus")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    server.files["/feed.xml"] = feed(server.address, {"Birch": "Two texts.", "Cedar": "Three texts."})
    told = plan(address(server), tmp_path / "corpus")
    assert {row["item"].rpartition(":")[2]: row["what"] for row in told.items} == {
        "Ash": "stays",
        "Birch": "unchanged",
        "Cedar": "new",
    }
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


RSS = b"""<?xml version="1.0" encoding="ISO-8859-1"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:creativeCommons="http://backend.userland.com/creativeCommonsRssModule">
<channel><title>M\xfchlen &amp; Mehl</title><link>https://mill.example/</link><description>News</description>
<creativeCommons:license>https://creativecommons.org/licenses/by/4.0/</creativeCommons:license>
<item><title>The &lt;i&gt;wheel&lt;/i&gt; turns</title><link>/news/1?utm=x</link><guid isPermaLink="false">n-1</guid>
<pubDate>Mon, 02 Nov 2026 11:00:00 +0100</pubDate><dc:creator>Zo\xeb</dc:creator>
<description>Short.</description>
<content:encoded><![CDATA[<p>It turns,<br>slowly.</p><script>alert(1)</script><ul><li>one</li></ul>]]></content:encoded>
</item>
<item><title>Second</title><description>Only a &amp;lt;summary&amp;gt; &amp;amp; no link</description></item>
</channel></rss>"""


def test_the_documented_forms_of_rss(server: Any, tmp_path: Path) -> None:
    server.files["/feed.xml"] = RSS
    server.headers["/feed.xml"] = {"Content-Type": "application/rss+xml"}
    ingest(address(server), tmp_path / "corpus")
    second, first = sorted(
        read_corpus(tmp_path / "corpus").documents(), key=lambda document: len(document.meta)
    )
    assert first.text == "It turns,\nslowly.\n\none\n"
    del first.meta["fetched"]
    assert first.meta == {
        "url": f"{server.address}/news/1?utm=x",
        "title": "The wheel turns",
        "author": "Zoë",
        "date": "2026-11-02T10:00:00Z",
        "licence": "https://creativecommons.org/licenses/by/4.0/",
        "feed": "Mühlen & Mehl",
    }
    assert first.id == f"{host(server)}/feed.xml/n-1"
    assert second.text.strip() == "Only a <summary> & no link"
    assert second.meta["url"] == f"{server.address}/feed.xml"


@pytest.mark.parametrize(
    ("description", "line"),
    [
        ("{}", "no feeds are named; give their addresses in 'feeds'."),
        ("{feeds: [nowhere]}", "setting 'feeds' holds 'nowhere': not a web address."),
        (
            "{feeds: {a: https://a.org}}",
            "setting 'feeds' (feeds:{…}) is {'a': 'https://a.org'}, which is not of type list.",
        ),
        (
            "list",
            "'feeds:list' is none of feeds:FILE.yaml, feeds:https://… or feeds:{key: value, …}, feeds:FILE.txt.",
        ),
    ],
)
def test_what_a_description_gets_wrong_is_one_line(description: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ingest(f"feeds:{description}", tmp_path / "corpus")
    assert str(caught.value) == line


def test_a_token_in_a_feeds_address_is_neither_shown_nor_kept(server: Any, tmp_path: Path) -> None:
    server.files["/feed.xml"] = feed(server.address, {"Ash": "One text."})
    ingest(address(server, feeds=[f"{server.address}/feed.xml?token=secret"]), tmp_path / "corpus")
    assert "secret" not in (tmp_path / "corpus" / "manifest.json").read_text()
    server.files = {}
    with pytest.raises((InputError, MachineError)) as caught:
        ingest(address(server, feeds=[f"{server.address}/feed.xml?token=secret"]), tmp_path / "other")
    assert "secret" not in str(caught.value)
