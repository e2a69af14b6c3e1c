"""What normalize keeps of each shard for the next time, in a hidden folder beside its dataset. `.NAME.work/units/KEY`.

A unit of work is a file named by the digest of all it depends on: a shard's bytes, settings, code. So one that is there
is right, whoever made it and when; a run that was killed goes on, and a corpus of which one shard changed has one unit
to make. What the last run did not use is removed at its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.resources
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from textmill.datasets.sections import is_whole
from textmill.errors import InputError
from textmill.files import writing_failed
from textmill.progress import Progress
from textmill.workers import run_in_processes

log = logging.getLogger("textmill.work_folder")

BATCH_BYTES = 4 << 20  # of sources, worked on between two looks at the clock
BATCH = 256  # units at most


class Job(Protocol):
    """One unit of work: makes the file `target`. Picklable."""

    @property
    def source(self) -> Path: ...

    @property
    def target(self) -> Path: ...

    def run(self) -> None: ...


class WorkFolder:
    """The units beside one output folder. Use as a context manager: it is locked while it is used."""

    def __init__(self, output: Path, processes: int) -> None:
        output = Path(os.path.abspath(output))
        self.folder = output.with_name(f".{output.name}.work")
        self.processes = processes
        self.done: dict[str, int] = {}  # units made by this run, by what was done
        self.reused: dict[str, int] = {}
        self._units = self.folder / "units"
        self._used: set[str] = set()

    def __enter__(self) -> WorkFolder:
        try:
            self._units.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._units, os.O_RDONLY)
        except OSError as error:
            raise writing_failed(self.folder, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise InputError(
                f"another normalize is at work for this output ({self.folder}); wait for it, or choose another."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def unit(self, kind: str, **depends: Any) -> Path:
        """Where the unit of this kind is, or will be, that depends on these values and on the code."""
        text = json.dumps({"kind": kind, "code": code_version(), **depends}, sort_keys=True)
        name = f"{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.{kind}"
        self._used.add(name)
        return self._units / name

    def file(self, kind: str, data: bytes) -> Path:
        """A file of its own for bytes that many units depend on."""
        path = self.unit(kind, data=hashlib.sha256(data).hexdigest())
        if not path.exists():
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            part.write_bytes(data)
            os.replace(part, path)
        return path

    def make(
        self,
        what: str,
        jobs: Sequence[Job],
        documents: Sequence[int],
        done_with: Callable[[Any], Iterable[Path | None]] = lambda job: (),
    ) -> None:
        """Run the jobs whose targets are not there, in parallel: `what` is done ("cleaned"), to `documents` each.

        `done_with`: the units that nothing needs once a job is done; they are removed.
        """
        missing = [i for i, job in enumerate(jobs) if not is_whole(job.target)]
        self.done[what] = self.done.get(what, 0) + len(missing)
        self.reused[what] = self.reused.get(what, 0) + len(jobs) - len(missing)
        if not missing:
            return
        most = min(BATCH, len(missing) // (4 * self.processes) + 1)
        batches = list(_batches([jobs[i] for i in missing], most))
        processes = min(self.processes, len(batches))
        total = sum(documents[i] for i in missing)
        start = time.monotonic()
        with Progress(f"{what[:-2]}ing", total, unit="documents") as progress:
            for index, _ in run_in_processes(_run, batches, processes, progress.advance):
                for job in batches[index]:
                    self.drop(*done_with(job))
        seconds = time.monotonic() - start
        log.debug("%s %d of %d shards in %.1f s by %d", what, len(missing), len(jobs), seconds, processes)

    def figures(self) -> dict[str, int]:
        """How many units were made, and how many were there: "shards_cleaned", "shards_cleaned_before"…"""
        made = {f"shards_{what}": count for what, count in self.done.items()}
        return made | {f"shards_{what}_before": count for what, count in self.reused.items()}

    def in_words(self) -> str:
        """The figures in a line."""
        told = [f"{count:,} {what}, {self.reused[what]:,} as before" for what, count in self.done.items()]
        return f"shards: {'; '.join(told)}"

    def drop(self, *units: Path | None) -> None:
        """Remove units that are not needed any more, to give their room back before the end."""
        for path in units:
            if path is not None:
                path.unlink(missing_ok=True)

    def clear(self, keep: bool) -> None:
        """Remove what this run did not use, or all."""
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for path in self._units.iterdir():
            if path.name not in self._used:
                with contextlib.suppress(OSError):
                    path.unlink()


def processes_for(size: int, wanted: int, cores: int) -> int:
    """How many processes for so many bytes of shards; `wanted` 0: as many as cores, and one for little."""
    return wanted or max(1, min(cores, size // (2 * BATCH_BYTES)))


@cache
def code_version() -> str:
    """A digest of the code that units depend on, and of the libraries it calls."""
    package = importlib.resources.files("textmill")
    digest = hashlib.sha256(platform.python_version().encode())
    for name in (
        "corpora/corpus.py",
        "datasets/clean.py",
        "datasets/dataset.py",
        "datasets/duplicates.py",
        "datasets/encode.py",
        "datasets/sections.py",
        "datasets/split.py",
        "postprocess.py",
    ):
        digest.update((package / name).read_bytes())
    for folder in ("rules", "tokenizers"):
        for path in sorted((package / folder).iterdir(), key=lambda path: path.name):
            if path.name.endswith(".py"):
                digest.update(path.name.encode() + path.read_bytes())
    for name in ("ftfy", "numpy", "py3langid", "rensa", "tiktoken", "zstandard"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    return digest.hexdigest()


def _run(jobs: list[Job]) -> None:
    for job in jobs:
        job.run()


def _batches(jobs: Sequence[Job], most: int) -> Iterator[list[Job]]:
    """Neighbours together, so that many small units do not cost a message each."""
    batch: list[Job] = []
    size = 0
    for job in jobs:
        batch.append(job)
        size += job.source.stat().st_size
        if size >= BATCH_BYTES or len(batch) >= most:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
