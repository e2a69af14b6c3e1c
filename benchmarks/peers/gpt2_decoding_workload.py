"""What every side of the GPT-2 decoding benchmark does, the same for all. Needs NumPy only."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.gpt2_workload import SIZES

LENGTH = 200  # tokens of each text
END = SIZES["vocabulary_size"] - 1  # <|endoftext|>, where a text starts


def prompt(tokens: int) -> np.ndarray:
    """A prompt of so many tokens [tokens] int32: <|endoftext|> and any others."""
    drawn = np.random.default_rng(0).integers(0, END, tokens).astype(np.int32)
    drawn[0] = END
    return drawn
