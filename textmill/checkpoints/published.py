"""A checkpoint's copies in a store: the pointer, the steps that are there, and how they are brought back.

    <uri>/latest.json                             the pointer: whose turn it is to publish, and the steps, newest first;
                                                  only ever swung by write-if-unchanged
    <uri>/published/<turn>/step-<step>.json       what a step consists of: path -> size, sha256, object
    <uri>/published/<turn>/<sha256>-<file name>   its files; one that several steps share is there once
    <uri>/manifest.json, <uri>/state/…            after the end: the checkpoint folder as it is, the pointer's only step

Every process that publishes has a turn of its own, so no two write the same object, and the pointer says which of them
may swing it. Knows the layout in the store; of what a checkpoint consists checkpoint.py knows, and publishing.py when
to publish.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.checkpoints.checkpoint import STEP_FOLDER
from textmill.errors import FolderError, InputError
from textmill.files import sync_folder
from textmill.stores import Missing, Store, download, read_bytes, safe_name

log = logging.getLogger("textmill.publishing")

POINTER = "latest.json"
FOLDER = "published"
TURN = re.compile(rf"{FOLDER}/(\d+)-[^/]+/")

Files = dict[str, dict[str, Any]]  # path in the checkpoint -> {"size", "sha256", "object"}


class Damaged(Exception):
    """A published step that is not whole."""


@dataclass(frozen=True)
class Published:
    """A step in the pointer: where its list of files is, and that list's SHA-256."""

    step: int
    manifest: str
    sha256: str


@dataclass(frozen=True)
class Pointer:
    """`turn` is raised by every process that takes over; `attempt` is KFP's number of that process's attempt."""

    turn: int = 0
    attempt: int = 0
    owner: str = ""
    steps: tuple[Published, ...] = field(default=())

    def encoded(self) -> bytes:
        """JSON: the same pointer gives the same bytes."""
        steps = [{"step": s.step, "manifest": s.manifest, "sha256": s.sha256} for s in self.steps]
        value = {"format": "textmill/published", "version": 1, "turn": self.turn, "attempt": self.attempt}
        return json.dumps({**value, "owner": self.owner, "steps": steps}, indent=1).encode() + b"\n"


def read_pointer(store: Store) -> tuple[Pointer, str]:
    """The pointer and its version, an empty one and "" where there is none. Raises StoreError, Refused."""
    try:
        data, version = read_bytes(store, POINTER)
    except Missing:
        return Pointer(), ""
    try:
        value = json.loads(data)
        if value["format"] != "textmill/published" or value["version"] > 1:
            raise ValueError
        steps = tuple(Published(int(s["step"]), str(s["manifest"]), str(s["sha256"])) for s in value["steps"])
        return Pointer(int(value["turn"]), int(value["attempt"]), str(value["owner"]), steps), version
    except (ValueError, KeyError, TypeError):
        log.warning(
            "%s/%s is not a pointer that this textmill can read: passing over it", store.label, POINTER
        )
        return Pointer(), version


def read_step(store: Store, published: Published) -> Files:
    """What the step consists of. Raises Damaged, StoreError, Refused."""
    try:
        data, _ = read_bytes(store, published.manifest)
    except (Missing, InputError) as error:
        raise Damaged(f"{published.manifest} is missing") from error
    if hashlib.sha256(data).hexdigest() != published.sha256:
        raise Damaged(f"{published.manifest} was altered")
    files: Files = json.loads(data)["files"]
    for path, entry in files.items():
        safe_name(path)
        safe_name(entry["object"])
    return files


