"""Rows of tokens for a transformer. The batch of a step is a pure function of (tokens, seed, step): there is no
iterator state, no list of rows and no copy of the text, whatever its size.

Two ways to cut a text of documents:

* packed: the documents stand one after the other, each with its end-of-document token, as a ring. In each epoch the
  rows begin at another place of it, and every token is to be predicted exactly once;
* documents: a document's tokens are predicted in rows of its own, from the end-of-document token before its first one
  (as a text without a prompt is generated) or, where the tokenizer has none, from the first one on. A long document
  takes several rows; what is left of a row is padding.

The order of the rows is a permutation keyed by (seed, epoch), a Feistel network over the next power of four
with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from textmill.training.data import Batch, Tokens

NOTHING = -1  # a target that is not counted
FEISTEL_ROUNDS = 4

Row = tuple[Batch, Batch]  # inputs and targets, [T] each


class Rows(Protocol):
    """A text cut into rows of T inputs and targets; a target that is not to be learned is NOTHING."""

    @property
    def num_steps(self) -> int: ...

    @property
    def count(self) -> int:
        """Rows of an epoch."""
        ...

    @property
    def targets(self) -> int:
        """Tokens predicted in an epoch."""
        ...

    def start(self, index: int, epoch: int) -> int:
        """Position in the text of the row's first target's predecessor."""
        ...

    def row(self, index: int, epoch: int) -> Row: ...


@dataclass(frozen=True)
class RingRows:
    """Packed rows to train on: the text as a ring, cut from another place in each epoch."""

    tokens: Tokens
    num_steps: int
    seed: int

    @property
    def count(self) -> int:
        return -(-len(self.tokens) // self.num_steps)

    @property
    def targets(self) -> int:
        return len(self.tokens)

    def start(self, index: int, epoch: int) -> int:
        shift = _mixed(self.seed, epoch, 0) % len(self.tokens)
        return (shift + index * self.num_steps) % len(self.tokens)

    def row(self, index: int, epoch: int) -> Row:
        """The epoch's last row ends before the first row's first target."""
        start, end = self.start(index, epoch), self.num_steps + 1
        span = np.asarray(self.tokens[start : start + end], np.int32)
        while len(span) < end:
            span = np.concatenate([span, np.asarray(self.tokens[: end - len(span)], np.int32)])
        x, y = span[:-1], span[1:].copy()
        y[len(self.tokens) - index * self.num_steps :] = NOTHING
        return x, y


@dataclass(frozen=True)
class LineRows:
    """Packed rows to score: the text from its beginning to its end; its first token is not predicted."""

    tokens: Tokens
    num_steps: int

    @property
    def count(self) -> int:
        return -(-self.targets // self.num_steps)

    @property
    def targets(self) -> int:
        return max(len(self.tokens) - 1, 0)

    def start(self, index: int, epoch: int) -> int:
        return index * self.num_steps

    def row(self, index: int, epoch: int) -> Row:
        start = index * self.num_steps
        return _padded(np.asarray(self.tokens[start : start + self.num_steps + 1], np.int32), self.num_steps)


@dataclass(frozen=True)
class DocumentRows:
    """Rows of one document each. `spans` are each document's first position and number of tokens, [documents, 2];
    `opening` is the token that stands before a document's first one (None: there is none)."""

    tokens: Tokens
    spans: npt.NDArray[np.int64]
    num_steps: int
    opening: int | None

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """Rows up to and with each document, [documents]."""
        predicted = self.spans[:, 1] - (self.opening is None)
        return np.cumsum(np.maximum(-(-predicted // self.num_steps), 0))

    @property
    def count(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def targets(self) -> int:
        return int(np.maximum(self.spans[:, 1] - (self.opening is None), 0).sum())

    def start(self, index: int, epoch: int) -> int:
        return max(self._place(index)[0], 0)

    def row(self, index: int, epoch: int) -> Row:
        start, end, opens = self._place(index)
        span = np.asarray(self.tokens[max(start, 0) : end], np.int32)
        if opens:
            span = np.concatenate([[self.opening], span[start >= 0 :]]).astype(np.int32)
        return _padded(span, self.num_steps)

    def _place(self, index: int) -> tuple[int, int, bool]:
        """Positions of the first input and behind the last target; whether the opening stands for the first input."""
        document = int(np.searchsorted(self._ends, index, side="right"))
        within = index - (int(self._ends[document - 1]) if document else 0)
        first, length = (int(value) for value in self.spans[document])
        start = first + within * self.num_steps - (self.opening is not None)
        end = min(start + self.num_steps + 1, first + length)
        return start, end, self.opening is not None and within == 0


@dataclass(frozen=True)
class Windows:
    """What a step learns from: `rows_per_step` rows after those of the step before, epoch after epoch without a gap."""

    rows: Rows
    rows_per_step: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """An epoch ends within the last of these steps."""
        return -(-self.rows.count // self.rows_per_step)

    def tokens_at(self, step: int) -> int:
        """Tokens predicted in the first `step` steps: exact at an epoch's end, elsewhere by the mean row."""
        return step * self.rows_per_step * self.rows.targets // self.rows.count

    def starts(self, step: int) -> npt.NDArray[np.int64]:
        """Position in the text of each row's first input at this step, [rows_per_step]."""
        return np.asarray([self.rows.start(*place) for place in self._places(step)], dtype=np.int64)

    def batch(self, step: int) -> Row:
        """Inputs and targets of this step, each [rows_per_step, T] int32; a target is the token after its input."""
        pairs = [self.rows.row(*place) for place in self._places(step)]
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    def _places(self, step: int) -> list[tuple[int, int]]:
        """(row, epoch) of each row of this step."""
        count = self.rows.count
        first = step * self.rows_per_step
        found = (divmod(i, count) for i in range(first, first + self.rows_per_step))
        return [(permuted(index, count, _mixed(self.seed, epoch, 1)), epoch) for epoch, index in found]


def scoring_blocks(rows: Rows, block: int, most: int = 0) -> Iterator[Row]:
    """All rows in order, or `most` blocks of them spread evenly, as blocks [block, T]; the last is filled with rows of
    NOTHING, so that every block has the same shape."""
    taken = min(rows.count, most * block) if most else rows.count
    places = [i * rows.count // taken for i in range(taken)]
    for first in range(0, taken, block):
        pairs = [rows.row(place, 0) for place in places[first : first + block]]
        x = np.zeros((block, rows.num_steps), np.int32)
        y = np.full((block, rows.num_steps), NOTHING, np.int32)
        for i, (xs, ys) in enumerate(pairs):
            x[i], y[i] = xs, ys
        yield x, y


def permuted(index: int, size: int, key: int) -> int:
    """Where a permutation of range(size), chosen by `key`, takes `index`."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(FEISTEL_ROUNDS):
            left, right = right, left ^ (_mixed(key, right, turn) & mask)
        index = left << half | right
        if index < size:
            return index


def _mixed(*values: int) -> int:
    """64 bits that depend on all of `values`: SplitMix64 (Steele, Lea and Flood, 2014) over them in turn."""
    state = 0
    for value in values:
        state = (state ^ value) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def _padded(span: Batch, num_steps: int) -> Row:
    """`span` of at most num_steps + 1 tokens as one row."""
    x, y = np.zeros(num_steps, np.int32), np.full(num_steps, NOTHING, np.int32)
    x[: len(span) - 1], y[: len(span) - 1] = span[:-1], span[1:]
    return x, y
