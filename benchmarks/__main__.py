"""All benchmarks, one after the other: `python -m benchmarks [NAME ...]`. JSON beside the text goes to .bench/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.common import ROOT

CLAIMS = ("rnn_training", "rnn_decoding", "gpt2_decoding", "normalizing", "gpt2_training")


def main(names: list[str]) -> int:
    """Run the named benchmarks (all of them without a name); the exit status is that of the worst."""
    if unknown := set(names) - set(CLAIMS):
        print(
            f"benchmarks: unknown: {', '.join(sorted(unknown))}. There are: {', '.join(CLAIMS)}.",
            file=sys.stderr,
        )
        return 2
    folder = Path(ROOT) / ".bench"
    folder.mkdir(exist_ok=True)
    worst = 0
    for name in names or CLAIMS:
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(folder / f"{name}.json")]
        worst = max(worst, subprocess.run(command, cwd=ROOT, check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
