"""Functions run on many arguments in processes side by side. Knows nothing of the work; results come as they are ready.

A worker is started anew (spawn), so threads and state of this process do not matter, and ends by itself when this
process is gone: its pipe closes.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from textmill.errors import MachineError, TextmillError

log = logging.getLogger("textmill.workers")

Advance = Callable[[int], None]

TELL_EVERY_SECONDS = 0.5

_told: Advance = lambda n: None  # noqa: E731


def advance(n: int = 1) -> None:
    """Called by the work: so many more units are done."""
    _told(n)


def run_in_processes(
    function: Callable[[Any], Any], arguments: Iterable[Any], processes: int, told: Advance
) -> Iterator[tuple[int, Any]]:
    """(index, result) of `function` on each argument, in the order they end; here, in order, with one process.

    At most `processes` arguments are at work at a time, and no more are taken from `arguments`. `function`, arguments
    and results must be picklable. `told` gets what the work said with `advance`. The first error ends all; a worker
    that is killed is a MachineError.
    """
    if processes <= 1:
        with _telling(told):
            for index, argument in enumerate(arguments):
                yield index, function(argument)
        return
    waiting = iter(enumerate(arguments))
    pool = [_Worker(function) for _ in range(processes)]
    try:
        busy = {worker.pipe: worker for worker in pool if worker.give(next(waiting, None))}
        while busy:
            for ready in multiprocessing.connection.wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                answer = worker.answer()
                if isinstance(answer, int):
                    told(answer)
                    continue
                yield worker.index, answer[0]
                if not worker.give(next(waiting, None)):
                    del busy[worker.pipe]
    finally:
        for worker in pool:
            worker.stop()


class _Worker:
    """One process and the argument it works on."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        level = logging.getLogger("textmill").getEffectiveLevel()
        self._process = context.Process(target=_work, args=(theirs, function, level), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, job: tuple[int, Any] | None) -> bool:
        """Start on this argument; False when there is none."""
        if job is None:
            return False
        self.index, argument = job
        with suppress(BrokenPipeError, ConnectionResetError):  # `result` will say what became of it
            self.pipe.send(argument)
        return True

    def answer(self) -> int | tuple[Any]:
        """What was advanced, or (the result,)."""
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(5)
            raise MachineError(
                f"a worker process ended early (exit code {self._process.exitcode}; -9 is most often a lack of "
                "memory); set fewer processes and start again: what is done is kept."
            ) from None
        if isinstance(answer, int):
            return answer
        value, error, shown = answer
        if error is None:
            return (value,)
        if not isinstance(error, TextmillError):
            log.error("in a worker process:\n%s", shown)
        raise error

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _work(pipe: multiprocessing.connection.Connection, function: Callable[[Any], Any], level: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("textmill").setLevel(level)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), _telling(_NowAndThen(pipe.send)):
        while True:
            argument = pipe.recv()
            try:
                answer: tuple[Any, BaseException | None, str] = (function(argument), None, "")
            except Exception as error:
                answer = (None, _picklable(error), traceback.format_exc())
            pipe.send(answer)


def _picklable(error: Exception) -> Exception:
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


class _NowAndThen:
    """Tells the sum of what was advanced, not each of the steps; what is left at the end is not told."""

    def __init__(self, told: Advance) -> None:
        self._told, self._sum, self._last = told, 0, time.monotonic()

    def __call__(self, n: int) -> None:
        self._sum += n
        if (now := time.monotonic()) - self._last >= TELL_EVERY_SECONDS:
            self._told(self._sum)
            self._sum, self._last = 0, now


@contextmanager
def _telling(told: Advance) -> Iterator[None]:
    global _told
    before, _told = _told, told
    try:
        yield
    finally:
        _told = before
