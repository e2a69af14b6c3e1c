"""One process's turn to publish below a URI: what it may write, what it may delete, and how the pointer is swung.

Each process takes a turn when it starts: from then on the earlier ones, which may still run on a machine that the
cluster has lost, cannot swing the pointer any more, and delete nothing. Whatever an object's name, only the turn that
wrote it or a later one deletes it, and only after a swing of its own to steps that do not need it: so no other turn,
which must have begun with those steps, can need it either.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textmill.checkpoints import published as layout
from textmill.checkpoints.published import Damaged, Files, Pointer, Published
from textmill.files import sha256_of
from textmill.stores import Changed, Missing, Refused, Store, StoreError, read_bytes

log = logging.getLogger("textmill.publishing")

PLACES = 3  # tries to write an object that changes while it is written
LARGE = 8 << 20  # bytes: before so large an upload the turn is looked at once more


class Fenced(Exception):
    """Another process has taken over the pointer."""


class Turn:
    """Keeps the newest `keep` steps. All methods raise StoreError, Refused; those that swing raise Fenced.

    attempt: KFP's number of this attempt of the task.
    afresh: the steps that are there are dropped.
    damaged: steps that were found not to be whole; they are dropped with the next swing.
    """

    def __init__(self, store: Store, keep: int, attempt: int) -> None:
        self.store, self.keep, self.attempt = store, keep, attempt
        self.afresh = False
        self.damaged: set[Published] = set()
        self.taken = False
        self._pointer = Pointer()
        self._version = ""
        self._lists: dict[Published, Files] = {}  # of the pointer's steps
        self._there: set[str] = set()  # objects that may be deleted when no step needs them
        self._uploaded: dict[tuple[str, int], str] = {}  # SHA-256, bytes -> object of this turn

    def take(self, late: bool) -> None:
        """Swing the pointer to us. `late`: not at the start; then an attempt after ours keeps it."""
        while True:
            pointer, version = layout.read_pointer(self.store)
            if late and pointer.attempt > self.attempt:
                raise Fenced(f"attempt {pointer.attempt} publishes there")
            ours = Pointer(
                turn=pointer.turn + 1,
                attempt=self.attempt,
                owner=secrets.token_hex(4),
                steps=() if self.afresh else pointer.steps,
            )
            with contextlib.suppress(Changed):
                self._version = self._swing(ours, version)
                break
        self._pointer = ours
        self._lists, self._there, self._uploaded = {}, set(), {}
        self._look_around(pointer.steps)
        self.taken = True

    def has_later(self, step: int) -> bool:
        """Would the step be dropped at once, as there are enough later ones (the store did not answer at the start)?"""
        later = [s for s in self._pointer.steps if s.step > step and s not in self.damaged]
        return len(later) >= self.keep

    def publish(
        self, step: int, folder: Path, held: Mapping[str, dict[str, Any] | None], *, last: bool
    ) -> int:
        """Send what the store does not have of the files in `folder`, and point to them; return the bytes sent.

        `held` maps their paths to size and SHA-256 where these are known. The last publish of a run has each file at
        its own path, and leaves no other step. Where all that is there are an earlier run's files at these paths, the
        step is first sent like any other: a kill halfway would leave nothing whole.
        """
        sent = 0
        if last and self._lies_open():
            sent = self.publish(step, folder, held, last=False)
        files, more = self._upload(folder, held, last)
        sent += more
        name = f"{layout.FOLDER}/{self._name}/step-{step:08d}.json"
        data = layout.encoded_step(step, files)
        self.store.write(name, data)
        self._there.add(name)
        published = Published(step, name, hashlib.sha256(data).hexdigest())
        self._lists[published] = files
        self._point_to(published, alone=last)
        if last:
            self._there |= self._objects()
        self._sweep()
        return sent

    # ------------------------------------------------------------------ the pointer

    def _swing(self, pointer: Pointer, version: str) -> str:
        """Write the pointer; an answer that was lost is asked for. Raises Changed."""
        data = pointer.encoded()
        try:
            return self.store.write_if_unchanged(layout.POINTER, data, version)
        except Changed:
            with contextlib.suppress(Missing):
                there, found = read_bytes(self.store, layout.POINTER)
                if there == data:
                    return found
            raise

    def _point_to(self, step: Published, alone: bool) -> None:
        others = [s for s in self._pointer.steps if s.step != step.step and s not in self.damaged]
        newest = sorted([step, *([] if alone else others)], key=lambda s: -s.step)[: self.keep]
        pointer = dataclasses.replace(self._pointer, steps=tuple(newest))
        try:
            self._version = self._swing(pointer, self._version)
        except Changed:
            if not layout.read_pointer(self.store)[1]:
                self.taken = False  # someone cleared the place: take it anew
                raise StoreError(f"{self.store.label}/{layout.POINTER} is gone") from None
            raise Fenced("another run has taken over") from None
        self._pointer = pointer

    def _check(self) -> None:
        """Is it still our turn?"""
        if layout.read_pointer(self.store)[0].owner not in (self._pointer.owner, ""):
            raise Fenced("another run has taken over")

    # ------------------------------------------------------------------ objects

    @property
    def _name(self) -> str:
        return f"{self._pointer.turn:04d}-{self._pointer.owner}"

    def _upload(
        self, folder: Path, held: Mapping[str, dict[str, Any] | None], last: bool
    ) -> tuple[Files, int]:
        there = self._reusable(last)
        files: Files = {}
        sent = 0
        for path, known in held.items():
            source = folder / path
            size = source.stat().st_size
            sha256 = known["sha256"] if known and known["size"] == size else sha256_of(source)
            key = (path if last else "", sha256, size)
            if key not in there:
                if size > LARGE:
                    self._check()
                there[key] = self._send(source, path, sha256, size, last)
                sent += size
            files[path] = {"size": size, "sha256": sha256, "object": there[key]}
        return files, sent

    def _send(self, source: Path, path: str, sha256: str, size: int, last: bool) -> str:
        name = path
        if not last:
            name = f"{layout.FOLDER}/{self._name}/{sha256[:16]}-{path.rpartition('/')[2]}"
            self._uploaded[(sha256, size)] = name
        try:
            if last:
                self._put_in_place(name, source)
            else:
                self.store.write(name, source)
        except BaseException:
            self._uploaded.pop((sha256, size), None)
            raise
        self._there.add(name)
        return name

    def _put_in_place(self, name: str, source: Path) -> None:
        """Write to a name that other turns write to as well.

        The object's version is asked for before it is asked whose turn it is. So a process that stands still between
        any two requests and wakes up in a later turn finds another version, or writes what the later turn replaces.
        """
        for _ in range(PLACES):
            version = self.store.version(name)
            self._check()
            with contextlib.suppress(Changed):
                return self.store.write_file_if_unchanged(name, source, version)
        raise StoreError(f"{self.store.label}/{name} changes all the time")

    def _lies_open(self) -> bool:
        """Is there a step, and none whose files only its own turn writes to?"""
        steps = [self._lists[step] for step in self._pointer.steps if step not in self.damaged]
        return bool(steps) and not any(
            all(layout.turn_of(entry["object"]) is not None for entry in files.values()) for files in steps
        )

    def _reusable(self, last: bool) -> dict[tuple[str, str, int], str]:
        """(path or "", SHA-256, bytes) -> object that is there."""
        found: dict[tuple[str, str, int], str] = {}
        for step in set(self._pointer.steps) - self.damaged:
            for path, entry in self._lists.get(step, {}).items():
                if last and entry["object"] == path:
                    found[(path, entry["sha256"], entry["size"])] = path
                elif not last and layout.turn_of(entry["object"]) is not None:
                    found[("", entry["sha256"], entry["size"])] = entry["object"]
        if not last:
            found |= {("", *key): name for key, name in self._uploaded.items()}
        return found

    def _look_around(self, steps: tuple[Published, ...]) -> None:
        """What earlier turns left: kept where a step needs it, deleted where none does."""
        for step in steps:
            try:
                self._lists[step] = layout.read_step(self.store, step)
                self._there |= {entry["object"] for entry in self._lists[step].values()}
            except Damaged:
                self.damaged.add(step)
        self._there |= self._objects()
        self._sweep()

    def _objects(self) -> set[str]:
        """All that this turn and earlier ones have below published/."""
        names = (name for name, _ in self.store.list(f"{layout.FOLDER}/"))
        return {n for n in names if (turn := layout.turn_of(n)) is not None and turn <= self._pointer.turn}

    def _sweep(self) -> None:
        """Delete what no step needs any more; to be called after a swing."""
        needed = {step.manifest for step in self._pointer.steps}
        for step in self._pointer.steps:
            needed |= {entry["object"] for entry in self._lists.get(step, {}).values()}
        gone = self._there - needed
        self._uploaded = {key: name for key, name in self._uploaded.items() if name not in gone}
        for name in sorted(gone):
            try:
                self.store.delete(name)
                self._there.discard(name)
            except (StoreError, Refused) as error:
                log.info("cannot delete %s now: %s", name, error)
                return
