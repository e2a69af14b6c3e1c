"""What was run: a list of runs, and of one run its tasks and the digests of what went in and came out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from textmill import manifest
from textmill.cluster.connection import api_errors
from textmill.cluster.task_rows import TaskRow
from textmill.errors import TextmillError
from textmill.progress import duration
from textmill.stores import Missing, Store, open_store

ROOT = "minio://mlpipeline/v2/artifacts"  # where KFP puts runs that name no other root


@dataclass(frozen=True)
class RunLine:
    """One run of the list."""

    identity: str
    name: str
    state: str
    started: datetime | None
    seconds: float
    source: str

    def cells(self) -> list[str]:
        """For a table."""
        when = f"{self.started.astimezone():%Y-%m-%d %H:%M}" if self.started else ""
        return [self.identity, self.name, self.state.lower(), when, duration(self.seconds), self.source]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        started = self.started.isoformat() if self.started else None
        return {**dataclasses.asdict(self), "started": started, "seconds": round(self.seconds, 1)}


def list_runs(
    client: Any, *, namespace: str = "", experiment: str = "", count: int = 20
) -> Iterator[RunLine]:
    """The latest runs, newest first."""
    with api_errors("its address"):
        wanted = None
        if experiment:
            wanted = client.get_experiment(
                experiment_name=experiment, namespace=namespace or None
            ).experiment_id
        token = ""
        while count > 0:
            page = client.list_runs(
                page_token=token,
                page_size=min(count, 100),
                sort_by="created_at desc",
                experiment_id=wanted,
                namespace=namespace or None,
            )
            for run in page.runs or []:
                count -= 1
                yield line_of(run)
            token = page.next_page_token or ""
            if not token:
                return


def line_of(run: Any) -> RunLine:
    """A row of the list from what the API tells of a run."""
    ended = run.finished_at if run.finished_at and run.finished_at.year > 1970 else datetime.now(UTC)
    seconds = (ended - run.created_at).total_seconds() if run.created_at else 0.0
    given = (run.runtime_config.parameters or {}) if run.runtime_config else {}
    return RunLine(
        run.run_id,
        run.display_name,
        str(run.state or "PENDING"),
        run.created_at,
        seconds,
        str(given.get("source", "")),
    )


@dataclass(frozen=True)
class RunFolder:
    """A folder that a task of a run made: its kind, digest, and those of what it was made from."""

    task: str
    output: str
    kind: str
    digest: str
    parents: dict[str, str]


@dataclass(frozen=True)
class Described:
    """One run: its line, tasks, folders, and a remark where something could not be seen."""

    line: RunLine
    tasks: list[TaskRow]
    folders: list[RunFolder]
    note: str = ""

    def task_cells(self) -> list[list[str]]:
        """For a table of tasks."""
        now = datetime.now(UTC)
        return [
            [row.title, row.state, duration(row.seconds(now)) if row.started else "", row.pod]
            for row in self.tasks
        ]

    def folder_cells(self) -> list[list[str]]:
        """For a table of folders."""
        return [
            [
                f"{folder.task}/{folder.output}",
                folder.digest,
                ", ".join(f"{name} {digest}" for name, digest in folder.parents.items()),
            ]
            for folder in self.folders
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            **self.line.as_dict(),
            "tasks": [
                {"task": row.title, "state": row.state, "pods": row.pods, "attempts": row.attempts}
                for row in self.tasks
            ],
            "folders": [dataclasses.asdict(folder) for folder in self.folders],
            "note": self.note,
        }


def describe(client: Any, run: str, namespace: str = "") -> Described:
    """One run, with its tasks; and the digests of what it made, read from the manifests in the object store.

    Tasks whose results came from the cache made nothing in this run: their digests are seen as parents of later ones.
    Raises InputError for a run that is not there.
    """
    from textmill.cluster.follow import tasks_of
    from textmill.cluster.pods import Pods

    with api_errors("its address"):
        found = client.get_run(run)
        rows = tasks_of(found, Pods(namespace))
    root = root_of(found)
    try:
        return Described(line_of(found), rows, folders_of(open_store(root)))
    except TextmillError as error:
        return Described(line_of(found), rows, [], f"what it made cannot be read from {root}: {error}")


def root_of(run: Any) -> str:
    """Where a run's folders lie: <root>/<pipeline>/<run>, below it <task>/<uuid>/<output> (KFP's driver)."""
    root = (run.runtime_config.pipeline_root if run.runtime_config else "") or ROOT
    spec = run.pipeline_spec or {}
    spec = spec.get("pipeline_spec", spec)
    return f"{root.rstrip('/')}/{spec['pipelineInfo']['name']}/{run.run_id}"


def folders_of(store: Store) -> list[RunFolder]:
    """Every folder with a manifest below a run's place in the object store."""
    folders = []
    for name, _ in store.list():
        *task, _, output, file = name.split("/") if name.count("/") >= 3 else ("", "", "", "")
        if file != manifest.NAME or not task:
            continue
        try:
            said = json.loads(b"".join(store.read(name).chunks))
            kind, digest, parents = said["format"].rpartition("/")[2], said["digest"], said.get("parents", {})
        except (Missing, ValueError, KeyError, TypeError):
            continue
        folders.append(RunFolder("/".join(task), output, kind, digest, parents))
    return folders
