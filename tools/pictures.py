"""Draw each recipe from its compiled YAML as docs/pictures/<recipe>.svg, byte for byte the same; `--check` compares.

A box is a task, in the column after the last of those it waits for. A line is an artifact: straight to the next
column, below the boxes where it goes further. A dashed frame is a loop or a condition. The colours of light and dark
pages follow the reader's setting.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPILED, PICTURES = ROOT / "pipelines" / "compiled", ROOT / "docs" / "pictures"

HEIGHT, GAP, ROW = 40, 80, 72  # pixels: a box, the room between two columns, from one row to the next
EDGE, LANE = 24, 20  # around the picture; from one line below the boxes to the next
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .name { font-weight: 600 }
  .artifact, .frame-name { font-size: 12px; fill: #59636e }
  .frame-name, .start { text-anchor: start }
  .box { fill: #f6f8fa; stroke: #0969da; stroke-width: 1.5 }
  .frame { fill: none; stroke: #59636e; stroke-dasharray: 5 4 }
  .line { fill: none; stroke: #59636e; stroke-width: 1.5 }
  .tip { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .artifact, .frame-name { fill: #9198a1 }
    .box { fill: #151b23; stroke: #4493f8 }
    .frame, .line { stroke: #9198a1 }
    .tip { fill: #9198a1 }
  }
"""


@dataclass
class Task:
    """after: names of the tasks it waits for. reads: (task, artifact) pairs. frame: the loop or condition it is in."""

    name: str
    frame: str = ""
    after: set[str] = field(default_factory=set)
    reads: list[tuple[str, str]] = field(default_factory=list)
    from_source: bool = False
    column: int = 0
    row: int = 0
    box: int = 0  # width, the same for all of a picture

    @property
    def left(self) -> int:
        return EDGE + GAP + self.column * (self.box + GAP)

    @property
    def right(self) -> int:
        return self.left + self.box

    @property
    def center(self) -> int:
        return self.left + self.box // 2

    @property
    def top(self) -> int:
        return EDGE + 8 + self.row * ROW

    @property
    def middle(self) -> int:
        return self.top + HEIGHT // 2


def tasks_of(spec: dict[str, Any]) -> dict[str, Task]:
    """The tasks of a compiled pipeline by name, those inside of loops and conditions too, in their places."""
    found: dict[str, Task] = {}
    members: dict[str, list[str]] = {}  # of each loop or condition

    def collect(dag: dict[str, Any], frame: str, outer: dict[str, tuple[str, str]], waits: set[str]) -> None:
        for name, task in dag["tasks"].items():
            component = spec["components"][task["componentRef"]["name"]]
            inputs = task.get("inputs", {})
            reads: dict[str, tuple[str, str]] = {}
            for key, value in inputs.get("artifacts", {}).items():
                if made := value.get("taskOutputArtifact"):
                    reads[key] = (made["producerTask"], made["outputArtifactKey"])
                elif (passed := value.get("componentInputArtifact")) in outer:
                    reads[key] = outer[passed]
            after = waits | set(task.get("dependentTasks", []))
            if "dag" in component:
                collect(component["dag"], name, reads, after)
                members[name] = list(component["dag"]["tasks"])
                continue
            parameters = inputs.get("parameters", {}).values()
            found[name] = Task(
                name,
                frame,
                after,
                sorted(set(reads.values())),
                any(p.get("componentInputParameter") == "source" for p in parameters),
            )

    collect(spec["root"]["dag"], "", {}, set())
    for task in found.values():
        task.after = {inner for name in task.after for inner in members.get(name, [name])}
        task.reads = [
            (inner, artifact.rpartition(f"--{inner}-")[2])
            for name, artifact in task.reads
            for inner in members.get(name, [name])
            if name not in members or f"--{inner}-" in artifact
        ]
    _place(found)
    return found


def _place(tasks: dict[str, Task]) -> None:
    """Each task in the column after the last it waits for; in a column, those most is read of stand on top."""

    def column(task: Task) -> int:
        return max((column(tasks[name]) + 1 for name in task.after), default=0)

    for task in tasks.values():
        task.column = column(task)
        task.box = max(9 * len(name) + 20 for name in tasks)
    readers = {name: sum(name in t.after for t in tasks.values()) for name in tasks}
    for number in {task.column for task in tasks.values()}:
        here = [task for task in tasks.values() if task.column == number]
        here.sort(key=lambda task: (not task.from_source, -readers[task.name], task.name))
        for row, task in enumerate(here):
            task.row = row


