"""Copies of a checkpoint in a store, made in the background while it is trained, so that they outlive the pod.

The loop offers each state that it saved; a thread uploads what the store does not have yet and swings the pointer
(published.py has the layout). While it uploads, the next states wait, and only the newest of them. The store may be
down, slow, full or failing: training goes on, the log says so, and what is newest then is published later.

Knows when to publish and what to say; how it is done is turns.py's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from textmill.checkpoints import published as layout
from textmill.checkpoints.checkpoint import newest_step, snapshot
from textmill.checkpoints.turns import Fenced, Turn
from textmill.errors import Interrupted, MachineError, TextmillError
from textmill.stores import Refused, Store, StoreError, open_store

log = logging.getLogger("textmill.publishing")

AT_START = 60.0  # seconds to wait for a store that does not answer
AT_START_AGAIN = 600.0  # the same for a retry, whose checkpoint is there
AT_END = 300.0  # seconds to wait for the last publish
AT_STOP = 20.0  # the same when the run is stopped: whoever stops it does not wait long
WAIT, LONGEST_WAIT = 2.0, 60.0  # seconds between tries
NICENESS = 10  # of the thread: the products of training come first, and it still gets a tenth of a busy core


class Publishes(Protocol):
    """What the loop asks of a publisher."""

    def offer(self, step: int) -> None:
        """The checkpoint is saved with a state at `step`: publish it when there is time."""
        ...

    def finish(self, step: int) -> bool:
        """Training is over at `step`: publish the folder as it is, and wait for it, but not for ever."""
        ...


class Nothing:
    """No publisher."""

    def begin(self, afresh: bool) -> None:
        pass

    def offer(self, step: int) -> None:
        pass

    def finish(self, step: int) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclasses.dataclass
class _Snapshot:
    step: int
    folder: Path
    held: dict[str, dict[str, Any] | None]
    last: bool


class Publisher:
    """Publishes one checkpoint folder below a URI; a context manager, inside which `begin` comes first."""

    def __init__(self, store: Store, checkpoint: Path, keep: int) -> None:
        self.store, self.checkpoint = store, checkpoint
        self.turn = Turn(store, keep, attempt())
        self._held = checkpoint / ".publishing"
        self._changed = threading.Condition()
        self._waiting: _Snapshot | None = None
        self._busy = False
        self._closing = False
        self._over = False  # fenced: never publish again
        self._last_done = False
        self._thread = threading.Thread(target=self._work, name="publishing", daemon=True)

    # ------------------------------------------------------------------ the loop's side

    def begin(self, afresh: bool) -> None:
        """Take the turn, and unless `afresh` bring the newest step if the folder has no later one.

        Waits for a store that does not answer, and then lets the training begin with what is here. Raises Refused
        where waiting is useless: a wrong bucket or key should cost a second, not a run.
        """
        shutil.rmtree(self._held, ignore_errors=True)
        self.turn.afresh = afresh
        patience = AT_START_AGAIN if self.turn.attempt else AT_START
        if not self._patiently(lambda: self.turn.take(late=False), patience):
            log.warning(
                "%s does not answer: training begins with what is here, and publishes later", self.store.label
            )
        elif not afresh:
            here = newest_step(self.checkpoint)
            self._patiently(lambda: self._bring(-1 if here is None else here), patience)
        self._thread.start()

    def offer(self, step: int) -> None:
        if not self._over:
            self._put(step, last=False)

    def finish(self, step: int) -> bool:
        if self._over:
            return False
        if not self._put(step, last=True):
            return False
        started = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(self._is_done, 2.0):
                log.info("waiting up to %.0f s for the last publish to %s", AT_END, self.store.label)
                self._changed.wait_for(self._is_done, AT_END - 2.0)
            if not self._is_done():
                log.warning(
                    "the last publish to %s is not done after %.0f s: what stands there is an earlier step",
                    self.store.label,
                    time.monotonic() - started,
                )
            return self._last_done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            if isinstance(error, Interrupted) and self._thread.is_alive():
                self._changed.wait_for(lambda: self._over or not (self._busy or self._waiting), AT_STOP)
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(1.0)  # one that hangs in a request ends with the process
        shutil.rmtree(self._held, ignore_errors=True)

    def _put(self, step: int, last: bool) -> bool:
        """Hold the checkpoint fast, in place of a snapshot that still waits. False when there is no space for it."""
        folder = self._held / f"{step:08d}-{secrets.token_hex(4)}"
        try:
            held = snapshot(self.checkpoint, step, folder)
        except OSError as error:
            log.warning("cannot hold step %s fast to publish it: %s", f"{step:,}", error)
            shutil.rmtree(folder, ignore_errors=True)
            return False
        with self._changed:
            old, self._waiting = self._waiting, _Snapshot(step, folder, held, last)
            self._last_done = False
            self._changed.notify_all()
        if old is not None:
            shutil.rmtree(old.folder, ignore_errors=True)
        return True

    def _is_done(self) -> bool:
        return self._last_done or self._over

    def _patiently(self, act: Callable[[], None], patience: float) -> bool:
        """Try until it works; False when the store did not answer for so long, or the turn is another's."""
        deadline, wait = time.monotonic() + patience, WAIT
        while True:
            try:
                act()
                return True
            except Fenced as reason:
                self._give_up(reason)
                return False
            except Refused:
                raise
            except StoreError as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                log.warning("%s; again in %.0f s", error, min(wait, left))
                time.sleep(min(wait, left))
                wait = min(wait * 2, LONGEST_WAIT)

    def _bring(self, here: int) -> None:
        step, damaged = layout.fetch_newest(self.store, self.checkpoint, newer_than=here)
        self.turn.damaged |= set(damaged)
        if step >= 0:
            log.info("brought step %s from %s", f"{step:,}", self.store.label)

    def _give_up(self, reason: Fenced) -> None:
        log.warning("%s: %s; this run goes on and publishes no more", self.store.label, reason)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    # ------------------------------------------------------------------ the thread's side

    def _work(self) -> None:
        with contextlib.suppress(OSError):
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + NICENESS)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                taken, self._waiting, self._busy = self._waiting, None, True
            assert taken is not None
            try:
                done = self._publish_patiently(taken)
            finally:
                shutil.rmtree(taken.folder, ignore_errors=True)
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
            with self._changed:
                self._last_done = self._last_done or (done and taken.last)
                self._changed.notify_all()
            if self._over:
                return

    def _publish_patiently(self, taken: _Snapshot) -> bool:
        """Publish it, or give way to a newer one."""
        wait = WAIT
        while True:
            try:
                self._publish(taken)
                return True
            except Fenced as reason:
                self._give_up(reason)
                return False
            except (StoreError, Refused, MachineError, OSError) as error:
                log.warning(
                    "cannot publish step %s: %s; training goes on, again in %.0f s",
                    f"{taken.step:,}",
                    error,
                    wait,
                )
            except Exception:  # a bug here must not end a training
                log.exception("publishing step %s failed", f"{taken.step:,}")
                return False
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, wait)
                if self._waiting or self._closing:
                    return False
            wait = min(wait * 2, LONGEST_WAIT)

    def _publish(self, taken: _Snapshot) -> None:
        started = time.monotonic()
        if not self.turn.taken:
            self.turn.take(late=True)
        if not taken.last and self.turn.has_later(taken.step):
            log.info("%s has later steps than %s already", self.store.label, f"{taken.step:,}")
            return
        sent = self.turn.publish(taken.step, taken.folder, taken.held, last=taken.last)
        log.info(
            "published step %s to %s: %d files, %s MB sent, %.1f s",
            f"{taken.step:,}",
            self.store.label,
            len(taken.held),
            f"{sent / 1e6:,.1f}",
            time.monotonic() - started,
        )


def open_publisher(uri: str, checkpoint: Path, keep: int) -> Publisher | Nothing:
    """The publisher of a checkpoint folder; one that does nothing for an empty URI."""
    return Publisher(open_store(uri), checkpoint, keep) if uri else Nothing()


def own_uri(uri: str, path: str) -> str:
    """Where a component publishes: below its output's own URI, which every attempt of the task has.

    "" where the URI is no store (on one machine it is the path), and where the store will not be written to: a pod
    without credentials trains as ever, and says what is missing.
    """
    if "://" not in uri or uri == path:
        return ""
    try:
        store, trial = open_store(uri), f"{layout.FOLDER}/0000-trial/trial"
        store.write(trial, b"")
        store.delete(trial)
    except StoreError as error:
        log.warning("%s", error)
    except TextmillError as error:
        log.warning("checkpoints are not published while training: %s", error)
        return ""
    return uri


def attempt() -> int:
    """KFP's number of this attempt of the task, from 0."""
    try:
        return int(os.environ.get("KFP_RETRY_INDEX", "") or 0)
    except ValueError:
        return 0
