"""An account's archive from Mastodon ("Request your archive"): outbox.json, a document a public post.

Boosts hold no words and are left out; so are posts that not everybody may read: for followers only, or direct.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.json_stream import elements
from textmill.sources.post_html import post_text
from textmill.sources.texts import Reading, Row

log = logging.getLogger("textmill.ingest")

_OPENING = re.compile(r'"orderedItems"\s*:\s*\[')
_PUBLIC = ("https://www.w3.org/ns/activitystreams#Public", "as:Public", "Public")


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """Public posts. meta: date, url, language, reply, and warning for the words above a post that is folded."""
    left_out: Counter[str] = Counter()
    for number, activity in enumerate(elements(text, _OPENING, "a Mastodon archive's outbox.json"), 1):
        post = activity.get("object") if isinstance(activity, dict) else None
        if isinstance(activity, dict) and activity.get("type") == "Announce":
            left_out["boosts"] += 1
        elif not isinstance(post, dict) or not isinstance(post.get("content"), str):
            yield BadItem(f"entry {number} of its orderedItems is no post with a 'content'")
        elif not any(to in _PUBLIC for to in _listed(post.get("to")) + _listed(post.get("cc"))):
            left_out["posts that are not public"] += 1
        else:
            yield _document(post, name, number)
    for what, count in left_out.items():
        log.info("%s: %d %s are left out", name, count, what)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _document(post: dict[str, Any], name: str, number: int) -> Document:
    url = str(post.get("url") or post.get("id") or "")
    meta: dict[str, Any] = {"url": url, "date": post.get("published"), "warning": post.get("summary")}
    languages = post.get("contentMap")
    if isinstance(languages, dict) and len(languages) == 1:
        meta["language"] = next(iter(languages))
    meta = {key: value for key, value in meta.items() if isinstance(value, str) and value}
    if post.get("inReplyTo"):
        meta["reply"] = True
    identity = url.rstrip("/").rpartition("/")[2] or number
    return Document(f"{name}#{identity}", post_text(post["content"]), url, meta)
