"""A text being written: what is fed next, what it has so far, and whether it has ended.

Knows stop rules; they are applied token by token, however many tokens come at once, so that a text does not depend on
that. Knows nothing of models and of how a token is drawn.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from textmill.postprocess import Finish, Finisher
from textmill.tokenizers import Tokenizer
from textmill.writing.prompts import Ids, end_marks
from textmill.writing.settings import GenerateSettings

if TYPE_CHECKING:
    from textmill.models.sample import Likeliest

# Tokens decoded again to show the ones after them: a word's space depends on the word before, and a character of
# several bytes may be spread over as many tokens.
CONTEXT = 8
AHEAD = 64  # uniform numbers made at once


class _Progress(NamedTuple):
    """What some tokens add: text, whose last `held` characters may begin a stop string; why it ends the text, or ""."""

    text: str
    held: int
    reason: str


class Kept:
    """What a draft keeps of each token drawn where somebody wants to see it; `likeliest`: so many of the likeliest
    tokens that could have come in its place."""

    def __init__(self, likeliest: int = 0) -> None:
        self.ids: list[int] = []
        self.scores: list[float] = []  # log probabilities, nats
        self.likeliest = likeliest
        self.others: list[list[tuple[int, float]]] = []  # of each token: id and log probability, best first

    def add(self, ids: list[int], scores: npt.NDArray[np.float32], likeliest: Likeliest | None) -> None:
        """Of new tokens; `likeliest` [N, K] is there where some are wanted."""
        self.ids += ids
        self.scores += scores.tolist()
        if self.likeliest and likeliest is not None:
            self.others += others(likeliest, self.likeliest)


def others(found: Likeliest, count: int) -> list[list[tuple[int, float]]]:
    """The `count` likeliest of each token [N, K], those that there are."""
    pairs = zip(found.ids[:, :count].tolist(), found.scores[:, :count].tolist(), strict=True)
    return [[(i, score) for i, score in zip(*both, strict=True) if i >= 0] for both in pairs]


class Draft:
    """One text in a slot. `context`: most tokens its model sees, 0 where it carries a state instead."""

    def __init__(
        self,
        index: int,
        prompt: str,
        shown_prompt: str,
        ids: Ids,
        settings: GenerateSettings,
        tokenizer: Tokenizer,
        *,
        context: int = 0,
        finish: Finish | None = None,
    ) -> None:
        """`finish`: what the text, as it is written, will be finished with; it may be complete early then."""
        self.index, self.prompt, self.shown_prompt, self.ids = index, prompt, shown_prompt, ids
        self.settings, self._tokenizer, self._context = settings, tokenizer, context
        self.step = 0  # tokens fed so far
        self.tokens = 0
        self.characters = 0
        self.log_probability = 0.0
        self.finish_reason = ""
        self.kept: Kept | None = None
        self._ends = end_marks(tokenizer) if settings.stop_at_end else []
        self._stops = [*settings.stop, *self._ends]
        self._tail = ids[-CONTEXT:].tolist()
        self._recent = deque(ids.tolist(), maxlen=context) if context else None
        self._ready, self._ready_from = np.zeros(0, np.float32), 0  # uniform numbers made ahead
        self._parts: list[str] = []  # text not yet taken
        self._held = ""  # text after it, which may be the beginning of a stop string
        self._watch: Finisher | None = None  # tells when nothing that follows would be shown
        if finish is not None and finish.limits:
            before = shown_prompt if settings.include_prompt else ""
            self._watch = Finisher(finish, len(before))
            self._watch.feed(before)

    # ------------------------------------------------------------------ what is fed

    @property
    def cut(self) -> bool:
        """Whether the prompt is too long for the model to see all of it."""
        return 0 < self._context < len(self.ids)

    def block(self) -> Ids:
        """For a model with a context: the prompt as one block, its last part where it is too long; it is then fed."""
        self.step = len(self.ids) - 1
        if not self.cut:
            return self.ids
        return self.ids[-max(self._context // 2, self._context - min(self.settings.length, self._context)) :]

    def window(self) -> Ids:
        """The last half of a full context, to go on from. The next half is free then: reading is rare."""
        assert self._recent is not None
        return np.array(list(self._recent)[-max(1, self._context // 2) :], np.int32)

    def prompt_left(self) -> int:
        """Prompt tokens that come before the first drawn one."""
        return max(0, len(self.ids) - 1 - self.step)

    def steps_left(self) -> int:
        """Most steps that are still to be made."""
        done = self.tokens if self.settings.length_unit == "tokens" else self.characters
        return self.prompt_left() + self.settings.length - done

    def feed(self, steps: int) -> tuple[Ids, npt.NDArray[np.float32]]:
        """For the next steps: the id that is forced, or -1, and the uniform number to draw with."""
        forced = np.full(steps, -1, np.int32)
        ahead = self.ids[self.step + 1 : self.step + 1 + steps]
        forced[: len(ahead)] = ahead
        u = np.zeros(steps, np.float32)
        first = self.step + 1 - len(self.ids)  # which token the first step brings; below 0: of the prompt
        fed = min(max(0, -first), steps)
        u[fed:] = self._uniform(first + fed, steps - fed)
        return forced, u

    def _uniform(self, first: int, count: int) -> npt.NDArray[np.float32]:
        """The uniform numbers of `count` tokens from `first` on; made many at once, since starting is what costs."""
        from textmill.models.sample import uniforms

        at = first - self._ready_from
        if not 0 <= at <= len(self._ready) - count:
            self._ready = uniforms(
                self.settings.seed, self.index, np.arange(first, first + max(count, AHEAD))
            )
            self._ready_from, at = first, 0
        return self._ready[at : at + count]

    # ------------------------------------------------------------------ what comes back

    def take(self, tokens: Ids, scores: npt.NDArray[np.float32], likeliest: Likeliest | None = None) -> None:
        """Take the tokens of the steps just made, up to where the text ends; `likeliest` [N, K] of each."""
        prompt = min(len(tokens), self.prompt_left())
        self.step += len(tokens)
        drawn, at_end = self._up_to_end(tokens[prompt:].tolist())
        made = self._progress(drawn, bool(at_end))
        if made.reason:  # by which token? The counts must not depend on how many were drawn at once.
            drawn, made = self._first_with_reason(drawn, bool(at_end))
        new = made.text[: len(made.text) - made.held]
        self.characters += len(made.text) - len(self._held)
        self._parts.append(new)
        self._held = made.text[len(new) :]
        if self._watch is not None:
            self._watch.feed(new)
        self._tail = (self._tail + drawn)[-CONTEXT:]
        if self._recent is not None:
            self._recent.extend(drawn)
        self.tokens += len(drawn)
        if self.kept is not None:
            new_ones = slice(prompt, prompt + len(drawn))
            noted = None if likeliest is None else likeliest.of(new_ones)
            self.kept.add(drawn, scores[new_ones], noted)
        self.log_probability += float(scores[prompt : prompt + len(drawn)].sum(dtype=np.float64))
        self.finish_reason = made.reason or at_end

    def end(self, reason: str) -> None:
        """End the text here, for a reason that lies outside of it."""
        self._parts.append(self._held)
        self._held, self.finish_reason = "", reason

    def _first_with_reason(self, drawn: list[int], last: bool) -> tuple[list[int], _Progress]:
        for n in range(1, len(drawn)):
            made = self._progress(drawn[:n], False)
            if made.reason:
                return drawn[:n], made
        return drawn, self._progress(drawn, last)

    def _up_to_end(self, drawn: list[int]) -> tuple[list[int], str]:
        """The tokens before the end of the document and within the length, and the reason to end here, or ""."""
        reason = ""
        end = self._tokenizer.end_of_document
        if self.settings.stop_at_end and end in drawn:
            drawn, reason = drawn[: drawn.index(end)], "end_of_document"
        room = self.settings.length - self.tokens
        if self.settings.length_unit == "tokens" and len(drawn) >= room:
            drawn, reason = drawn[:room], "length"
        return drawn, reason

    def _progress(self, drawn: list[int], last: bool) -> _Progress:
        """What these tokens add to the text; `last`: there will be no more."""
        text, reason = self._text(drawn)
        held = 0 if reason or last else self._may_stop(text)
        if self._watch is not None and not reason:
            watch = self._watch.copy()
            watch.feed(text[: len(text) - held])
            reason = watch.reason
        return _Progress(text, 0 if reason else held, reason)

    def _text(self, drawn: list[int]) -> tuple[str, str]:
        """What is held back and these tokens as text, up to a stop string or the length in characters; which it was."""
        shown = len(self._tokenizer.decode(self._tail))
        text = self._held + self._tokenizer.decode(self._tail + drawn)[shown:]
        places = [(at, stop in self._ends) for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            at, of_document = min(places)
            return text[:at], "end_of_document" if of_document else "stop"
        room = self.settings.length - self.characters + len(self._held)
        if self.settings.length_unit == "characters" and len(text) >= room:
            return text[:room], "length"
        return text, ""

    def _may_stop(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = min(max(map(len, self._stops), default=1) - 1, len(text))
        ends = (n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in self._stops))
        return next(ends, 0)

    def take_text(self) -> str:
        """The text that was written since the last call."""
        text = "".join(self._parts)
        self._parts.clear()
        return text
