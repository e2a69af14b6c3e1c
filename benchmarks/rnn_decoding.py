"""Writing text with the recurrent models: textmill against PyTorch's best of fp32, bf16 and torch.compile.

python -m benchmarks.rnn_decoding [--rounds N] [--seconds S] [--workloads char-gru ...] [--batches 1 30] [--out FILE]

Bars: at batch 1 twice PyTorch's best, at batch 30 1.2 times. Some 8 minutes, after the peers' installation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import ROOT, Report, Side, measure, peer_python, rows
from benchmarks.peers.workload import WORKLOADS

BARS = {1: 2.0, 30: 1.2}
MODES = ("fp32", "fp32/1", "bf16", "bf16/1", "compile", "compile/1", "compile-bf16")  # "/1": one thread


def sides(workload: str, batch: int, python: str, modes: list[str], top_k: int) -> list[Side]:
    """Textmill, and PyTorch in each of the modes, with a thread for each core or with one."""
    own = [sys.executable, "-m", "benchmarks.peers.textmill_decoding", workload, str(batch)]
    script = str(ROOT / "benchmarks" / "peers" / "torch_decoding.py")
    found = [Side("textmill", [*own, "--top-k", str(top_k)], {"TF_CPP_MIN_LOG_LEVEL": "3"})]
    for mode in modes:
        kind, _, one = mode.partition("/")
        threads = {"BENCH_THREADS": one, "OMP_NUM_THREADS": one} if one else {}
        found.append(Side(f"torch-{mode}", [python, script, workload, str(batch), kind, str(top_k)], threads))
    return found


def compare(report: Report, workload: str, batch: int, python: str, arguments: argparse.Namespace) -> None:
    """One workload at one batch size: a table and its bar."""
    contestants = sides(workload, batch, python, arguments.modes, arguments.top_k)
    ran = measure(contestants, rounds=arguments.rounds, seconds=arguments.seconds)
    made = rows(ran, "textmill")
    best = max((row for row in made if row.name != "textmill"), key=lambda row: row.rate)
    against = rows(ran, best.name)
    unit = WORKLOADS[workload].unit
    report.table(f"{workload}, batch {batch}", unit, against, best.name)
    ratio = next(row.ratio for row in against if row.name == "textmill")
    report.check(f"{workload} at batch {batch}, x {best.name}", ratio, BARS.get(batch, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["char-gru", "word-small"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 30])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    python = peer_python("torch", ["torch", "numpy"])
    report = Report("Decoding with recurrent models")
    for workload in arguments.workloads:
        for batch in arguments.batches:
            compare(report, workload, batch, python, arguments)
    report.write(arguments.out)


if __name__ == "__main__":
    main()
