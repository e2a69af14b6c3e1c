"""Writing text with GPT-2 124M: textmill against Hugging Face in fp32 and bf16, and gpt-2-simple.

    python -m benchmarks.gpt2_decoding [--batches 1 30] [--prompts 64 512] [--rounds N] [--seconds S] [--out FILE.json]

Random weights, texts of 200 tokens: textmill from the prompt to the text (in bfloat16 where the CPU computes in it;
in int8 too, beside the bars), Hugging Face by `generate` (`--ways loop`: also by a tight loop over its cache, which
was no faster). Then the time to the first token after prompts of two lengths, batch 1. gpt-2-simple, many times
slower, joins with --with-old, from the development environment. Exit status 1 when a bar is missed. Some 9 minutes,
after the peers' installation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.common import Report, Row, Side, measure, peer_python, rows
from textmill.devices import BFLOAT16_FEATURES, cpu_features

PACKAGES = ["torch", "transformers", "numpy"]
BAR = 1.5  # times the better of Hugging Face's, at batch 1 and at batch 30
FIRST_TOKEN_BAR = 1.0  # the time to the first token must not be longer
WAYS = ("generate", "loop")


def sides(batch: int, top_k: int, prompt: int, ways: list[str], *, with_old: bool) -> list[Side]:
    """Everyone at this batch size; with a prompt, up to the first token."""
    own = sys.executable
    asked = ["--prompt", str(prompt)] if prompt else []
    command = [
        own,
        "-m",
        "benchmarks.peers.textmill_gpt2_decoding",
        str(batch),
        "--top-k",
        str(top_k),
        *asked,
    ]
    found = [Side("textmill", command), Side("textmill int8", [*command, "--precision", "int8"])]
    python = peer_python("huggingface", PACKAGES)
    for mode in ("fp32", "bf16") if cpu_features() & BFLOAT16_FEATURES else ("fp32",):
        for way in ways:
            command = [python, "benchmarks/peers/huggingface_decoding.py", str(batch), mode, way, str(top_k)]
            found.append(Side(f"Hugging Face {mode} {way}", command + asked[1:]))
    if with_old:
        command = [own, "benchmarks/peers/gpt2_simple_decoding.py", str(batch), str(top_k), *asked[1:]]
        found.append(Side("gpt-2-simple", command))
    return found


def compare(report: Report, title: str, unit: str, contestants: list[Side], bar: float, arguments) -> bool:
    """One table and its bar; windows alternate."""
    ran = measure(contestants, rounds=arguments.rounds, seconds=arguments.seconds)
    best = _best(rows(ran, "textmill"))
    against = rows(ran, best)
    report.table(title, unit, against, best)
    ratio = next(row.ratio for row in against if row.name == "textmill")
    return report.check(f"{title}, x {best}", ratio, bar)


def _best(made: list[Row]) -> str:
    """Hugging Face's fastest."""
    return max((row for row in made if row.name.startswith("Hugging Face")), key=lambda row: row.rate).name


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 30])
    parser.add_argument("--prompts", nargs="*", type=int, default=[64, 512])
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--ways", nargs="*", default=["generate"], choices=WAYS, help="Hugging Face's")
    parser.add_argument("--with-old", action="store_true", help="with gpt-2-simple")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report = Report("Writing text with GPT-2 124M")
    met = True
    for batch in arguments.batches:
        contestants = sides(batch, arguments.top_k, 0, arguments.ways, with_old=arguments.with_old)
        met &= compare(report, f"batch {batch}", "tokens/s", contestants, BAR, arguments)
    for prompt in arguments.prompts:
        contestants = sides(1, arguments.top_k, prompt, arguments.ways, with_old=arguments.with_old)
        title = f"first tokens after {prompt} tokens"
        met &= compare(report, title, "first tokens/s", contestants, FIRST_TOKEN_BAR, arguments)
    report.write(arguments.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
