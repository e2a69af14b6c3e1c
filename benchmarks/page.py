"""The tables and plots of benchmarks/README.md, made of benchmarks/results/*.json. The words around them are our own.

    python -m benchmarks.page [--check]

A block `<!-- result NAME -->` … `<!-- end -->` is replaced by what NAME's last run measured: machine, command, tables,
bars; `<!-- result summary -->` by a row for each result. Plots lie in benchmarks/plots. --check writes nothing and
exits with 1 when the page or a plot is not what the results say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import plots, serve
from benchmarks.common import markdown_check, markdown_series, number

FOLDER = Path(__file__).resolve().parent
RESULTS, PLOTS, PAGE = FOLDER / "results", FOLDER / "plots", FOLDER / "README.md"
BLOCK = re.compile(r"<!-- result (\w+) -->\n.*?<!-- end -->", re.DOTALL)

Result = dict[str, Any]


def read(name: str) -> Result:
    """What the last run of this benchmark measured."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    """The results that there are."""
    return sorted(path.stem for path in RESULTS.glob("*.json"))


def rendered(page: str) -> str:
    """The page with its blocks made anew. Raises KeyError for a block whose result there is not."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        if name != "summary" and name not in names():
            raise KeyError(name)
        text = summary() if name == "summary" else section(name, read(name))
        return f"<!-- result {name} -->\n{text.strip()}\n<!-- end -->"

    return BLOCK.sub(block, page)


def summary() -> str:
    """A row for each result: when, where, which bars are met, and by name those that are not."""
    lines = ["| measured | machine, day | bars met | missed |", "|---|---|---|---|"]
    for name in names():
        found = read(name)
        checks = found["checks"]
        missed = [f"{c['what']}: {c['value']:.3g} (bar {c['bar']:g})" for c in checks if not c["met"]]
        met = f"{len(checks) - len(missed)} of {len(checks)}" if checks else "none set"
        about = f"{found['machine']['cpu']}, {found['machine']['cores']} cores, {found['machine']['date']}"
        lines.append(f"| {found['title']} | {about} | {met} | {'; '.join(missed)} |")
    return "\n".join(lines)


def section(name: str, found: Result) -> str:
    """All that one result says."""
    machine = found["machine"]
    facts = [f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB"]
    facts += [
        f"{what} {machine[what]}"
        for what in ("python", "tensorflow", "torch", "transformers")
        if what in machine
    ]
    facts.append(f"{machine['date']}, commit {machine['commit']}, load before {machine['load_average']}")
    parts = [f"`{found['command']}`: " if found.get("command") else "", "; ".join(facts) + ".\n"]
    parts = ["".join(parts)]
    if "results" in found:
        parts.append(serve.markdown(found["results"]))
    if tables := found.get("tables"):
        parts.append("\n".join(_table(tables)))
    parts += [markdown_series(series) for series in found.get("series", [])]
    parts += [f"![{alt}](plots/{file})\n" for file, alt, _ in drawings(name, found)]
    parts.append("\n".join(markdown_check(check).replace("MISSED", "missed") for check in found["checks"]))
    return "\n".join(parts)


def _table(tables: list[Result]) -> Iterator[str]:
    """The comparisons of a result in one table."""
    yield "| | median (quartiles) | times the first (quartiles) | peak memory |"
    yield "|---|---|---|---|"
    for table in tables:
        yield f"| **{table['title']}**, {table['unit']} | | | |"
        first = next((row for row in table["rows"] if row["name"] == table["baseline"]), None)
        for row in ([first] if first else []) + [row for row in table["rows"] if row is not first]:
            spread = f"{number(row['rate'])} ({number(row['low'])}–{number(row['high'])})"
            ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}–{row['ratio_high']:.2f})"
            memory = f"{row['peak_memory_mb']:,} MB" if row["peak_memory_mb"] else ""
            yield f"| {row['name']} | {spread} | {'1' if row is first else ratio} | {memory} |"
    yield ""


def drawings(name: str, found: Result) -> Iterator[tuple[str, str, str]]:
    """The plots of a result: file name, what it shows, SVG."""
    groups = [
        (table["title"], table["unit"], [(row["name"], row["rate"]) for row in table["rows"]])
        for table in found.get("tables", [])
    ]
    if groups:
        yield f"{name}.svg", f"{found['title']}: bars", plots.bars(groups)
    for index, series in enumerate(found.get("series", [])):
        lines = {side: [(x, y) for x, y in points] for side, points in series["lines"].items()}
        drawn = plots.curves(series["title"], series["x"], series["unit"], lines)
        yield f"{name}_{index}.svg", series["title"], drawn
    for unit, kind in (
        (("tokens a second", ""), ("seconds in all, p95", "total")) if "results" in found else ()
    ):
        lines = {
            side: [
                (float(level), made[kind]["p95"] if kind else made["tokens_per_second"])
                for level, made in sorted(levels.items(), key=lambda item: int(item[0]))
                if made["tokens_per_second"] > 0
            ]
            for side, levels in found["results"].items()
        }
        title = f"{found['title']}: {unit}"
        file = f"{name}_{kind or 'throughput'}.svg"
        yield (
            file,
            title,
            plots.curves(title, "clients", unit, {side: line for side, line in lines.items() if line}),
        )


def made() -> dict[Path, str]:
    """Every file that the results decide."""
    files = {PAGE: rendered(PAGE.read_text(encoding="utf-8"))}
    for name in names():
        files |= {PLOTS / file: svg for file, _, svg in drawings(name, read(name))}
    return files


def write() -> None:
    """Write the page and the plots; plots of results that are gone are removed."""
    files = made()
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in set(PLOTS.glob("*.svg")) - set(files):
        path.unlink()


def main() -> int:
    if "--check" not in sys.argv[1:]:
        write()
        return 0
    files = made()
    stale = [
        path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    stale += sorted(set(PLOTS.glob("*.svg")) - set(files))
    for path in stale:
        print(
            f"benchmarks/{path.relative_to(FOLDER)} is not what the results say; run: python -m benchmarks.page",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
