"""Threads that run one compiled kernel together and meet between its stages.

The kernels are Numba's and hold no interpreter lock. Python's own threads start them: Numba's thread pools end the
process when two threads use them at once.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from textmill import devices
from textmill.models.tiles import compiled

log = logging.getLogger("textmill.models.team")

MOST = 16  # threads by default: a product of 768 columns has 12 panels to share out
SPINS = 20_000  # looks at a barrier before the core is offered to others: some ten microseconds


class Team:
    """So many threads (0: one for each core, up to MOST). Kernels take (thread, threads, ...): thread is 0, 1, ..."""

    def __init__(self, threads: int = 0) -> None:
        self.size = threads or min(devices.available_cores(), MOST)
        self._others = concurrent.futures.ThreadPoolExecutor(max(1, self.size - 1), "team")

    def run(self, kernel: Any, *arguments: Any) -> None:
        """The kernel in all threads; comes back when all have ended."""
        known, started = len(kernel.signatures), time.perf_counter()
        others = [self._others.submit(kernel, i, self.size, *arguments) for i in range(1, self.size)]
        kernel(0, self.size, *arguments)
        for other in others:
            other.result()
        if len(kernel.signatures) > known:
            log.info("kernels ready after %.1f s", time.perf_counter() - started)


def barrier() -> npt.NDArray[np.int64]:
    """What `meet` counts in; for one running kernel at a time."""
    return np.zeros(8, np.int64)


@intrinsic
def _arrive(typing: Any, address: Any) -> Any:
    """Add one to the int64 at the address, atomically; what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        place = builder.inttoptr(arguments[0], word.as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(word, 1), "seq_cst")

    return types.int64(types.intp), generate


@intrinsic
def _look(typing: Any, address: Any) -> Any:
    """The int64 at the address, as other threads left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.intp), generate


@intrinsic
def _give_way(typing: Any) -> Any:
    """Offer the core to other threads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def meet(barrier: Any, threads: int) -> None:
    """Go on when all threads are here. The count only grows, so that nothing has to be set back."""
    if threads == 1:
        return
    address = barrier.ctypes.data
    before = _arrive(address)
    target = (before // threads + 1) * threads
    spins = 0
    while _look(address) < target:
        spins += 1
        if spins > SPINS:
            _give_way()


@compiled
def share(count: int, thread: int, threads: int) -> Any:
    """A thread's part of so many things: from, to."""
    return count * thread // threads, count * (thread + 1) // threads
