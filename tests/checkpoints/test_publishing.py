"""Checkpoints that outlive the pod: what is published, what is brought back, and who may swing the pointer."""

from __future__ import annotations

import json
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stores.moto_s3 import moto_s3
from textmill.checkpoints import checkpoint as layout
from textmill.checkpoints import published, publishing
from textmill.checkpoints.publishing import Publisher, own_uri
from textmill.checkpoints.turns import Turn
from textmill.errors import FolderError, InputError
from textmill.models import get_model
from textmill.models.rnn import init
from textmill.stores import Found, Missing, Refused, Store, StoreError, open_store, read_bytes
from textmill.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer.train(["a mill"])


class Recording(Store):
    """A store before another: notes what is written and deleted, and fails as long as `failing` says so."""

    def __init__(self, store: Store) -> None:
        self.store, self.label = store, store.label
        self.written: list[str] = []
        self.deleted: list[str] = []
        self.failing: Callable[[str], Exception | None] = lambda what: None

    def _check(self, what: str) -> None:
        if error := self.failing(what):
            raise error

    def read(self, name: str) -> Found:
        self._check(f"read {name}")
        return self.store.read(name)

    def write(self, name: str, data: bytes | Path) -> None:
        self._check(f"write {name}")
        self.store.write(name, data)
        self.written.append(name)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        self._check(f"list {prefix}")
        return self.store.list(prefix)

    def delete(self, name: str) -> None:
        self._check(f"delete {name}")
        self.store.delete(name)
        self.deleted.append(name)

    def write_if_unchanged(self, name: str, data: bytes, version: str) -> str:
        self._check(f"swing {name}")
        return self.store.write_if_unchanged(name, data, version)

    def version(self, name: str) -> str:
        self._check(f"look at {name}")
        return self.store.version(name)

    def write_file_if_unchanged(self, name: str, path: Path, version: str) -> None:
        self._check(f"write {name}")
        self.store.write_file_if_unchanged(name, path, version)
        self.written.append(name)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture
def store(uri: str) -> Recording:
    return Recording(open_store(uri))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "WAIT", 0.01)
    monkeypatch.setattr(publishing, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(publishing, "AT_START", 0.05)
    monkeypatch.delenv("KFP_RETRY_INDEX", raising=False)


def save(checkpoint: Path, step: int, best: int | None = None, value: float | None = None) -> None:
    """What the loop leaves at `step`: a state, the best model's weights, and files that grow."""
    one = {"a": np.full((2, 3), step if value is None else value, np.float32)}
    layout.save_state(checkpoint, layout.State(step, one, {"m": -one["a"]}, {}, {"best": {}}), keep=2)
    config = get_model("char-gru").config("tiny", TOKENIZER.size)
    about = {"model": "char-gru", "config": config.as_dict(), "render": ""}
    kept = step if best is None else best
    layout.save_model(checkpoint, init(config, seed=kept), about, {"step": kept}, TOKENIZER, {"dataset": "d"})
    with open(checkpoint / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    (checkpoint / "tensorboard").mkdir(exist_ok=True)
    with open(checkpoint / "tensorboard" / "events.1", "ab") as events:
        events.write(b"event")


def publish(publisher: Publisher, step: int, **more: Any) -> None:
    """Save and publish `step`, and wait until it is done."""
    save(publisher.checkpoint, step, **more)
    publisher.offer(step)
    wait_for(lambda: publisher._waiting is None and not publisher._busy)


def wait_for(true: Callable[[], bool]) -> None:
    """Look again and again; a machine that stands still for a while is no failure."""
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never became true")


def new(folder: Path, store: Store, keep: int = 2, afresh: bool = False) -> Publisher:
    folder.mkdir(parents=True, exist_ok=True)
    publisher = Publisher(store, folder, keep)
    publisher.begin(afresh)
    return publisher


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def needed(store: Store) -> set[str]:
    """Every object that the pointer's steps consist of, and the pointer."""
    pointer, _ = published.read_pointer(store)
    found = {published.POINTER}
    for step in pointer.steps:
        found |= {step.manifest} | {e["object"] for e in published.read_step(store, step).values()}
    return found


def steps(store: Store) -> list[int]:
    return [step.step for step in published.read_pointer(store)[0].steps]


# ------------------------------------------------------------------ what is there, what comes back


def test_what_is_published_comes_back_bit_by_bit(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        publish(publisher, 10)
    before = contents(tmp_path / "c")
    with new(tmp_path / "other", store):
        pass
    brought = contents(tmp_path / "other")
    assert brought == {name: data for name, data in before.items() if "step-00000005" not in name}
    assert layout.load_model(tmp_path / "other").details["step"] == 10


def test_only_what_changed_is_sent(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        del store.written[:]
        publish(publisher, 10, best=5)
    state = ["weights.safetensors", "slots.safetensors", "state.json", "manifest.json"]
    sent = sorted(name.rpartition("-")[2] for name in store.written)
    assert sent == sorted([*state, "metrics.jsonl", "events.1", "00000010.json"])
    assert not [name for name in store.written if "00000005" in name or "config.json" in name]


def test_the_last_ones_are_kept_and_what_no_step_needs_is_deleted(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store, keep=2) as publisher:
        for step in (5, 10, 15, 20):
            publish(publisher, step, best=10 if step >= 10 else 5)
            assert {name for name, _ in store.list()} == needed(store)
    assert steps(store) == [20, 15]
    assert any("weights-00000010" in name for name in needed(store)), "the best model's weights stay"


def test_at_the_end_the_folder_itself_stands_there(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        publish(publisher, 10)
        save(tmp_path / "c", 12)
        assert publisher.finish(12)
    there = {name for name, _ in store.list()}
    here = {name for name in contents(tmp_path / "c") if "step-00000010" not in name}
    lists = {name for name in there if name.startswith("published/")}
    assert there - lists == here | {published.POINTER}
    assert len(lists) == 1, "nothing is there twice: whoever reads the artifact downloads all below its URI"
    assert steps(store) == [12]
    with new(tmp_path / "other", store):
        pass
    assert layout.newest_step(tmp_path / "other") == 12
    assert not list((tmp_path / "c").glob(".publishing*")), "nor does the launcher find our links"


def test_a_finished_run_that_goes_on_leaves_no_old_file(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        save(tmp_path / "c", 10)
        assert publisher.finish(10)
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 15)
        publish(publisher, 20)
        save(tmp_path / "c", 20)
        assert publisher.finish(20)
    there = {name for name, _ in store.list()}
    assert not [name for name in there if "00000010" in name or "00000015" in name]
    assert {name for name, _ in store.list()} == needed(store)


def test_a_kill_while_a_finished_run_that_went_on_ends_again_leaves_a_whole_step(
    store: Recording, tmp_path: Path
) -> None:
    """The finished run's files are replaced where they are, while the pointer still names them."""
    with new(tmp_path / "c", store) as publisher:
        save(tmp_path / "c", 10)
        assert publisher.finish(10)
    with new(tmp_path / "c", store) as publisher:
        save(tmp_path / "c", 15)
        replaced = threading.Event()

        def failing(what: str) -> Exception | None:
            if what == "write metrics.jsonl":
                replaced.set()
            return StoreError("killed") if replaced.is_set() and what != "write metrics.jsonl" else None

        store.failing = failing
        publisher._put(15, last=True)
        wait_for(lambda: replaced.is_set() and store.written[-1] == "metrics.jsonl")
    store.failing = lambda what: None
    with new(tmp_path / "other", store):
        assert layout.newest_step(tmp_path / "other") == 15


def test_a_later_step_of_the_folder_is_not_overwritten(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
    save(tmp_path / "c", 10)
    before = contents(tmp_path / "c")
    with new(tmp_path / "c", store):
        pass
    assert contents(tmp_path / "c") == before


def test_an_earlier_or_damaged_state_of_the_folder_gives_way(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
    (tmp_path / "other").mkdir()
    save(tmp_path / "other", 3)
    save(tmp_path / "other", 8)
    weights = tmp_path / "other/state/step-00000008/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with new(tmp_path / "other", store):
        pass
    assert contents(tmp_path / "other") == contents(tmp_path / "c")


def test_never_resuming_begins_with_an_empty_place(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
    with new(tmp_path / "other", store, afresh=True) as publisher:
        assert not contents(tmp_path / "other")
        assert {name for name, _ in store.list()} == {published.POINTER}
        publish(publisher, 3)
    assert steps(store) == [3]


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("damage", ["altered", "cut", "missing", "list altered", "list missing"])
def test_a_damaged_step_is_passed_over_and_dropped(
    damage: str, store: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        publish(publisher, 10)
    newest = published.read_pointer(store)[0].steps[0]
    name = newest.manifest
    if "list" not in damage:
        name = published.read_step(store, newest)["state/step-00000010/weights.safetensors"]["object"]
    data, _ = read_bytes(store, name)
    if "missing" in damage:
        store.delete(name)
    else:
        store.write(name, data[:-1] + (b"" if damage == "cut" else b"?"))
    with new(tmp_path / "other", store) as publisher:
        assert layout.newest_step(tmp_path / "other") == 5
        assert "passing over step 10" in caplog.text
        publish(publisher, 10)  # the same bytes once more: what is damaged is not taken for them
        assert steps(store) == [10, 5]
    published.fetch_step(store, published.read_pointer(store)[0].steps[0], tmp_path / "check")


def test_where_every_step_is_damaged_training_begins_anew(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
    for name, _ in list(store.list("published/")):
        store.write(name, b"?")
    with new(tmp_path / "other", store) as publisher:
        assert not contents(tmp_path / "other")
        publish(publisher, 2)
    assert steps(store) == [2]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": "textmill/published", "version": 9}'])
def test_a_pointer_that_makes_no_sense_is_passed_over(data: bytes, store: Recording, tmp_path: Path) -> None:
    store.write(published.POINTER, data)
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
    assert steps(store) == [5]


def test_a_list_that_leads_out_of_the_folder_is_refused(store: Recording, tmp_path: Path) -> None:
    import hashlib

    store.write("evil", b"evil")
    entry = {"size": 4, "sha256": hashlib.sha256(b"evil").hexdigest(), "object": "evil"}
    data = published.encoded_step(5, {"../../evil": entry})
    store.write("list", data)
    step = published.Published(5, "list", hashlib.sha256(data).hexdigest())
    with pytest.raises((InputError, published.Damaged)):
        published.fetch_step(store, step, tmp_path / "a" / "c")
    assert not (tmp_path / "evil").exists()


# ------------------------------------------------------------------ whose turn it is


def test_a_stale_attempt_can_neither_swing_the_pointer_nor_delete(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Recording(open_store(uri)), Recording(open_store(uri))
    stale = new(tmp_path / "first", first)
    publish(stale, 5)
    publish(stale, 10)
    monkeypatch.setenv("KFP_RETRY_INDEX", "1")
    with new(tmp_path / "second", second) as publisher:
        assert layout.newest_step(tmp_path / "second") == 10
        publish(stale, 15, value=99)  # the lost pod still trains and uploads
        publish(stale, 20, value=99)
        assert steps(second) == [10, 5]
        assert not first.deleted
        assert "another run has taken over; this run goes on and publishes no more" in caplog.text
        publish(publisher, 12)
        assert steps(second) == [12, 10]
        save(tmp_path / "second", 15)
        assert publisher.finish(15)
    assert not stale.finish(20), "it is told that its last publish was none"
    stale.__exit__(None, None, None)
    assert {name for name, _ in second.list()} == needed(second), "what the stale one left is swept away"
    with new(tmp_path / "third", Recording(open_store(uri))):
        pass
    state = layout.latest_state(tmp_path / "third")
    assert state is not None
    assert (state.step, float(state.weights["a"][0, 0])) == (15, 15.0)


def test_a_stale_attempt_in_the_middle_of_an_upload_swings_nothing(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still with half of its files sent, the next attempt goes on, and then it wakes up."""
    first = Recording(open_store(uri))
    asleep, awake = threading.Event(), threading.Event()

    def sleep(what: str) -> None:
        if "slots" in what and publishing_ten.is_set():
            asleep.set()
            awake.wait(60)

    publishing_ten = threading.Event()
    first.failing = sleep
    stale = new(tmp_path / "first", first)
    publish(stale, 5)
    publishing_ten.set()
    save(tmp_path / "first", 10, value=99)
    stale.offer(10)
    assert asleep.wait(60)
    monkeypatch.setenv("KFP_RETRY_INDEX", "1")
    second = Recording(open_store(uri))
    with new(tmp_path / "second", second) as publisher:
        assert layout.newest_step(tmp_path / "second") == 5
        publish(publisher, 10)
        awake.set()
        wait_for(lambda: stale._over)
        assert steps(second) == [10, 5]
        published.fetch_newest(second, tmp_path / "check")
    stale.__exit__(None, None, None)
    state = layout.latest_state(tmp_path / "check")
    assert state is not None
    assert float(state.weights["a"][0, 0]) == 10.0


def test_an_attempt_that_found_no_store_at_its_start_does_not_take_over_from_a_later_one(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Recording(open_store(uri))
    first.failing = lambda what: StoreError("down")
    stale = new(tmp_path / "first", first)
    monkeypatch.setenv("KFP_RETRY_INDEX", "1")
    with new(tmp_path / "second", open_store(uri)) as publisher:
        publish(publisher, 5)
    first.failing = lambda what: None
    publish(stale, 10)
    assert stale._over
    stale.__exit__(None, None, None)
    assert steps(first) == [5]


def test_what_begins_again_with_the_same_number_takes_over(
    store: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is retried by hand counts its attempts from 0 once more."""
    monkeypatch.setenv("KFP_RETRY_INDEX", "2")
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
    monkeypatch.setenv("KFP_RETRY_INDEX", "0")
    with new(tmp_path / "other", store) as publisher:
        publish(publisher, 10)
    assert steps(store) == [10, 5]


def test_an_answer_that_was_lost_is_no_loss_of_the_turn(store: Recording, tmp_path: Path) -> None:
    real = store.store.write_if_unchanged

    def losing(name: str, data: bytes, version: str) -> str:
        from textmill.stores import Changed

        real(name, data, version)
        raise Changed(name)  # what a client says that sent the request twice

    store.store.write_if_unchanged = losing  # type: ignore[method-assign]
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        publish(publisher, 10)
    assert steps(store) == [10, 5]


def _take_turns(uri: str, number: int, barrier: Any) -> None:
    barrier.wait()
    for _ in range(number):
        Turn(open_store(uri), 2, 0).take(late=False)


def test_two_processes_that_take_turns_at_once_never_share_one(uri: str) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    children = [context.Process(target=_take_turns, args=(uri, 25, barrier)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert published.read_pointer(open_store(uri))[0].turn == 50


# ------------------------------------------------------------------ the store fails


@pytest.mark.parametrize(
    "error", [StoreError("the store says 500"), Refused("no permission"), OSError(5, "I/O")]
)
def test_while_the_store_fails_training_goes_on_and_the_newest_is_published_later(
    error: Exception, store: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        store.failing = lambda what: error
        started = time.monotonic()
        for step in (10, 15, 20):
            save(tmp_path / "c", step)
            publisher.offer(step)
        assert time.monotonic() - started < 30, "the loop does not wait for the store"
        wait_for(lambda: "cannot publish step 20" in caplog.text)
        assert "training goes on" in caplog.text
        del store.written[:]
        store.failing = lambda what: None
        wait_for(lambda: steps(store) == [20, 5])
        assert not [name for name in store.written if "step-00000010" in name or "step-00000015" in name]


def test_what_was_sent_before_it_failed_is_not_sent_again(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        store.failing = lambda what: (
            StoreError("full") if "write" in what and "weights.safe" in what else None
        )
        save(tmp_path / "c", 5)
        publisher.offer(5)
        wait_for(lambda: len(store.written) >= 3)
        time.sleep(0.1)
        store.failing = lambda what: None
        wait_for(lambda: steps(store) == [5])
    assert len(store.written) == len(set(store.written))


def test_a_store_that_is_down_at_the_start_is_published_to_when_it_comes_up(
    store: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.failing = lambda what: StoreError("down")
    with new(tmp_path / "c", store) as publisher:
        assert "training begins with what is here" in caplog.text
        save(tmp_path / "c", 5)
        publisher.offer(5)
        wait_for(lambda: "cannot publish step 5" in caplog.text)
        store.failing = lambda what: None
        wait_for(lambda: steps(store) == [5])


def test_the_end_waits_for_the_last_publish_but_not_for_ever(
    store: Recording, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "AT_END", 2.2)
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        store.failing = lambda what: StoreError("down")
        save(tmp_path / "c", 10)
        assert not publisher.finish(10)
    assert "is not done after" in caplog.text
    store.failing = lambda what: None
    assert steps(store) == [5], "what was there is still whole"
    published.fetch_newest(store, tmp_path / "other")
    assert layout.newest_step(tmp_path / "other") == 5


def test_a_place_that_was_cleared_is_taken_anew(store: Recording, tmp_path: Path) -> None:
    with new(tmp_path / "c", store) as publisher:
        publish(publisher, 5)
        for name, _ in list(store.list()):
            store.delete(name)
        publish(publisher, 10)
        assert steps(store) == [10]
        assert {name for name, _ in store.list()} == needed(store)


def test_a_save_that_replaces_files_while_they_are_uploaded_harms_nothing(
    store: Recording, tmp_path: Path
) -> None:
    """Step 5 is being sent while the states 10, 15 and 20 are saved, 5 is pruned and the model is another."""
    hold, go = threading.Event(), threading.Event()

    def slow(what: str) -> None:
        if what.startswith("write") and not go.is_set():
            hold.set()
            go.wait(60)

    store.failing = slow
    with new(tmp_path / "c", store, keep=3) as publisher:
        save(tmp_path / "c", 5)
        before = contents(tmp_path / "c")
        publisher.offer(5)
        assert hold.wait(60)
        for step in (10, 15, 20):
            save(tmp_path / "c", step)
            publisher.offer(step)
        assert not (tmp_path / "c/state/step-00000005").exists()
        go.set()
        wait_for(lambda: steps(store) == [20, 5])
        five = published.read_pointer(store)[0].steps[-1]
        published.fetch_step(store, five, tmp_path / "check")
    assert contents(tmp_path / "check") == {
        n: d for n, d in before.items() if not n.startswith(".publishing")
    }


# ------------------------------------------------------------------ plain folders, URIs, secrets


def test_a_plain_folder_in_a_store_can_be_gone_on_from(tmp_path: Path) -> None:
    """As KFP's launcher uploads it: no pointer; the newest state that is whole counts."""
    folder = tmp_path / "plain"
    folder.mkdir()
    save(folder, 5)
    save(folder, 10)
    weights = folder / "state/step-00000010/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    published.continue_from(open_store(str(folder)), tmp_path / "c")
    assert layout.newest_step(tmp_path / "c") == 5
    assert layout.load_model(tmp_path / "c").details["step"] == 10


def test_a_place_without_a_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="holds no checkpoint with a whole state to go on from"):
        published.continue_from(open_store(str(tmp_path / "empty")), tmp_path / "c")


def test_a_component_publishes_to_its_own_uri_where_that_is_a_store_it_may_read(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_uri("/out/train/checkpoint", "/out/train/checkpoint") == ""
    assert own_uri("memory://run/checkpoint", "/memory/run/checkpoint") == "memory://run/checkpoint"
    assert own_uri("oci://registry/model", "/oci/model") == ""
    assert "checkpoints are not published while training: unknown kind of store" in caplog.text
    with moto_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert own_uri("minio://bucket/run/checkpoint", "/minio/bucket/run/checkpoint").startswith("minio://")
        server.fail[:] = [403]
        assert own_uri("minio://bucket/run/checkpoint", "/minio/bucket/run/checkpoint") == "", (
            "it may only read"
        )
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        assert own_uri("minio://bucket/run/checkpoint", "/minio/bucket/run/checkpoint") == ""
        assert "no credentials for minio://bucket/run/checkpoint" in caplog.text


def test_no_secret_stands_in_a_log_a_manifest_or_an_object(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    with moto_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store("s3://canary-user:canary-password@bucket/run")
        with new(tmp_path / "c", store) as publisher:
            publish(publisher, 5)
            server.always = 500
            save(tmp_path / "c", 10)
            publisher.offer(10)
            wait_for(lambda: "cannot publish step 10" in caplog.text)
            server.always = 403
            wait_for(lambda: "refuses: 403" in caplog.text)
            server.always = 0
            wait_for(lambda: steps(store) == [10, 5])
        everything = [caplog.text.encode(), *contents(tmp_path / "c").values()]
        for name, _ in store.list():
            everything += [name.encode(), b"".join(store.read(name).chunks)]
    assert len(everything) > 15
    assert not [data for data in everything if b"canary" in data]


def test_a_missing_object_is_missing_through_the_recording_store_too(store: Recording) -> None:
    with pytest.raises(Missing):
        store.read("nothing")