def encoded_step(step: int, files: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A step's list of files, as it is written."""
    return json.dumps({"step": step, "files": files}, indent=1, sort_keys=True).encode() + b"\n"


def fetch_step(store: Store, published: Published, checkpoint: Path) -> None:
    """Make `checkpoint` the published one: its files, its state and no older one.

    A kill at any moment leaves a folder that the next call makes whole. Raises Damaged, and then nothing is changed;
    StoreError, Refused, MachineError.
    """
    files = read_step(store, published)
    with _beside(checkpoint) as beside:
        for path, entry in sorted(files.items()):
            _fetch_file(store, entry["object"], entry, beside / path)
        _take_place(beside, checkpoint)


def fetch_folder(store: Store, checkpoint: Path) -> None:
    """The same of a store that holds a plain checkpoint folder, as KFP's launcher uploads one: its newest whole state.

    Raises FolderError where there is none; StoreError, Refused, MachineError.
    """
    names = [name for name, _ in store.list() if not name.startswith((f"{FOLDER}/", ".")) and name != POINTER]
    steps = {found[0] for name in names if (found := re.match(r"state/step-\d{8}(?=/)", name))}
    for step in sorted(steps, reverse=True):
        with _beside(checkpoint) as beside:
            try:
                for name in names:
                    if name.startswith(f"{step}/") or not name.startswith("state/"):
                        download(store, safe_name(name), beside / name)
                manifest.read(beside, "checkpoint", verify=True)
                manifest.read(beside / step, "state", verify=True)
            except (FolderError, Missing) as error:
                log.warning("passing over %s of %s: %s", step, store.label, error)
                continue
            _take_place(beside, checkpoint)
            return
    raise FolderError(f"{store.label} holds no checkpoint with a whole state to go on from.")


def fetch_newest(store: Store, checkpoint: Path, newer_than: int = -1) -> tuple[int, list[Published]]:
    """Bring the newest whole step after `newer_than` (-1: any); return it (-1: none) and those that are damaged."""
    pointer, _ = read_pointer(store)
    damaged: list[Published] = []
    for published in sorted(pointer.steps, key=lambda s: -s.step):
        if published.step <= newer_than:
            break
        try:
            fetch_step(store, published, checkpoint)
            return published.step, damaged
        except Damaged as reason:
            log.warning("passing over step %s of %s: %s", f"{published.step:,}", store.label, reason)
            damaged.append(published)
    return -1, damaged


def continue_from(store: Store, checkpoint: Path) -> None:
    """Bring an earlier run's newest state, published or plain. Raises FolderError where there is none."""
    if fetch_newest(store, checkpoint)[0] < 0:
        fetch_folder(store, checkpoint)


def turn_of(name: str) -> int | None:
    """Whose turn an object below published/ was made in; None for any other name."""
    found = TURN.match(name)
    return int(found[1]) if found else None


# ------------------------------------------------------------------ on this machine


def _fetch_file(store: Store, name: str, entry: Mapping[str, Any], target: Path) -> None:
    try:
        digest = download(store, name, target)
    except Missing:
        raise Damaged(f"{name} is missing") from None
    if digest != entry["sha256"]:
        raise Damaged(f"{name} is not what was published (its SHA-256 is another)")


class _beside:  # noqa: N801
    """A hidden folder of the checkpoint to fetch into; it is gone at the end."""

    def __init__(self, checkpoint: Path) -> None:
        self.path = checkpoint / ".fetching"

    def __enter__(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _take_place(beside: Path, checkpoint: Path) -> None:
    """Put what was fetched in place of what is there. The state goes last: it is what tells that the step is here."""
    for name in _model_files(checkpoint) - _model_files(beside):
        (checkpoint / name).unlink(missing_ok=True)
    for name in sorted(os.listdir(beside)):
        target = checkpoint / name
        if name == "state":
            continue
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(beside / name, target)
    target = checkpoint / "state"
    target.mkdir(exist_ok=True)
    for step in _steps(beside / "state"):
        shutil.rmtree(target / step, ignore_errors=True)
        os.replace(beside / "state" / step, target / step)
        for other in set(_steps(target)) - {step}:
            shutil.rmtree(target / other)
    for folder in (target, checkpoint):
        sync_folder(folder)


def _model_files(checkpoint: Path) -> set[str]:
    """What the folder's manifest names, as far as it can be read."""
    try:
        return {safe_name(name) for name in json.loads((checkpoint / manifest.NAME).read_bytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return set()


def _steps(folder: Path) -> Iterable[str]:
    return [name for name in os.listdir(folder) if STEP_FOLDER.match(name)]
