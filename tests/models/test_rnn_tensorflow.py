"""The fast engine: equal to the plain model, its gradients right, its bits the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.contracts.model_contract import BATCH, STEPS, VOCABULARY, ModelContract, tokens
from textmill.models import rnn
from textmill.models.rnn import RNNConfig
from textmill.models.rnn_tensorflow import RNNEngine, count_streams, tf

GRU = RNNConfig(cell="gru", vocabulary_size=VOCABULARY, num_layers=2, hidden_size=6)
LSTM = RNNConfig(
    cell="lstm",
    vocabulary_size=VOCABULARY,
    num_layers=2,
    hidden_size=6,
    embedding="learned",
    init_scale=0.4,
    forget_bias=1.0,
)


class TestCharGRU(ModelContract):
    family = "char-gru"
    overrides: ClassVar = {"hidden_size": 6, "keep_prob": 0.8}
    engine_settings: ClassVar = {"optimizer": "adam"}


class TestWordLSTM(ModelContract):
    family = "word-lstm"
    overrides: ClassVar = {"hidden_size": 6, "keep_prob": 0.7}
    engine_settings: ClassVar = {"optimizer": "sgd", "max_grad_norm": 5.0}

    def train(self, engine: Any, first: int, last: int, learning_rate: float = 1.0) -> list[float]:
        return super().train(engine, first, last, learning_rate)

    def test_it_knows_nothing_at_first_and_learns_by_heart(self, fresh: Any) -> None:
        x, y = tokens()
        losses = []
        for i in range(200):
            fresh.reset_state()
            losses.append(fresh.train_step(x, y, step=i, learning_rate=1.0)[0])
        assert losses[0] == pytest.approx(np.log(VOCABULARY), rel=0.05)
        assert losses[-1] < 0.8 * losses[0]


def make(config: RNNConfig, **settings: Any) -> RNNEngine:
    defaults: dict[str, Any] = {"batch_size": BATCH, "num_steps": STEPS, "precision": "float32", "seed": 3}
    engine = RNNEngine(config, **{**defaults, **settings})
    draw = np.random.default_rng(5)
    state = {
        name: draw.normal(size=v.shape).astype(np.float32) / 2 for name, v in engine.zero_state(BATCH).items()
    }
    engine.restore(engine.export()[0], None, state)
    return engine


def engine_gradients(engine: RNNEngine, x: np.ndarray, y: np.ndarray, step: int) -> tuple[Any, ...]:
    run = tf.function(engine.gradients, autograph=False)
    loss, accuracy, gradients, state = run(tf.constant(x), tf.constant(y), tf.constant(step, tf.int64))
    return (
        loss,
        accuracy,
        {name: dense(gradients[name], v.shape) for name, v in engine.weights.items()},
        state,
    )


def dense(gradient: Any, shape: Any) -> np.ndarray:
    if hasattr(gradient, "indices"):
        assert len(set(gradient.indices.numpy().tolist())) == len(gradient.indices), "every row once"
        gradient = tf.scatter_nd(gradient.indices[:, None], gradient.values, shape)
    return np.asarray(gradient)


def reference_loss(engine: RNNEngine, params: Any, x: np.ndarray, y: np.ndarray, step: int) -> Any:
    """Mean loss of the plain model, with the engine's own masks, and the logits and state."""
    masks = engine.dropout_masks(tf.constant(step, tf.int64))
    masks = masks and [tf.transpose(mask, [1, 0, 2]) for mask in masks]
    state = {name: tf.constant(value) for name, value in engine.export()[2].items()}
    logits, after = rnn.forward(engine.config, params, tf.constant(x), state, masks)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
    return tf.reduce_mean(losses), logits, after


