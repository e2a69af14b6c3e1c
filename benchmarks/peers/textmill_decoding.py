"""Textmill writing text, as a side: python -m benchmarks.peers.textmill_decoding WORKLOAD BATCH [--top-k K]

The whole way that a user takes: Generator.generate, from the prompt to text; fresh weights (the work is the same).
"""

from __future__ import annotations

import argparse

from benchmarks.common import serve
from benchmarks.peers.workload import WORKLOADS

LENGTH = 256  # tokens of each text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("batch", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--top-k", type=int, default=0)
    arguments = parser.parse_args()
    from textmill.generate import GenerateSettings, Generator
    from textmill.models import get_model
    from textmill.models.rnn import init
    from textmill.tokenizers import CharTokenizer, WordTokenizer

    load = WORKLOADS[arguments.workload]
    changed = {"hidden_size": load.hidden_size, "num_layers": load.num_layers}
    tokenizer = (
        CharTokenizer.train([], alphabet="ascii98")
        if load.cell == "gru"
        else WordTokenizer([f"w{i}" for i in range(load.vocabulary_size - 1)] + ["<unk>"])
    )
    config = get_model(load.model).config(load.preset, tokenizer.size, changed)
    generator = Generator(config, init(config, 0), tokenizer, precision=arguments.precision)
    settings = GenerateSettings.of(
        number=arguments.batch, batch_size=min(arguments.batch, 32), length=LENGTH, top_k=arguments.top_k
    )

    def work() -> int:
        return sum(text.tokens for text in generator.generate([""], settings))

    serve(work, generator.decoder.describe())


if __name__ == "__main__":
    main()
