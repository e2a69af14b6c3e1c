"""Training that survives a lost pod: killed at random moments, its folder deleted, the store all that is left.

Also going on from an earlier run's checkpoint, and with a new corpus.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.killing import assert_same_run
from tests.stores.moto_s3 import moto_s3
from textmill import manifest
from textmill.checkpoints import checkpoint as layout
from textmill.checkpoints import published
from textmill.errors import FolderError, InputError
from textmill.stores import Store, open_store
from textmill.train import train
from textmill.training.settings import TrainSettings

# Trains in a child of a warm parent, again and again as it is told: {"folder", "settings", "attempt"} a line; answers
# with each step before it is made, which then waits for a byte: whoever reads sets the pace.
POD = """
import json, os, sys
from textmill import train as stage
from textmill.models import get_model
from textmill.training.settings import TrainSettings
import textmill.stores.s3, boto3

engine = get_model("char-gru").engine()
real = engine.train_step
def paced(self, *args, step, **more):
    print("step", step, flush=True)
    os.read(int(sys.argv[1]), 1)
    return real(self, *args, step=step, **more)
engine.train_step = paced
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        os.environ["KFP_RETRY_INDEX"] = str(job["attempt"])
        stage.train(job["dataset"], job["folder"], TrainSettings.of(**job["settings"]))
        print("done", flush=True)
        os._exit(0)
    print("pod", child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""

SETTINGS: dict[str, Any] = {
    "preset": "tiny",
    "overrides": {"epochs": 3, "batch_size": 4, "num_steps": 8, "keep_prob": 0.8},
    "save_every_steps": 4,
}


class Node:
    """Runs pods and loses them."""

    def __init__(self, dataset: Path, environment: Mapping[str, str]) -> None:
        self.dataset = dataset
        self._paced, self._pace = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", POD, str(self._paced)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            pass_fds=[self._paced],
        )

    def run(
        self,
        folder: Path,
        settings: dict[str, Any],
        attempt: int,
        kill_after: int = 0,
        when: Callable[[], bool] = lambda: True,
        late: float = 0.0,
    ) -> list[int]:
        """Train; killed so many steps after its first one, once `when` is true, and so many seconds later.

        Returns the steps it made.
        """
        job = {"dataset": str(self.dataset), "folder": str(folder), "settings": settings, "attempt": attempt}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        made: list[int] = []
        child, done = 0, False
        for line in self.process.stdout:
            word, _, value = line.strip().partition(" ")
            if word == "pod":
                child = int(value)
            elif word == "step":
                made.append(int(value))
                if not kill_after or len(made) < kill_after:
                    os.write(self._pace, b".")
                elif len(made) == kill_after:
                    while not when():
                        time.sleep(0.02)
                    os.write(self._pace, b"." * 8)  # a step and a save or two go on while it dies
                    time.sleep(late)
                    os.kill(child, signal.SIGKILL)
            elif word == "done":
                done = True
            elif word == "ended":
                break
        while select.select([self._paced], [], [], 0)[0]:
            os.read(self._paced, 1)
        assert done == (kill_after == 0), "it ended too early or too late"
        return made

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)
        for end in (self._paced, self._pace):
            os.close(end)


def newest(store: Store) -> int:
    """The newest step that is published there."""
    return max((s.step for s in published.read_pointer(store)[0].steps), default=-1)


