"""The HTML of a post, as Mastodon and other ActivityPub servers send it (cleaned by them), as plain text.

By one pattern that takes linear time: the standard library's parser does not, and a post can come from anyone.
"""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)[^<>]*>|<![^<>]*>")
_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>[^<]*(?:</\1>)?", re.IGNORECASE)
_BLOCKS = ("p", "blockquote", "pre", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6")


def post_text(content: str) -> str:
    """Paragraphs with an empty line between, `<br>` as a line end; a link's text is its whole address there."""
    text = html.unescape(_TAG.sub(_shown, _UNSEEN.sub("", content)))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _shown(tag: re.Match[str]) -> str:
    name = (tag[2] or "").lower()
    if name in _BLOCKS:
        return "\n\n"
    if name == "br":
        return "\n"
    return "\n- " if name == "li" and not tag[1] else ""
