"""`textmill run`: a compiled pipeline on this machine, through kfp.local's SubprocessRunner.

Everything lies in one output folder, `<output>/<task>/<artifact>`, the same for each run; what a loop makes lies in
`<output>/<loop>/<item>/<task>/<artifact>`. So a run that was stopped and is started again goes on: ingest reads what
changed, train goes on from its saved state (TEXTMILL_STATE_ROOT).
Knows how a task's process is started, stopped and listened to. Knows nothing of what the tasks do.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, TextIO
from urllib.parse import quote, unquote

from textmill import errors
from textmill.corpora.items import name_of
from textmill.errors import InputError, Interrupted, MachineError, TextmillError
from textmill.files import write_bytes, write_json
from textmill.holding import on_signals, only_one
from textmill.local.child_log import ChildLog, LabelledScreen, Screen
from textmill.pipeline_file import FOR_A_CLUSTER, PipelineFile, read_pipeline

FIRST_LINES = 16
LONGEST_NAME = 200  # bytes of a folder's name; file systems take 255
GO_ON = "Give the same command again to go on from there."


@dataclass
class TaskRun:
    """One task that ran: `outputs` maps an artifact's name to its path; `item` is what a loop ran it for, else ""."""

    name: str
    item: str = ""
    outputs: dict[str, Path] = field(default_factory=dict)
    state: str = "running"
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """Its name for a person."""
        return f"{self.name} of {self.item}" if self.item else self.name


@dataclass(frozen=True)
class RunResult:
    """What a run made; a path is None where the pipeline makes no such thing. `items` has the same of each item of a
    loop, by its name, and then `text`, `report` and `checkpoint` are None where only the loop makes them."""

    output: Path
    tasks: list[TaskRun]
    seconds: float
    text: Path | None
    report: Path | None
    checkpoint: Path | None
    items: dict[str, RunResult] = field(default_factory=dict)


def run_pipeline(
    pipeline: str | Path,
    parameters: Mapping[str, Any],
    output: Path,
    *,
    verbose: bool = False,
    out: TextIO | None = None,
) -> RunResult:
    """Run a compiled pipeline (a YAML file, or the name of a recipe) with all its outputs below `output`.

    `parameters` may be texts, as from a command line. Progress and the closing lines go to `out` (stdout).

    Raises InputError for a wrong pipeline or parameter, before anything runs; the task's own error (InputError,
    MachineError, …) where it ended with one; Interrupted after SIGINT or SIGTERM; TextmillError for a task that
    broke otherwise, its traceback having been shown.
    """
    found = read_pipeline(pipeline)
    arguments = found.arguments(parameters)
    run = _Run(found, arguments, Path(output).absolute(), Screen(out or sys.stdout), verbose)
    return run.run()


