"""GPT-2 124M on a GPU: training against PyTorch with torch.compile, writing against Hugging Face.

    python -m benchmarks.gpt2_gpu [--batches 8 16 32 64] [--writing 1 32 256] [--peer-python PATH] [--out FILE.json]

Training: 1,024 tokens, bfloat16, AdamW; the best batch of each side counts, windows alternate. The opponent is our own
plain PyTorch GPT-2 trained by nanoGPT's method: scaled_dot_product_attention, autocast, fused AdamW, torch.compile.
The model-FLOP use counts 6 N + 12 layers * heads * head size * tokens a token (nanoGPT's formula, after the PaLM paper)
against the GPU's dense bfloat16 peak. Writing: texts of 200 tokens against Hugging Face's generate in bfloat16.

Sides take the GPU by turns and keep their memory, so JAX is told not to take it all at once. Peers need a Python with a
PyTorch that sees the GPU: --peer-python, or benchmarks/.peers/huggingface is made. `--device cpu --tiny` runs
everything with a tiny model on a CPU: that the programs work, not their speed. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import Report, Side, measure, peer_python, quartiles, rows
from benchmarks.peers.gpu_workload import flop_per_token, sizes_of

PACKAGES = ["torch", "transformers", "numpy"]
TRAINING_BAR = 1.0  # times torch.compile's, best batch each
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

# Dense bfloat16 peaks in FLOP/s, as the makers' data sheets give them, by a part of the device's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}


def sides(work: str, batch: int, arguments: argparse.Namespace) -> list[Side]:
    """Both programs at this batch size."""
    common = [work, str(batch), "--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    own = [sys.executable, "-m", "benchmarks.peers.gpu_textmill", *common]
    its = [arguments.peer_python, "benchmarks/peers/gpu_torch.py", *common]
    name = "PyTorch, compiled" if work == "train" else "Hugging Face"
    return [Side(f"textmill, batch {batch}", own, SHARED), Side(f"{name}, batch {batch}", its)]


def peak_of(device: str, asked: float) -> float:
    """FLOP/s of the device's bfloat16 products; 0 where it is unknown."""
    return asked * 1e12 or next((peak for name, peak in PEAKS.items() if name in device), 0.0)


def train(report: Report, arguments: argparse.Namespace) -> bool:
    """All batch sizes; the bar compares each side's best."""
    done: list[Side] = []
    for batch in arguments.batches:
        ran = measure(sides("train", batch, arguments), rounds=arguments.rounds, seconds=arguments.seconds)
        if ran:
            report.table(f"training, batch {batch}", "tokens/s", rows(ran, ran[0].name), ran[0].name)
        done += ran
    best = {}
    for who in ("textmill", "PyTorch"):
        found = [side for side in done if side.name.startswith(who)]
        if not found:
            print(f"{who} ran with no batch size: nothing to compare", file=sys.stderr)
            return False
        best[who] = max(found, key=lambda side: quartiles(side.rates)[1])
        device = str(best[who].about.get("device", ""))
        rate, peak = quartiles(best[who].rates)[1], peak_of(device, arguments.peak)
        if peak:
            share = rate * flop_per_token(sizes_of(arguments.tiny)) / peak
            report.check(f"{best[who].name}: model-FLOP use on {device}", share, 0.0)
    mine, its = best["textmill"], best["PyTorch"]
    ratio = quartiles([a / b for a, b in zip(mine.rates, its.rates, strict=True)])[1]
    return report.check(f"{mine.name}: times {its.name}", ratio, TRAINING_BAR)


def write(report: Report, arguments: argparse.Namespace) -> None:
    """Tables only: the issue sets no bar for writing on a GPU."""
    for batch in arguments.writing:
        ran = measure(sides("write", batch, arguments), rounds=arguments.rounds, seconds=arguments.seconds)
        if ran:
            report.table(f"writing, batch {batch}", "tokens/s", rows(ran, ran[0].name), ran[0].name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="*", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--writing", nargs="*", type=int, default=[1, 32, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument(
        "--peak", type=float, default=0.0, help="the device's bfloat16 TFLOP/s, if unknown here"
    )
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.peer_python = arguments.peer_python or peer_python("huggingface", PACKAGES)
    what = "a tiny GPT-2" if arguments.tiny else "GPT-2 124M"
    report, met = Report(f"Training and writing {what} on a {arguments.device.upper()}"), True
    if arguments.batches:
        met = train(report, arguments)
    write(report, arguments)
    report.write(arguments.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