def draw(spec: dict[str, Any]) -> str:
    """The picture of a compiled pipeline, as SVG."""
    tasks = tasks_of(spec)
    name = spec["pipelineInfo"]["name"]
    parts = [*_frames(spec, tasks)]
    floor = max(task.top for task in tasks.values()) + HEIGHT
    far: dict[tuple[str, str], list[Task]] = {}
    for task in tasks.values():
        if task.from_source:
            parts += [
                f'<text class="artifact start" x="{EDGE}" y="{task.middle - 6}">source</text>',
                _arrow([(EDGE, task.middle), (task.left, task.middle)]),
            ]
        near: dict[str, list[str]] = {}
        for producer, artifact in task.reads:
            if task.column - tasks[producer].column == 1:
                near.setdefault(producer, []).append(artifact)
            else:
                far.setdefault((producer, artifact), []).append(task)
        for producer in sorted(t for t in task.after if task.column - tasks[t].column == 1):
            parts += _straight(tasks[producer], task, near.get(producer, []))
    for lane, ((producer, artifact), readers) in enumerate(
        sorted(far.items(), key=lambda each: (tasks[each[0][0]].column, each[0]))
    ):
        level = floor + LANE * (lane + 1) + 4
        start = tasks[producer]
        alone = start.row == _lowest(tasks, start.column)
        across = start.center if alone else start.right + 10 + 6 * lane
        first = (across, start.top + HEIGHT) if alone else (start.right, start.middle + 8)
        for reader in sorted(readers, key=lambda task: task.column):
            end = reader.center + 16 + 10 * lane
            corner = [first] if alone else [first, (across, first[1])]
            parts.append(_arrow([*corner, (across, level), (end, level), (end, reader.top + HEIGHT)]))
        parts.append(
            f'<text class="artifact start" x="{across + 8}" y="{level - 4}">{escape(artifact)}</text>'
        )
    for task in tasks.values():
        parts += [
            f'<rect class="box" x="{task.left}" y="{task.top}" width="{task.box}" height="{HEIGHT}" rx="8"/>',
            f'<text class="name" x="{task.center}" y="{task.middle + 5}">{escape(task.name)}</text>',
        ]
    width = max(task.right for task in tasks.values()) + EDGE
    height = floor + (LANE * len(far) + 10 if far else 0) + EDGE
    told = ", then ".join(sorted(tasks, key=lambda each: (tasks[each].column, tasks[each].row)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title">\n<title id="title">The pipeline {escape(name)}: {escape(told)}</title>\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _lowest(tasks: dict[str, Task], column: int) -> int:
    """The lowest row of a column."""
    return max(task.row for task in tasks.values() if task.column == column)


def _straight(start: Task, end: Task, artifacts: list[str]) -> list[str]:
    """A line to the next column, with the artifacts' names on it, or none where the one only waits for the other."""
    x1, x2 = start.right, end.left
    points = [(x1, start.middle), (x2, end.middle)]
    if start.row != end.row:
        turn = x2 - 20
        points = [(x1, start.middle), (turn, start.middle), (turn, end.middle), (x2, end.middle)]
    label = escape(", ".join(artifacts))
    return [
        _arrow(points),
        *(
            [f'<text class="artifact" x="{(x1 + x2) // 2 - 4}" y="{start.middle - 6}">{label}</text>']
            if label
            else []
        ),
    ]


def _arrow(points: list[tuple[int, int]]) -> str:
    """A line through points with a tip at its end."""
    (x, y), y0 = points[-1], points[-2][1]
    if y == y0:
        tip, stop = f"{x},{y} {x - 8},{y - 4} {x - 8},{y + 4}", (x - 7, y)
    else:
        tip, stop = f"{x},{y} {x - 4},{y + 8} {x + 4},{y + 8}", (x, y + 7)
    line = " ".join(f"{a},{b}" for a, b in [*points[:-1], stop])
    return f'<polyline class="line" points="{line}"/><polygon class="tip" points="{tip}"/>'


def _frames(spec: dict[str, Any], tasks: dict[str, Task]) -> list[str]:
    """A dashed frame around the tasks of each loop and condition."""
    drawn = []
    for frame in dict.fromkeys(task.frame for task in tasks.values() if task.frame):
        inside = [task for task in tasks.values() if task.frame == frame]
        left, top = min(t.left for t in inside) - 16, min(t.top for t in inside) - 10
        right, bottom = max(t.right for t in inside) + 12, max(t.top for t in inside) + HEIGHT + 10
        about = spec["root"]["dag"]["tasks"][frame]
        drawn += [
            f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="8"/>',
            f'<text class="frame-name" x="{left + 6}" y="{top - 5}">{escape(_said(about))}</text>',
        ]
    return drawn


def _said(task: dict[str, Any]) -> str:
    if "triggerPolicy" in task:
        parameter, _, value = task["triggerPolicy"]["condition"].partition("!=")
        asked = parameter.partition("pipelinechannel--")[2].partition("'")[0]
        return f"if {asked} is given" if value.strip() == "''" else "under a condition"
    return "for each"


def main(arguments: list[str]) -> int:
    pictures = {
        PICTURES / f"{path.stem}.svg": draw(next(yaml.safe_load_all(path.read_bytes())))
        for path in sorted(COMPILED.glob("*.yaml"))
    }
    stale = [
        path
        for path, text in pictures.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not current; run: make compile", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pictures[path], encoding="utf-8")
            print(f"drew {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