@pytest.fixture(scope="module")
def undisturbed(char_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "c"
    train(char_dataset, folder, TrainSettings.of(**SETTINGS))
    return folder


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_pod_lost_three_times_ends_bit_equal(
    kind: str, undisturbed: Path, char_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(time.time_ns())
    with moto_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        uri = f"file://{tmp_path}/store" if kind == "local" else "minio://bucket/run/checkpoint"
        settings = {**SETTINGS, "publish_uri": uri}
        store = open_store(uri)
        node = Node(char_dataset, server.environment)
        starts: list[int] = []
        for attempt in range(3):
            before = newest(store)
            made = node.run(
                tmp_path / "pod",
                settings,
                attempt,
                draw.randint(9, 11),
                when=lambda before=before: newest(store) > before,  # type: ignore[misc]
                late=draw.uniform(0, 0.3),
            )
            starts.append(made[0])
            shutil.rmtree(tmp_path / "pod")
        made = node.run(tmp_path / "pod", settings, 3)
        node.close()
    said = f"attempts began at steps {[*starts, made[0]]}"
    assert starts[0] == 0, said
    assert starts[0] < starts[1] < starts[2] < made[0], said
    assert_same_run(undisturbed, tmp_path / "pod")
    assert manifest.digest_of(undisturbed) == manifest.digest_of(tmp_path / "pod")


def test_a_pod_lost_before_anything_was_published_begins_anew(
    undisturbed: Path, char_dataset: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "publish_uri": str(tmp_path / "store")}
    node = Node(char_dataset, {})
    node.run(tmp_path / "pod", settings, 0, 2)
    shutil.rmtree(tmp_path / "pod")
    assert node.run(tmp_path / "pod", settings, 1)[0] == 0
    node.close()
    assert_same_run(undisturbed, tmp_path / "pod")


@pytest.fixture
def half(char_dataset: Path, tmp_path: Path) -> Path:
    """A run of two epochs."""
    two = {**SETTINGS, "overrides": {**SETTINGS["overrides"], "epochs": 2}}
    train(char_dataset, tmp_path / "half", TrainSettings.of(**two))
    return tmp_path / "half"


@pytest.mark.parametrize("place", ["folder", "uri", "published"])
def test_going_on_from_an_earlier_run_is_as_if_it_had_never_ended(
    place: str, half: Path, undisturbed: Path, char_dataset: Path, tmp_path: Path
) -> None:
    parent = manifest.digest_of(half)
    settings = TrainSettings.of(**SETTINGS)
    if place == "published":
        store = open_store(f"memory://{tmp_path.name}/half")
        for path in half.rglob("*"):
            if path.is_file():
                store.write(path.relative_to(half).as_posix(), path)
        settings = settings.replace(resume_from=store.label)
    elif place == "uri":
        settings = settings.replace(resume_from=half.as_uri())
    train(char_dataset, tmp_path / "c", settings, None, half if place == "folder" else None)
    assert_same_run(undisturbed, tmp_path / "c")
    found = manifest.read(tmp_path / "c", "checkpoint")
    assert found.parents["earlier"] == parent
    assert ("parent_uri" in found.details) == (place != "folder"), "no path of this machine"


def test_the_earlier_run_is_remembered_by_a_later_attempt(
    half: Path, char_dataset: Path, tmp_path: Path
) -> None:
    settings = TrainSettings.of(**{**SETTINGS, "max_steps": 50, "publish_uri": str(tmp_path / "store")})
    train(char_dataset, tmp_path / "c", settings, None, half)
    shutil.rmtree(tmp_path / "c")
    shutil.rmtree(half)  # the store's state is newer, and the earlier run is not asked for again
    train(char_dataset, tmp_path / "c", settings.replace(max_steps=55), None, half)
    assert "earlier" in manifest.read(tmp_path / "c", "checkpoint").parents


def test_a_new_corpus_is_refused_unless_asked_for_and_then_scores_begin_anew(
    half: Path, word_dataset: Path, char_dataset: Path, scenes: Path, tmp_path: Path
) -> None:
    from textmill.ingest import ingest
    from textmill.normalize import NormalizeSettings, normalize

    (tmp_path / "new.txt").write_text(
        "".join((scenes / n).read_text() for n in sorted(os.listdir(scenes))[::-1])
    )
    ingest(str(tmp_path / "new.txt"), tmp_path / "corpus")
    normalize(
        tmp_path / "corpus",
        tmp_path / "dataset",
        NormalizeSettings.of(near_duplicates=0),
        half,
    )
    settings = TrainSettings.of(**{**SETTINGS, "max_steps": 60})
    with pytest.raises(InputError, match="another dataset"):
        train(tmp_path / "dataset", tmp_path / "c", settings, None, half)
    before = layout.load_model(half)
    train(tmp_path / "dataset", tmp_path / "d", settings.replace(resume="changed"), None, half)
    after = manifest.read(tmp_path / "d", "checkpoint")
    assert after.parents["earlier"] == before.digest
    assert after.parents["dataset"] == manifest.digest_of(tmp_path / "dataset")
    assert after.details["best"]["step"] > before.details["last_step"], "a score on another text is no record"


def test_an_earlier_run_that_is_not_there_is_one_line(char_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="holds no checkpoint with a whole state"):
        train(char_dataset, tmp_path / "c", TrainSettings.of(**SETTINGS), None, tmp_path / "nowhere")


def test_the_end_stands_in_the_store(char_dataset: Path, tmp_path: Path) -> None:
    settings = TrainSettings.of(**{**SETTINGS, "max_steps": 9, "publish_uri": str(tmp_path / "store")})
    train(char_dataset, tmp_path / "c", settings)
    assert manifest.digest_of(tmp_path / "store") == manifest.digest_of(tmp_path / "c")
    assert [s.step for s in published.read_pointer(open_store(str(tmp_path / "store")))[0].steps] == [9]
    assert not [p for p in (tmp_path / "c").iterdir() if p.name.startswith(".")]


def test_a_stopped_run_publishes_where_it_stopped(char_dataset: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "textmill.cli", "train", str(char_dataset), "-o", str(tmp_path / "c")]
    command += ["--preset", "tiny", "--set=epochs=100000", "--set=batch_size=4", "--set=num_steps=8"]
    command += ["--publish-uri", str(tmp_path / "store"), "--save-every-minutes", "60"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 90
    while not (tmp_path / "c" / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 130, errors[-2000:]
    stopped = layout.newest_step(tmp_path / "c")
    assert [s.step for s in published.read_pointer(open_store(str(tmp_path / "store")))[0].steps] == [stopped]


def test_a_wrong_store_costs_a_second(char_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown kind of store"):
        train(char_dataset, tmp_path / "c", TrainSettings.of(**SETTINGS, publish_uri="s4://bucket"))
