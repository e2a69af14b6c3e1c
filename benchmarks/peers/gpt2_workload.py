"""What every side of the GPT-2 training benchmark works on: sizes and batches, the same for all. Needs NumPy only."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import numpy as np

CONTEXT = int(os.environ.get("BENCH_CONTEXT") or 1024)  # tokens of a training row
SIZES = {
    "vocabulary_size": 50257,
    "context": CONTEXT,
    "width": 768,
    "num_heads": 12,
    "num_layers": 12,
}  # 124M
SMALL = {"vocabulary_size": 500, "context": 64, "width": 64, "num_heads": 4, "num_layers": 2}  # for losses
LEARNING_RATE = 1e-4


def batches(batch_size: int, vocabulary_size: int, length: int, different: int = 8) -> Iterator[np.ndarray]:
    """Endless tokens [batch_size, length] int32, made beforehand and then repeated.

    Frequencies fall off as in text (Zipf) and most tokens follow from the one before, so there is something to learn.
    """
    draw = np.random.default_rng(0)
    weights = 1.0 / np.arange(1, vocabulary_size + 1)
    made = draw.choice(vocabulary_size, (different, batch_size, length), p=weights / weights.sum())
    follows = draw.random(made.shape) < 0.5
    successor = draw.permutation(vocabulary_size)
    for t in range(1, length):
        made[:, :, t] = np.where(follows[:, :, t], successor[made[:, :, t - 1]], made[:, :, t])
    return itertools.cycle(made.astype(np.int32))
