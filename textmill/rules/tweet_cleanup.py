"""Clean-up of posts: web addresses, mentions, hashtags, retweet marks, entities and document delimiters.

Emoji and every script stay as they are. What is cleaned is what a model should not learn to write: addresses of pages
and people. `tweet_cleanup(links=keep, mentions=drop, hashtags=words)` chooses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from textmill.rules.base import Outcome, Rule
from textmill.rules.episode_cleanup import LINK
from textmill.settings import Settings, setting

# S4's marks and those of other GPT-2 tools, and the row of signs that gpt-2-simple writes between samples.
_DELIMITER = re.compile(r"<\|\w{1,40}\|>|={20,}")
# What the services write for & < > and quotes, once or more often; ftfy (unicode_repair) knows all the others.
_AMPERSAND = re.compile(r"&(?:amp;)+")
_ENTITIES = {
    "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " ", "#39": "'", "#039": "'", "#x27": "'", "#34": '"',
}  # fmt: skip
_ENTITY = re.compile(f"&({'|'.join(_ENTITIES)});")
# @name, @name@server.org (Mastodon), @name.bsky.social (Bluesky); not in a mail address or the path of a page.
_NAME = r"@\w+(?:[.@-]\w+)*"
_MENTION = re.compile(rf"(?<![\w@/+-]){_NAME}")
_RETWEET = re.compile(rf"\s*RT\b[:\s]*{_NAME}:?(?=\s|$)")
_ADDRESSED = re.compile(rf"\s*(?:RT\b[:\s]*)?{_NAME}:?(?=\s|$)")
_HASHTAG = re.compile(r"(?<![\w&/#])[#＃](?=\w*[^\W\d_])(\w+)")
_BLANKS = re.compile(r"[^\S\n]{2,}")
_BLANK_ENDS = re.compile(r" (?=\n)|(?<=\n) ")
_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Parts(Settings):
    """What `tweet_cleanup` does with each part of a post."""

    links: str = setting(
        "drop", "Web addresses: dropped, kept, or URL in their place.", choices=("drop", "mask", "keep")
    )
    mentions: str = setting(
        "mask",
        "Mentions: @user in their place, dropped, or kept. Unless kept, those that only address a reply go.",
        choices=("mask", "drop", "keep"),
    )
    hashtags: str = setting(
        "keep", "Hashtags: kept, their words without the sign, or dropped.", choices=("keep", "words", "drop")
    )


def apply(text: str, parameters: Parts = Parts()) -> Outcome:
    """Each change is one place; `counts` has them by kind."""
    before, work = text, _Work(text)
    head = _RETWEET if parameters.mentions == "keep" else _ADDRESSED
    if "&" in text:
        work.replace("entities", _AMPERSAND, "&")
        work.replace("entities", _ENTITY, lambda match: _ENTITIES[match[1]])
    work.replace("delimiters", _DELIMITER, " ")
    work.behead(head)
    if parameters.links != "keep":
        work.replace("links", LINK, "URL" if parameters.links == "mask" else " ")
    # A hashtag's word may lengthen a mention, `@name.#word`, or make a delimiter, `<|#word|>`, and a hashtag begin
    # where one of these was.
    while True:
        seen = work.text
        if parameters.mentions != "keep":
            work.replace("mentions", _MENTION, "@user" if parameters.mentions == "mask" else " ")
        if parameters.hashtags != "keep":
            work.replace("hashtags", _HASHTAG, r"\1" if parameters.hashtags == "words" else " ")
        work.replace("delimiters", _DELIMITER, " ")
        if work.text == seen:
            break
    work.behead(head)  # what a link or hashtag stood before
    work.replace("blanks", _BLANKS, " ")
    work.replace("blanks", _BLANK_ENDS, "")
    work.replace("blanks", _LINES, "\n\n")
    work.trim(end="\n" if before.endswith("\n") else "")
    return Outcome(work.text, sum(work.counts.values()), dict(work.counts))


class _Work:
    """A text under repair, and what was changed of it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.counts: Counter[str] = Counter()

    def replace(
        self, kind: str, pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str]
    ) -> None:
        """Replace all that match; a match that reads like its replacement does not count."""
        n = 0

        def put(match: re.Match[str]) -> str:
            nonlocal n
            new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
            n += new != match[0]
            return new

        self._set(pattern.sub(put, self.text), kind, n)

    def behead(self, pattern: re.Pattern[str]) -> None:
        """Drop retweet marks and, as far as the pattern takes them, addresses at the beginning."""
        end = n = 0
        while match := pattern.match(self.text, end):
            end, n = match.end(), n + 1
        self._set(self.text[end:], "heads", n)

    def trim(self, end: str) -> None:
        text = self.text.strip()
        text += end if text else ""
        self._set(text, "blanks", int(text != self.text))

    def _set(self, text: str, kind: str, n: int) -> None:
        self.text = text
        if n:
            self.counts[kind] += n


RULE = Rule(
    "tweet_cleanup",
    "Posts without links, mentions, retweet marks and entities: tweet_cleanup(links=drop, hashtags=keep).",
    apply,
    parameters=Parts,
)
