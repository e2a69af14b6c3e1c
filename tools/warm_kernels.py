"""Compile what the decoders need on this machine's processor, so that an image brings it along.

usage: warm_kernels.py PLACE     PLACE is what TEXTMILL_KERNELS names in the image; textmill/models/tiles.py reads it

On a node with another processor the kernels are compiled when they are first used, as without this.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def main(place: Path) -> int:
    os.environ.update(XDG_CACHE_HOME=str(place), TEXTMILL_KERNELS="", JAX_PLATFORMS="cpu")
    from textmill.models import gpt2, gpt2_decode_cpu, rnn, rnn_decode_cpu
    from textmill.models.decoding import choose_precision

    started = time.perf_counter()
    # float32 is what train writes its samples in where it trains in it
    for precision in sorted({choose_precision("auto"), "float32"}):
        for cell, embedding in (("gru", "one_hot"), ("lstm", "learned")):
            config = rnn.RNNConfig.of(
                cell=cell, embedding=embedding, vocabulary_size=8, num_layers=1, hidden_size=8
            )
            step(rnn_decode_cpu.CPUDecoder(config, rnn.init(config), precision=precision))
        transformer = gpt2.GPT2Config.of(vocabulary_size=8, context=8, width=8, num_heads=1, num_layers=1)
        step(gpt2_decode_cpu.CPUDecoder(transformer, gpt2.init(transformer), precision=precision))
    files = [file for file in place.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return 0


def step(decoder: Any) -> None:
    """One token of one text."""
    from textmill.models.sample import Controls

    ids, u = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)
    decoder.pool(1).run(np.ones(1, np.bool_), ids[0], ids - 1, u, Controls.neutral(1))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1])))
