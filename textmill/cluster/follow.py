"""Follow a run to its end: a live table on a terminal, a line for each change in a log.

The run itself goes on whatever happens here: Ctrl-C stops following, a server that is away for a while is waited for.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from textmill.cluster import task_rows
from textmill.cluster.connection import api_errors
from textmill.cluster.pods import Pods
from textmill.cluster.task_log import last_words
from textmill.cluster.task_rows import TaskRow, rows_of_run, rows_of_workflow
from textmill.errors import Interrupted, MachineError
from textmill.progress import duration

log = logging.getLogger("textmill.cluster")

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
EVERY = 2.0  # seconds between two questions
PATIENCE = 300.0  # seconds that a server may be away
LOG_LINES = 20
COLORS = {
    task_rows.WAITING: "yellow",
    task_rows.RUNNING: "cyan",
    task_rows.DONE: "green",
    task_rows.CACHED: "green",
    task_rows.SKIPPED: "bright_black",
    task_rows.FAILED: "red",
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: KFP's word for it, and its tasks."""

    run: str
    state: str
    rows: list[TaskRow]
    seconds: float


def follow(client: Any, run: str, namespace: str = "", *, say: Callable[[str], None] = print) -> Ended:
    """Wait for the run's end and show its tasks meanwhile; then the last lines of a task that failed.

    Raises Interrupted on Ctrl-C (the run goes on), MachineError when the server stays away for PATIENCE.
    """
    pods = Pods(namespace)
    view = _Live() if sys.stdout.isatty() else _Lines(say)
    lost: float | None = None
    rows: list[TaskRow] = []
    try:
        with view:
            while True:
                try:
                    with api_errors("its address"):
                        found = client.get_run(run)
                        rows = tasks_of(found, pods)
                    lost = None
                except MachineError as error:
                    lost = lost or time.monotonic()
                    if time.monotonic() - lost > PATIENCE:
                        raise
                    log.debug("%s", error)
                    time.sleep(EVERY)
                    continue
                view.show(rows)
                if found.state in ENDED:
                    break
                time.sleep(EVERY)
    except KeyboardInterrupt:
        raise Interrupted(
            f"no longer following run {run}; it goes on. textmill runs {run} tells how it stands."
        ) from None
    ended = Ended(run, str(found.state), rows, _seconds(found))
    if ended.state != "SUCCEEDED":
        _say_failures(ended, pods, found, say)
    return ended


def tasks_of(found: Any, pods: Pods) -> list[TaskRow]:
    """The run's tasks; from Argo where it can be asked, as that knows loops and pods."""
    workflow = pods.workflow(found.run_id)
    if workflow is None:
        details = found.run_details.task_details if found.run_details else None
        return rows_of_run(details or [])
    rows = rows_of_workflow(workflow)
    for row in rows:
        if row.state == task_rows.WAITING and row.pod:
            row.message = pods.waits_for(row.pod) or row.message
    return rows


def _seconds(run: Any) -> float:
    if run.created_at and run.finished_at and run.finished_at.year > 1970:
        return (run.finished_at - run.created_at).total_seconds()
    return 0.0


def _say_failures(ended: Ended, pods: Pods, run: Any, say: Callable[[str], None]) -> None:
    failed = [row for row in ended.rows if row.state == task_rows.FAILED]
    for row in failed:
        attempts = f", {row.attempts} attempts" if row.attempts > 1 else ""
        say(f"\n{row.title} failed{attempts}" + (f": {row.message}" if row.message else "."))
        lines = last_words(pods.last_lines(row.pod, LOG_LINES), LOG_LINES)
        for line in lines:
            say(f"    {line}")
        if not lines:
            say(f"    its log cannot be read from here{f'; its pod is {row.pod}' if row.pod else ''}.")
    if not failed and run.error and run.error.message:
        say(run.error.message)


class _Lines:
    """For a log: a line when a task changes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.seen = say, dict[str, tuple[str, str]]()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def show(self, rows: list[TaskRow]) -> None:
        now = datetime.now(UTC)
        for row in rows:
            reason = row.message if row.state == task_rows.WAITING else ""
            if self.seen.get(row.title) != (row.state, reason):
                self.seen[row.title] = (row.state, reason)
                self.say(sentence(row, now))


class _Live:
    """For a terminal: one table, drawn anew."""

    def __enter__(self) -> _Live:
        from rich.live import Live

        self.live = Live(refresh_per_second=4)
        self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(Exception):
            self.live.__exit__(*error)

    def show(self, rows: list[TaskRow]) -> None:
        self.live.update(table(rows, datetime.now(UTC)))


def table(rows: list[TaskRow], now: datetime) -> Any:
    """The tasks as a rich Table: task, state, time, pod."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for column in ("task", "state", "time", "pod"):
        made.add_column(column, justify="right" if column == "time" else "left", overflow="fold")
    for row in rows:
        state = f"[{COLORS[row.state]}]{row.state}[/]" + (f" ({row.attempts})" if row.attempts > 1 else "")
        spent = duration(row.seconds(now)) if row.started else ""
        what = row.message if row.state in (task_rows.WAITING, task_rows.FAILED) and row.message else row.pod
        made.add_row(escape(row.title), state, spent, escape(what))
    return made


def sentence(row: TaskRow, now: datetime) -> str:
    """A task's state as one line of a log."""
    attempt = f", attempt {row.attempts}" if row.attempts > 1 else ""
    spent = f" after {duration(row.seconds(now))}" if row.state in (task_rows.DONE, task_rows.FAILED) else ""
    told = row.message if row.state in (task_rows.WAITING, task_rows.FAILED) else row.pod
    return f"{row.title}: {row.state}{attempt}{spent}" + (f" ({told})" if told else "")
