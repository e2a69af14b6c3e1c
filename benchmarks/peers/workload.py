"""What every side of the recurrent benchmarks works on: sizes and batches, the same for all. Needs NumPy only."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Workload:
    """One training job: a preset's sizes, spelled out because the peers do not import textmill."""

    model: str
    preset: str
    cell: str
    vocabulary_size: int
    hidden_size: int
    num_layers: int
    batch_size: int
    num_steps: int
    max_grad_norm: float
    learning_rate: float
    unit: str


WORKLOADS = {
    "char-gru": Workload("char-gru", "shakespeare", "gru", 98, 512, 3, 100, 30, 0.0, 1e-3, "characters/s"),
    "char-small": Workload("char-gru", "small", "gru", 64, 224, 2, 20, 40, 5.0, 3e-3, "characters/s"),
    "word-small": Workload("word-lstm", "small", "lstm", 10_000, 200, 2, 20, 20, 5.0, 1.0, "words/s"),
    "word-medium": Workload("word-lstm", "medium", "lstm", 10_000, 650, 2, 20, 35, 5.0, 1.0, "words/s"),
    "word-large": Workload("word-lstm", "large", "lstm", 10_000, 1500, 2, 20, 35, 10.0, 1.0, "words/s"),
}


def batches(load: Workload, seed: int = 0, different: int = 60) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless x, y [B, T] int32, made beforehand and then repeated.

    Frequencies fall off as in text (Zipf) and most tokens follow from the one before, so there is something to learn.
    """
    draw = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, load.vocabulary_size + 1)
    shape = (different * load.num_steps + 1, load.batch_size)
    fresh = draw.choice(load.vocabulary_size, shape, p=weights / weights.sum()).astype(np.int32)
    follows = draw.random(shape) < 0.7
    successor = draw.permutation(load.vocabulary_size).astype(np.int32)
    for t in range(1, len(fresh)):
        fresh[t] = np.where(follows[t], successor[fresh[t - 1]], fresh[t])
    starts = range(0, different * load.num_steps, load.num_steps)
    rows = np.ascontiguousarray(fresh.T)
    made = [(rows[:, s : s + load.num_steps], rows[:, s + 1 : s + 1 + load.num_steps]) for s in starts]
    return itertools.cycle([(np.ascontiguousarray(x), np.ascontiguousarray(y)) for x, y in made])