class _Run:
    def __init__(
        self, pipeline: PipelineFile, arguments: dict[str, Any], output: Path, screen: Screen, verbose: bool
    ) -> None:
        self.pipeline, self.arguments, self.output = pipeline, arguments, output
        self.screen, self.verbose = screen, verbose
        self.tasks: list[TaskRun] = []
        self.children: dict[int, str] = {}  # process group -> task
        self.stops = 0
        self.failure: BaseException | None = None  # the first one: a loop's tasks run in threads of their own
        self.loops: dict[str, list[str]] = {}  # a loop's items, as they are called in the output folder

    def run(self) -> RunResult:
        started = time.monotonic()
        self.screen.line(f"{self.pipeline.name}: {', '.join(self.pipeline.tasks)}")
        if idle := [name for name in self.arguments if name.startswith(FOR_A_CLUSTER)]:
            self.screen.line(f"({', '.join(idle)}: for a cluster; here the tasks take this machine as it is)")
        with (
            only_one(self.output, "run", "output folder") as lock,
            on_signals(self._stop, signal.SIGHUP),
            tempfile.TemporaryDirectory(prefix="textmill-") as scratch,
        ):
            self.lock, self.scratch = lock, scratch
            self._clear_single_files()
            try:
                self._run_with_kfp()
            except KeyboardInterrupt:
                raise Interrupted(f"stopped. {GO_ON}") from None
            finally:
                self._write_record(time.monotonic() - started)
        result = self._result(time.monotonic() - started)
        self._say_closing(result)
        return result

    # ------------------------------------------------------------------ kfp

    def _run_with_kfp(self) -> None:
        """kfp.local with some of its functions replaced: it makes a new folder for each run, knows a loop's items by
        number only, prints its own log around the tasks', and leaves a task running when it is stopped itself."""
        try:
            from kfp import components, local
            from kfp.local import executor_input_utils, subprocess_task_handler
            from kfp.local.orchestrator import task_spec_utils
        except ImportError as error:
            raise MachineError(
                "running a pipeline needs kfp; install it with: pip install 'textmill[kfp]'"
            ) from error
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # of settings that mean something on a cluster only
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(
                _replaced(executor_input_utils, "get_local_pipeline_resource_name", lambda name: "")
            )
            stack.enter_context(_replaced(subprocess_task_handler, "run_local_subprocess", self._run_task))
            iteration = task_spec_utils.create_parameter_loop_iteration_task_spec

            def noted(spec: Any, item: Any, loop: str) -> Any:
                self.loops.setdefault(loop, []).append(_folder_name(item))
                return iteration(spec, item, loop)

            name = "create_parameter_loop_iteration_task_spec"
            stack.enter_context(_replaced(task_spec_utils, name, noted))
            name = "get_nested_pipeline_resource_name"
            stack.enter_context(_replaced(task_spec_utils, name, self._nested_folder))
            said = stack.enter_context(_silent_kfp())
            local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(self.output))
            try:
                components.load_component_from_file(str(self.pipeline.path))(**self.arguments)
            except (
                RuntimeError,
                NotImplementedError,
            ) as error:  # what kfp.local cannot do, such as container components
                if self.failure is not None:  # it says of a loop only that it failed
                    raise self.failure from None
                why = "; ".join([*said, _plain(str(error))])
                raise InputError(f"{self.pipeline.path} cannot run on one machine: {why}") from error

    def _nested_folder(self, task_name: str, pipeline_resource_name: str) -> str:
        """Where the tasks of a nested pipeline, or of one item of a loop, lie below the output folder."""
        loop, iteration, number = task_name.rpartition("-iteration-")
        if not iteration:
            return pipeline_resource_name
        return os.path.join(pipeline_resource_name, loop, self.loops[loop][int(number)])

    def _run_task(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one task's process; return 0. Raises the error that it ended with, so kfp does not retry a typo."""
        if self.failure is not None:
            raise self.failure
        if self.stops:  # between two tasks of a loop
            raise Interrupted(f"stopped. {GO_ON}")
        task = _task_of(full_command, self.output)
        self.tasks.append(task)
        place, screen = f"[{len(self.tasks)}/{len(self.pipeline.tasks)}]", self.screen
        if task.item:
            place, screen = f"[{task.item}]", LabelledScreen(self.screen, task.item)
        self.screen.line(f"{place} {task.name}")
        started = time.monotonic()
        child = ChildLog(screen, verbatim=self.verbose)
        try:
            environment = {**self._environment(task), **(env_vars or {})}
            code = self._listen(task.title, full_command, environment, child)
            if code or self.stops:
                raise self._error(task.title, code, child)
            task.state = "done"
        except BaseException as error:
            task.state = "stopped" if isinstance(error, Interrupted) else "failed"
            self.failure = self.failure or error
            raise
        finally:
            child.close()
            task.seconds = time.monotonic() - started
            self.screen.line(f"{place} {task.name}: {task.state} after {spoken_time(task.seconds)}")
        return code

    def _environment(self, task: TaskRun) -> dict[str, str]:
        """PYTHONUNBUFFERED: lines come when they are printed. TMPDIR: a killed task leaves nothing in /tmp.
        TEXTMILL_STATE_ROOT: one for each item of a loop, since two of them may hold the same text."""
        state = self.output / ".state" / _folder_name(task.item) if task.item else self.output / ".state"
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TEXTMILL_STATE_ROOT": str(state)}
        return {**quiet, **os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": self.scratch}

    def _listen(self, task: str, command: list[str], environment: dict[str, str], child: ChildLog) -> int:
        """Run the process in a group of its own (a Ctrl-C reaches only us, and we pass it on) and read it to its end.

        It holds the output folder's lock too: should we be killed, nobody starts a second run beside it.
        """
        reading, writing = self.screen.channel()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            with os.fdopen(writing, "wb", buffering=0):
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    env=environment,
                    start_new_session=True,
                    pass_fds=(self.lock,),
                )
                self.children[process.pid] = task
            try:
                while data := _read(pipe):
                    child.feed(data)
                return process.wait()
            finally:
                del self.children[process.pid]
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def _error(self, task: str, code: int, child: ChildLog) -> TextmillError:
        """What the process ended with, as our own error: its last line names the class."""
        name, message = child.exception()
        if self.stops:
            said = message if name.endswith(".Interrupted") else f"stopped. {GO_ON}"
            return Interrupted(f"{task}: {said}")
        kind = getattr(errors, name.rpartition(".")[2], None) if name.startswith("textmill.errors.") else None
        if kind is not None:
            return kind(f"{task}: {message}")
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return MachineError(f"{task} was killed, most likely for want of memory. {GO_ON}")
        child.show_held()
        return TextmillError(f"{task} broke (exit code {code}); what it said last stands above.")

    # ------------------------------------------------------------------ stopping

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to the tasks, which save; the second one kills them."""
        self.stops += 1
        if not self.children:
            raise KeyboardInterrupt
        for group in list(self.children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGINT if self.stops == 1 else signal.SIGKILL)
        if self.stops == 1:
            self.screen.line(f"stopping {', '.join(self.children.values())}; once more stops at once")

    # ------------------------------------------------------------------ output folder

    def _clear_single_files(self) -> None:
        """Remove what an earlier run left in files (a report, metrics); folders are the stages' own to go on from."""
        for task in self.pipeline.tasks:
            below = "*/*/*" if task in self.pipeline.loops else "*"
            for path in (self.output / task).glob(below):
                if path.is_file():
                    path.unlink()
            for path in (self.output / task).glob("*/report.html") if task in self.pipeline.loops else ():
                path.unlink()
        (self.output / "report.html").unlink(missing_ok=True)

    def _write_record(self, seconds: float) -> None:
        tasks = [
            {"name": t.name, "state": t.state, "seconds": round(t.seconds, 3)}
            | ({"item": t.item} if t.item else {})
            for t in self.tasks
        ]
        record = {
            "pipeline": self.pipeline.name,
            "parameters": self.arguments,
            "tasks": tasks,
            "seconds": round(seconds, 3),
        }
        write_json(self.output / "run.json", record)

    def _result(self, seconds: float) -> RunResult:
        items = {
            item: self._made([t for t in self.tasks if t.item == item], seconds)
            for item in sorted({task.item for task in self.tasks if task.item})
        }
        made = self._made([task for task in self.tasks if not task.item], seconds)
        return replace(made, tasks=self.tasks, items=items)

    def _made(self, tasks: list[TaskRun], seconds: float) -> RunResult:
        """What these tasks made: those outside of loops, or those of one item."""
        made = {name: path for task in tasks for name, path in task.outputs.items() if path.exists()}
        report = made.get("report")
        if report is not None:  # KFP's artifact has no suffix, and a browser shows such a file as plain text
            page = report.parents[1] / "report.html"
            write_bytes(page, report.read_bytes())
            report = page
        text = made["texts"] / "texts.txt" if "texts" in made else None
        return RunResult(self.output, tasks, seconds, text, report, made.get("checkpoint"))

    def _say_closing(self, result: RunResult) -> None:
        for item, made in {"": result, **result.items}.items():
            if made.text is not None:
                self.screen.line(f"\n{item}" if item else "")
                for line in first_lines(made.text, FIRST_LINES // (1 + len(result.items))):
                    self.screen.line(line)
        self.screen.line("")
        self.screen.line(f"{self.pipeline.name} is done after {spoken_time(result.seconds)}.")
        self._say_made(result, "  ")
        for item, made in result.items.items():
            self.screen.line(f"  {item}")
            self._say_made(made, "    ")

    def _say_made(self, result: RunResult, indent: str) -> None:
        for name in ("text", "report", "checkpoint"):
            if (path := getattr(result, name)) is not None:
                self.screen.line(f"{indent}{name:10}  {_near(path)}")


def _task_of(command: list[str], output: Path) -> TaskRun:
    """The task's name, its item and its outputs' paths, from the executor input among its arguments."""
    inputs = json.loads(command[command.index("--executor_input") + 1])
    artifacts = inputs["outputs"].get("artifacts", {})
    outputs = {name: Path(value["artifacts"][0]["uri"]) for name, value in artifacts.items()}
    *loops, name = Path(inputs["outputs"]["outputFile"]).parent.relative_to(output).parts
    return TaskRun(name, ", ".join(map(unquote, loops[1::2])), outputs)


def _folder_name(item: Any) -> str:
    """A loop's item as the name of a folder, which no other item has."""
    text = item if isinstance(item, str) else json.dumps(item, sort_keys=True)
    if os.path.isabs(text):  # a folder that an earlier task made for an item
        text = name_of(text)
    name = quote(text, safe=" ,=+@()'!").replace("~", "%7E")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _silent_kfp() -> Iterator[list[str]]:
    """kfp.local logs each failed task of a loop to the root logger; we say it ourselves. Gives what it says."""
    said: list[str] = []

    def ours(record: logging.LogRecord) -> bool:
        theirs = "kfp" in Path(record.pathname).parts
        if theirs and record.levelno >= logging.ERROR:
            said.append(_plain(record.getMessage()))
        return not theirs

    root = logging.getLogger()
    root.addFilter(ours)
    try:
        yield said
    finally:
        root.removeFilter(ours)


def _plain(text: str) -> str:
    """Without a terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _read(pipe: Any) -> bytes:
    try:
        return pipe.read(65536) or b""
    except OSError:  # a pseudo-terminal whose other end was closed
        return b""


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    previous = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, previous)


def first_lines(text: Path, most: int = FIRST_LINES) -> list[str]:
    """The beginning of a text, as wide as the terminal, with its end marked where it is cut."""
    lines = text.read_text(encoding="utf-8", errors="replace").strip("\n").split("\n")
    width = max(40, shutil.get_terminal_size((100, 24)).columns)
    shown = [
        line if len(line) <= width else line[: width - 1] + "…"
        for line in (x.expandtabs(4) for x in lines[:most])
    ]
    return [*shown, "…"] if len(lines) > most else shown


def _near(path: Path) -> str:
    """The path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def spoken_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


__all__ = ["RunResult", "TaskRun", "run_pipeline"]
