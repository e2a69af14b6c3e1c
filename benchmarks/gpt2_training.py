"""Training speed of GPT-2 124M at 1,024 tokens against gpt-2-simple and Hugging Face, and their memory.

    python -m benchmarks.gpt2_training [--batches 1 2 4] [--rounds 3] [--seconds 1] [--out FILE.json]

Random weights. One step takes many seconds, so a window is one step or a few; the whole takes 10 to 15 minutes on two
cores. Each batch size is a run of its own, in which all sides alternate; the bars compare the best batch of each with
gpt-2-simple's and Hugging Face's best, within one round each. Hugging Face's slower modes run at batch 1 alone. Peers
are installed into benchmarks/.peers on first use; gpt-2-simple comes from the development environment. `--quick` is
batch 1, one round, without Hugging Face. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, Report, Side, measure, peer_python, quartiles, rows
from benchmarks.peers.gpt2_workload import SMALL
from textmill.devices import BFLOAT16_FEATURES, cpu_features
from textmill.models.gpt2 import GPT2Config, init

PACKAGES = ["torch", "transformers", "numpy"]
BARS = {"gpt-2-simple": 2.6, "Hugging Face": 1.0}
LOSS_STEPS = 20
LOSS_BOUND = 1e-3  # nats, largest difference from gpt-2-simple's losses in float32
LARGEST_OLD_BATCH = 2  # gpt-2-simple takes more than 20 GB at batch 4


def sides_of(batch: int, *, quick: bool) -> list[Side]:
    """Everyone at this batch size, on all cores."""
    own = sys.executable
    sides = [Side(f"textmill, batch {batch}", [own, "-m", "benchmarks.peers.textmill_gpt2", str(batch)])]
    if batch <= LARGEST_OLD_BATCH:
        command = [own, "benchmarks/peers/gpt2_simple_training.py", str(batch)]
        sides.append(Side(f"gpt-2-simple, batch {batch}", command))
    if quick:
        return sides
    python = peer_python("huggingface", PACKAGES)
    modes = [("bf16", "sdpa"), ("fp32", "sdpa"), ("bf16", "eager")]
    if not cpu_features() & BFLOAT16_FEATURES:
        modes = [("fp32", "sdpa")]
    for mode, attention in modes[: None if batch == 1 else 1]:
        command = [python, "benchmarks/peers/huggingface_training.py", str(batch), mode, attention]
        sides.append(Side(f"Hugging Face {mode} {attention}, batch {batch}", command))
    return sides


def versions(done: list[Side]) -> dict[str, str]:
    """What every side said of its packages."""
    names = ("backend", "tensorflow", "gpt-2-simple", "torch", "transformers")
    return {name: side.about[name] for side in done for name in names if name in side.about}


def check_speed(report: Report, done: list[Side]) -> bool:
    """The bars, each side at its best batch, round by round."""
    met = True
    best = {
        who: max(
            (s for s in done if s.name.startswith(who)), key=lambda s: quartiles(s.rates)[1], default=None
        )
        for who in ("textmill", *BARS)
    }
    mine = best["textmill"]
    for who, bar in BARS.items():
        other = best[who]
        if mine is None or other is None:
            continue
        ratio = quartiles([a / b for a, b in zip(mine.rates, other.rates, strict=True)])[1]
        met &= report.check(f"{mine.name}: times {other.name}", ratio, bar)
    return met


def check_memory(report: Report, done: list[Side]) -> bool:
    """Peak memory below that of Hugging Face's most frugal mode at the same batch."""
    met = True
    for mine in (side for side in done if side.name.startswith("textmill")):
        batch = mine.name.rpartition(" ")[2]
        others = [s for s in done if s.name.startswith("Hugging Face") and s.name.endswith(f"batch {batch}")]
        if others:
            least = min(others, key=lambda side: side.about["peak_memory_mb"])
            ratio = mine.about["peak_memory_mb"] / least.about["peak_memory_mb"]
            met &= report.check(f"{mine.name}: peak memory over {least.name}'s", ratio, 1.0, at_least=False)
    return met


def loss_curves(folder: Path, steps: int = LOSS_STEPS) -> tuple[list[float], list[float]]:
    """Textmill's and gpt-2-simple's first losses of a small model: same weights, same data, float32."""
    file = folder / "weights.npz"
    draw = np.random.default_rng(0)  # livelier than fresh weights, so that every part matters
    weights = {
        name: value + draw.normal(scale=0.05, size=value.shape).astype(np.float32)
        for name, value in init(GPT2Config.of(**SMALL), 0).items()
    }
    np.savez(file, **weights)
    count, own = str(steps), sys.executable
    mine = [own, "-m", "benchmarks.peers.textmill_gpt2", "2", "--precision", "float32"]
    commands = (
        [*mine, "--losses", count, "--weights", str(file)],
        [own, "benchmarks/peers/gpt2_simple_training.py", "losses", count, str(file)],
    )
    found = []
    for command in commands:
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(said.strip().splitlines()[-1]))
    return found[0], found[1]


def check_losses(report: Report) -> bool:
    """The same loss curve as gpt-2-simple's."""
    with tempfile.TemporaryDirectory() as folder:
        mine, its = loss_curves(Path(folder))
    largest = max(abs(a - b) for a, b in zip(mine, its, strict=True))
    what = f"largest difference in loss from gpt-2-simple, float32, first {LOSS_STEPS} steps of a small model"
    return report.check(what, largest, LOSS_BOUND, at_least=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="write the result as JSON too")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    batches, rounds = ([1], 1) if arguments.quick else (arguments.batches, arguments.rounds)
    report, done = Report("Training GPT-2 124M, 1,024 tokens"), []
    for batch in batches:
        ran = measure(sides_of(batch, quick=arguments.quick), rounds=rounds, seconds=arguments.seconds)
        baseline = f"textmill, batch {batch}"
        report.table(f"batch {batch}", "tokens/s", rows(ran, baseline), baseline)
        done += ran
    report.machine |= versions(done)
    met = check_speed(report, done)
    met &= check_memory(report, done)
    met &= check_losses(report)
    report.write(arguments.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
