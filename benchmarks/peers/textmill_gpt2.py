"""Textmill's GPT-2 engine as a side: python -m benchmarks.peers.textmill_gpt2 BATCH [--precision P]

With `--losses STEPS --weights FILE.npz` it prints the first losses of the small model from those weights as a JSON
list, in the order of data of gpt2_simple_training.py.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.common import serve
from benchmarks.peers.gpt2_workload import LEARNING_RATE, SIZES, SMALL, batches
from textmill.models.gpt2 import GPT2Config
from textmill.models.gpt2_tensorflow import GPT2Engine


def pairs(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens as x, and y: the next one of each, nothing behind the last."""
    behind = np.full((len(tokens), 1), -1, np.int32)
    return tokens, np.concatenate([tokens[:, 1:], behind], axis=1)


def make_engine(sizes: dict[str, int], batch_size: int, **settings: Any) -> GPT2Engine:
    """The engine of a workload, whole contexts long."""
    return GPT2Engine(GPT2Config.of(**sizes), batch_size=batch_size, num_steps=sizes["context"], **settings)


def first_losses(steps: int, file: str, precision: str) -> list[float]:
    """Of the small model, two rows a batch."""
    engine = make_engine(SMALL, 2, precision=precision)
    engine.restore(dict(np.load(file)))
    source = batches(2, SMALL["vocabulary_size"], SMALL["context"])
    return [
        engine.train_step(*pairs(next(source)), step=i, learning_rate=LEARNING_RATE)[0] for i in range(steps)
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("batch", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--losses", type=int, default=0)
    parser.add_argument("--weights", default="")
    arguments = parser.parse_args()
    if arguments.losses:
        print(json.dumps(first_losses(arguments.losses, arguments.weights, arguments.precision)))
        return
    engine = make_engine(
        SIZES, arguments.batch, precision=arguments.precision, checkpointing=arguments.checkpointing
    )
    source = batches(arguments.batch, SIZES["vocabulary_size"], SIZES["context"])

    def work() -> int:
        x, y = pairs(next(source))
        engine.train_step(x, y, step=0, learning_rate=LEARNING_RATE)
        return x.size

    serve(work, engine.describe(), warm_up=1)


if __name__ == "__main__":
    main()
