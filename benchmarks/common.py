"""Paired measurements: every side is a process of its own, and short windows of all sides alternate.

On a machine that others use too a single figure means little; the ratio of two windows that ran one after the other
holds. A side is a program that answers lines on its standard input with JSON lines on its standard output:

    (starts)   {"ready": true, ...anything about itself}
    run 2.0    {"units": 4000, "seconds": 2.1, "cpu_seconds": 3.9}
    quit       {"peak_memory_mb": 812, ...}

`serve` is that program's loop, `Side` the other end, `measure` alternates, `Report` writes JSON and Markdown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / ".peers"


# --- the side's end ---


def serve(work: Callable[[], int], about: Mapping[str, Any] | None = None, warm_up: int = 2) -> None:
    """Answer a Side: `work` does one piece and returns its number of units (tokens, characters)."""
    for _ in range(warm_up):
        work()
    _say({"ready": True, **(about or {})})
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word == "quit":
            break
        _say(_window(work, float(value)))
    _say({"peak_memory_mb": peak_memory_mb()})


def _window(work: Callable[[], int], wanted: float) -> dict[str, float]:
    units, start, cpu = 0, time.perf_counter(), time.process_time()
    while (seconds := time.perf_counter() - start) < wanted:
        units += work()
    return {"units": units, "seconds": seconds, "cpu_seconds": time.process_time() - cpu}


def _say(value: Mapping[str, Any]) -> None:
    print("@" + json.dumps(value), flush=True)


def peak_memory_mb() -> int:
    """Largest resident set of this process so far, in MB (2**20 bytes)."""
    for line in _lines(
        Path("/proc/self/status")
    ):  # getrusage begins with what the parent had when it started us
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# --- the benchmark's end ---


class Side:
    """One contestant's process. Use as a context manager; `about` is what it said when it was ready."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.command = name, list(command)
        self.environment = {**os.environ, **(environment or {})}
        self.about: dict[str, Any] = {}
        self.windows: list[dict[str, float]] = []

    def __enter__(self) -> Side:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=ROOT,
        )
        self.about = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError, BrokenPipeError):
            self.about |= self._ask("quit")
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()

    def run(self, seconds: float) -> None:
        """One window of at least `seconds`."""
        self.windows.append(self._ask(f"run {seconds}"))

    @property
    def rates(self) -> list[float]:
        """Units a second of each window."""
        return [window["units"] / window["seconds"] for window in self.windows]

    def _ask(self, line: str) -> dict[str, Any]:
        self.process.stdin.write(line + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        for line in self.process.stdout:  # type: ignore[union-attr]
            if line.startswith("@"):  # libraries print too
                return json.loads(line[1:])
        raise RuntimeError(
            f"{self.name} ended early with status {self.process.wait()}: {' '.join(self.command)}"
        )


def measure(sides: Sequence[Side], *, rounds: int, seconds: float) -> list[Side]:
    """Run every side's windows in alternation, the order turned by one each round; sides that fail are left out."""
    with contextlib.ExitStack() as stack:
        running = []
        for side in sides:
            try:
                running.append(stack.enter_context(side))
            except RuntimeError as error:
                print(f"left out: {error}", file=sys.stderr)
        for index in range(rounds):
            for turn in range(len(running)):
                running[(turn + index) % len(running)].run(seconds)
            shown = "  ".join(f"{side.name} {side.rates[-1]:,.0f}" for side in running)
            print(f"round {index + 1}/{rounds}: {shown}", file=sys.stderr, flush=True)
    return running


@dataclasses.dataclass
class Row:
    """One side's result: units a second (median, quartiles) and its ratio to the baseline, window by window."""

    name: str
    rate: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    peak_memory_mb: int
    about: dict[str, Any]


def rows(sides: Sequence[Side], baseline: str) -> list[Row]:
    """Medians and quartiles; `ratio` is this side's rate over the baseline's in the same round."""
    base = next(side for side in sides if side.name == baseline).rates
    made = []
    for side in sides:
        ratios = [mine / other for mine, other in zip(side.rates, base, strict=True)]
        low, middle, high = quartiles(side.rates)
        ratio_low, ratio, ratio_high = quartiles(ratios)
        about = {k: v for k, v in side.about.items() if k not in ("ready", "peak_memory_mb")}
        memory = side.about.get("peak_memory_mb", 0)
        made.append(Row(side.name, middle, low, high, ratio, ratio_low, ratio_high, memory, about))
    return made


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def machine() -> dict[str, Any]:
    """The machine and the moment, as a report should name them."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
    }


def _cpu_name() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _lines(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from path.read_text(encoding="utf-8").splitlines()


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "uncommitted"


class Report:
    """Collects tables and checks; writes `<out>.json` and prints Markdown."""

    def __init__(self, title: str) -> None:
        self.title, self.machine = title, machine()
        self.tables: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.series: list[dict[str, Any]] = []

    def curves(
        self, title: str, x: str, unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]
    ) -> None:
        """Add what was measured at several sizes: `x` names the size, each line is a side's (size, value)."""
        kept = {name: [list(point) for point in points] for name, points in lines.items() if points}
        self.series.append({"title": title, "x": x, "unit": unit, "lines": kept})

    def table(self, title: str, unit: str, made: Sequence[Row], baseline: str) -> None:
        """Add one comparison."""
        entries = [dataclasses.asdict(row) for row in made]
        self.tables.append({"title": title, "unit": unit, "baseline": baseline, "rows": entries})

    def check(self, what: str, value: float, bar: float, at_least: bool = True) -> bool:
        """Add one bar; returns whether it is met."""
        met = value >= bar if at_least else value <= bar
        self.checks.append({"what": what, "value": value, "bar": bar, "at_least": at_least, "met": met})
        return met

    def markdown(self) -> str:
        """The whole report."""
        facts = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        parts = [f"## {self.title}\n\n{facts}\n"]
        parts += [markdown_table(table) for table in self.tables]
        parts += [markdown_series(series) for series in self.series]
        parts += [markdown_check(check) for check in self.checks]
        return "\n".join(parts) + "\n"

    def write(self, out: Path | None) -> None:
        """Print the Markdown; write the JSON beside when asked to."""
        print(self.markdown())
        if out is not None:
            found = {
                "title": self.title,
                "machine": self.machine,
                "command": command(),
                "tables": self.tables,
            }
            found |= {"series": self.series, "checks": self.checks}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def command() -> str:
    """What was typed to measure this, without where the result goes."""
    import __main__

    given = [word for word in sys.argv[1:] if word != "--keep"]
    if "--out" in given:
        del given[given.index("--out") :][:2]
    module = Path(getattr(__main__, "__file__", None) or "unknown").stem
    return " ".join(["python -m", f"benchmarks.{module}", *given])


def markdown_table(table: Mapping[str, Any]) -> str:
    """One comparison: a row a side."""
    lines = [
        f"### {table['title']}\n",
        f"| side | {table['unit']}, median (quartiles) | x {table['baseline']} (quartiles) | peak memory |",
        "|---|---|---|---|",
    ]
    for row in table["rows"]:
        lines.append(
            f"| {row['name']} | {row['rate']:,.0f} ({row['low']:,.0f}-{row['high']:,.0f}) "
            f"| {row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f}) | {row['peak_memory_mb']:,} MB |"
        )
    return "\n".join(lines) + "\n"


def markdown_series(series: Mapping[str, Any]) -> str:
    """What was measured at several sizes: a row a side, a column a size."""
    sizes = sorted({x for points in series["lines"].values() for x, _ in points})
    lines = [
        f"### {series['title']}\n",
        f"| {series['unit']} | " + " | ".join(f"{x:,g}" for x in sizes) + f" {series['x']} |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for name, points in series["lines"].items():
        found = dict(map(tuple, points))
        lines.append(f"| {name} | " + " | ".join(number(found.get(x)) for x in sizes) + " |")
    return "\n".join(lines) + "\n"


def markdown_check(check: Mapping[str, Any]) -> str:
    """One bar, and whether it is met."""
    sign, state = (">=" if check.get("at_least", True) else "<="), ("met" if check["met"] else "MISSED")
    return f"- {check['what']}: {check['value']:.3g} {sign} {check['bar']:g}: **{state}**"


def number(value: float | None) -> str:
    """A figure of a table: three digits that count, none behind the point from 100 on; "" for none."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# --- peers' environments ---


def peer_python(name: str, packages: Sequence[str]) -> str:
    """The interpreter of benchmarks/.peers/<name>, made with `packages` on first use."""
    folder = PEERS / name
    python = folder / "bin" / "python"
    wanted = "\n".join(packages)
    marker = folder / "packages.txt"
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"installing {', '.join(packages)} into {folder.relative_to(ROOT)} …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    marker.write_text(wanted, encoding="utf-8")
    return str(python)
