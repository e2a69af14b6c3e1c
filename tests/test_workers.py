"""Processes side by side: results, errors, killed workers, and none that outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from textmill import workers
from textmill.errors import InputError, MachineError
from textmill.workers import run_in_processes


def square(number: int) -> int:
    workers.advance(number)
    return number * number


def process(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def refuse(number: int) -> int:
    raise InputError(f"number {number} is bad.")


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 3])
def test_each_argument_gets_its_result(processes: int) -> None:
    results = dict(run_in_processes(square, range(20), processes, lambda n: None))
    assert results == {number: number * number for number in range(20)}


def test_one_process_is_this_one_and_more_are_others() -> None:
    assert {pid for _, pid in run_in_processes(process, range(3), 1, lambda n: None)} == {os.getpid()}
    others = {pid for _, pid in run_in_processes(process, range(20), 2, lambda n: None)}
    assert len(others) == 2
    assert os.getpid() not in others


def test_progress_is_told_from_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    list(run_in_processes(square, range(5), 1, told.append))
    assert told == [0, 1, 2, 3, 4]


def test_an_error_of_the_work_is_raised_here() -> None:
    for processes in (1, 2):
        with pytest.raises(InputError, match=r"number 0 is bad\."):
            list(run_in_processes(refuse, range(1), processes, lambda n: None))


def test_a_killed_worker_is_one_line() -> None:
    with pytest.raises(MachineError, match=r"ended early \(exit code -9"):
        list(run_in_processes(die, range(4), 2, lambda n: None))


PARENT = """
import os, sys, time
from tests.test_workers import process
from textmill.workers import run_in_processes
for _, pid in run_in_processes(process, range(10_000), 2, lambda n: None):
    print(pid, flush=True)
"""


def test_workers_end_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = {int(parent.stdout.readline()) for _ in range(6)}
        parent.kill()
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
