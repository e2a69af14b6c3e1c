"""How time and memory grow with the corpus, the shards, the context and the batch, beside a peer that does the same.

    python -m benchmarks.scaling [--parts corpus shards context batch] [--texts FOLDER] [--out FILE.json] [--keep]

corpus: normalize into words, one process, from 1 MB up; datatrove's same steps up to 64 MB. shards: the same 64 MB in
few and many files, one and two processes. context: a training step of GPT-2 124M at several lengths of row, beside
Hugging Face's in bfloat16. batch: writing texts of 200 tokens, so many side by side, beside Hugging Face's. How the
service bears clients is benchmarks/serve.py's, 10 GB docs/scale.md's. There are no bars: see the curves. Some 15
minutes. With --keep what FILE holds of other parts stays.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import ROOT, Report, Side, measure, peak_memory_mb, peer_python, quartiles
from benchmarks.gpt2_decoding import PACKAGES
from benchmarks.large_text import make
from benchmarks.normalizing import PEER
from textmill.devices import BFLOAT16_FEATURES, cpu_features

MEGABYTES = (1, 4, 16, 64, 256)
MOST_FOR_PEER = 64  # datatrove takes a minute for each 64 MB
SHARDS = (1, 2, 4, 8, 32, 128)
SHARDED = 64  # MB
CONTEXTS = (128, 256, 512, 1024)
BATCHES = (1, 2, 4, 8, 16, 32)

Lines = dict[str, list[tuple[float, float]]]
Part = Iterator[tuple[str, str, str, Lines]]  # title, what the size is, unit, curves


def once(arguments: list[str], python: str = sys.executable) -> dict[str, float]:
    """A child process that does one piece of work and says its figures as its last line."""
    command = [python, "-m", "benchmarks.scaling", "--child", *arguments]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return json.loads(said.strip().splitlines()[-1])


def child(arguments: list[str]) -> None:
    """Normalize a corpus once: seconds, and MB of the largest process."""
    from textmill.normalize import NormalizeSettings, normalize

    corpus, processes = Path(arguments[0]), int(arguments[1])
    settings = NormalizeSettings.of(tokenizer="word", processes=processes, keep_work=False)
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        start = time.perf_counter()
        normalize(corpus, Path(folder) / "dataset", settings)
        seconds = time.perf_counter() - start
    largest = max(peak_memory_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
    print(json.dumps({"seconds": seconds, "memory": largest}))


def corpus(given: argparse.Namespace) -> Part:
    """Seconds and memory of normalize against the size of the corpus."""
    seconds: Lines = {"textmill": [], "datatrove": []}
    memory: Lines = {"textmill": [], "datatrove": []}
    python = peer_python("datatrove", PEER)
    for megabytes in MEGABYTES:
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            made = Path(folder) / "corpus"
            size = make(made, given.texts, megabytes, shard=16, processes=2)
            (made / "size").write_text(str(size))
            found = once([str(made), "1"])
            seconds["textmill"].append((megabytes, found["seconds"]))
            memory["textmill"].append((megabytes, found["memory"]))
            if megabytes <= MOST_FOR_PEER:
                command = [
                    python,
                    "-m",
                    "benchmarks.peers.normalizing",
                    "datatrove-split",
                    str(made),
                    "--cold",
                ]
                side = Side("datatrove", command, {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
                [ran] = measure([side], rounds=1, seconds=0.01)
                seconds["datatrove"].append((megabytes, ran.windows[0]["seconds"]))
                memory["datatrove"].append((megabytes, ran.about["peak_memory_mb"]))
        print(f"{megabytes} MB: {found}", file=sys.stderr, flush=True)
    yield "normalize into words, one process", "MB of text", "seconds", seconds
    yield "normalize into words, one process: memory", "MB of text", "MB of memory", memory


def shards(given: argparse.Namespace) -> Part:
    """Seconds of normalize against the number of files that the same text lies in."""
    lines: Lines = {"1 process": [], "2 processes": []}
    for count in SHARDS:
        with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
            made = Path(folder) / "corpus"
            make(made, given.texts, SHARDED, shard=SHARDED / count, processes=2)
            for processes, line in zip((1, 2), lines.values(), strict=True):
                line.append((count, once([str(made), str(processes)])["seconds"]))
        print(f"{count} shards: {[line[-1][1] for line in lines.values()]}", file=sys.stderr, flush=True)
    yield f"normalize {SHARDED} MB of text", "files", "seconds", lines


def context(given: argparse.Namespace) -> Part:
    """Speed and memory of training against the length of a row."""
    own = [sys.executable, "-m", "benchmarks.peers.textmill_gpt2", "1"]
    peer = ["benchmarks/peers/huggingface_training.py", "1", mode(), "sdpa"]
    peer = [peer_python("huggingface", PACKAGES), *peer]
    commands = {"textmill": own, f"Hugging Face {mode()}": peer}
    yield from paired(
        "training GPT-2 124M, one row a step", "tokens in a row", CONTEXTS, given.rounds, commands,
        lambda command, size: (command, {"BENCH_CONTEXT": str(size)}),
    )  # fmt: skip


def batch(given: argparse.Namespace) -> Part:
    """Speed and memory of writing against the texts written side by side."""
    python = peer_python("huggingface", PACKAGES)
    commands = {
        "textmill": [sys.executable, "-m", "benchmarks.peers.textmill_gpt2_decoding", "{}"],
        f"Hugging Face {mode()}": [
            python,
            "benchmarks/peers/huggingface_decoding.py",
            "{}",
            mode(),
            "generate",
            "0",
        ],
    }
    yield from paired(
        "writing with GPT-2 124M, texts of 200 tokens", "texts side by side", BATCHES, given.rounds, commands,
        lambda command, size: ([word.format(size) for word in command], {}),
    )  # fmt: skip


def paired(
    title: str,
    x: str,
    sizes: tuple[int, ...],
    rounds: int,
    commands: dict[str, list[str]],
    sized: Callable[[list[str], int], tuple[list[str], dict[str, str]]],
) -> Part:
    """All sides at each size, windows in alternation: tokens a second, and memory."""
    speed: Lines = {name: [] for name in commands}
    memory: Lines = {name: [] for name in commands}
    for size in sizes:
        sides = [Side(name, *sized(command, size)) for name, command in commands.items()]
        for side in measure(sides, rounds=rounds, seconds=2.0):
            speed[side.name].append((size, quartiles(side.rates)[1]))
            memory[side.name].append((size, side.about["peak_memory_mb"]))
    yield title, x, "tokens a second", speed
    yield f"{title}: memory", x, "MB of memory", memory


def mode() -> str:
    """Hugging Face's faster number format on this CPU."""
    return "bf16" if cpu_features() & BFLOAT16_FEATURES else "fp32"


PARTS: dict[str, Callable[[argparse.Namespace], Part]] = {
    "corpus": corpus,
    "shards": shards,
    "context": context,
    "batch": batch,
}


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--texts", type=Path, default=ROOT / "samples")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep what FILE holds of other parts")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    report, before = Report("Scaling"), {}
    if given.keep and given.out and given.out.exists():
        before = {one["title"]: one for one in json.loads(given.out.read_text(encoding="utf-8"))["series"]}
    for name in given.parts:
        for title, x, unit, lines in PARTS[name](given):
            before.pop(title, None)
            report.curves(title, x, unit, lines)
    report.series = [*before.values(), *report.series]
    report.write(given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
