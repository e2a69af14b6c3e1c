"""The tokens of a text that is written, with their log probabilities, told when their text is.

Knows tokenizers; knows nothing of HTTP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from textmill.tokenizers import Tokenizer
from textmill.tokenizers.bpe import END, BPETokenizer
from textmill.tokenizers.char import REPLACEMENT
from textmill.writing.drafts import CONTEXT, Kept
from textmill.writing.prompts import Ids, start_ids

Others = Sequence[tuple[int, float]]  # ids and log probabilities of the likeliest tokens, best first


@dataclasses.dataclass(frozen=True)
class Token:
    """A token of a text: the text it adds (empty while a character is not whole), its log probability in nats (None:
    not known, as of a text's first token) and where in the text it begins. `likeliest`: what could have come in its
    place, with the log probabilities, where that was asked for and is known; the token itself is among them."""

    text: str
    log_probability: float | None
    offset: int
    likeliest: Mapping[str, float] | None = None


class TokenLog:
    """Gives out a text's tokens once each, in order; those of the prompt where `with_prompt`."""

    def __init__(self, tokenizer: Tokenizer, ids: Ids, kept: Kept, with_prompt: bool) -> None:
        self._tokenizer, self._ids, self._kept = tokenizer, ids.tolist(), kept
        self._tail: list[int] = self._ids[: len(start_ids(tokenizer)) if with_prompt else None][-CONTEXT:]
        self._given = 0  # drawn tokens
        self._offset = 0

    def prompt(self, scores: Sequence[float], others: Sequence[Others]) -> list[Token]:
        """The prompt's tokens, before any drawn one; `scores` and `others` are those of the last of them."""
        before, unknown = len(start_ids(self._tokenizer)), len(self._ids) - len(scores)
        known: list[float | None] = [None] * unknown + list(scores)
        beside: list[Others] = [()] * (len(self._ids) - len(others)) + list(others)
        return [
            self._next(*both)
            for both in zip(self._ids[before:], known[before:], beside[before:], strict=True)
        ]

    def told(self, characters: int, *, last: bool = False) -> list[Token]:
        """The tokens that make up the first `characters` of the text (prompt included where it is given out); `last`:
        and the text ends there, in the middle of a token where a stop string began in it."""
        found, kept = [], self._kept
        while self._given < len(kept.ids):
            tail, offset, n = self._tail, self._offset, self._given
            token = self._next(kept.ids[n], kept.scores[n], kept.others[n] if kept.likeliest else ())
            if self._offset > characters:
                if last and offset < characters:
                    found.append(dataclasses.replace(token, text=token.text[: characters - offset]))
                    self._given = len(kept.ids)
                    return found
                self._tail, self._offset = tail, offset
                return found
            self._given += 1
            found.append(token)
        return found

    def _next(self, token: int, score: float | None, others: Others) -> Token:
        shown = len(self._tokenizer.decode(self._tail))
        text = self._tokenizer.decode([*self._tail, token])[shown:]
        likeliest = None
        if self._kept.likeliest and score is not None:
            pairs = [*others, *([] if any(other == token for other, _ in others) else [(token, score)])]
            likeliest = {self._named(other, shown): value for other, value in reversed(pairs)}
            likeliest = dict(sorted(likeliest.items(), key=lambda pair: -pair[1]))
        made = Token(text, score, self._offset, likeliest)
        self._tail = [*self._tail, token][-CONTEXT:]
        self._offset += len(text)
        return made

    def _named(self, token: int, shown: int) -> str:
        """The text that a token would add, as OpenAI names one that is no text of its own."""
        if token == self._tokenizer.end_of_document:
            return END
        text = self._tokenizer.decode([*self._tail, token])[shown:]
        if isinstance(self._tokenizer, BPETokenizer) and (not text or REPLACEMENT in text):
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self._tokenizer.bytes_of(token))
        return text
