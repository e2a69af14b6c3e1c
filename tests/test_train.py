"""The training loop: what it writes, what it refuses, and the exact resume."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.killing import assert_same_run, losses, run_killed
from textmill.checkpoints import checkpoint as layout
from textmill.errors import InputError, SettingsError
from textmill.train import train
from textmill.training.settings import TrainSettings


def tiny(**more: Any) -> dict[str, Any]:
    overrides = {"epochs": 3, "batch_size": 4, "num_steps": 8, "keep_prob": 0.8, **more.pop("overrides", {})}
    return {"preset": "tiny", "overrides": overrides, **more}


@pytest.fixture(scope="module")
def undisturbed(char_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_killed(char_dataset, folder, tiny(save_every_steps=5), [])
    return folder


def test_a_run_writes_a_whole_checkpoint(undisturbed: Path, char_dataset: Path) -> None:
    model = layout.load_model(undisturbed)
    assert model.name == "char-gru"
    assert model.details["train"]["batch_size"] == 4
    assert model.details["dataset"]["digest"] == layout.manifest.read(char_dataset, "dataset").digest
    kinds = [kind for kind, *_ in losses(undisturbed)]
    assert kinds.count("valid") == 3
    assert kinds.count("test") == 1
    assert kinds.count("train") >= 3 * 10, "ten progress records an epoch, also on tiny data"
    best = min(loss for kind, _, loss, _ in losses(undisturbed) if kind == "valid")
    assert model.details["best"]["loss"] == best
    assert len(list((undisturbed / "state").iterdir())) == 2, "the newest two states are kept"
    assert list((undisturbed / "samples").glob("step-*.txt"))
    for run in ("training", "validation"):
        assert list((undisturbed / "tensorboard" / run).glob("events*"))


def test_tensorboard_reads_the_scalars_that_old_users_know(undisturbed: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for run in ("training", "validation"):
        events = EventAccumulator(str(undisturbed / "tensorboard" / run)).Reload()
        assert sorted(events.Tags()["scalars"]) == ["batch_accuracy", "batch_loss"]
    recorded = [loss for kind, _, loss, _ in losses(undisturbed) if kind == "valid"]
    assert [s.value for s in events.Scalars("batch_loss")] == pytest.approx(recorded)


def test_killed_between_steps_it_ends_bit_equal(
    undisturbed: Path, char_dataset: Path, tmp_path: Path
) -> None:
    draw = random.Random(0)
    kills = [("step", draw.randint(1, 25)) for _ in range(3)]
    run_killed(char_dataset, tmp_path / "c", tiny(save_every_steps=5), kills)
    assert_same_run(undisturbed, tmp_path / "c")


def test_killed_in_the_middle_of_a_save_it_ends_bit_equal(
    undisturbed: Path, char_dataset: Path, tmp_path: Path
) -> None:
    draw = random.Random(1)
    kills = [(place, draw.randint(3, 60)) for place in ("fsync", "replace", "fsync")]
    run_killed(char_dataset, tmp_path / "c", tiny(save_every_steps=5), kills)
    assert_same_run(undisturbed, tmp_path / "c")
    assert not [p for p in (tmp_path / "c").rglob(".*") if p.suffix in (".part", ".old")], (
        "leftovers are removed"
    )


def test_the_word_lstm_with_sgd_resumes_bit_equal_too(word_dataset: Path, tmp_path: Path) -> None:
    settings = tiny(model="word-lstm", save_every_steps=4)
    run_killed(word_dataset, tmp_path / "one", settings, [])
    run_killed(word_dataset, tmp_path / "other", settings, [("step", 3), ("step", 6), ("replace", 9)])
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_a_damaged_state_is_passed_over(char_dataset: Path, tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "c"
    run_killed(char_dataset, folder, tiny(save_every_steps=5), [("step", 18)], end=False)
    newest = max((folder / "state").iterdir()) / "weights.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    run_killed(char_dataset, folder, tiny(save_every_steps=5), [])
    assert_same_run(undisturbed, folder)


def test_ctrl_c_saves_and_says_how_to_go_on(char_dataset: Path, tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "c"
    command = [
        sys.executable,
        "-m",
        "textmill.cli",
        "train",
        str(char_dataset),
        "-o",
        str(folder),
        "--preset",
        "tiny",
    ]
    command += ["--save-every-steps", "5"]
    long = ["--set", "epochs=2000"]
    common = [f"--set={k}={v}" for k, v in tiny()["overrides"].items() if k != "epochs"]
    process = subprocess.Popen(
        [*command, *common, *long], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("state/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Give the same command again to go on" in errors
    assert "Traceback" not in errors
    stopped = layout.latest_state(folder)
    assert stopped is not None
    assert layout.load_model(folder), "what is there can write text already"
    if stopped.step < 36:  # a fast machine may have gone further than the undisturbed run
        subprocess.run([*command, *common, "--set=epochs=3"], check=True, capture_output=True)
        assert_same_run(undisturbed, folder)


def test_a_changed_setting_or_dataset_is_refused_unless_asked_for(
    undisturbed: Path, char_dataset: Path, word_dataset: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "c"
    shutil.copytree(undisturbed, folder)
    with pytest.raises(InputError, match=r"other settings \(keep_prob: 0.8 there, 0.7 here\)"):
        train(char_dataset, folder, TrainSettings.of(**tiny(overrides={"keep_prob": 0.7})))
    with pytest.raises(InputError, match="another dataset"):
        train(word_dataset, folder, TrainSettings.of(**tiny()))
    more = TrainSettings.of(**tiny(resume="changed", overrides={"keep_prob": 0.7, "epochs": 4}))
    assert train(char_dataset, folder, more)["step"] > layout.read_details(undisturbed)["last_step"]


def test_a_finished_run_has_nothing_left_to_do(undisturbed: Path, char_dataset: Path) -> None:
    before = losses(undisturbed)
    run_killed(char_dataset, undisturbed, tiny(save_every_steps=5), [])
    assert losses(undisturbed) == before


def test_early_stopping_ends_after_patience(char_dataset: Path, tmp_path: Path) -> None:
    settings = tiny(patience=2, overrides={"learning_rate": 0.0, "epochs": 50})
    figures = train(char_dataset, tmp_path / "c", TrainSettings.of(**settings))
    valid = [loss for kind, _, loss, _ in losses(tmp_path / "c") if kind == "valid"]
    assert len(valid) == 3, "the first is the best, two more are not better"
    assert figures["best_step"] < figures["step"]


def test_a_loss_that_is_not_finite_is_one_line_and_keeps_the_states(
    char_dataset: Path, tmp_path: Path
) -> None:
    settings = tiny(save_every_steps=1, overrides={"optimizer": "sgd", "learning_rate": 3e38})
    with pytest.raises(InputError, match="lower learning_rate"):
        train(char_dataset, tmp_path / "c", TrainSettings.of(**settings))
    assert layout.latest_state(tmp_path / "c") is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "char-gro"}, "unknown model 'char-gro'. Did you mean 'char-gru'?"),
        ({"preset": "huge"}, "unknown preset of char-gru 'huge'"),
        (
            {"overrides": {"hiden_size": 3}},
            "unknown setting 'hiden_size' in overrides. Did you mean 'hidden_size'?",
        ),
        ({"overrides": {"hidden_size": "many"}}, "setting 'hidden_size'"),
        ({"overrides": {"vocabulary_size": 3}}, "unknown setting 'vocabulary_size'"),
    ],
)
def test_a_wrong_name_or_type_is_one_line(settings: dict[str, Any], message: str, char_dataset: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        train(char_dataset, Path("never"), TrainSettings.of(**settings))
    assert str(caught.value).startswith(message)
    assert not Path("never").exists()


def test_state_root_lets_a_run_with_a_new_output_folder_go_on(
    char_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    monkeypatch.setenv("TEXTMILL_STATE_ROOT", str(tmp_path / "work"))
    run_killed(char_dataset, tmp_path / "first", tiny(save_every_steps=5), [("step", 22)], end=False)
    run_killed(char_dataset, tmp_path / "second", tiny(save_every_steps=5), [])
    assert not (tmp_path / "first").exists()
    assert layout.read_details(tmp_path / "second")["last_step"] == 60
    assert_same_run(undisturbed, tmp_path / "second")
    assert len(os.listdir(tmp_path / "work")) == 1


@pytest.mark.parametrize("lines", [1, 10, 100])
def test_tiny_texts_train(lines: int, tmp_path: Path) -> None:
    from textmill.ingest import ingest
    from textmill.normalize import NormalizeSettings, normalize

    (tmp_path / "a.txt").write_text("".join(f"line {i} of a very short text\n" for i in range(lines)))
    ingest(str(tmp_path / "a.txt"), tmp_path / "corpus")
    normalize(tmp_path / "corpus", tmp_path / "dataset", NormalizeSettings.of(near_duplicates=0))
    settings = TrainSettings.of(preset="tiny", max_steps=3)
    figures = train(tmp_path / "dataset", tmp_path / "c", settings)
    assert figures["step"] == 3
    assert layout.load_model(tmp_path / "c").tokenizer.size > 2


def test_a_time_limit_stops_validated_and_saved_and_the_next_run_goes_on(
    char_dataset: Path, tmp_path: Path
) -> None:
    first = train(char_dataset, tmp_path / "c", TrainSettings.of(**tiny(max_minutes=1e-6)))
    assert first["step"] == 1
    assert first["best_step"] == 1, "what was learned so far is scored and kept"
    again = train(char_dataset, tmp_path / "c", TrainSettings.of(**tiny()))
    assert again["step"] == 60
