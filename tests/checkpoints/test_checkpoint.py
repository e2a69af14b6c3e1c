"""A checkpoint's layout: whole or refused, and what is left behind is removed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from textmill.checkpoints import checkpoint as layout
from textmill.errors import FolderError
from textmill.models import get_model
from textmill.models.rnn import init
from textmill.tokenizers.char import CharTokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    folder.mkdir()
    tokenizer = CharTokenizer.train(["a mill"])
    config = get_model("char-gru").config("tiny", tokenizer.size)
    about = {"model": "char-gru", "config": config.as_dict(), "render": ""}
    for step in (5, 10):
        weights = init(config, seed=step)
        layout.save_model(folder, weights, about, {"step": step}, tokenizer, {"dataset": "d"})
    return folder


def state(step: int) -> layout.State:
    one = {"a": np.full((2, 3), step, np.float32)}
    return layout.State(step, one, {}, one, {"best": {}})


def test_the_model_that_was_saved_last_is_loaded(saved: Path) -> None:
    model = layout.load_model(saved)
    assert model.details["step"] == 10
    expected = init(model.config, seed=10)
    assert all(np.array_equal(model.weights[name], expected[name]) for name in expected)
    assert model.tokenizer.decode(model.tokenizer.encode("mill")) == "mill"
    assert [p.name for p in saved.glob("weights-*")] == ["weights-00000010.safetensors"]


def test_the_same_weights_have_the_same_bytes_and_digest(saved: Path, tmp_path: Path) -> None:
    model = layout.load_model(saved)
    about = {"model": "char-gru", "config": model.config.as_dict(), "render": ""}
    digest = layout.save_model(
        tmp_path, model.weights, about, {"step": 10}, model.tokenizer, {"dataset": "d"}
    )
    assert digest == model.digest


@pytest.mark.parametrize("damage", ["cut", "swap", "remove", "manifest"])
def test_a_damaged_checkpoint_is_refused_with_one_line(saved: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "c"
    shutil.copytree(saved, folder)
    weights = next(folder.glob("weights-*"))
    data = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(data[:-100])
    elif damage == "swap":
        weights.write_bytes(data[:-4] + b"\x00\x01\x02\x03")
    elif damage == "remove":
        weights.unlink()
    else:
        (folder / "manifest.json").write_text('{"format": "textmill/checkpoint"')
    with pytest.raises(FolderError) as caught:
        layout.load_model(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_the_newest_whole_state_is_found_and_old_ones_are_pruned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (3, 6, 9):
        layout.save_state(tmp_path, state(step), keep=2)
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["step-00000006", "step-00000009"]
    (tmp_path / "state" / "step-00000009" / "slots.safetensors").write_bytes(b"")
    (tmp_path / "state" / ".step-00000012.1.part").mkdir()
    found = layout.latest_state(tmp_path)
    assert found is not None
    assert found.step == 6
    assert found.weights["a"][0, 0] == 6
    assert found.facts == {"step": 6, "best": {}}
    assert "passing over a damaged state" in caplog.text
    assert "step-00000009" in caplog.text
    assert not list((tmp_path / "state").glob(".*"))


def test_no_state_is_no_error(tmp_path: Path) -> None:
    assert layout.latest_state(tmp_path / "nowhere") is None


def test_a_snapshot_links_what_is_replaced_and_copies_what_grows(saved: Path, tmp_path: Path) -> None:
    run, held = tmp_path / "run", tmp_path / "held"
    shutil.copytree(saved, run)
    for step in (3, 6):
        layout.save_state(run, state(step), keep=2)
    (run / "metrics.jsonl").write_text("{}\n")
    (run / ".metrics.1.part").write_text("")
    entries = layout.snapshot(run, 6, held)
    found = {p.relative_to(held).as_posix() for p in held.rglob("*") if p.is_file()}
    assert found == set(entries)
    there = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert there - found == {
        ".metrics.1.part",
        *(name for name in there if name.startswith("state/step-00000003/")),
    }
    linked = {name for name in found if (held / name).stat().st_ino == (run / name).stat().st_ino}
    assert found - linked == {"metrics.jsonl"}
    unnamed = {name for name, entry in entries.items() if entry is None}
    assert unnamed == {"manifest.json", "metrics.jsonl", "state/step-00000006/manifest.json"}
    sizes = {name: (run / name).stat().st_size for name in found - unnamed}
    assert {name: entry["size"] for name, entry in entries.items() if entry is not None} == sizes


def test_a_snapshot_is_copied_where_nothing_can_be_linked(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def link(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", link)

    refuse(errno.EOPNOTSUPP)
    layout.snapshot(saved, 10, tmp_path / "held")
    assert (tmp_path / "held" / "config.json").read_bytes() == (saved / "config.json").read_bytes()
    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match="space"):
        layout.snapshot(saved, 10, tmp_path / "full")


def test_metrics_cut_short_by_a_kill_are_read_up_to_there(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert layout.read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
