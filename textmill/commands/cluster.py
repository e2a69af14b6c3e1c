"""`textmill submit`, `runs`, `watch` and `doctor`: pipelines on a cluster, from the command line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from textmill.cluster.connection import ConnectionSettings
from textmill.cluster.submit import SubmitSettings
from textmill.cluster.watch import WatchSettings
from textmill.commands.options import named_values, settings_options
from textmill.doctor import WRONG, DoctorSettings
from textmill.errors import MachineError, TextmillError

log = logging.getLogger("textmill")

Folder = click.Path(path_type=Path)
param = click.option(
    "-p", "--param", multiple=True, metavar="NAME=VALUE", help="A parameter of the pipeline; may be repeated."
)


@click.command()
@click.argument("pipeline")
@param
@click.option(
    "--follow/--no-follow", default=True, show_default=True, help="Wait for its end, and show its tasks."
)
@settings_options(SubmitSettings, "submit")
def submit(pipeline: str, param: tuple[str, ...], follow: bool, settings: SubmitSettings) -> None:
    """Start a compiled pipeline on Kubeflow Pipelines: PIPELINE.yaml, or a recipe's name.

    Shows its tasks until it ends, and the last lines of one that fails; exits with 1 when the run fails. Ctrl-C stops
    following; the run goes on.

    \b
    Example: textmill submit quickstart --endpoint http://localhost:8888 --param source=s3://texts/plays/
    """
    from textmill.cluster import submit as stage
    from textmill.cluster.connection import connect

    found, arguments = stage.check(pipeline, named_values(param), settings)
    if unpushed := found.unpushed(arguments):
        log.warning(
            "%s: no image that was pushed is named, and no task can start from this one; push them (make images-push "
            "REGISTRY=…, then make compile), or name yours: --param %s=…",
            ", ".join(unpushed),
            unpushed[0],
        )
    client = connect(settings)
    made = stage.submit(client, found, arguments, settings, settings.every)
    if made.recurring:
        click.echo(f"{made.name} starts every {settings.every}: recurring run {made.identity}")
        return
    click.echo(f"{made.name}: run {made.identity}")
    if follow:
        _follow(client, made.identity, settings.namespace)


def _follow(client: Any, run: str, namespace: str) -> None:
    from textmill.cluster.follow import follow
    from textmill.progress import duration

    ended = follow(client, run, namespace, say=click.echo)
    if ended.state != "SUCCEEDED":
        raise TextmillError(f"run {run} {ended.state.lower()} after {duration(ended.seconds)}.")
    click.echo(f"run {run} succeeded after {duration(ended.seconds)}.")


@click.command()
@click.argument("run", default="")
@click.option("--experiment", default="", help="Only runs of this experiment.")
@click.option(
    "--count", type=click.IntRange(1), default=20, show_default=True, help="How many, the latest first."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--follow", "following", is_flag=True, help="With RUN: wait for its end.")
@settings_options(ConnectionSettings, "submit")
def runs(
    run: str, experiment: str, count: int, as_json: bool, following: bool, settings: ConnectionSettings
) -> None:
    """List runs; or show one RUN (its identity): its tasks, and the digests of what went in and came out."""
    from textmill.cluster import runs as stage
    from textmill.cluster.connection import connect

    client = connect(settings)
    if run and following:
        _follow(client, run, settings.namespace)
    elif run:
        _say_run(stage.describe(client, run, settings.namespace), as_json)
    else:
        lines = stage.list_runs(client, namespace=settings.namespace, experiment=experiment, count=count)
        if as_json:
            for line in lines:
                click.echo(json.dumps(line.as_dict()))
        else:
            _say_table(
                ["run", "name", "state", "started", "time", "source"], [line.cells() for line in lines]
            )


def _say_run(found: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=1))
        return
    click.echo(f"{found.line.name}: {found.line.state.lower()}")
    _say_table(["task", "state", "time", "pod"], list(found.task_cells()))
    if found.folders:
        click.echo("")
        _say_table(["folder", "digest", "made from"], found.folder_cells())
    if found.note:
        click.echo(found.note)


def _say_table(head: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as they need; nothing is cut, so that identities can be copied."""
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@click.command()
@click.argument("pipeline")
@param
@click.option(
    "--state",
    type=Folder,
    default=Path("watch"),
    show_default=True,
    help="Folder with what was seen and done.",
)
@click.option("--local", is_flag=True, help="Run on this machine instead of a cluster.")
@click.option(
    "-o", "--output", type=Folder, default=Path("out"), show_default=True, help="With local: where to write."
)
@settings_options(WatchSettings, "watch")
def watch(
    pipeline: str,
    param: tuple[str, ...],
    state: Path,
    local: bool,
    output: Path,
    settings: WatchSettings,
) -> None:
    """Run a pipeline whenever its `source` changed, one run at a time.

    The source is looked at every so often by its content; when nothing changed, nothing is started. With --once, for a
    schedule outside such as a CronJob: look once, and stop.
    """
    from textmill.cluster import submit as submitting
    from textmill.cluster.runners import ClusterRunner, LocalRunner
    from textmill.cluster.watch import Runner, Watch

    found, arguments = submitting.check(pipeline, named_values(param), settings)
    make: Callable[[], Runner] = (
        (lambda: LocalRunner(found, arguments, output))
        if local
        else (lambda: ClusterRunner(found, arguments, settings))
    )
    Watch(found, arguments, state, make()).follow(settings)


@click.command()
@settings_options(DoctorSettings, "submit")
def doctor(settings: DoctorSettings) -> None:
    """Look at Python, packages, CPU, GPU, object store, cluster and Kubeflow Pipelines: OK, or what to do."""
    from textmill.doctor import examine

    wrong = 0
    for finding in examine(settings):
        click.echo(finding.line())
        sys.stdout.flush()
        wrong += finding.state == WRONG
    if wrong:
        raise MachineError(f"{wrong} thing{'s' if wrong > 1 else ''} to mend.")
