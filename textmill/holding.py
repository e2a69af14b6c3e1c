"""What a process holds while it works: a folder that nobody else may work in, and the signals that ask it to stop."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from textmill.errors import InputError, MachineError

LOCK = ".lock"


@contextlib.contextmanager
def only_one(folder: Path, who: str, called: str) -> Iterator[int]:
    """Hold `folder`, made where it is not there, against a second `who`; `called` is the folder's name in messages.

    Gives the lock's descriptor, for children to inherit. Raises InputError if another one has the folder, or it is a
    file; MachineError where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{folder} is a file; choose a folder for the {called.removesuffix(' folder')}."
        ) from None
    except OSError as error:
        raise MachineError(f"cannot write in {folder}: {error.strerror}; choose another {called}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(
            f"another {who} is at work in {folder}; wait for it, stop it, or choose another {called}."
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def on_signals(handler: Callable[[int, FrameType | None], None], *extra: signal.Signals) -> Iterator[None]:
    """Have SIGINT, SIGTERM and `extra` call `handler`. Outside of the main thread nothing changes."""
    try:
        previous = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM, *extra)}
    except ValueError:  # not the main thread
        previous = {}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)
