"""All benchmarks, one after the other: `python -m benchmarks [NAME ...]`; the results go to benchmarks/results.

Then benchmarks/README.md's tables and plots are made of them. All of it takes some two hours on two cores, on a machine
that does nothing else; without a GPU those that need one are left out.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import page
from benchmarks.common import ROOT

CLAIMS = {  # name of the result -> module, with its arguments
    "rnn_training": ["rnn_training"],
    "rnn_decoding": ["rnn_decoding"],
    "gpt2_training": ["gpt2_training"],
    "gpt2_decoding": ["gpt2_decoding"],
    "gpt2_gpu": ["gpt2_gpu"],
    "normalizing": ["normalizing"],
    "publishing": ["publishing"],
    "serve": ["serve"],
    "serve_own": ["serve", "--own"],
    "scaling": ["scaling"],
}
NEED_A_GPU = {"gpt2_gpu"}


def main(names: list[str]) -> int:
    """Run the named benchmarks (all of them without a name); the exit status is that of the worst."""
    if unknown := set(names) - set(CLAIMS):
        known = ", ".join(CLAIMS)
        print(f"benchmarks: unknown: {', '.join(sorted(unknown))}. There are: {known}.", file=sys.stderr)
        return 2
    worst = 0
    for name in names or [name for name in CLAIMS if has_gpu() or name not in NEED_A_GPU]:
        module, *arguments = CLAIMS[name]
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        command += ["--out", str(page.RESULTS / f"{name}.json")]
        worst = max(worst, subprocess.run(command, cwd=ROOT, check=False).returncode)
    page.write()
    return worst


def has_gpu() -> bool:
    """Whether the driver of a GPU is there."""
    return Path("/dev/nvidiactl").exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
