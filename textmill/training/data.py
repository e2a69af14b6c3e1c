"""Token streams -> batches. The batch of a step is a pure function of (tokens, step): there is no iterator state.

Two ways of the old systems to carry a recurrent state from batch to batch, both with B parallel streams (row i of
batch n+1 goes on where row i of batch n ended):

* "epoch": the state is zeroed at each epoch (TensorFlow's PTB reader, `ptb_producer`: rows of N // B tokens);
* "roll": at each epoch the rows roll by one, so that row i goes on where row i+1 began and the state is carried on
  across epochs (martin-gorner/tensorflow-rnn-shakespeare, `rnn_minibatch_sequencer`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textmill.errors import InputError

Tokens = npt.NDArray[np.integer]
Batch = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Streams:
    """B parallel streams over one token array (memory-mapped: only the batch is read)."""

    tokens: Tokens
    batch_size: int
    num_steps: int
    carry: str

    def __post_init__(self) -> None:
        if self.steps_per_epoch < 1:
            need = tokens_needed(self.batch_size, self.num_steps, self.carry)
            raise InputError(
                f"the training text has {len(self.tokens):,} tokens; batch_size {self.batch_size} x num_steps "
                f"{self.num_steps} needs at least {need:,}. Lower batch_size or num_steps, or add text."
            )

    @property
    def steps_per_epoch(self) -> int:
        n, b, t = len(self.tokens), self.batch_size, self.num_steps
        if self.carry == "roll":
            return max(n - 1, 0) // (b * t)
        return max(n // b - 1, 0) // t

    @property
    def row_length(self) -> int:
        """Tokens from the start of one row to the start of the next."""
        if self.carry == "roll":
            return self.steps_per_epoch * self.num_steps
        return len(self.tokens) // self.batch_size

    def starts(self, step: int) -> npt.NDArray[np.int64]:
        """Position in `tokens` of each row's first input at this step, [B]."""
        epoch, index = divmod(step, self.steps_per_epoch)
        rows = np.arange(self.batch_size, dtype=np.int64)
        if self.carry == "roll":
            rows = np.roll(rows, -epoch)
        return rows * self.row_length + index * self.num_steps

    def batch(self, step: int) -> tuple[Batch, Batch]:
        """Inputs and targets of this step, each [B, T] int32; a target is the token after its input."""
        span = np.stack([self.tokens[s : s + self.num_steps + 1] for s in self.starts(step)]).astype(np.int32)
        return np.ascontiguousarray(span[:, :-1]), np.ascontiguousarray(span[:, 1:])


def tokens_needed(batch_size: int, num_steps: int, carry: str) -> int:
    """The smallest text that gives one step an epoch."""
    return batch_size * num_steps + 1 if carry == "roll" else batch_size * (num_steps + 1)


def largest_batch(tokens: int, batch_size: int, num_steps: int, carry: str) -> tuple[int, int]:
    """The largest (batch_size, num_steps) not above the given ones that leaves at least ten steps an epoch.

    Tiny texts get smaller batches rather than a crash; below two tokens there is nothing to learn: (1, 1).
    """
    steps = min(num_steps, max(1, (tokens - 1) // 10))
    batch = min(batch_size, max(1, (tokens - 1) // (10 * (steps + 1))))
    if tokens >= tokens_needed(batch_size, num_steps, carry) * 2:
        return batch_size, num_steps
    return batch, steps


def evaluation_rows(tokens: Tokens, row_length: int, most_rows: int = 256) -> Iterator[Batch]:
    """The text cut into rows of `row_length` predictions, as blocks [R, row_length + 1] of int32.

    Rows of one block are scored together, each from a zero state. The text's end, shorter than a row, comes as a
    block of its own, so that every token but the first of each row's text is predicted exactly once.
    """
    whole = max(len(tokens) - 1, 0) // row_length
    for first in range(0, whole, most_rows):
        rows = range(first, min(first + most_rows, whole))
        yield np.stack([tokens[r * row_length : (r + 1) * row_length + 1] for r in rows]).astype(np.int32)
    rest = tokens[whole * row_length :]
    if len(rest) > 1:
        yield np.asarray(rest, dtype=np.int32)[None]
