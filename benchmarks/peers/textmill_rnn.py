"""Textmill's own engine as a side: python -m benchmarks.peers.textmill_rnn PRESET [--precision P] [--threads N]."""

from __future__ import annotations

import argparse

from benchmarks.common import serve
from benchmarks.peers.workload import WORKLOADS, batches


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    from textmill.models import get_model

    load = WORKLOADS[arguments.workload]
    family = get_model(load.model)
    changed = {"hidden_size": load.hidden_size, "num_layers": load.num_layers, "keep_prob": 1.0}
    engine = family.engine()(
        family.config(load.preset, load.vocabulary_size, changed),
        batch_size=load.batch_size,
        num_steps=load.num_steps,
        optimizer="adam" if load.cell == "gru" else "sgd",
        max_grad_norm=load.max_grad_norm,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    source = enumerate(batches(load))

    def work() -> int:
        step, (x, y) = next(source)
        engine.train_step(x, y, step=step, learning_rate=load.learning_rate)
        return x.size

    serve(work, engine.describe())


if __name__ == "__main__":
    main()
