"""What the sources of posts share: queries, what is kept of each from run to run, and errors in one line.

    mastodon:queries.txt                                a query a line; all of them are asked; queries/ is all its files
    x:{queries_file: queries.txt, replies: true}        with settings
    bluesky:{queries: ["@jo.bsky.social", "#bread"]}    in place

A query is one item of the corpus, named like it; a post is one document. `@name` is an account, `#word` a hashtag,
anything else a search. A service is asked for what is newer than the newest post of the last time; what came is kept
page by page beside the corpus' shards, so that a run that is killed, or told to wait too long, goes on where it
was. Posts that were deleted since stay in the corpus until it is made anew, and edited ones as they were unless the
newest are asked for again (`recheck`).

Tokens come from the environment and are sent to the service alone, over https. A subclass knows one service.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import urlsplit

from textmill.errors import InputError, MachineError, SettingsError
from textmill.files import writing_failed
from textmill.settings import setting
from textmill.sources import BadItem, Item, Source, Unreachable, clean_name, spool, without_secrets
from textmill.sources.described import PoliteSettings, check_address, read_description, read_lines
from textmill.sources.guarded_http import host_of
from textmill.sources.texts import DOCUMENTS, packed

log = logging.getLogger("textmill.ingest")


@dataclass(frozen=True)
class SocialSettings(PoliteSettings):
    """What the description of a source of posts may say."""

    queries: list = setting([], "What to collect: @account, #hashtag, or words to search for.")
    queries_file: str = setting("", "A file with one query a line, or a folder of such; '# …' is a comment.")
    server: str = setting("", "The address of the service, https://…, where it is not the usual one.")
    replies: bool = setting(False, "Take replies to other posts too.")
    reposts: bool = setting(False, "Take reposts (boosts) too: other people's words.")
    duplicates: bool = setting(False, "Keep posts whose text stood before among those of the same query.")
    max_posts: int = setting(5000, "The most posts of one query in one run, the newest.", minimum=1)
    recheck: int = setting(
        0, "Ask again for about so many of the newest posts, and take what was edited since.", minimum=0
    )
    max_wait: float = setting(
        960.0, "The longest that a rate limit is waited for, in seconds.", minimum=0, maximum=86400
    )

    TEXTS: ClassVar = (*PoliteSettings.TEXTS, "queries")

    def check(self) -> None:
        super().check()
        if not self.queries and not self.queries_file:
            raise SettingsError("no queries are named; give 'queries' or 'queries_file'.")
        if self.server:
            check_address("server", self.server)

    def asked(self) -> list[str]:
        """All queries, each once, in order. Raises SettingsError when the file has none."""
        listed = [*self.queries, *(read_lines(self.queries_file) if self.queries_file else [])]
        listed = list(dict.fromkeys(" ".join(query.split()) for query in listed))
        if not listed:
            raise SettingsError(f"{self.queries_file} holds no query; write one a line.")
        return listed


@dataclass(frozen=True)
class Post:
    """A post as it is kept. order: grows with time, compared as text; the service's id where that tells the time."""

    id: str
    order: str
    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    reply: bool = False
    repost: bool = False


@dataclass(frozen=True)
class Page:
    """Posts, and where to go on; None at the end. by_time: the newest come first, so that nothing new comes behind an
    old one."""

    posts: list[Post]
    position: str | None
    by_time: bool = True


def by_number(identity: str) -> str:
    """The `order` of posts whose ids are growing numbers (or letters): the longer one is the later one."""
    return f"{len(identity):03}{identity}"


class KeyWanted(Unreachable):
    """The service wants a key, or another one, for this query; others may do without."""


