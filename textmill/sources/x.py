"""Posts from X (once Twitter): `x:queries.txt`, by X's own SDK (xdk) over its API v2. Nothing is scraped.

`@name` is an account, anything else a search in X's language: `#bread`, `from:jo lang:en`, `"exact words" -is:quote`.
X wants a key, and money for what is read: make an app at developer.x.com and put its bearer token into X_BEARER_TOKEN.
A search reaches back seven days, with `archive: true` to the beginning where your access pays for that; of an account
the last 3,200 posts can be had. Posts read count against the quota you pay for: mind max_posts.
"""

from __future__ import annotations

import html
import re
import time
from dataclasses import dataclass
from typing import Any

from textmill.settings import setting
from textmill.sources import BadItem
from textmill.sources.social import KeyWanted, Page, Post, SocialSettings, SocialSource, by_number

PAGE = 100  # posts an answer has at most
RECENT = 6.9 * 86400  # seconds that a search reaches back, and a little less
EPOCH = 1288834974657  # milliseconds; an id's upper bits count from it


@dataclass(frozen=True)
class XSettings(SocialSettings):
    """What an `x:` description may say."""

    archive: bool = setting(
        False, "Search all posts, not only the last seven days, where your access has this."
    )


class XSource(SocialSource):
    """`@account`, or a search."""

    SETTINGS = XSettings
    settings: XSettings
    SERVER = "https://api.x.com"
    KEY = (
        "X wants a bearer token of an app with paid access (developer.x.com) in the environment variable "
        "X_BEARER_TOKEN"
    )

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._made: Any = None
        self._accounts: dict[str, str] = {}

    def terms(self, query: str) -> str:
        return "https://docs.x.com/developer-terms/agreement"

    def page(self, query: str, since: str, position: str | None) -> Page:
        client = self._client()
        asked: dict[str, Any] = {
            "max_results": PAGE,
            "until_id": position,
            "since_id": since[3:] or None,
            "post_fields": ["created_at", "lang", "author_id", "entities", "referenced_posts", "note_post"],
            "expansions": ["author_id"],
            "user_fields": ["username"],
        }
        if re.fullmatch(r"@\w{1,15}", query):
            unwanted = {"replies": self.settings.replies, "retweets": self.settings.reposts}
            asked["exclude"] = [name for name, wanted in unwanted.items() if not wanted] or None
            found = next(client.users.get_posts(self._account(client, query[1:]), **asked))
        elif self.settings.archive:
            found = next(client.posts.search_all(self._wanted(query), **asked))
        else:
            if asked["since_id"] and _age(asked["since_id"]) > RECENT:
                asked["since_id"] = None  # X refuses an id from before its seven days
            found = next(client.posts.search_recent(self._wanted(query), **asked))
        return _page(found.model_dump())

    def _wanted(self, query: str) -> str:
        """The search without replies and reposts where they are not wanted: what is left out costs nothing."""
        parts = [f"({query})" if " OR " in query else query]
        parts += [] if self.settings.replies else ["-is:reply"]
        parts += [] if self.settings.reposts else ["-is:retweet"]
        return " ".join(parts)

    def _account(self, client: Any, name: str) -> str:
        if name not in self._accounts:
            found = client.users.get_by_username(name).model_dump()
            if not (found.get("data") or {}).get("id"):  # X answers 200 for an account that is not there
                errors = found.get("errors") or [{}]
                raise BadItem(
                    f"X knows no @{name} ({errors[0].get('detail') or errors[0].get('title') or 'no data'})"
                )
            self._accounts[name] = found["data"]["id"]
        return self._accounts[name]

    def _client(self) -> Any:
        from xdk import Client

        if self._made is None:
            token = self.secret("X_BEARER_TOKEN")
            if not token:
                raise KeyWanted(self.KEY)
            self._made = Client(base_url=self.server, bearer_token=token[0])
            self._made.session = self.session()
        return self._made


def _age(identity: str) -> float:
    """Seconds since a post was made, from its id."""
    return time.time() - ((int(identity) >> 22) + EPOCH) / 1000 if identity.isdigit() else float("inf")


def _page(answer: dict[str, Any]) -> Page:
    """An answer's posts. X calls posts tweets in some names of its API and not in others; both are understood."""
    users = {user["id"]: user.get("username") for user in (answer.get("includes") or {}).get("users") or []}
    posts = [_post(post, users) for post in answer.get("data") or []]
    more = (answer.get("meta") or {}).get("next_token")
    return Page(posts, posts[-1].id if posts and more else None)


def _post(post: dict[str, Any], users: dict[str, Any]) -> Post:
    kinds = {each.get("type") for each in post.get("referenced_posts") or post.get("referenced_tweets") or []}
    long = post.get("note_post") or post.get("note_tweet") or {}
    text = long.get("text") or post.get("text") or ""
    links = ((long if long.get("text") else post).get("entities") or {}).get("urls") or []
    for link in links:
        if link.get("url") and link.get("expanded_url"):
            text = text.replace(link["url"], link["expanded_url"])
    author = users.get(post.get("author_id") or "")
    meta = {
        "url": f"https://x.com/{author or 'i'}/status/{post['id']}",
        "author": author and f"@{author}",
        "date": post.get("created_at"),
        "language": post.get("lang") if post.get("lang") != "und" else "",
    }
    return Post(
        post["id"],
        by_number(post["id"]),
        html.unescape(text),
        {name: value for name, value in meta.items() if value},
        reply="replied_to" in kinds,
        repost="retweeted" in kinds,
    )
