"""Textmill on JAX as a side: python -m benchmarks.peers.gpu_textmill train|write BATCH [--device gpu|cpu] [--tiny]"""

from __future__ import annotations

import os
import sys

from benchmarks.common import serve
from benchmarks.peers.gpt2_workload import batches
from benchmarks.peers.gpu_workload import (
    LEARNING_RATE,
    LENGTH,
    TINY_LENGTH,
    WEIGHT_DECAY,
    arguments_of_side,
    sizes_of,
)


def main() -> None:
    arguments = arguments_of_side()
    if arguments.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    from textmill import devices

    if arguments.device == "gpu" and devices.jax_platform() != "gpu":
        sys.exit("JAX sees no GPU here")
    sizes = sizes_of(arguments.tiny)
    (train if arguments.work == "train" else write)(arguments, sizes)


def train(arguments, sizes: dict[str, int]) -> None:
    from benchmarks.peers.textmill_gpt2 import pairs
    from textmill.models.gpt2 import GPT2Config
    from textmill.models.gpt2_jax import GPT2Engine

    engine = GPT2Engine(
        GPT2Config.of(**sizes),
        batch_size=arguments.batch,
        num_steps=sizes["context"],
        optimizer="adamw",
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=1.0,
        precision="bfloat16",
    )
    source = batches(arguments.batch, sizes["vocabulary_size"], sizes["context"])

    def work() -> int:
        x, y = pairs(next(source))
        engine.train_step(x, y, step=0, learning_rate=LEARNING_RATE)
        return x.size

    serve(work, engine.describe(), warm_up=3)


def write(arguments, sizes: dict[str, int]) -> None:
    import itertools

    from textmill.models.gpt2 import GPT2Config, init
    from textmill.tokenizers.bpe import LETTERS, BPETokenizer
    from textmill.writing.generator import Generator
    from textmill.writing.settings import GenerateSettings

    config = GPT2Config(**sizes)
    merges = itertools.islice(itertools.product(LETTERS, repeat=2), config.vocabulary_size - len(LETTERS) - 1)
    generator = Generator(config, init(config, 0), BPETokenizer.of(merges), precision="bfloat16")
    length = TINY_LENGTH if arguments.tiny else LENGTH
    settings = GenerateSettings.of(
        number=arguments.batch, batch_size=arguments.batch, length=length, stop_at_end=False
    )

    def work() -> int:
        return sum(text.tokens for text in generator.generate([""], settings))

    serve(work, generator.decoder.describe(), warm_up=2)


if __name__ == "__main__":
    main()
