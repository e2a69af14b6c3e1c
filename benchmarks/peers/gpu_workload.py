"""What every side of the GPU benchmark works on, the same for all. Needs NumPy only."""

from __future__ import annotations

import argparse

from benchmarks.peers.gpt2_workload import SIZES

TINY = {"vocabulary_size": 300, "context": 32, "width": 32, "num_heads": 2, "num_layers": 2}
LENGTH, TINY_LENGTH = 200, 8  # tokens of a text
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.1


def arguments_of_side() -> argparse.Namespace:
    """train|write BATCH [--device gpu|cpu] [--tiny]"""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=("train", "write"))
    parser.add_argument("batch", type=int)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def sizes_of(tiny: bool) -> dict[str, int]:
    """The model's sizes."""
    return TINY if tiny else SIZES


def flop_per_token(sizes: dict[str, int]) -> int:
    """Of training: 6 for each parameter but the positions', and the attention's products."""
    width, layers = sizes["width"], sizes["num_layers"]
    parameters = sizes["vocabulary_size"] * width + layers * (12 * width * width + 13 * width) + 2 * width
    return 6 * parameters + 12 * layers * width * sizes["context"]