class SocialSource(Source):
    """Posts of one service by queries, an item a query."""

    SETTINGS: ClassVar[type[SocialSettings]] = SocialSettings
    SERVER: ClassVar[str]  # where nothing else is said
    KEY: ClassVar[str]  # how the user gets a token and where it goes, as a clause for an error

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        scheme, _, place = address.partition(":")
        if place.strip().endswith((".txt", "/")) and "\n" not in place:
            address = f"{scheme}:{json.dumps({'queries_file': place.strip()})}"
        self.settings, self.label = read_description(
            self.SETTINGS, address, url=lambda url: {"queries_file": url}
        )
        if self.settings.queries_file:
            self.label = (
                f"{scheme}:{without_secrets(self.settings.queries_file).rstrip('/').rpartition('/')[2]}"
            )
        self.queries = self.settings.asked()
        self.server = (self.settings.server or self.SERVER).rstrip("/")
        self._status = 0  # of the last answer
        self._said = ""  # what the last answer said of its error
        self._asked = 0
        self._refused: list[str] = []  # a line for each query that wants a key
        self._kept_on: list[str] = []  # those of them whose posts are here from before

    @abc.abstractmethod
    def page(self, query: str, since: str, position: str | None) -> Page:
        """Posts older than `position` (None: the newest) and newer than `since` ("": all), as far as the service can
        tell; older ones may be among them."""

    @abc.abstractmethod
    def terms(self, query: str) -> str:
        """Where the terms stand under which the service gives out what a query finds."""

    def items(self) -> list[Item]:
        names: dict[str, str] = {}
        for query in self.queries:
            name = clean_name(query.replace("/", "_").lstrip("."))
            if name in names:
                raise InputError(
                    f"{self.label}: the queries {names[name]!r} and {query!r} would have one name."
                )
            names[name] = query
        return [
            Item(
                name,
                functools.partial(self._open, query),
                source=f"{self.server} {query}",
                kind=DOCUMENTS,
                terms=self.terms(query),
            )
            for name, query in names.items()
        ]

    def used(self) -> dict[str, Any]:
        return {"queries": self.queries} | {
            k: v for k, v in self.settings.changed().items() if k != "queries"
        }

    def taken(self) -> None:
        """Some queries may want a key that is not there; when all of them do, that is the run's error."""
        if self._refused and len(self._refused) == self._asked:
            raise InputError(f"{self.label}: {self._refused[0]}.")
        for line in self._kept_on:
            log.warning("%s; its posts of earlier runs stay", line)

    def _open(self, query: str) -> IO[bytes]:
        self._asked += 1
        kept = Kept(self.work and self.work / self._place(query))
        try:
            with self.asking(query):
                self._fetch(query, kept)
        except Unreachable as error:
            line = f"{query}: {error.reason}"
            wants_key = isinstance(error, KeyWanted)
            self._refused += [line] * wants_key
            if not kept.posts:
                raise
            if wants_key:
                self._kept_on.append(line)
            else:
                log.warning("%s; what came so far is taken, and the next run goes on", line)
        return spool(self._documents(kept), self.max_bytes)

    def _place(self, query: str) -> str:
        """What is kept depends on all that decides which posts a service is asked for."""
        depends = [
            self.server,
            query,
            self.settings.digest("queries", "queries_file", "duplicates", "recheck"),
        ]
        scheme = self.address.partition(":")[0].lower()
        return f"{scheme}-{hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:24]}.jsonl"

    def _fetch(self, query: str, kept: Kept) -> None:
        known = set(kept.posts)
        if kept.mark.position is not None:  # the rest of a walk that was stopped
            self._walk(query, kept, kept.mark)
        self._walk(query, kept, Mark(since=kept.mark.since))
        if known and self.settings.recheck:
            self._recheck(query, kept, known)

    def _walk(self, query: str, kept: Kept, mark: Mark) -> None:
        """From the newest post (or where the last walk stopped) down to those that are known."""
        came = mark.count
        top, position = mark.top, mark.position
        while True:
            page = self.page(query, mark.since, position)
            old = [post for post in page.posts if page.by_time and post.order < mark.since]
            new = [post for post in page.posts if post not in old and post.id not in kept.posts]
            came += len(new)
            top = max([top, *(post.order for post in new)])
            if page.position is None or old or came >= self.settings.max_posts:
                kept.add(new, Mark(since=max(top, mark.since)))
                return
            if page.position == position:
                raise BadItem(f"{host_of(self.server)} repeats its answer without end")
            position = page.position
            kept.add(new, Mark(mark.since, top, position, came))
            self.tick(f"{came:,} new posts of {query}")

    def _recheck(self, query: str, kept: Kept, known: set[str]) -> None:
        """The newest of the `known` posts once more: what reads otherwise now replaces what was kept."""
        seen, position = 0, None
        while seen < self.settings.recheck:
            page = self.page(query, "", position)
            again = [post for post in page.posts if post.id in known]
            kept.add([post for post in again if post != kept.posts[post.id]], kept.mark)
            seen += len(again)
            if page.position is None or page.position == position:
                return
            position = page.position
            self.tick(f"{seen:,} posts of {query} asked for again")

    def _documents(self, kept: Kept) -> Iterator[bytes]:
        """The posts that are wanted, the oldest first."""
        seen: set[str] = set()
        for post in sorted(kept.posts.values(), key=lambda post: (post.order, post.id)):
            text = post.text.strip()
            if (post.reply and not self.settings.replies) or (post.repost and not self.settings.reposts):
                continue
            if not text or (text in seen and not self.settings.duplicates):
                continue
            seen.add(text)
            marks = {name: True for name in ("reply", "repost") if getattr(post, name)}
            yield packed(text + "\n", post.meta | marks, post.id)

    # --- one service's answers and errors

    def session(self) -> Any:
        """A guarded session (pauses, retries, rate limits) for the service's client."""
        from textmill.sources.guarded_session import guarded_session

        limits = self.settings.limits(self.max_bytes)
        session = guarded_session(
            self.settings.guard(), limits, agent=self.settings.agent(), tick=lambda note: self.tick(note)
        )
        session.hooks["response"].append(self._heard)
        return session

    def secret(self, *names: str) -> list[str]:
        """The tokens in these environment variables, [] where one is missing. Raises InputError where it would go
        over a line that anyone can read."""
        found = [os.environ.get(name, "").strip() for name in names]
        if not all(found):
            return []
        parts = urlsplit(self.server)
        if parts.scheme != "https" and (parts.hostname or "") not in self.settings.allow:
            raise InputError(f"{self.server} is no https address; {names[-1]} is not sent there.")
        return found

    def _heard(self, response: Any, **_: Any) -> None:
        self._status, self._said = response.status_code, ""
        if response.ok and b'"errors"' not in response.content[:2000]:
            return
        with contextlib.suppress(ValueError, AttributeError):
            self._said = _message(response.json())

    @contextlib.contextmanager
    def asking(self, query: str) -> Iterator[None]:
        """One line of whatever a client library raises: by its cause, or by the status of the last answer."""
        self._status, self._said = 0, ""
        try:
            yield
        except (InputError, MachineError, BadItem, KeyboardInterrupt):
            raise
        except Exception as error:
            raise self._explained(query, error) from None

    def _explained(self, query: str, error: Exception) -> Exception:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BadItem):
                return cause
            cause = cause.__cause__ or cause.__context__
        host, status = host_of(self.server), self._status
        said = f" ({self._said})" if self._said else ""
        if status in (401, 402, 403):
            return KeyWanted(f"{host} answered {status}{said}; {self.KEY}")
        if status in (404, 410):
            return BadItem(f"{host} knows no {query}{said}")
        if status == 429:
            return Unreachable(f"{host} has answered enough for now (429)")
        if status >= 500 or status == 0:
            return Unreachable(f"{host}: {f'answered {status}' if status else _first_line(error)}")
        if status >= 400:
            return BadItem(f"{host} answered {status}{said}")
        if said:  # X answers 200 where it knows an account no more
            return BadItem(f"{host} knows no {query}{said}")
        return BadItem(f"{host} gave an answer that is not understood ({_first_line(error)})")


