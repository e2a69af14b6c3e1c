"""Learning rates by step, and which fields a resume must find unchanged."""

from __future__ import annotations

import pytest

from textmill.errors import SettingsError
from textmill.models.schedules import RecurrentSchedule, TransformerSchedule


def rates(last_step: int, **settings: object) -> list[float]:
    schedule = TransformerSchedule.of(learning_rate=1.0, **settings)
    return [round(schedule.learning_rate_at(step, last_step), 6) for step in range(last_step)]


def test_a_warm_up_rises_to_the_learning_rate_and_stays() -> None:
    assert rates(6, warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_line_and_a_cosine_end_at_the_least_factor() -> None:
    assert rates(5, decay="linear") == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates(5, decay="linear", min_factor=0.2) == [1.0, 0.8, 0.6, 0.4, 0.2]
    assert rates(5, decay="cosine", min_factor=0.1) == [1.0, 0.868198, 0.55, 0.231802, 0.1]
    assert rates(6, decay="linear", warmup_steps=2) == [0.5, 1.0, 1.0, 0.666667, 0.333333, 0.0]


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("last_step", "warmup_steps"), [(1, 0), (1, 5), (3, 3), (2, 1)])
def test_a_short_training_has_a_learning_rate_too(decay: str, last_step: int, warmup_steps: int) -> None:
    assert all(0 <= rate <= 1 for rate in rates(last_step, decay=decay, warmup_steps=warmup_steps))
    schedule = TransformerSchedule.of(learning_rate=1.0, decay=decay, min_factor=0.5)
    assert schedule.learning_rate_at(10 * last_step, last_step) >= 0.5


def test_the_length_is_part_of_a_run_where_the_learning_rate_depends_on_it() -> None:
    assert "steps" not in TransformerSchedule.of(steps=5).identity()
    assert TransformerSchedule.of(steps=5, decay="linear").identity()["steps"] == 5
    for schedule in (TransformerSchedule(), RecurrentSchedule()):
        assert not {"sample_every", "validate_every"} & set(schedule.identity())
        assert {"batch_size", "learning_rate", "num_steps"} <= set(schedule.identity())


def test_what_does_not_go_together_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"'weight_decay' is 0.1 with the optimizer adam; choose"):
        TransformerSchedule.of(weight_decay=0.1)
    with pytest.raises(SettingsError, match="exclude each other"):
        TransformerSchedule.of(lora_rank=4, only_train_transformer_layers=True)
