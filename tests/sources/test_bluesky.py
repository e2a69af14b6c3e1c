"""Posts from Bluesky, against a server of ours; a view as the lexicons document it pins the parsing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.posts_contract import PostsContract
from tests.sources.social_fakes import CID, DID, FakeBluesky, service
from textmill.errors import InputError
from textmill.ingest import ingest
from textmill.sources import open_source
from textmill.sources.social import Post


class TestBluesky(PostsContract):
    fake = FakeBluesky
    scheme, account, search = "bluesky", "@jo.soil.example", "#bread"
    secrets = {"BLUESKY_HANDLE": "me.example", "BLUESKY_APP_PASSWORD": "app-pass-word"}  # noqa: RUF012

    def test_a_session_is_opened_once_and_its_secrets_stay_in_memory(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.log_in(server, monkeypatch)
        ingest(self.address(server, self.search, self.account), tmp_path / "corpus")
        assert sum("createSession" in asked[0] for asked in server.asked) == 1
        files = b"".join(path.read_bytes() for path in (tmp_path / "corpus").rglob("*") if path.is_file())
        assert b"app-pass-word" not in files
        assert server.token.encode() not in files


VIEW = {
    "uri": f"at://{DID}/app.bsky.feed.post/3l6oveex3ii2l",
    "cid": CID,
    "author": {"did": DID, "handle": "jo.soil.example", "displayName": "Jo", "viewer": {"muted": False}, "labels": []},
    "record": {
        "$type": "app.bsky.feed.post",
        "createdAt": "2024-10-17T12:00:00.000Z",
        "langs": ["de", "en"],
        "text": "Brot 🥖 von mill.example/a-long… und mehr",
        "facets": [
            {
                "index": {"byteStart": 14, "byteEnd": 36},
                "features": [{"$type": "app.bsky.richtext.facet#link", "uri": "https://mill.example/a-long-way/home"}],
            },
            {
                "index": {"byteStart": 0, "byteEnd": 4},
                "features": [{"$type": "app.bsky.richtext.facet#tag", "tag": "Brot"}],
            },
        ],
    },
    "replyCount": 1, "repostCount": 2, "likeCount": 3, "quoteCount": 0,
    "indexedAt": "2024-10-17T12:00:01.234Z",
    "labels": [],
}  # fmt: skip


class Documented(FakeBluesky):
    def respond(self, path: str, query: dict[str, str]) -> bool:
        reason = {
            "$type": "app.bsky.feed.defs#reasonRepost",
            "by": {"did": DID, "handle": "mo.example"},
            "indexedAt": "2024-11-01T00:00:00.000Z",
        }
        return self.json(
            200,
            {"feed": [{"post": VIEW, "reason": reason}, {"post": VIEW}], "cursor": "2024-10-17T12:00:00Z"},
        )


def test_a_documented_view_is_read() -> None:
    with service(Documented, []) as server:
        value = {
            "queries": ["@jo.soil.example"],
            "server": server.address,
            "allow": ["127.0.0.1"],
            "delay": 0,
        }
        source: Any = open_source(f"bluesky:{json.dumps(value)}", max_bytes=1 << 20)
        page = source.page("@jo.soil.example", "", None)
    repost, post = page.posts
    assert post == Post(
        f"at://{DID}/app.bsky.feed.post/3l6oveex3ii2l",
        "2024-10-17T12:00:01.234Z",
        "Brot 🥖 von https://mill.example/a-long-way/home und mehr",
        {
            "url": "https://bsky.app/profile/jo.soil.example/post/3l6oveex3ii2l",
            "author": "@jo.soil.example",
            "date": "2024-10-17T12:00:00.000Z",
            "language": "de",
        },
    )
    assert (repost.repost, repost.order, repost.id) == (True, "2024-11-01T00:00:00.000Z", f"{post.id} repost")
    assert page.position == "2024-10-17T12:00:00Z"


def test_who_logs_in_is_sent_to_the_service_for_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESKY_HANDLE", "me.example")
    monkeypatch.setenv("BLUESKY_APP_PASSWORD", "app-pass-word")
    source: Any = open_source("bluesky:{queries: ['#a'], server: 'http://plain.example'}", max_bytes=100)
    with pytest.raises(InputError, match="BLUESKY_APP_PASSWORD is not sent there"):
        source._client()
