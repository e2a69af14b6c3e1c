"""Textmill writing text with GPT-2 124M, as a side.

python -m benchmarks.peers.textmill_gpt2_decoding BATCH [--top-k K] [--precision P]
python -m benchmarks.peers.textmill_gpt2_decoding 1 --prompt N

The first is the whole way that a user takes, Generator.generate from the prompt to text; fresh weights (the work is the
same). With --prompt one piece of work is a prompt of N tokens and the first token after it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import serve
from benchmarks.peers.gpt2_decoding_workload import LENGTH, prompt
from benchmarks.peers.gpt2_workload import SIZES
from textmill.models.gpt2 import GPT2Config, init


def writing(arguments: argparse.Namespace) -> tuple[Callable[[], int], dict[str, Any]]:
    """Work that writes BATCH texts."""
    from textmill.tokenizers.bpe import LETTERS, BPETokenizer
    from textmill.writing.generator import Generator
    from textmill.writing.settings import GenerateSettings

    config = GPT2Config(**SIZES)
    merges = itertools.islice(itertools.product(LETTERS, repeat=2), config.vocabulary_size - len(LETTERS) - 1)
    generator = Generator(config, init(config, 0), BPETokenizer.of(merges), precision=arguments.precision)
    settings = GenerateSettings.of(
        number=arguments.batch,
        batch_size=min(arguments.batch, 32),
        length=LENGTH,
        top_k=arguments.top_k,
        stop_at_end=False,
    )

    def work() -> int:
        return sum(text.tokens for text in generator.generate([""], settings))

    return work, generator.decoder.describe()


def starting(arguments: argparse.Namespace) -> tuple[Callable[[], int], dict[str, Any]]:
    """Work that reads a prompt and draws one token."""
    from textmill.models.gpt2_decode import GPT2Decoder
    from textmill.models.sample import Controls

    config = GPT2Config(**SIZES)
    decoder = GPT2Decoder(config, init(config, 0), precision=arguments.precision)
    pool, ids = decoder.pool(1), prompt(arguments.prompt)
    nothing, free = np.zeros(pool.slots, np.bool_), np.full((1, pool.slots), -1, np.int32)
    first, u = np.zeros(pool.slots, np.int32), np.full((1, pool.slots), 0.5, np.float32)

    def work() -> int:
        pool.read(0, ids, scored=False)
        pool.run(nothing, first, free, u, Controls.neutral(pool.slots))
        return 1

    return work, decoder.describe()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("batch", type=int)
    parser.add_argument("--prompt", type=int, default=0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--top-k", type=int, default=0)
    arguments = parser.parse_args()
    serve(*(starting if arguments.prompt else writing)(arguments), warm_up=1)


if __name__ == "__main__":
    main()
