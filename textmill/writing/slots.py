"""Texts written side by side in the slots of a decoder's pool: who sits where, what is fed, what comes back.

Knows pools (their steps, and when a full context is read again) and drafts. Knows nothing of a model's arithmetic, of
how a token is drawn (sample.py), of where a text ends (drafts.py), and of who waits for a slot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from textmill.writing.drafts import Draft


class Slots:
    """A pool's slots and the drafts in them. `context`: most tokens the model sees, 0 where it carries a state;
    `chunk`: most steps of one call. `controls` are how each slot draws; neutral ones by default.
    """

    def __init__(self, pool: Any, context: int, chunk: int, controls: Any = None) -> None:
        from textmill.models.sample import Controls

        self.pool, self.size = pool, int(pool.slots)
        self.drafts: list[Draft | None] = [None] * self.size
        self.controls = Controls.neutral(self.size) if controls is None else controls
        self._context, self._chunk = context, chunk
        self._fresh = np.zeros(self.size, np.bool_)
        for slot in range(self.size):
            pool.rest(slot)

    @property
    def writing(self) -> list[tuple[int, Draft]]:
        """The slots that hold a draft."""
        return [(i, draft) for i, draft in enumerate(self.drafts) if draft is not None]

    @property
    def free(self) -> int:
        """How many slots hold none."""
        return self.drafts.count(None)

    def seat(self, draft: Draft) -> int:
        """Put a draft into a free slot; a model with a context reads its prompt now, another one is fed it later."""
        slot, settings = self.drafts.index(None), draft.settings
        self.drafts[slot] = draft
        self.controls.set(
            slot,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            penalty=settings.repetition_penalty,
            likeliest=draft.kept.likeliest if draft.kept is not None else 0,
        )
        if self._context:
            self.pool.read(slot, draft.block(), scored=False)
        else:
            self._fresh[slot] = True
        return slot

    def release(self, slot: int) -> None:
        """Empty a slot. It rests until another draft takes it."""
        self.pool.rest(slot)
        self.drafts[slot] = None
        self._fresh[slot] = False

    def advance(self, most: int) -> int:
        """Make at most `most` steps, give each draft its tokens, and say how many tokens were drawn.

        Drafts that have ended keep their slot until they are released.
        """
        writing = self.writing
        room = self._make_room(writing) if self._context else most
        steps = min(most, self._chunk, room, max(draft.steps_left() for _, draft in writing))
        first = np.zeros(self.size, np.int32)
        forced, u = np.full((steps, self.size), -1, np.int32), np.zeros((steps, self.size), np.float32)
        for i, draft in writing:
            first[i] = draft.ids[0]
            forced[:, i], u[:, i] = draft.feed(steps)
        tokens, scores = self.pool.run(self._fresh, first, forced, u, self.controls)
        self._fresh[:] = False
        before = sum(draft.tokens for _, draft in writing)
        noted = self.pool.likeliest if self.controls.likeliest.any() else None
        for i, draft in writing:
            draft.take(tokens[:, i], scores[:, i], None if noted is None else noted.of(slice(None), i))
        return sum(draft.tokens for _, draft in writing) - before

    def _make_room(self, writing: list[tuple[int, Draft]]) -> int:
        """Read the last half of the context again where it is full; how many steps then fit in all slots."""
        for i, draft in writing:
            if self.pool.room(i) < 1:
                self.pool.read(i, draft.window(), scored=False, continued=True)
        return min(int(self.pool.room(i)) for i, _ in writing)