@pytest.mark.parametrize(
    ("config", "optimizer", "factor"),
    [
        (GRU, "adam", 1.0),
        (LSTM, "adam", 1.0),
        (GRU.replace(keep_prob=0.7), "sgd", STEPS),
        (LSTM.replace(keep_prob=0.5), "sgd", STEPS),
    ],
)
def test_losses_gradients_and_state_are_the_plain_model_s(
    config: RNNConfig, optimizer: str, factor: float
) -> None:
    engine = make(config, optimizer=optimizer, threads=2)
    x, y = tokens(seed=8)
    loss, accuracy, gradients, state = engine_gradients(engine, x, y, step=11)
    params = {name: tf.Variable(value) for name, value in engine.export()[0].items()}
    with tf.GradientTape() as tape:
        expected, logits, after = reference_loss(engine, params, x, y, step=11)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert float(accuracy) == pytest.approx(np.mean(np.argmax(logits, -1) == y), abs=1e-6)
    for name, gradient in tape.gradient(expected, params).items():
        np.testing.assert_allclose(
            gradients[name], factor * dense(gradient_sum(gradient), params[name].shape), atol=1e-5
        )
    for name, value in after.items():
        np.testing.assert_allclose(state[name], value, atol=1e-5)


def gradient_sum(gradient: Any) -> Any:
    return tf.convert_to_tensor(gradient)


@pytest.mark.parametrize("config", [GRU, LSTM])
def test_gradients_are_those_of_finite_differences(config: RNNConfig) -> None:
    engine = make(config)
    engine.reset_state()  # the plain model in float64 starts from zero
    x, y = tokens(seed=8)
    _, _, gradients, _ = engine_gradients(engine, x, y, step=0)
    params = {name: value.astype(np.float64) for name, value in engine.export()[0].items()}
    draw = np.random.default_rng(1)
    for name in params:
        direction = draw.normal(size=params[name].shape)
        losses = []
        for sign in (1.0, -1.0):
            moved = {**params, name: params[name] + sign * 1e-5 * direction}
            state = {k: v.astype(np.float64) for k, v in engine.zero_state(BATCH).items()}
            logits, _ = rnn.forward(config, {k: tf.constant(v) for k, v in moved.items()}, x, state)
            losses.append(float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))))
        slope = (losses[0] - losses[1]) / 2e-5
        assert (gradients[name] * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("config", [GRU, LSTM])
def test_sgd_step_is_clipped_by_the_global_norm_and_repeated_words_count_together(config: RNNConfig) -> None:
    engine = make(config, optimizer="sgd", max_grad_norm=0.25)
    x, y = np.full((BATCH, STEPS), 2, np.int32), tokens()[1]
    _, _, gradients, _ = engine_gradients(engine, x, y, step=0)
    before = engine.export()[0]
    engine.train_step(x, y, step=0, learning_rate=0.5)
    after = engine.export()[0]
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    assert norm > 0.25
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value - 0.5 * gradients[name] * 0.25 / norm, atol=1e-6)


def test_one_stream_and_two_find_the_same() -> None:
    found = [engine_gradients(make(LSTM, threads=threads), *tokens(), step=0) for threads in (1, 2)]
    assert float(found[0][0]) == pytest.approx(float(found[1][0]), rel=1e-6)
    for name, gradient in found[0][2].items():
        np.testing.assert_allclose(gradient, found[1][2][name], atol=1e-6)


def test_streams_follow_from_sizes() -> None:
    assert count_streams(GRU, 20, 2) == 2
    assert count_streams(GRU, 20, 1) == 1
    assert count_streams(GRU, 1, 2) == 1
    assert count_streams(GRU.replace(hidden_size=1500), 20, 2) == 1


@pytest.mark.parametrize("width", [8, 256])
def test_both_layouts_of_narrow_products_are_products(width: int) -> None:
    from textmill.models.rnn_layers import NarrowProduct

    kernel = np.random.default_rng(0).normal(size=(width, 12)).astype(np.float32)
    x, z = np.ones((2, width), np.float32), np.ones((2, 12), np.float32)
    product = NarrowProduct(tf.matmul, tf.constant(kernel))
    np.testing.assert_allclose(product.forth(x), x @ kernel, atol=1e-4)
    np.testing.assert_allclose(product.back(z), z @ kernel.T, atol=1e-4)


