"""What every model's training engine must do. A new model's test class inherits ModelContract and names its family.

class TestMine(ModelContract):
    family = "mine"                # a row of MODELS with a preset "tiny"
    overrides: ClassVar = {"keep_prob": 0.8}      # what makes the tiny preset use all the model has
    engine_settings: ClassVar = {"optimizer": "adam", "max_grad_norm": 1.0}
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from textmill.errors import InputError, SettingsError
from textmill.models import MODELS

BATCH, STEPS, VOCABULARY = 3, 3, 11


def tokens(rows: int = BATCH, columns: int = STEPS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed).integers(0, VOCABULARY, (rows, columns + 1)).astype(np.int32)
    return drawn[:, :-1], drawn[:, 1:]


class ModelContract:
    family: ClassVar[str]
    overrides: ClassVar[dict[str, Any]] = {}
    engine_settings: ClassVar[dict[str, Any]] = {}

    @classmethod
    def make(cls, **changes: Any) -> Any:
        family = MODELS[cls.family]
        shapes = {"batch_size": BATCH, "num_steps": STEPS, "precision": "float32"}
        config = family.config("tiny", VOCABULARY, cls.overrides)
        return family.engine()(config, **{**shapes, **cls.engine_settings, **changes})

    @pytest.fixture(scope="class")
    @classmethod
    def one(cls) -> tuple[Any, Any]:
        """An engine for the whole class, whose graphs are traced once, and what it held at first."""
        engine = cls.make()
        return engine, engine.export()

    @pytest.fixture
    def fresh(self, one: tuple[Any, Any]) -> Any:
        """The class's engine as it was at first."""
        engine, beginning = one
        engine.restore(*beginning)
        return engine

    def train(self, engine: Any, first: int, last: int, learning_rate: float = 0.01) -> list[float]:
        steps = range(first, last)
        return [engine.train_step(*tokens(seed=i), step=i, learning_rate=learning_rate)[0] for i in steps]

    def test_the_same_seed_gives_the_same_weights(self, fresh: Any) -> None:
        again, other = self.make(seed=0).export()[0], self.make(seed=1).export()[0]
        for name, value in fresh.export()[0].items():
            np.testing.assert_array_equal(value, again[name])
        assert any((again[name] != other[name]).any() for name in again)

    def test_it_knows_nothing_at_first_and_learns_by_heart(self, fresh: Any) -> None:
        x, y = tokens()
        losses = []
        for i in range(60):
            fresh.reset_state()
            losses.append(fresh.train_step(x, y, step=i, learning_rate=0.05)[0])
        assert losses[0] == pytest.approx(np.log(VOCABULARY), rel=0.2)
        assert losses[-1] < 0.7 * losses[0]

    def test_export_and_restore_go_on_bit_for_bit(self, fresh: Any) -> None:
        self.train(fresh, 0, 3)
        middle = fresh.export()
        losses = self.train(fresh, 3, 6)
        end = fresh.export()
        other = self.make()
        self.train(other, 20, 21)
        other.restore(*middle)
        assert self.train(other, 3, 6) == losses
        for mine, its in zip(end, other.export(), strict=True):
            assert list(mine) == list(its)
            for name in mine:
                np.testing.assert_array_equal(mine[name], its[name])

    def test_what_was_exported_does_not_move(self, fresh: Any) -> None:
        groups = fresh.export()
        copies = [{name: value.copy() for name, value in group.items()} for group in groups]
        self.train(fresh, 0, 1)
        for group, copied in zip(groups, copies, strict=True):
            for name, value in group.items():
                np.testing.assert_array_equal(value, copied[name])

    def test_dropout_depends_on_the_step_alone(self, fresh: Any) -> None:
        x, y = tokens()
        losses = []
        for step in (5, 6, 5):
            fresh.reset_state()
            losses.append(fresh.train_step(x, y, step=step, learning_rate=0.0)[0])
        assert losses[0] == losses[2]
        if self.overrides.get("keep_prob", 1.0) < 1.0:
            assert losses[0] != losses[1]

    def test_foreign_weights_are_refused_and_nothing_changes(self, fresh: Any) -> None:
        weights, slots, state = fresh.export()
        name = next(iter(weights))
        for wrong in (
            {k: v for k, v in weights.items() if k != name},
            {**weights, "another": weights[name]},
            {**weights, name: weights[name][..., :-1]},
        ):
            with pytest.raises(InputError, match="not of this model") as caught:
                fresh.restore({k: v + 1 for k, v in wrong.items()}, slots, state)
            assert "\n" not in str(caught.value)
        np.testing.assert_array_equal(fresh.export()[0][name], weights[name])

    def test_predict_changes_nothing(self, fresh: Any) -> None:
        self.train(fresh, 0, 2)
        before = fresh.export()
        predictions, losses = fresh.predict(*tokens(seed=9))
        assert predictions.shape == (BATCH, STEPS)
        assert predictions.dtype == np.int32
        assert losses.shape == (BATCH,)
        assert losses.dtype == np.float32
        for mine, its in zip(before, fresh.export(), strict=True):
            for name in mine:
                np.testing.assert_array_equal(mine[name], its[name])

    def test_predict_starts_from_the_training_state(self, fresh: Any) -> None:
        x, y = tokens(seed=9)
        self.train(fresh, 0, 2)
        _, losses = fresh.predict(x, y)
        total, _, _ = fresh.evaluate(x, y, fresh.export()[2])
        assert total == pytest.approx(losses.sum() * STEPS, rel=1e-5)
        fresh.reset_state()
        assert fresh.predict(x, y)[1] != pytest.approx(losses)

    def test_evaluate_in_pieces_is_one_long_sequence(self, fresh: Any) -> None:
        x, y = tokens(rows=2, columns=10)
        whole, right, after = fresh.evaluate(x, y)
        loss, correct, state = 0.0, 0, fresh.zero_state(2)
        for piece in (slice(0, 3), slice(3, 4), slice(4, 10)):
            lost, found, state = fresh.evaluate(x[:, piece], y[:, piece], state)
            loss, correct = loss + lost, correct + found
        assert loss == pytest.approx(whole, rel=1e-5)
        assert correct == right
        assert isinstance(right, int)
        for name in after:
            np.testing.assert_allclose(state[name], after[name], atol=1e-6)

    def test_evaluate_takes_rows_of_any_number(self, fresh: Any) -> None:
        x, y = tokens(rows=5, columns=STEPS)
        whole = fresh.evaluate(x, y)
        one_by_one = [fresh.evaluate(x[r : r + 1], y[r : r + 1]) for r in range(5)]
        assert whole[0] == pytest.approx(sum(loss for loss, _, _ in one_by_one), rel=1e-5)
        assert whole[1] == sum(correct for _, correct, _ in one_by_one)
        for name, value in whole[2].items():
            rows = np.concatenate([state[name] for _, _, state in one_by_one])
            np.testing.assert_allclose(value, rows, atol=1e-6)

    def test_evaluate_leaves_the_training_alone(self, fresh: Any) -> None:
        beginning = fresh.export()
        losses = self.train(fresh, 0, 4)
        fresh.restore(*beginning)
        self.train(fresh, 0, 2)
        fresh.evaluate(*tokens(rows=2, seed=5))
        assert self.train(fresh, 2, 4) == losses[2:]

    def test_the_state_is_carried_and_rolled_and_reset(self, fresh: Any) -> None:
        self.train(fresh, 0, 1)
        carried = fresh.export()[2]
        assert all(value.any() for value in carried.values())
        fresh.roll_state()
        for name, value in fresh.export()[2].items():
            np.testing.assert_array_equal(value, np.roll(carried[name], -1, axis=0))
        fresh.reset_state()
        for name, value in fresh.export()[2].items():
            assert not value.any()
            assert value.shape == fresh.zero_state(BATCH)[name].shape

    def test_it_says_what_does_the_work(self, fresh: Any) -> None:
        assert {"backend", "precision", "threads", "device"} <= set(fresh.describe())
        assert fresh.describe()["precision"] == "float32"

    def test_unknown_names_are_one_line(self) -> None:
        with pytest.raises(SettingsError, match=r"unknown optimizer 'adm'. Did you mean 'adam'"):
            self.make(optimizer="adm")
        with pytest.raises(SettingsError, match=r"unknown precision 'float8'"):
            self.make(precision="float8")
