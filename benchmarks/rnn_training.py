"""Training speed of the recurrent models against PyTorch, Keras and the old systems' TensorFlow 1 graphs.

    python -m benchmarks.rnn_training [--workloads char-gru word-small] [--rounds 9] [--seconds 4] [--out FILE.json]
    make bench

Peers are installed into benchmarks/.peers on first use. Only the ratios count: machines of the same kind differ, and so
do hours. `--quick` is a smoke test of a minute: two rounds, no PyTorch. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT, Report, Row, Side, measure, peer_python, rows
from benchmarks.peers.workload import WORKLOADS
from textmill.devices import BFLOAT16_FEATURES, cpu_features

TORCH_PACKAGES = ["torch", "numpy"]
LOSS_STEPS = 20
LOSS_BOUND = 1e-3  # nats, largest difference from the plain float32 model in the first steps

# PyTorch's best mode and the TensorFlow 1 graph: at least so many times faster
BARS = {"char-gru": (1.1, 3.0), "word-small": (1.3, 3.0)}


def sides_of(workload: str, *, quick: bool) -> list[Side]:
    """Textmill and everyone it is compared with, each with 2 threads (all cores of the machine)."""
    own, peers = sys.executable, "benchmarks/peers"
    sides = [
        Side("textmill", [own, "-m", "benchmarks.peers.textmill_rnn", workload]),
        Side("TensorFlow 1 graph", [own, f"{peers}/tf1_rnn.py", workload]),
    ]
    if quick:
        return sides
    sides.append(Side("Keras fit fp32", [own, f"{peers}/keras_rnn.py", workload, "fp32"]))
    python = peer_python("torch", TORCH_PACKAGES)
    modes = ["fp32", "compile"]
    if (
        cpu_features() & BFLOAT16_FEATURES
    ):  # emulated elsewhere: 58 characters a second were seen, minutes a window
        modes.append("bf16")
    for mode in modes:
        command = [python, f"{peers}/torch_rnn.py", workload, mode]
        sides.append(Side(f"PyTorch {mode}", command))
    # OpenMP threads that wait actively are fastest on an idle machine, and very slow on a busy one
    command = [python, f"{peers}/torch_rnn.py", workload, "fp32"]
    sides.append(Side("PyTorch fp32, passive", command, {"OMP_WAIT_POLICY": "passive"}))
    return sides


def check_speed(report: Report, workload: str, made: Sequence[Row]) -> bool:
    """The workload's bars, from ratios to Textmill within each round."""
    torch_bar, old_bar = BARS.get(workload, (0.0, 0.0))
    met = True
    torch = [row for row in made if row.name.startswith("PyTorch")]
    if torch:
        best = max(torch, key=lambda row: row.ratio)
        met &= report.check(f"{workload}: times PyTorch's best ({best.name})", 1 / best.ratio, torch_bar)
    for row in made:
        if row.name.startswith("TensorFlow 1"):
            met &= report.check(f"{workload}: times the old TensorFlow 1 graph", 1 / row.ratio, old_bar)
    return met


def check_losses(report: Report, workload: str) -> bool:
    """The engine's first losses against the plain model's, from the same weights and data."""
    found = [_losses(workload, which) for which in ("engine", "plain")]
    largest = max(abs(a - b) for a, b in zip(*found, strict=True))
    what = f"{workload}: largest difference in loss from the plain float32 model, first {LOSS_STEPS} steps"
    return report.check(what, largest, LOSS_BOUND, at_least=False)


def _losses(workload: str, which: str) -> list[float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers.reference_rnn",
        workload,
        which,
        str(LOSS_STEPS),
        "float32",
    ]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(BARS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path, help="write the result as JSON too")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rounds, seconds = (2, 1.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    report, met = Report("Training the recurrent models"), True
    for workload in arguments.workloads:
        done = measure(sides_of(workload, quick=arguments.quick), rounds=rounds, seconds=seconds)
        made = rows(done, "textmill")
        report.table(workload, WORKLOADS[workload].unit, made, "textmill")
        met &= check_speed(report, workload, made)
        met &= check_losses(report, workload)
    report.write(arguments.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
