"""Textmill's own engine as a side: python -m benchmarks.peers.textmill_rnn WORKLOAD [--precision P]."""

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
    from benchmarks.peers.reference_rnn import make_engine

    load = WORKLOADS[arguments.workload]
    engine = make_engine(load, arguments.precision, arguments.threads)
    source = enumerate(batches(load))

    def work() -> int:
        step, (x, y) = next(source)
        engine.train_step(x, y, step=step, learning_rate=load.learning_rate)
        return x.size

    serve(work, engine.describe())


if __name__ == "__main__":
    main()