def _message(value: Any) -> str:
    """The words in an error's JSON: Mastodon's `error`, the AT protocol's `message`, X's `detail` or `title`, which may
    stand below `errors`."""
    if not value.get("data") and isinstance(value.get("errors"), list) and value["errors"]:
        value = value["errors"][0]
    names = ("detail", "message", "error_description", "error", "title")
    found = next((value[name] for name in names if isinstance(value.get(name), str) and value[name]), "")
    return " ".join(found.split())[:200]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


# --- what is kept from run to run


@dataclass(frozen=True)
class Mark:
    """How far a walk came. since: all up to this order is there. While one is under way, top: the newest order it saw,
    position: where it goes on, count: the posts that came."""

    since: str = ""
    top: str = ""
    position: str | None = None
    count: int = 0


class Kept:
    """The posts of one query and how far they go, in a file that only grows: a line a post, then the mark after them.

    A line that was cut by a kill, and posts without a mark behind them, do no harm: they are asked for again.
    """

    def __init__(self, path: Path | None) -> None:
        self.posts: dict[str, Post] = {}
        self.mark = Mark()
        self._path = path
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._recall(json.loads(line))

    def _recall(self, value: dict[str, Any]) -> None:
        if "mark" in value:
            self.mark = Mark(**value["mark"])
        else:
            post = Post(**value["post"])
            self.posts[post.id] = post

    def add(self, posts: list[Post], mark: Mark) -> None:
        """Keep a page, and then how far it goes."""
        changed = bool(posts) or mark != self.mark
        self.posts.update((post.id, post) for post in posts)
        self.mark = mark
        if self._path is None or not changed:
            return
        values = [*({"post": asdict(post)} for post in posts), {"mark": asdict(mark)}]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.write(b"\n" + b"".join(json.dumps(value).encode() + b"\n" for value in values))
        except OSError as error:
            raise writing_failed(self._path, error) from error


def httpx_through(session: Any) -> Any:
    """An httpx transport that sends through a requests session: one guard, one set of bounds, for both."""
    import httpx

    class Through(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            headers = {
                name: text
                for name, text in request.headers.items()
                if name not in ("host", "accept-encoding")
            }
            answer = session.request(
                request.method,
                str(request.url),
                data=request.read() or None,
                headers=headers,
                allow_redirects=False,
            )
            dropped = ("content-encoding", "content-length", "transfer-encoding")
            kept = [(name, text) for name, text in answer.headers.items() if name.lower() not in dropped]
            return httpx.Response(answer.status_code, headers=kept, stream=httpx.ByteStream(answer.content))

    return Through()
