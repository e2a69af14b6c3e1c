"""A run's tasks as rows, from what Argo or Kubeflow Pipelines' API tells of it. Pure: no questions are asked here.

KFP turns a pipeline's task into an Argo DAG node `train` with a pod `train-driver` beside it (it resolves inputs and
asks the cache) and a pod `executor` below it; a loop into `iteration-driver` and a node `iteration-iterations(N:N)` for
each item; retries into nodes `executor(0)`, `executor(1)` (kubeflow/pipelines, backend/src/v2/compiler/argocompiler).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

WAITING, RUNNING, DONE, FAILED, CACHED, SKIPPED = "waiting", "running", "done", "failed", "cached", "skipped"
ENDED = (DONE, FAILED, CACHED, SKIPPED)

ARGO_STATES = {
    "Pending": WAITING,
    "Running": RUNNING,
    "Succeeded": DONE,
    "Failed": FAILED,
    "Error": FAILED,
    "Skipped": SKIPPED,
    "Omitted": SKIPPED,
}
KFP_STATES = {
    "PENDING": WAITING,
    "RUNNING": RUNNING,
    "SUCCEEDED": DONE,
    "FAILED": FAILED,
    "SKIPPED": SKIPPED,
    "CANCELED": FAILED,
    "CANCELING": RUNNING,
    "OMITTED": SKIPPED,
}
LONGEST_PREFIX = 242  # of a pod's name: Kubernetes takes 253, Argo's hash and the dashes the rest
ITERATION = re.compile(r"iteration-iterations\((\d+):\d+\)")
ATTEMPT = re.compile(r"\(\d+\)$")  # Argo's number of a retried node, behind its name
WORKFLOW = re.compile(
    r"-[bcdfghjklmnpqrstvwxz2456789]{5}$"
)  # Kubernetes' random ending; a pipeline's task has none
OWN_NAMES = re.compile(
    r"(.*-driver|executor|iteration-.*|entrypoint|root)$"
)  # KFP's nodes, not the pipeline's

Path = tuple[str, ...]


@dataclass
class TaskRow:
    """One task of a run. `items` numbers the loops' turns it is in; times are in UTC; `pod` is its latest."""

    name: str
    items: tuple[int, ...] = ()
    state: str = WAITING
    started: datetime | None = None
    ended: datetime | None = None
    pod: str = ""
    message: str = ""
    attempts: int = 0
    pods: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its name for a person: `train`, or `train [2]` in a loop's third turn."""
        return self.name + "".join(f" [{number}]" for number in self.items)

    def seconds(self, now: datetime) -> float:
        """How long it has run, or ran."""
        return ((self.ended or now) - self.started).total_seconds() if self.started else 0.0


def rows_of_workflow(workflow: Mapping[str, Any]) -> list[TaskRow]:
    """The tasks of an Argo Workflow (its JSON), in the order they started."""
    nodes = list(((workflow.get("status") or {}).get("nodes") or {}).values())
    nodes.sort(key=lambda node: (node.get("startedAt") or "", len(node["name"]), node["name"]))
    rows: dict[Path, TaskRow] = {}
    for node in nodes:  # of a node and its attempts, the node comes first
        path = _path(workflow, node)
        if path and not is_own(path[-1]) and path not in rows:
            rows[path] = TaskRow(path[-1], _items(path))
            _note_task(rows[path], workflow, node)
    for node in nodes:
        path = _path(workflow, node)
        if path and path[-1].endswith("-driver"):
            _note_driver(rows.get((*path[:-1], path[-1].removesuffix("-driver"))), workflow, node)
        elif path and path[-1] == "executor" and path[:-1] in rows:
            _note_executor(rows[path[:-1]], workflow, node)
    inner = {path[:n] for path in rows for n in range(1, len(path))}
    listed = [row for path, row in rows.items() if path not in inner]  # a loop is seen by its tasks
    for row in listed:
        row.pod = row.pods[-1] if row.pods else ""
    return listed


def _path(workflow: Mapping[str, Any], node: Mapping[str, Any]) -> Path:
    """A node's place among the others, without the numbers of attempts: root, train, executor."""
    parts = node["name"].removeprefix(workflow["metadata"]["name"]).split(".")
    return tuple(ATTEMPT.sub("", part) for part in parts if ATTEMPT.sub("", part))


def _note_task(row: TaskRow, workflow: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    row.state = ARGO_STATES.get(node.get("phase", ""), WAITING)
    row.started, row.ended = _time(node.get("startedAt")), _time(node.get("finishedAt"))
    row.message = node.get("message") or ""
    if node.get("type") == "Pod":  # an importer has no executor below it
        row.pods.append(pod_name(workflow, node))


def _note_driver(row: TaskRow | None, workflow: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    """What the driver decided: from the cache, or not to run at all; or that it failed itself."""
    if row is None:
        return
    said = {p["name"]: p.get("value") for p in (node.get("outputs") or {}).get("parameters") or []}
    if said.get("cached-decision") == "true" and row.state in (DONE, SKIPPED):
        row.state = CACHED
    elif said.get("condition") == "false":
        row.state = SKIPPED
    if ARGO_STATES.get(node.get("phase", "")) == FAILED and node.get("type") == "Pod":
        row.state, row.message = FAILED, node.get("message") or row.message
        row.pods.append(pod_name(workflow, node))


def _note_executor(row: TaskRow, workflow: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    """An attempt: its pod. A task whose latest pod is not running yet is waiting."""
    if node.get("type") != "Pod":
        return
    row.attempts += 1
    row.pods.append(pod_name(workflow, node))
    state = ARGO_STATES.get(node.get("phase", ""), WAITING)
    if row.state == RUNNING and state in (WAITING, RUNNING):
        row.state, row.message = state, node.get("message") or ""
    elif state == FAILED:
        row.message = node.get("message") or row.message


def rows_of_run(task_details: Iterable[Any]) -> list[TaskRow]:
    """The tasks as KFP's API tells them: by name only, so that the turns of a loop cannot be told apart."""
    rows = []
    for task in sorted(task_details, key=lambda t: str(t.start_time or "")):
        name = task.display_name or ""
        if ATTEMPT.search(name) or is_own(name) or not name or "." in name or WORKFLOW.search(name):
            continue
        row = TaskRow(
            name, (), KFP_STATES.get(str(task.state), WAITING), _set(task.start_time), _set(task.end_time)
        )
        row.message = task.error.message if task.error and task.error.message else ""
        rows.append(row)
    return rows


def is_own(name: str) -> bool:
    """Is this a node that KFP makes around the pipeline's tasks?"""
    return bool(OWN_NAMES.fullmatch(name))


def pod_name(workflow: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """A node's pod as Argo names it (its POD_NAMES=v2): workflow, template, hash."""
    name, identity = workflow["metadata"]["name"], node["id"]
    template = node.get("templateName") or ""
    if not template or identity == name:
        return identity
    return f"{name}-{template}"[:LONGEST_PREFIX] + f"-{identity.rpartition('-')[2]}"


def _items(path: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(int(found[1]) for part in path if (found := ITERATION.fullmatch(part)))


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _set(time: datetime | None) -> datetime | None:
    """KFP's API says 1970 for a time that is not known."""
    return time if time is not None and time.year > 1970 else None
