"""Posts from Mastodon and what speaks its API: `mastodon:queries.txt`, by Mastodon.py.

`@name@server` is asked of its own server, which knows all its public posts; `@name`, `#word` and searches of `server`.
Public posts and hashtags cost nothing and need no token on most servers. A search does, and so do servers that show
nothing to strangers: an access token with the right to read (Preferences, Development, New application) in
MASTODON_ACCESS_TOKEN, which is sent to `server` alone.
"""

from __future__ import annotations

import re
from typing import Any

from textmill.sources import BadItem
from textmill.sources.post_html import post_text
from textmill.sources.social import Page, Post, SocialSource, by_number

PAGE = 40  # posts an answer has at most
ACCOUNT = re.compile(r"@([\w.-]+)(?:@([\w.:-]+))?")


class MastodonSource(SocialSource):
    """`@account` and `@account@server`, `#hashtag`, or words to search for."""

    SERVER = "https://mastodon.social"
    KEY = "give an access token of the server in the environment variable MASTODON_ACCESS_TOKEN"

    def terms(self, query: str) -> str:
        """A server's rules and terms."""
        account = ACCOUNT.fullmatch(query)
        return f"{self._at(account[2] if account else '')}/about"

    def page(self, query: str, since: str, position: str | None) -> Page:
        bounds = {"max_id": position, "since_id": since[3:] or None, "limit": PAGE}
        account = ACCOUNT.fullmatch(query)
        tag = re.fullmatch(r"#(\w+)", query)
        if account:
            client = self._client(account[2] or "")
            identity = self._account(client, account[1])
            found = client.account_statuses(
                identity,
                exclude_replies=not self.settings.replies,
                exclude_reblogs=not self.settings.reposts,
                **bounds,
            )
        elif tag:
            found = self._client().timeline_hashtag(tag[1], **bounds)
        else:
            return self._search(query, position)
        last = str(found[-1].id) if found else None
        return Page([_post(status) for status in found], last)

    def _search(self, query: str, position: str | None) -> Page:
        """A server's search knows no order in time; pages are counted."""
        offset = int(position or 0)
        found = (
            self._client()
            .search_v2(query, resolve=False, result_type="statuses", offset=offset, limit=PAGE)
            .statuses
        )
        posts = [_post(status) for status in found]
        return Page(posts, str(offset + len(posts)) if len(posts) == PAGE else None, by_time=False)

    def _account(self, client: Any, name: str) -> str:
        known = self._accounts.setdefault(client.api_base_url, {})
        if name not in known:
            known[name] = str(client.account_lookup(name).id)
        return known[name]

    def _at(self, host: str | None) -> str:
        """The server of an account; `server` where none is named."""
        return f"https://{host}" if host and host != self.server.partition("://")[2] else self.server

    def _client(self, host: str = "") -> Any:
        """A client of one server. Only that of `server` has the token."""
        from mastodon import Mastodon

        server = self._at(host)
        if server not in self._clients:
            token = self.secret("MASTODON_ACCESS_TOKEN") if server == self.server else []
            self._clients[server] = Mastodon(
                api_base_url=server,
                access_token=token[0] if token else None,
                session=self.session(),
                ratelimit_method="throw",  # the session waits
                request_timeout=self.settings.timeout,
                version_check_mode="created",
                mastodon_version="4.4.0",  # taken for granted, so that no request asks for it
                user_agent=self.settings.agent(),
            )
        return self._clients[server]

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self._clients: dict[str, Any] = {}
        self._accounts: dict[str, dict[str, str]] = {}


def _post(status: Any) -> Post:
    """A status; of a boost the boosted one's words."""
    said = status.reblog or status
    if not isinstance(said.content, str):
        raise BadItem("the server sent a post without a text")
    meta = {
        "url": said.url or said.uri or "",
        "author": f"@{said.account.acct}",
        "date": said.created_at.isoformat() if hasattr(said.created_at, "isoformat") else said.created_at,
        "language": said.language,
        "warning": said.spoiler_text,
    }
    identity = str(status.id)
    return Post(
        identity,
        by_number(identity),
        post_text(said.content),
        {name: value for name, value in meta.items() if value},
        reply=said.in_reply_to_id is not None and status.reblog is None,
        repost=status.reblog is not None,
    )
