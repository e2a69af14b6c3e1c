"""A process that stood still in the middle of an upload wakes up while, or after, another has taken its place.

Two real processes on one store: the first stops itself (SIGSTOP) at a chosen request, as one on a node that was lost
does; the second takes over, publishes and ends; the first goes on where it stood. tests/cluster does it on S3 and on
Google Cloud Storage.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.checkpoints.test_publishing import Recording, _quick, needed, new, publish, save, steps
from textmill.checkpoints import checkpoint as layout
from textmill.checkpoints import published
from textmill.stores import Store, open_store

__all__ = ["_quick"]

STALE = 99.0  # what the first process's weights are, where the second one's are the step
END = 40


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def first(uri: str, folder: Path, stop_at: str, last: bool) -> None:
    """Publishes step 5, and stops itself in the middle of the next publish; woken, it goes on and says how it went."""
    store = Recording(open_store(uri))
    publisher = new(folder, store)
    publish(publisher, 5)

    def stop(what: str) -> None:
        if stop_at in what:
            store.failing = lambda what: None
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # here, and not a moment later

    store.failing = stop
    if not last:
        for step in (10, 15, 20):
            publish(publisher, step, value=STALE)
    save(folder, END, value=STALE)
    finished = publisher.finish(END)
    publisher.__exit__(None, None, None)
    said = {"finished": finished, "over": publisher._over, "deleted": store.deleted}
    (folder / "said.json").write_text(json.dumps(said))


def second(uri: str, folder: Path, wake: int | None) -> None:
    """Goes on from what is published, and ends; halfway it wakes the first one, if it is to."""
    os.environ["KFP_RETRY_INDEX"] = "1"
    with new(folder, open_store(uri)) as publisher:
        for step in range(10, END, 5):
            publish(publisher, step)
            if step == 20 and wake:
                os.kill(wake, signal.SIGCONT)
        save(folder, END)
        assert publisher.finish(END)


def brought(store: Store, folder: Path) -> tuple[int, float]:
    """The newest whole step that is published there, and its weights."""
    assert published.fetch_newest(store, folder)[1] == [], "nothing is damaged"
    state = layout.latest_state(folder)
    assert state is not None
    return state.step, float(state.weights["a"][0, 0])


@pytest.mark.parametrize("awake", ["while the second publishes", "when the second has ended"])
@pytest.mark.parametrize(
    ("stop_at", "last"),
    [
        ("slots.safetensors", False),
        ("step-00000010.json", False),
        ("swing", False),
        ("slots.safetensors", True),
    ],
    ids=["a file", "the list of files", "the pointer", "a file of the finished folder"],
)
def test_a_process_that_was_taken_for_lost_changes_nothing(
    stop_at: str, last: bool, awake: str, uri: str, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    stale = context.Process(target=first, args=(uri, tmp_path / "first", stop_at, last))
    stale.start()
    assert stale.pid
    assert os.WIFSTOPPED(os.waitpid(stale.pid, os.WUNTRACED)[1]), "it ended before it stood still"
    store = open_store(uri)
    assert steps(store) == [5]
    waking = stale.pid if "while" in awake else None
    other = context.Process(target=second, args=(uri, tmp_path / "second", waking))
    other.start()
    other.join(240)
    assert other.exitcode == 0
    if waking is None:
        assert {name for name, _ in store.list()} == needed(store)
        os.kill(stale.pid, signal.SIGCONT)
    stale.join(240)
    assert stale.exitcode == 0
    said = json.loads((tmp_path / "first" / "said.json").read_text())
    assert said == {"finished": False, "over": True, "deleted": []}
    pointer = published.read_pointer(store)[0]
    assert (pointer.turn, pointer.attempt, steps(store)) == (2, 1, [END])
    assert brought(store, tmp_path / "check") == (END, float(END))
