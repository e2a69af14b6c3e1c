"""An account's archive from X (Settings, "Download an archive of your data"): data/tweets.js, a document a post.

The file is JavaScript, `window.YTD.tweets.part0 = [{"tweet": {…}}, …]`; older archives have tweet.js, and the posts
without the outer object. The short links t.co are replaced by what they stand for, those to the post's own pictures
are dropped. Reposts are other people's words, and cut: they are left out.
"""

from __future__ import annotations

import contextlib
import html
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.json_stream import elements
from textmill.sources.texts import Reading, Row

log = logging.getLogger("textmill.ingest")

_OPENING = re.compile(r"\A\s*(?:window\.YTD\.tweets?\.part\d+\s*=\s*)?\[")


def read(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """The account's own posts. meta: date, url, language, and reply: true for an answer to another post."""
    reposts = 0
    for number, element in enumerate(elements(text, _OPENING, "an X archive's tweets.js"), 1):
        post = element.get("tweet", element) if isinstance(element, dict) else None
        if not isinstance(post, dict) or not isinstance(post.get("full_text", post.get("text")), str):
            yield BadItem(f"post {number} has no text ('full_text')")
        elif str(post.get("full_text", post.get("text"))).startswith("RT @"):
            reposts += 1
        else:
            yield _document(post, name, number)
    if reposts:
        log.info("%s: %d reposts are left out", name, reposts)


def _document(post: dict[str, Any], name: str, number: int) -> Document:
    identity = str(post.get("id_str") or post.get("id") or number)
    meta: dict[str, Any] = {"url": f"https://x.com/i/status/{identity}"}
    with contextlib.suppress(TypeError, ValueError):
        meta["date"] = datetime.strptime(post.get("created_at"), "%a %b %d %H:%M:%S %z %Y").isoformat()  # type: ignore[arg-type]
    if isinstance(post.get("lang"), str) and post["lang"] != "und":
        meta["language"] = post["lang"]
    if post.get("in_reply_to_status_id_str") or post.get("in_reply_to_status_id"):
        meta["reply"] = True
    return Document(f"{name}#{identity}", _text(post), meta["url"], meta)


def _text(post: dict[str, Any]) -> str:
    text: str = post.get("full_text") or post.get("text") or ""
    for link in _entities(post, "urls"):
        text = text.replace(link["url"], str(link.get("expanded_url") or link["url"]))
    for link in _entities(post, "media"):
        text = text.replace(link["url"], "")
    return html.unescape(text).strip()


def _entities(post: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = post.get("entities")
    found = found.get(kind) if isinstance(found, dict) else None
    links = [link for link in found if isinstance(link, dict)] if isinstance(found, list) else []
    return [link for link in links if isinstance(link.get("url"), str) and link["url"]]
