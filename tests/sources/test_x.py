"""Posts from X, against a server of ours; an answer as X documents it pins the parsing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.posts_contract import PostsContract
from tests.sources.social_fakes import FakeX
from textmill.errors import InputError
from textmill.ingest import ingest
from textmill.sources import x
from textmill.sources.social import Page, Post


class TestX(PostsContract):
    fake = FakeX
    scheme, account, search = "x", "@jo", "bread OR water lang:en"
    secrets = {"X_BEARER_TOKEN": "x-secret"}  # noqa: RUF012
    refusal = "is no https address"  # without https no key, and without a key nothing is asked

    def prepare(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("X_BEARER_TOKEN", "x-secret")  # nothing without it
        server.token = "x-secret"

    def test_what_is_not_wanted_is_not_asked_for_because_it_costs(self, server: Any, tmp_path: Path) -> None:
        ingest(self.address(server, self.account, self.search, "from:jo"), tmp_path / "corpus")
        asked = {(path, query.get("exclude", query.get("query"))) for path, query, _ in server.asked[1:]}
        assert ("/2/users/2244994945/tweets", "replies,retweets") in asked
        assert ("/2/tweets/search/recent", "(bread OR water lang:en) -is:reply -is:retweet") in asked
        assert ("/2/tweets/search/recent", "from:jo -is:reply -is:retweet") in asked

    def test_a_newest_id_from_before_the_seven_days_is_not_sent(self, server: Any, tmp_path: Path) -> None:
        address = self.address(server, "bread")
        ingest(address, tmp_path / "corpus")
        del server.asked[:]
        assert ingest(address, tmp_path / "corpus")["unchanged"] == 1
        (asked,) = server.asked
        assert "since_id" not in asked[1]  # the posts' ids are of 2025

    def test_the_whole_archive_is_sold_apart(self, server: Any, tmp_path: Path) -> None:
        address = self.address(server, "bread", archive=True)
        with pytest.raises(
            InputError, match=r"answered 403 \(You currently have access to a subset.*paid access"
        ):
            ingest(address, tmp_path / "corpus")
        server.pays = True
        ingest(address, tmp_path / "corpus")
        assert {path for path, _, _ in server.asked} == {"/2/tweets/search/all"}


def test_the_age_of_a_post_stands_in_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x.time, "time", lambda: 1356998400.0)  # 2013-01-01
    assert x._age("285938079293870081") < 60  # posted in that minute


LINK = {
    "start": 30, "end": 53, "url": "https://t.co/5FBvwtJLR6", "expanded_url": "https://mill.example/a",
    "display_url": "mill.example/a",
}  # fmt: skip
OTHER = {"url": "https://t.co/a", "expanded_url": "https://b.example"}
ANSWER = {
    "data": [
        {
            "id": "1373001119480344583",
            "text": "Six loaves &amp; 🥖, the rest is https://t.co/5FBvwtJLR6",
            "author_id": "2244994945",
            "created_at": "2021-03-19T19:59:10.000Z",
            "lang": "en",
            "edit_history_tweet_ids": ["1373001119480344583"],
            "entities": {"urls": [LINK]},
        },
        {
            "id": "1373001119480344500",
            "text": "A long one, that is cut…",
            "author_id": "999",
            "lang": "und",
            "note_tweet": {"text": "A long one, that is not cut https://t.co/a", "entities": {"urls": [OTHER]}},
            "referenced_tweets": [{"type": "quoted", "id": "1"}, {"type": "replied_to", "id": "2"}],
        },
    ],
    "includes": {"users": [{"id": "2244994945", "name": "Jo", "username": "jo"}]},
    "meta": {
        "newest_id": "1373001119480344583", "oldest_id": "1373001119480344500", "result_count": 2, "next_token": "b26v",
    },
}  # fmt: skip


def test_a_documented_answer_is_read() -> None:
    first = Post(
        "1373001119480344583",
        "0191373001119480344583",
        "Six loaves & 🥖, the rest is https://mill.example/a",
        {
            "url": "https://x.com/jo/status/1373001119480344583",
            "author": "@jo",
            "date": "2021-03-19T19:59:10.000Z",
            "language": "en",
        },
    )
    second = Post(
        "1373001119480344500",
        "0191373001119480344500",
        "A long one, that is not cut https://b.example",
        {"url": "https://x.com/i/status/1373001119480344500"},
        reply=True,
    )
    assert x._page(ANSWER) == Page([first, second], "1373001119480344500")
    assert x._page({"meta": {"result_count": 0}}) == Page([], None)
