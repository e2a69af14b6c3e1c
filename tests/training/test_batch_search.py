"""The search for the fastest batch that fits: real trials of a tiny model, some with too little memory."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from textmill.errors import InputError, SettingsError
from textmill.models import get_model
from textmill.models.schedules import TransformerSchedule
from textmill.training import batch_search, memory_plan
from textmill.training.batch_search import Trial, attempt, fastest
from textmill.training.settings import TrainSettings

FAMILY = get_model("gpt2")
CONFIG = FAMILY.config("tiny", 60)
SETTINGS = TrainSettings.of(model="gpt2", precision="float32", backend="tensorflow")
GB = 10**9


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan, "available", lambda: 8 * GB)


def schedule(**changes: Any) -> TransformerSchedule:
    asked = {"batch_size": 0, "accumulate_gradients": 4, "num_steps": 16, "batch_search": True, **changes}
    return TransformerSchedule.of(**asked)


def test_a_trial_learns_in_a_process_of_its_own_and_tells_its_speed_and_memory() -> None:
    trial = attempt(schedule(batch_size=2, batch_search=False), CONFIG, SETTINGS, 8 * GB)
    assert trial.tokens_per_second > 0
    assert 0.1 * GB < trial.peak < 8 * GB
    assert "tokens/s, peak" in str(trial)


def test_a_trial_that_takes_more_than_there_is_is_stopped() -> None:
    trial = attempt(schedule(batch_size=2, batch_search=False), CONFIG, SETTINGS, GB // 20)
    assert trial.tokens_per_second == 0
    assert trial.peak > GB // 20
    assert str(trial).startswith("batch_size 2: does not fit, stopped at 0.")


def test_a_trial_that_fails_otherwise_says_why() -> None:
    wrong = schedule(batch_size=2, batch_search=False, num_steps=CONFIG.context + 1)
    with pytest.raises(InputError, match=r"the trial with batch_size 2 failed: .*context is 32") as caught:
        attempt(wrong, CONFIG, SETTINGS, 8 * GB)
    assert "\n" not in str(caught.value)


def tried(monkeypatch: pytest.MonkeyPatch, speeds: dict[int, float]) -> list[int]:
    """Have trials find these speeds; the batch sizes that are tried are added to the list."""
    asked: list[int] = []

    def attempt(choice: Any, config: Any, settings: Any, limit: int) -> Trial:
        asked.append(choice.batch_size)
        speed = speeds[choice.batch_size]
        return Trial(choice, speed, GB, "" if speed else "does not fit, out of memory")

    monkeypatch.setattr(batch_search, "attempt", attempt)
    return asked


def test_the_fastest_that_fits_is_taken_and_every_trial_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = tried(monkeypatch, {4: 0.0, 2: 700.0, 1: 300.0})
    with caplog.at_level(logging.INFO, logger="textmill.train"):
        found = fastest(schedule(), CONFIG, SETTINGS)
    assert asked == [4, 2, 1]
    assert (found.batch_size, found.accumulate_gradients, found.batch_search) == (2, 2, False)
    assert "batch_size 4: does not fit, out of memory" in caplog.messages
    assert "batch_size 2: 700 tokens/s, peak 1.0 GB" in caplog.messages


def test_what_the_plan_rules_out_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    config = FAMILY.config("124M", 50257)
    rows = schedule(accumulate_gradients=8, num_steps=1024)
    sizes = {
        choice.batch_size: memory_plan.plan(config, choice, "float32").total
        for choice in memory_plan.splits(rows, memory_plan.Target())
    }
    monkeypatch.setattr(memory_plan, "available", lambda: sizes[2])
    asked = tried(monkeypatch, {2: 5.0, 1: 6.0})
    assert fastest(rows, config, SETTINGS).batch_size == 1
    assert asked == [2, 1]


def test_it_tries_no_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, dict.fromkeys(range(1, 65), 1.0))
    fastest(schedule(accumulate_gradients=64), CONFIG, SETTINGS)
    assert asked == [64, 32, 16, 8]


def test_nothing_that_fits_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    tried(monkeypatch, {4: 0.0, 2: 0.0, 1: 0.0})
    with pytest.raises(InputError, match=r"no batch fits \(batch_size 4: does not fit") as caught:
        fastest(schedule(), CONFIG, SETTINGS)
    assert "\n" not in str(caught.value)


def test_it_looks_for_a_batch_size_that_is_open() -> None:
    with pytest.raises(SettingsError, match="set batch_size 0 too"):
        schedule(batch_size=2)


def test_a_resumed_training_keeps_the_batch_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tried(monkeypatch, {4: 1.0, 2: 3.0, 1: 2.0})
    training = FAMILY.training()
    first = training.settle(schedule(), CONFIG, SETTINGS, None)
    assert (first.batch_size, asked) == (2, [4, 2, 1])
    again = training.settle(schedule(), CONFIG, SETTINGS, {"schedule": first.as_dict()})
    assert (again, asked) == (first, [4, 2, 1])
    assert schedule().identity() == schedule(batch_search=False).identity()


def test_a_training_searches_before_its_first_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, char_dataset: Path
) -> None:
    from textmill.train import train

    overrides = {
        "batch_size": 0,
        "accumulate_gradients": 2,
        "batch_search": True,
        "steps": 1,
        "sample_num": 0,
    }
    settings = SETTINGS.replace(preset="tiny", overrides=overrides)
    with caplog.at_level(logging.INFO, logger="textmill.train"):
        train(char_dataset, tmp_path / "checkpoint", settings)
    trials = [line for line in caplog.messages if "tokens/s, peak" in line]
    assert [line.split(":")[0] for line in trials] == ["batch_size 2", "batch_size 1"]
