"""Posts from Bluesky: `bluesky:queries.txt`, by the AT protocol's Python SDK (atproto).

`@handle` (such as @jo.bsky.social) is an account, its public posts cost nothing and need no account of ours. A search,
also for a `#hashtag`, needs one: its handle in BLUESKY_HANDLE and an app password (Settings, Privacy and security) in
BLUESKY_APP_PASSWORD, which is sent to `server` alone, by default https://bsky.social.
"""

from __future__ import annotations

from typing import Any

from textmill.sources.social import Page, Post, SocialSource, httpx_through

PAGE = 100  # posts an answer has at most
PUBLIC, OWN = "https://public.api.bsky.app", "https://bsky.social"


class BlueskySource(SocialSource):
    """`@handle`, or words to search for, `#hashtag` among them."""

    SERVER = PUBLIC
    KEY = (
        "give a handle in the environment variable BLUESKY_HANDLE and an app password in BLUESKY_APP_PASSWORD"
    )

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._made: Any = None

    def terms(self, query: str) -> str:
        return "https://bsky.social/about/support/tos"

    def page(self, query: str, since: str, position: str | None) -> Page:
        feed = self._client().app.bsky.feed
        if query.startswith("@") and " " not in query:
            which = "posts_with_replies" if self.settings.replies else "posts_no_replies"
            found = feed.get_author_feed(
                {
                    "actor": query[1:],
                    "filter": which,
                    "limit": PAGE,
                    "cursor": position,
                    "include_pins": False,
                }
            )
            posts = [_post(entry.post, entry.reason) for entry in found.feed]
        else:
            asked = {"q": query, "sort": "latest", "limit": PAGE, "cursor": position, "since": since or None}
            found = feed.search_posts({name: value for name, value in asked.items() if value is not None})
            posts = [_post(post, None) for post in found.posts]
        return Page(posts, found.cursor if posts else None)

    def _client(self) -> Any:
        """A client, logged in where the environment says as whom."""
        from atproto_client import Client
        from atproto_client.request import Request

        if self._made is None:
            if not self.settings.server and self._account():
                self.server = OWN
            client = Client(self.server, request=Request(transport=httpx_through(self.session())))
            if account := self._account():
                client.login(*account, fetch_bsky_profile=False)
            self._made = client
        return self._made

    def _account(self) -> list[str]:
        return self.secret("BLUESKY_HANDLE", "BLUESKY_APP_PASSWORD")


def _post(post: Any, reason: Any) -> Post:
    """A post, or a repost: then the time is that of reposting."""
    record = post.record
    repost = reason is not None and hasattr(reason, "indexed_at")
    author, key = post.author.handle, post.uri.rpartition("/")[2]
    meta = {
        "url": f"https://bsky.app/profile/{author}/post/{key}",
        "author": f"@{author}",
        "date": getattr(record, "created_at", ""),
        "language": next(iter(getattr(record, "langs", None) or []), ""),
    }
    return Post(
        f"{post.uri}{' repost' if repost else ''}",
        reason.indexed_at if repost else post.indexed_at,
        _text(record),
        {name: value for name, value in meta.items() if value},
        reply=getattr(record, "reply", None) is not None and not repost,
        repost=repost,
    )


def _text(record: Any) -> str:
    """The text with whole addresses: in it they are cut, `example.org/a-long…`. Places are counted in UTF-8 bytes."""
    data = (getattr(record, "text", "") or "").encode()
    links = []
    for facet in getattr(record, "facets", None) or []:
        for feature in facet.features:
            if getattr(feature, "uri", None):
                links.append((facet.index.byte_start, facet.index.byte_end, feature.uri))
    for start, end, uri in sorted(links, reverse=True):
        if 0 <= start < end <= len(data):
            data = data[:start] + uri.encode() + data[end:]
    return data.decode("utf-8", "replace")
