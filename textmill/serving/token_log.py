"""The tokens of a text that is written, with their log probabilities, told when their text is.

Knows tokenizers; knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

from textmill.drafts import CONTEXT, Kept
from textmill.prompts import Ids, start_ids
from textmill.serving.orders import Token
from textmill.tokenizers import Tokenizer


class TokenLog:
    """Gives out a text's tokens once each, in order. `prompt_scores` are those of ids[1:]; the prompt's tokens are
    given out where they are there."""

    def __init__(self, tokenizer: Tokenizer, ids: Ids, kept: Kept, with_prompt: bool) -> None:
        self._tokenizer, self._ids, self._kept = tokenizer, ids.tolist(), kept
        self._with_prompt = with_prompt
        self._tail: list[int] = []
        self._given = 0  # drawn tokens
        self._offset = 0

    def prompt(self, scores: Sequence[float]) -> list[Token]:
        """The prompt's tokens, before any drawn one; `scores` are the last of them."""
        if not self._with_prompt:
            self._tail = self._ids[-CONTEXT:]
            return []
        before = len(start_ids(self._tokenizer))
        self._tail = self._ids[:before][-CONTEXT:]
        known: list[float | None] = [None] * (len(self._ids) - len(scores)) + list(scores)
        return [self._next(i, score) for i, score in zip(self._ids[before:], known[before:], strict=True)]

    def told(self, characters: int, *, last: bool = False) -> list[Token]:
        """The tokens that make up the first `characters` of the text (prompt included where it is given out); `last`:
        and the text ends there, in the middle of a token where a stop string began in it."""
        found = []
        while self._given < len(self._kept.ids):
            tail, offset = self._tail, self._offset
            token = self._next(self._kept.ids[self._given], self._kept.scores[self._given])
            if self._offset > characters:
                if last and offset < characters:
                    found.append(Token(token.text[: characters - offset], token.log_probability, offset))
                    self._given = len(self._kept.ids)
                    return found
                self._tail, self._offset = tail, offset
                return found
            self._given += 1
            found.append(token)
        return found

    def _next(self, token: int, score: float | None) -> Token:
        shown = len(self._tokenizer.decode(self._tail))
        text = self._tokenizer.decode([*self._tail, token])[shown:]
        made = Token(text, score, self._offset)
        self._tail = [*self._tail, token][-CONTEXT:]
        self._offset += len(text)
        return made
