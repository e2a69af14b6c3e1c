"""The service with GPT-2 124M, against S5's design and Hugging Face's server: same weights, same machine.

    python -m benchmarks.serve [--sides NAME ...] [--levels 1 3 10 30 100] [--out FILE.json]

Each side is a server; at each level so many clients ask for texts of 40 tokens, streamed where the side can. A level
ends after --seconds; a request that is not over by then counts with the time that it has waited. With --keep what FILE
holds of other sides and levels stays, so that the benchmark can be run in pieces. S5's design is Flask and
gpt-2-simple, reloaded for each request; Hugging Face's is `transformers serve`, plain and with its continuous batching.
Every side's process may take --memory GB of addresses. The bars: 10 times S5's throughput at 10 clients, and at each
level a better p95 than the others of the time to the first piece, between pieces, and in all.

    python -m benchmarks.serve --own [--models gpt2 char-gru] [--batches 1 3 30]

The service against the generator that it is made of, offline: a lone request, 3 and 30 at once. Exit status 1 when a
bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import PEERS, ROOT, Report, Side, command, machine, measure, peer_python, rows
from benchmarks.serving_load import Seen, Target, load, summary

PACKAGES = ["torch", "transformers[serving]"]
LENGTH = 40
LEVELS = (1, 3, 10, 30, 100)
# By itself it would take nine tenths of the memory for keys and values.
BATCHING = ("--dtype", "bfloat16", "--continuous-batching", "--cb-max-memory-percent", "0.2")
FEWEST = 20  # requests of a level
THROUGHPUT_BAR = 10.0  # times S5's, at 10 clients
OWN_BARS = {1: 0.9, 30: 0.8}  # of the plain generator's speed: one request, 30 at once
OWN = {"gpt2": ("GPT-2 124M", "checkpoint", LENGTH), "char-gru": ("char-GRU 3x512", "char_gru", 1000)}
MODELS = PEERS / "served"
PATIENCE = 600.0  # seconds for a server to start
TEXT = "the wheel turns and the river runs below the mill while nobody looks at the moon"


def prompts(number: int) -> list[str]:
    """Prompts of four to eleven words."""
    words = itertools.cycle(TEXT.split())
    return [" ".join(itertools.islice(words, 4 + n % 8)) for n in range(number)]


# --- the weights, as each side reads them ---


def prepare() -> None:
    """GPT-2 124M with random weights: a checkpoint, and the same for Hugging Face and for gpt-2-simple; a char-GRU."""
    if (MODELS / "done").exists():
        return
    from textmill.checkpoints.checkpoint import save_model
    from textmill.checkpoints.exporting import export_model
    from textmill.models import get_model
    from textmill.models.gpt2 import GPT2Config, init
    from textmill.models.rnn import init as init_recurrent
    from textmill.tokenizers import CharTokenizer
    from textmill.tokenizers.bpe import BPETokenizer

    parents = {"dataset": "0" * 64}

    def save(folder: str, kind: str, preset: str, config: Any, weights: Any, tokenizer: Any) -> Path:
        (MODELS / folder).mkdir(parents=True, exist_ok=True)
        said = {"model": kind, "preset": preset, "config": config.as_dict(), "render": ""}
        save_model(MODELS / folder, weights, said, {"step": 1}, tokenizer, parents)
        return MODELS / folder

    characters = CharTokenizer.train([], alphabet="ascii98")
    recurrent = get_model("char-gru").config("shakespeare", characters.size, {})
    save("char_gru", "char-gru", "shakespeare", recurrent, init_recurrent(recurrent, 0), characters)
    config = GPT2Config.of(vocabulary_size=50257)
    tokenizer = BPETokenizer.of(itertools.islice(letter_groups(), config.vocabulary_size - 257))
    checkpoint = save("checkpoint", "gpt2", "124M", config, init(config, 0), tokenizer)
    export_model(checkpoint, "huggingface", MODELS / "huggingface")
    export_model(checkpoint, "openai", MODELS / "s5" / "checkpoint" / "run1")
    (MODELS / "done").write_text("")


def letter_groups() -> Iterator[tuple[str, str]]:
    """Merges of plain letters into groups of two and three: nearly every token is text that can be shown at once."""
    letters = list(map(chr, range(ord("!"), ord("~") + 1)))
    yield from itertools.product(letters, repeat=2)
    yield from itertools.product(map("".join, itertools.product(letters, repeat=2)), letters)


# --- the sides ---


def textmill(port: int) -> tuple[list[str], Target]:
    """textmill serve."""
    command = [sys.executable, "-m", "textmill.cli", "serve", str(MODELS / "checkpoint"), "--port", str(port)]
    body = {"max_tokens": LENGTH, "stream": True, "stop_at_end": False}
    return command, Target(port, "/v1/completions", body)


def huggingface(port: int, *options: str) -> tuple[list[str], Target]:
    """transformers serve."""
    python = Path(peer_python("transformers_serve", PACKAGES))
    model = str(MODELS / "huggingface")
    command = [
        str(python.parent / "transformers"),
        "serve",
        model,
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    body = {"model": model, "max_tokens": LENGTH, "stream": True, "temperature": 1.0}
    return [*command, "--device", "cpu", *options], Target(port, "/v1/completions", body)


def s5(port: int) -> tuple[list[str], Target]:
    """Flask and gpt-2-simple."""
    command = [sys.executable, str(ROOT / "benchmarks" / "peers" / "s5_server.py"), str(port), str(LENGTH)]
    return command, Target(port, "/?callback=show&sample=", None)


SIDES: dict[str, Callable[[int], tuple[list[str], Target]]] = {
    "textmill": textmill,
    "transformers serve": huggingface,
    "transformers serve bf16": lambda port: huggingface(port, "--dtype", "bfloat16"),
    "transformers serve batching": lambda port: huggingface(port, *BATCHING),
    "S5": s5,
}


@contextlib.contextmanager
def served(name: str, memory: float) -> Iterator[tuple[Target, int]]:
    """The side's server, once it has answered a first request, and its session's id; `memory`: GB of addresses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, target = SIDES[name](port)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile() as said:
        limited = ["prlimit", f"--as={int(memory * 2**30)}", *command]
        process = subprocess.Popen(
            limited, cwd=MODELS / "s5", env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            end = time.monotonic() + PATIENCE
            while True:
                with contextlib.suppress(OSError, RuntimeError):
                    asyncio.run(load(target, prompts(2), 2, PATIENCE))
                    break
                if process.poll() is not None or time.monotonic() > end:
                    said.seek(0)
                    tail = said.read()[-1500:].decode(errors="replace")
                    raise RuntimeError(f"{name} does not start: {' '.join(command)}\n{tail}")
                time.sleep(0.5)
            yield target, process.pid
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its children too
            process.wait()


def resident(session: int) -> int:
    """MB (2**20 bytes) that the processes of a session hold."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def run(
    name: str, levels: Sequence[int], arguments: argparse.Namespace
) -> Iterator[tuple[int, dict[str, Any]]]:
    """One side: each level with what was seen."""
    with served(name, arguments.memory) as (target, session):
        for clients in levels:
            number = max(clients * arguments.per_client, FEWEST)
            seen: list[Seen]
            seen, passed = asyncio.run(load(target, prompts(number), clients, arguments.seconds))
            made = {**summary(seen, passed, LENGTH), "memory_mb": resident(session)}
            print(f"{name}, {clients} clients: {_line(made)}", file=sys.stderr, flush=True)
            yield clients, made


def _line(made: dict[str, Any]) -> str:
    times = ", ".join(
        f"{kind} {made[kind]['p50']:.3f}/{made[kind]['p95']:.3f}/{made[kind]['p99']:.3f}"
        for kind in ("first", "between", "total")
    )
    over = f"{made['whole']} of {made['requests']} requests"
    return f"{made['tokens_per_second']:.1f} tokens/s, {over}; s p50/p95/p99: {times}"


# --- the service against its own generator ---


def own(arguments: argparse.Namespace) -> Report:
    """Each model, so many requests at once; windows in alternation."""
    report = Report("The service against the generator that it is made of")
    for model, batch in itertools.product(arguments.models, arguments.batches):
        name, folder, length = OWN[model]
        module, task = "benchmarks.peers.textmill_serving", [str(MODELS / folder), str(batch), str(length)]
        sides = [Side(way, [sys.executable, "-m", module, way, *task]) for way in ("generator", "service")]
        found = rows(measure(sides, rounds=arguments.rounds, seconds=arguments.seconds), "generator")
        report.table(f"{name}, {batch} at once, texts of {length} tokens", "tokens/s", found, "generator")
        ratio = next(row.ratio for row in found if row.name == "service")
        if batch in OWN_BARS:
            report.check(f"{name}, {batch} at once, x generator", ratio, OWN_BARS[batch])
    return report


# --- the report ---


def markdown(results: dict[str, Any]) -> str:
    """The tables, one a level."""
    lines = []
    levels = sorted({int(level) for side in results.values() for level in side})
    for level in levels:
        lines += [
            f"### {level} clients\n",
            "| side | tokens/s | requests | first piece p50 / p95 / p99, s | between pieces, s | in all, s | memory |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, found in results.items():
            if str(level) in found:
                made = found[str(level)]
                cells = [
                    " / ".join(_seconds(made[kind][p]) for p in ("p50", "p95", "p99"))
                    for kind in ("first", "between", "total")
                ]
                over = f"{made['whole']} of {made['requests']}"
                cells.append(f"{made.get('memory_mb', 0):,} MB")
                lines.append(f"| {name} | {made['tokens_per_second']:.1f} | {over} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def checks(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The bars that can be looked at with these results."""
    found = []
    ours = results.get("textmill", {})
    if "10" in ours and "10" in results.get("S5", {}):
        ratio = ours["10"]["tokens_per_second"] / max(results["S5"]["10"]["tokens_per_second"], 1e-9)
        what = "throughput at 10 clients, x S5"
        found.append({"what": what, "value": ratio, "bar": THROUGHPUT_BAR, "met": ratio >= THROUGHPUT_BAR})
    for level, made in ours.items():
        for name, theirs in results.items():
            if name == "textmill" or level not in theirs:
                continue
            for kind in ("first", "between", "total"):
                ratio = theirs[level][kind]["p95"] / made[kind]["p95"]
                if math.isnan(ratio):  # nothing is between the pieces of an answer that comes as one
                    continue
                what = f"p95 {kind} at {level} clients, {name} / textmill"
                found.append({"what": what, "value": ratio, "bar": 1.0, "met": ratio >= 1.0})
    return found


def _keep(out: Path | None, results: dict[str, Any]) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        value = {
            "title": "Serving GPT-2 124M",
            "machine": machine(),
            "command": command(),
            "results": results,
            "checks": checks(results),
        }
        out.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--levels", nargs="*", type=int, default=list(LEVELS))
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="most of one level; windows with --own: 5"
    )
    parser.add_argument("--per-client", type=int, default=4, help="requests of each client")
    parser.add_argument(
        "--memory", type=float, default=16.0, help="GB of addresses of each of a side's processes"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="keep what FILE holds of other sides and levels")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--models", nargs="+", choices=list(OWN), default=list(OWN), help="with --own")
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[1, 3, 30], help="requests at once, with --own"
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    prepare()
    if arguments.own:
        arguments.seconds = min(arguments.seconds, 5.0)
        report = own(arguments)
        report.write(arguments.out)
        return 0 if all(check["met"] for check in report.checks) else 1
    results: dict[str, Any] = {}
    if arguments.keep and arguments.out is not None and arguments.out.exists():
        results = json.loads(arguments.out.read_text(encoding="utf-8"))["results"]
    for name in arguments.sides:
        try:
            for clients, made in run(name, arguments.levels, arguments):
                results.setdefault(name, {})[str(clients)] = made
                _keep(arguments.out, results)  # a run that is stopped has measured something
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr)
    found = checks(results)
    print(markdown(results))
    for check in found:
        print(
            f"- {check['what']}: {check['value']:.3g} >= {check['bar']:g}: {'met' if check['met'] else 'MISSED'}"
        )
    return 0 if all(check["met"] for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
