"""Loopback stand-ins for Mastodon, Bluesky and X: as much of their APIs as collecting posts takes.

A server holds `posts`, (number, text, kind) with the newest last; kind is "", "reply" or "repost". Every account
and every search finds all of them. `page` is the most posts of one answer, `limited` how many requests are answered
429 first, `broken` how many 503, `after` the number of good answers before those, `token` what a stranger lacks (""
for nothing). `asked` are the requests as (path, query, Authorization).
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.sources.fakes import Fake, serving

Numbered = tuple[int, str, str]


class FakeService(Fake):
    """Counts, limits and breaks; subclasses speak a dialect."""

    reset: dict[str, Any]

    def answer(self, path: str, query: dict[str, str]) -> None:
        server = self.server
        server.asked.append((path, query, self.headers.get("Authorization", "")))
        if server.after > 0:
            server.after -= 1
        elif server.limited > 0:
            server.limited -= 1
            self.send(
                429,
                b'{"error": "Too many requests"}',
                Content_Type="application/json",
                **self.reset_headers(),
            )
            return
        elif server.broken > 0:
            server.broken -= 1
            self.send(503, b"busy")
            return
        if not self.respond(path, query):
            self.json(404, {"error": "Record not found"})

    def reset_headers(self) -> dict[str, str]:
        raise NotImplementedError

    def respond(self, path: str, query: dict[str, str]) -> bool:
        raise NotImplementedError

    def json(self, status: int, value: Any, **headers: str) -> bool:
        self.send(
            status, json.dumps(value).encode(), Content_Type="application/json; charset=utf-8", **headers
        )
        return True

    def authorized(self) -> bool:
        return not self.server.token or self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def newest_first(
        self, query: dict[str, str], without: tuple[str, ...], until: str, since: str
    ) -> list[Numbered]:
        """One page by ids, as Mastodon and X give it."""
        below, above = int(query.get(until) or 10**19), int(query.get(since) or 0)
        found = [p for p in reversed(self.server.posts) if above < p[0] < below and p[2] not in without]
        return found[: min(self.server.page, int(query.get("limit") or query.get("max_results") or 10))]


class FakeMastodon(FakeService):
    """/api/v1/accounts/lookup, …/statuses, /api/v1/timelines/tag/…, /api/v2/search (for those with a token)."""

    def reset_headers(self) -> dict[str, str]:
        return {
            "X_RateLimit_Reset": datetime.fromtimestamp(time.time() + 1, UTC).isoformat(),
            "X_RateLimit_Remaining": "0",
        }

    def respond(self, path: str, query: dict[str, str]) -> bool:
        if path == "/api/v2/instance/":
            return self.json(
                200, {"domain": "soil.example", "title": "Soil", "version": "4.4.0", "configuration": {}}
            )
        if path == "/api/v1/accounts/lookup" and query["acct"] in self.server.accounts:
            return self.json(200, account(query["acct"]))
        if path.startswith("/api/v1/accounts/") and path.endswith("/statuses"):
            # Mastodon.py sends booleans as 1 and 0, or leaves false ones out
            without = [kind for name, kind in (("exclude_replies", "reply"), ("exclude_reblogs", "repost"))
                       if query.get(name) in ("1", "true", "True")]  # fmt: skip
            return self.json(
                200, [status(p) for p in self.newest_first(query, tuple(without), "max_id", "since_id")]
            )
        if path.startswith("/api/v1/timelines/tag/"):
            return self.json(200, [status(p) for p in self.newest_first(query, (), "max_id", "since_id")])
        if path == "/api/v2/search":
            if not self.authorized() or not self.server.token:
                return self.json(401, {"error": "This method requires an authenticated user"})
            start = int(query.get("offset", 0))
            found = self.server.posts[start : start + int(query["limit"])]
            return self.json(200, {"accounts": [], "hashtags": [], "statuses": [status(p) for p in found]})
        return False


def account(name: str) -> dict[str, Any]:
    return {
        "id": "109" + str(sum(map(ord, name))),
        "username": name,
        "acct": name,
        "url": f"https://soil.example/@{name}",
    }


def status(post: Numbered, inner: bool = False) -> dict[str, Any]:
    number, text, kind = post
    made: dict[str, Any] = {
        "id": str(number),
        "created_at": stamp(number),
        "in_reply_to_id": "7" if kind == "reply" else None,
        "in_reply_to_account_id": None,
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "public",
        "language": "en",
        "uri": f"https://soil.example/users/jo/statuses/{number}",
        "url": f"https://soil.example/@jo/{number}",
        "content": f"<p>{text}</p>",
        "reblog": None,
        "account": account("jo"),
        "media_attachments": [], "mentions": [], "tags": [], "emojis": [], "card": None, "poll": None,
    }  # fmt: skip
    if kind == "repost":
        made |= {"content": "", "reblog": status((number, text, ""), True)}
    return made


def stamp(number: int) -> str:
    return datetime.fromtimestamp(1_700_000_000 + number % 10**6, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class FakeBluesky(FakeService):
    """createSession, getAuthorFeed, and searchPosts for those who are logged in."""

    def reset_headers(self) -> dict[str, str]:
        return {
            "ratelimit_limit": "3000",
            "ratelimit_remaining": "0",
            "ratelimit_reset": str(int(time.time()) + 1),
        }

    def do_POST(self) -> None:  # noqa: N802
        parts = urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(
            (unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()}, "")
        )
        if body["password"] != self.server.password:
            self.json(401, {"error": "AuthenticationRequired", "message": "Invalid identifier or password"})
            return
        claims = (
            base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) + 7200}).encode())
            .decode()
            .rstrip("=")
        )
        self.server.token = f"eyJhbGciOiJIUzI1NiJ9.{claims}.sign"
        session = {
            "accessJwt": self.server.token,
            "refreshJwt": self.server.token,
            "handle": body["identifier"],
            "did": DID,
        }
        self.json(200, session)

    def respond(self, path: str, query: dict[str, str]) -> bool:
        start = int(query.get("cursor") or 0)
        if path == "/xrpc/app.bsky.feed.getAuthorFeed":
            if query["actor"] not in self.server.accounts:
                return self.json(400, {"error": "InvalidRequest", "message": "Profile not found"})
            without = ("reply",) if query["filter"] == "posts_no_replies" else ()
            found = [p for p in reversed(self.server.posts) if p[2] not in without]
            page, cursor = self.cut(found, start)
            return self.json(200, {"feed": [entry(p) for p in page], **cursor})
        if path == "/xrpc/app.bsky.feed.searchPosts":
            if not self.server.token or not self.authorized():
                return self.json(403, {"error": "Forbidden", "message": "a login is needed"})
            page, cursor = self.cut([p for p in self.server.posts[::-1] if p[2] != "repost"], start)
            return self.json(200, {"posts": [entry(p)["post"] for p in page], **cursor})
        return False

    def cut(self, found: list[Numbered], start: int) -> tuple[list[Numbered], dict[str, str]]:
        end = start + self.server.page
        return found[start:end], ({"cursor": str(end)} if end < len(found) else {})


DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
CID = "bafyreihu3wz5tmxxdrhqmcxzdpbqzqeoyzbwwdy3mhfyxjqmpvjnbtpbxe"


def entry(post: Numbered) -> dict[str, Any]:
    number, text, kind = post
    record: dict[str, Any] = {
        "$type": "app.bsky.feed.post",
        "text": text,
        "createdAt": stamp(number),
        "langs": ["en"],
    }
    if kind == "reply":
        to = {"uri": f"at://{DID}/app.bsky.feed.post/1", "cid": CID}
        record["reply"] = {"root": to, "parent": to}
    view = {
        "$type": "app.bsky.feed.defs#postView",
        "uri": f"at://{DID}/app.bsky.feed.post/3k{number}",
        "cid": CID,
        "author": {"did": DID, "handle": "jo.soil.example"},
        "record": record,
        "indexedAt": stamp(number),
    }
    made: dict[str, Any] = {"post": view}
    if kind == "repost":
        by = {"did": DID, "handle": "jo.soil.example"}
        made["reason"] = {"$type": "app.bsky.feed.defs#reasonRepost", "by": by, "indexedAt": stamp(number)}
    return made


class FakeX(FakeService):
    """/2/users/by/username/…, /2/users/…/tweets, /2/tweets/search/recent and /all."""

    def reset_headers(self) -> dict[str, str]:
        return {"x_rate_limit_reset": str(int(time.time()) + 1), "x_rate_limit_remaining": "0"}

    def respond(self, path: str, query: dict[str, str]) -> bool:
        if not self.authorized():
            return self.json(
                401, {"title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Unauthorized"}
            )
        if path.startswith("/2/users/by/username/"):
            name = path.rpartition("/")[2]
            if name not in self.server.accounts:
                detail = f"Could not find user with username: [{name}]."
                return self.json(
                    200, {"errors": [{"title": "Not Found Error", "detail": detail, "type": "about:blank"}]}
                )
            return self.json(200, {"data": {"id": "2244994945", "name": name.title(), "username": name}})
        if path == "/2/users/2244994945/tweets":
            names = {"replies": "reply", "retweets": "repost"}
            without = [names[name] for name in query.get("exclude", "").split(",") if name]
        elif path.startswith("/2/tweets/search/"):
            if path.endswith("/all") and not self.server.pays:
                detail = "You currently have access to a subset of X API V2 endpoints"
                return self.json(
                    403, {"title": "Forbidden", "detail": detail, "reason": "client-not-enrolled"}
                )
            without = [
                kind
                for sign, kind in (("-is:reply", "reply"), ("-is:retweet", "repost"))
                if sign in query["query"]
            ]
        else:
            return False
        found = self.newest_first(query, tuple(without), "until_id", "since_id")
        meta: dict[str, Any] = {"result_count": len(found)}
        if not found:
            return self.json(200, {"meta": meta})
        meta |= {"newest_id": str(found[0][0]), "oldest_id": str(found[-1][0])}
        rest = self.newest_first(
            {**query, "until_id": str(found[-1][0])}, tuple(without), "until_id", "since_id"
        )
        meta |= {"next_token": "7140dibdnow9c7btw"} if rest else {}
        users = [{"id": "2244994945", "name": "Jo", "username": "jo"}]
        return self.json(200, {"data": [tweet(p) for p in found], "includes": {"users": users}, "meta": meta})


def tweet(post: Numbered) -> dict[str, Any]:
    number, text, kind = post
    made: dict[str, Any] = {
        "id": str(number), "text": text, "author_id": "2244994945", "lang": "en", "created_at": stamp(number),
        "edit_history_tweet_ids": [str(number)],
    }  # fmt: skip
    if kind:
        made["referenced_tweets"] = [
            {"type": {"reply": "replied_to", "repost": "retweeted"}[kind], "id": "1"}
        ]
    return made


@contextlib.contextmanager
def service(kind: type[FakeService], posts: list[Numbered]) -> Iterator[Any]:
    with serving(kind) as server:
        server.posts, server.asked, server.accounts = list(posts), [], {"jo", "jo.soil.example"}
        server.page, server.limited, server.broken, server.after = 2, 0, 0, 0
        server.token, server.password, server.pays = "", "app-pass-word", False
        yield server
