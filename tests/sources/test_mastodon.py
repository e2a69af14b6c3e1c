"""Posts from Mastodon, against a server of ours; a status as Mastodon documents it pins the parsing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.posts_contract import FIRST, PostsContract, numbered
from tests.sources.social_fakes import FakeMastodon, service
from textmill.ingest import ingest
from textmill.sources import open_source
from textmill.sources.social import Post


class TestMastodon(PostsContract):
    fake = FakeMastodon
    scheme, account, search = "mastodon", "@jo", "bread and water"
    secrets = {"MASTODON_ACCESS_TOKEN": "mastodon-secret"}  # noqa: RUF012

    def log_in(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        super().log_in(server, monkeypatch)
        server.token = "mastodon-secret"

    def test_hashtags_need_no_key(self, server: Any, tmp_path: Path) -> None:
        ingest(self.address(server, "#bread"), tmp_path / "corpus")
        assert len(self.texts(tmp_path / "corpus")) == 4
        assert {asked[0] for asked in server.asked} == {"/api/v2/instance/", "/api/v1/timelines/tag/bread"}

    def test_a_search_counts_its_pages(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.log_in(server, monkeypatch)
        server.posts = numbered([f"post {i}" for i in range(95)], [""] * 95)
        ingest(self.address(server, self.search), tmp_path / "corpus")
        assert [asked[1].get("offset") for asked in server.asked] == ["0", "40", "80"]
        assert len(self.texts(tmp_path / "corpus")) == 95


def test_an_account_elsewhere_is_asked_of_its_own_server_which_gets_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTODON_ACCESS_TOKEN", "mastodon-secret")
    source: Any = open_source(
        "mastodon:{queries: ['@jo@soil.example'], server: 'https://home.example'}", max_bytes=100
    )
    elsewhere, home = source._client("soil.example"), source._client("home.example")
    assert (elsewhere.api_base_url, elsewhere.access_token) == ("https://soil.example", None)
    assert (home.api_base_url, home.access_token) == ("https://home.example", "mastodon-secret")
    assert source._client() is home


# The entity Status with the fields that docs.joinmastodon.org lists, its words ours.
STATUS = {
    "id": "103270115826048975",
    "created_at": "2019-12-08T03:48:33.901Z",
    "in_reply_to_id": None,
    "in_reply_to_account_id": None,
    "sensitive": True,
    "spoiler_text": "flour",
    "visibility": "public",
    "language": "en",
    "uri": "https://soil.example/users/jo/statuses/103270115826048975",
    "url": "https://soil.example/@jo/103270115826048975",
    "replies_count": 5,
    "reblogs_count": 6,
    "favourites_count": 11,
    "favourited": False,
    "reblogged": False,
    "muted": False,
    "bookmarked": False,
    "content": '<p>&quot;Six loaves&quot; 🥖<br />and one for <span class="h-card"><a href="https://x.example/@mo">@<span>mo</span>'
    '</a></span></p><p>more: <a href="https://mill.example/a" rel="nofollow"><span class="invisible">https://</span>'
    '<span class="">mill.example/a</span></a></p>',
    "reblog": None,
    "application": {"name": "Web", "website": None},
    "account": {"id": "1", "username": "jo", "acct": "jo@soil.example", "display_name": "Jo"},
    "media_attachments": [],
    "mentions": [],
    "tags": [],
    "emojis": [],
    "card": None,
    "poll": None,
}


class Documented(FakeMastodon):
    def respond(self, path: str, query: dict[str, str]) -> bool:
        found = (
            []
            if "max_id" in query
            else [STATUS, {**STATUS, "id": "103270115826048974", "reblog": STATUS, "content": ""}]
        )
        return self.json(200, found)


def test_a_documented_status_is_read() -> None:
    with service(Documented, []) as server:
        value = {"queries": ["#a"], "server": server.address, "allow": ["127.0.0.1"], "delay": 0}
        source: Any = open_source(f"mastodon:{json.dumps(value)}", max_bytes=1 << 20)
        first, boost = source.page("#a", "", None).posts
    assert first == Post(
        "103270115826048975",
        "018103270115826048975",
        '"Six loaves" 🥖\nand one for @mo\n\nmore: https://mill.example/a',
        {
            "url": "https://soil.example/@jo/103270115826048975",
            "author": "@jo@soil.example",
            "date": "2019-12-08T03:48:33.901000+00:00",
            "language": "en",
            "warning": "flour",
        },
    )
    assert (boost.id, boost.text, boost.repost, boost.reply) == (
        "103270115826048974",
        first.text,
        True,
        False,
    )


def test_what_is_not_the_api_is_one_line(tmp_path: Path) -> None:
    class Page(FakeMastodon):
        def respond(self, path: str, query: dict[str, str]) -> bool:
            self.send(200, b"<html>hello</html>", Content_Type="text/html")
            return True

    with service(Page, []) as server:
        value = {"queries": ["#a"], "server": server.address, "allow": ["127.0.0.1"], "delay": 0}
        with pytest.raises(Exception, match="gave an answer that is not understood") as caught:
            ingest(f"mastodon:{json.dumps(value)}", tmp_path / "corpus")
    assert "\n" not in str(caught.value)
    assert FIRST
