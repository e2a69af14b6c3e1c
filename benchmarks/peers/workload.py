"""What every side of the recurrent benchmarks works on: sizes and batches, the same for all. Needs NumPy only."""

from __future__ import annotations

import dataclasses
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


def batches(load: Workload, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless x, y [B, T] int32: streams of tokens in which each depends on the one before, so there is something
    to learn and frequencies fall off as in text (Zipf)."""
    draw = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, load.vocabulary_size + 1)
    jumps = draw.permutation(load.vocabulary_size)
    last = np.zeros(load.batch_size, np.int64)
    while True:
        tokens = [last]
        for _ in range(load.num_steps):
            fresh = draw.choice(load.vocabulary_size, load.batch_size, p=weights / weights.sum())
            follow = draw.random(load.batch_size) < 0.7
            tokens.append(np.where(follow, jumps[tokens[-1]], fresh))
        stream = np.stack(tokens, axis=1).astype(np.int32)
        last = tokens[-1]
        yield np.ascontiguousarray(stream[:, :-1]), np.ascontiguousarray(stream[:, 1:])
