"""Run a pipeline when its source changed: what Pachyderm's data-driven pipelines did, in KFP's terms.

A watch keeps a corpus of its own, and looks by ingesting into it: unchanged items are not read again, so that a look at
an unchanged source costs little. The digest of that corpus says whether there is anything to do. What was done is
written to a file beside it, so that a watch that was stopped, or a scheduled one (`--once`), goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from textmill import manifest
from textmill.cluster.submit import RunSettings, interval
from textmill.errors import FolderError, InputError, MachineError, SettingsError, TextmillError
from textmill.files import write_json
from textmill.holding import only_one
from textmill.ingest import IngestSettings, ingest
from textmill.pipeline_file import PipelineFile
from textmill.progress import duration
from textmill.settings import setting

log = logging.getLogger("textmill.cluster")

STATE = "watch.json"
KEPT = 50  # runs that the state file remembers
RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"


class Runner(Protocol):
    """Where runs happen: a cluster, or this machine."""

    def start(self) -> str:
        """Start one; its identity. May come back only when it ended."""

    def state(self, identity: str) -> str:
        """RUNNING, SUCCEEDED or FAILED; FAILED too for one that is not known any more."""


@dataclass(frozen=True)
class WatchSettings(RunSettings):
    """How a source is watched."""

    every: str = setting("5m", "How often the source is looked at: 90s, 30m, 6h, 1d.")
    once: bool = setting(
        False, "Look once, start a run if there is a reason, and stop: for a schedule outside."
    )
    wait: bool = setting(False, "With once: stop only when the run has ended.")

    def check(self) -> None:
        super().check()
        if not interval(self.every):
            raise SettingsError(
                f"setting 'every' is {self.every!r}; give a length such as 90s, 30m, 6h or 1d."
            )


def source_of(pipeline: PipelineFile, arguments: Mapping[str, Any]) -> tuple[str, IngestSettings]:
    """The pipeline's `source`, and its parameters that say how it is read. Raises InputError where it has none."""
    names = pipeline.parameters
    source = arguments.get("source", names["source"].default if "source" in names else None)
    if not source:
        raise InputError(
            f"pipeline {pipeline.name} has no parameter 'source' with a value: there is nothing to watch."
        )
    of_ingest = {
        name: arguments.get(name, names[name].default) for name in IngestSettings.kinds() if name in names
    }
    return str(source), IngestSettings.of(**{k: v for k, v in of_ingest.items() if v is not None})


@dataclass
class Watch:
    """One pipeline, one source, and the folder with what is known of them."""

    pipeline: PipelineFile
    arguments: dict[str, Any]
    folder: Path
    runner: Runner

    def __post_init__(self) -> None:
        self.source, self.reading = source_of(self.pipeline, self.arguments)
        self.about = hashlib.sha256(
            json.dumps([self.pipeline.name, self.arguments], sort_keys=True).encode()
        ).hexdigest()

    def look(self) -> str:
        """Look once. Starts a run if the source, or what is asked of it, changed since the last one, and none runs.

        Returns what was found: "running", "unchanged" or "started".
        """
        state = self._read()
        last = state["runs"][-1] if state["runs"] else None
        if last and last["state"] == RUNNING:
            last["state"] = self.runner.state(last["run"])
            if last["state"] == RUNNING:
                return "running"
            last["ended"] = _now()
            self._write(state)
            log.info("run %s of %s %s", last["run"], last["started"], last["state"])
        digest = self._digest()
        if last and (last["digest"], last["about"]) == (digest, self.about):
            return "unchanged"
        log.info("%s %s; starting %s", self.source, "changed" if last else "is new", self.pipeline.name)
        entry = {"run": "", "digest": digest, "about": self.about, "started": _now(), "state": RUNNING}
        entry["run"] = self.runner.start()
        entry["state"] = self.runner.state(entry["run"])
        if entry["state"] != RUNNING:
            entry["ended"] = _now()
        state["runs"] = [*state["runs"], entry][-KEPT:]
        self._write(state)
        return "started"

    def follow(self, settings: WatchSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        """Look every so often until stopped. An error of a look is said, and the next look comes all the same.

        Raises InputError when another watch has the folder.
        """
        with only_one(self.folder, "watch", "--state folder"):
            self._follow(settings, sleep)

    def _follow(self, settings: WatchSettings, sleep: Callable[[float], None]) -> None:
        pause, quiet = interval(settings.every), 0
        while True:
            try:
                found = self.look()
            except (MachineError, InputError) as error:
                if settings.once:
                    raise
                log.warning("%s Looking again in %s.", error, duration(pause))
                found = "error"
            while settings.once and settings.wait and found in ("started", "running"):
                last = self._read()["runs"][-1]
                if last["state"] != RUNNING:
                    break
                sleep(min(pause, 10))
                found = self.look()
            if settings.once:
                if settings.wait and self._read()["runs"][-1]["state"] == FAILED:
                    raise TextmillError(f"run {self._read()['runs'][-1]['run']} failed.")
                log.info("%s: %s", self.source, found)
                return
            quiet = quiet + 1 if found == "unchanged" else 0
            if quiet == 1:
                log.info("%s has nothing new; looking every %s", self.source, duration(pause))
            sleep(pause)

    def _digest(self) -> str:
        corpus = self.folder / "corpus"
        ingest(self.source, corpus, self.reading)
        return manifest.read(corpus, "corpus").digest

    def _read(self) -> dict[str, Any]:
        path = self.folder / STATE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"format": 1, "pipeline": self.pipeline.name, "source": self.source, "runs": []}
        except (OSError, ValueError) as error:
            raise FolderError(f"{path} cannot be read ({error}); remove it to start anew.") from error
        if state.get("pipeline") != self.pipeline.name:
            raise FolderError(
                f"{self.folder} belongs to a watch of {state.get('pipeline')}; choose another --state folder."
            )
        return state

    def _write(self, state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / STATE, state)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
