"""What publishing costs a training: GPT-2 124M with Adam (1.5 GB of state), one publish a minute.

    python -m benchmarks.publishing [--store URI] [--rounds 3] [--length 128] [--out FILE.json]

Training steps are timed without a publish, and from the moment at which a saved state is offered until it is published;
the seconds by which the latter took longer, divided by a minute, are the overhead. Rounds alternate both. The save
itself is not counted: it is made with or without a store. Without --store a loopback server in another process takes
the bytes and throws them away: what is left is the cost to the training machine. Exit status 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import Report
from benchmarks.peers.gpt2_workload import SIZES
from textmill.checkpoints.checkpoint import State, save_state
from textmill.checkpoints.publishing import Publisher
from textmill.models.gpt2 import GPT2Config
from textmill.models.gpt2_tensorflow import GPT2Engine
from textmill.stores import open_store

BAR = 0.02  # of the training time
PERIOD = 60.0  # seconds from publish to publish
SETTLED = 4  # steps of a window without a publish


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """A loopback server that takes all."""
    command = [sys.executable, str(Path(__file__).parent / "peers" / "s3_sink.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    names = {"AWS_ENDPOINT_URL": process.stdout.readline().strip()}
    names |= {"AWS_ACCESS_KEY_ID": "sink", "AWS_SECRET_ACCESS_KEY": "sink"}
    os.environ.update(names)
    try:
        yield "s3://bucket/run"
    finally:
        process.stdin.close()
        process.wait()


class Steps:
    """Training steps of the small GPT-2, timed."""

    def __init__(self, length: int) -> None:
        self.engine = GPT2Engine(GPT2Config.of(**SIZES), batch_size=1, num_steps=length, precision="auto")
        draw = np.random.default_rng(0)
        self.tokens = draw.integers(0, SIZES["vocabulary_size"], (1, length + 1)).astype(np.int32)
        self.made = 0

    def one(self) -> float:
        started = time.perf_counter()
        self.engine.train_step(
            np.ascontiguousarray(self.tokens[:, :-1]),
            np.ascontiguousarray(self.tokens[:, 1:]),
            step=self.made,
            learning_rate=1e-5,
        )
        self.made += 1
        return time.perf_counter() - started


def measure(uri: str, steps: Steps, rounds: int, folder: Path) -> list[dict[str, float]]:
    """One row a round: the seconds lost to a publish, how long it took, the thread's own CPU seconds."""
    found = []
    with Publisher(open_store(uri), folder, keep=2) as publisher:
        publisher.begin(afresh=True)
        for number in range(rounds):
            weights, slots, carried = steps.engine.export()
            for array in weights.values():
                array.flat[0] = number  # every file is another, as in a training
            save_state(folder, State(number, weights, slots, carried, {}), keep=2)
            del weights, slots, carried
            subprocess.run(["sync"], check=True)
            for _ in range(2):
                steps.one()
            plain = [steps.one() for _ in range(SETTLED)]
            cpu = _thread_seconds("publishing")
            publisher.offer(number)
            started = time.perf_counter()
            during = [steps.one()]
            while publisher._busy or publisher._waiting:
                during.append(steps.one())
            taken = time.perf_counter() - started
            plain += [steps.one() for _ in range(SETTLED)]
            usual = statistics.median(plain)
            row = {
                "lost_seconds": sum(during) - usual * len(during),
                "publish_seconds": taken,
                "cpu_seconds": _thread_seconds("publishing") - cpu,
                "step_seconds": usual,
                "steps": len(during),
            }
            print("@" + json.dumps(row), flush=True)
            found.append(row)
    return found


def _thread_seconds(name: str) -> float:
    """CPU seconds of this process's thread of that name so far."""
    thread = next(t for t in threading.enumerate() if t.name == name)
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    steps = Steps(arguments.length)
    for _ in range(2):
        steps.one()
    folder = Path(tempfile.mkdtemp(prefix="textmill-publishing-"))
    try:
        with contextlib.nullcontext(arguments.store) if arguments.store else sink() as uri:
            found = measure(uri, steps, arguments.rounds, folder)
    finally:
        shutil.rmtree(folder)
    report = Report("Publishing a checkpoint of GPT-2 124M while training")
    report.machine["store"] = arguments.store or "loopback, discarding"
    report.machine["rounds"] = [{k: round(v, 3) for k, v in row.items()} for row in found]
    lost = statistics.median(row["lost_seconds"] for row in found)
    met = report.check(
        "share of training time lost at one publish a minute", lost / PERIOD, BAR, at_least=False
    )
    report.write(arguments.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
