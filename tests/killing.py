"""Trainings that are killed at chosen moments, and the comparison of two runs bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from textmill.checkpoints import checkpoint as layout

# Runs a training in a child that is killed (SIGKILL) at the n-th call of one function: n, function, train's arguments.
# `fsync` is called in the middle of every save, `replace` at each rename, `step` before each training step.
KILLER = """
import json, os, signal, sys
from textmill import files, train as stage
from textmill.models import get_model
from textmill.training.settings import TrainSettings

def killing(function, n):
    calls = 0
    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

dataset, checkpoint, settings, kills, end = json.loads(sys.argv[1])
engine = get_model(settings.get("model", "char-gru")).engine()
places = {"fsync": (files.os, "fsync"), "replace": (files.os, "replace"), "step": (engine, "train_step")}
for place, n in [*kills, *([(None, 0)] if end else [])]:
    child = os.fork()
    if not child:
        if place:
            owner, name = places[place]
            setattr(owner, name, killing(getattr(owner, name), n))
        stage.train(dataset, checkpoint, TrainSettings.of(**settings))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("ended", place, n, status, flush=True)
sys.exit(os.waitstatus_to_exitcode(status) if end else 0)
"""


def run_killed(
    dataset: Path, checkpoint: Path, settings: dict[str, Any], kills: list[tuple[str, int]], end: bool = True
) -> str:
    """Train, killed at each of `kills` in turn and started again; at last, with `end`, undisturbed to the end."""
    arguments = json.dumps([str(dataset), str(checkpoint), settings, kills, end])
    done = subprocess.run(
        [sys.executable, "-c", KILLER, arguments], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def losses(checkpoint: Path) -> list[tuple[str, int, float, float]]:
    return [(r["kind"], r["step"], r["loss"], r["accuracy"]) for r in layout.read_metrics(checkpoint)]


def assert_same_run(one: Path, other: Path) -> None:
    assert losses(one) == losses(other), "the recorded losses differ"
    first, second = layout.latest_state(one), layout.latest_state(other)
    assert first is not None
    assert second is not None
    for name in ("weights", "slots", "carried"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.keys() == b.keys()
        for key in a:
            assert np.array_equal(a[key].view(np.uint32), b[key].view(np.uint32)), (
                f"{name} {key} differs in some bit"
            )
    assert layout.read_details(one)["digest"] == layout.read_details(other)["digest"]