def test_bfloat16_products_are_near() -> None:
    x, y = tokens()
    exact, _ = make(LSTM).evaluate(x, y)[:2]
    near = make(LSTM, precision="bfloat16")
    assert near.describe()["precision"] == "bfloat16"
    assert near.evaluate(x, y)[0] == pytest.approx(exact, rel=0.01)


def test_masks_keep_what_was_asked_and_keep_the_mean() -> None:
    engine = RNNEngine(GRU.replace(keep_prob=0.8, hidden_size=50), batch_size=40, num_steps=20)
    masks = [np.asarray(mask) for mask in engine.dropout_masks(tf.constant(3, tf.int64)) or []]
    assert [mask.shape for mask in masks] == [(20, 40, 1), (20, 40, 50), (20, 40, 50)]
    for mask in masks:
        assert set(np.unique(mask).tolist()) == {0.0, 1.25}
        assert mask.mean() == pytest.approx(1.0, abs=0.08)
    assert (masks[1] != masks[2]).any()


FIRST_LOSSES = {
    "gru": [2.3908539, 2.3417253, 2.3204012, 2.2408285, 2.1689219],
    "lstm": [2.3951046, 2.3815832, 2.3777263, 2.366298, 2.3551702],
}


@pytest.mark.parametrize(
    ("config", "settings"), [(GRU, {}), (LSTM, {"optimizer": "sgd", "max_grad_norm": 1.0})]
)
def test_first_losses(config: RNNConfig, settings: dict[str, Any]) -> None:
    engine = RNNEngine(
        config.replace(keep_prob=0.8),
        batch_size=BATCH,
        num_steps=STEPS,
        precision="float32",
        seed=1,
        **settings,
    )
    x, y = tokens()
    losses = [engine.train_step(x, y, step=i, learning_rate=0.02)[0] for i in range(5)]
    assert losses == pytest.approx(FIRST_LOSSES[config.cell], rel=1e-5)


PROGRAM = """
import hashlib, json, sys
import numpy as np
from textmill.models.rnn import RNNConfig
from textmill.models.rnn_tensorflow import RNNEngine

def batch(i):
    drawn = np.random.default_rng(i).integers(0, 40, (5, 4)).astype(np.int32)
    return drawn[:, :-1], drawn[:, 1:]

def digest(engine):
    found = hashlib.sha256()
    for group in engine.export():
        for name in sorted(group):
            found.update(group[name].tobytes())
    return found.hexdigest()

folder, said = sys.argv[1], {}
for cell, optimizer in (("gru", "adam"), ("lstm", "sgd")):
    embedding = "one_hot" if cell == "gru" else "learned"
    config = RNNConfig(cell=cell, vocabulary_size=40, hidden_size=24, embedding=embedding, keep_prob=0.8)
    make = lambda: RNNEngine(config, batch_size=5, num_steps=3, optimizer=optimizer, max_grad_norm=1.0, threads=2)
    engine, losses = make(), []
    assert engine.streams == 2
    for i in range(6):
        if i == 3:
            middle = engine.export()
        losses.append(engine.train_step(*batch(i), step=i, learning_rate=0.1))
    said[cell] = [losses, digest(engine)]
    file = f"{folder}/{cell}.npz"
    try:
        stored = np.load(file)
    except OSError:
        np.savez(file, **{f"{g}:{name}": v for g, group in enumerate(middle) for name, v in group.items()})
    else:
        engine.restore(*({k[2:]: stored[k] for k in stored.files if k[0] == str(g)} for g in range(3)))
        losses[3:] = [engine.train_step(*batch(i), step=i, learning_rate=0.1) for i in range(3, 6)]
        assert [losses, digest(engine)] == said[cell], "resumed from the other process's file"
print(json.dumps(said))
"""


def test_every_process_finds_the_same_bits_also_when_it_goes_on_from_another_s_state(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    said = [
        subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        for _ in range(2)
    ]
    assert said[1].returncode == 0, said[1].stderr
    assert json.loads(said[0].stdout) == json.loads(said[1].stdout)
