"""Optimizers by TensorFlow 1's formulas, clipping and the learning-rate schedule, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from textmill.devices import tensorflow
from textmill.errors import SettingsError
from textmill.models import optimizers

tf = tensorflow()


def test_s1_s_schedule() -> None:
    rates = [optimizers.decayed_learning_rate(1.0, 0.5, 4, epoch) for epoch in range(8)]
    assert rates == [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]
    assert optimizers.decayed_learning_rate(1e-3, 1.0, 0, 100) == 1e-3


def rows_of(values: np.ndarray, indices: list[int]) -> object:
    return tf.IndexedSlices(tf.constant(values[indices]), tf.constant(indices))


def test_global_norm_counts_dense_and_sparse_gradients() -> None:
    table = np.zeros((5, 2), np.float32)
    table[3], table[1] = [3.0, 0.0], [0.0, 4.0]
    gradients = {"a": tf.constant([12.0]), "table": rows_of(table, [3, 1])}
    assert float(optimizers.global_norm(gradients)) == pytest.approx(13.0)
    assert float(optimizers.clip_scale(gradients, 6.5)) == pytest.approx(0.5)
    assert float(optimizers.clip_scale(gradients, 20.0)) == 1.0
    assert float(optimizers.clip_scale(gradients, 0.0)) == 1.0


def test_sgd_moves_dense_variables_and_used_rows() -> None:
    variables = {"a": tf.Variable([1.0, 2.0]), "table": tf.Variable(np.ones((4, 2), np.float32))}
    sgd = optimizers.SGD(variables)
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    sgd.apply({"a": tf.constant([1.0, -1.0]), "table": rows_of(table, [3, 1])}, 0.5, tf.constant(0.1))
    np.testing.assert_allclose(variables["a"], [0.95, 2.05])
    np.testing.assert_allclose(variables["table"], [[1, 1], [0.9, 0.85], [1, 1], [0.7, 0.65]], rtol=1e-6)
    assert sgd.slots == {}


def test_adam_is_tensorflow_1_s() -> None:
    draw = np.random.default_rng(0)
    start = {
        "a": draw.normal(size=3).astype(np.float32),
        "table": draw.normal(size=(4, 2)).astype(np.float32),
    }
    variables = {name: tf.Variable(value) for name, value in start.items()}
    adam = optimizers.Adam(variables)
    expected = {name: value.astype(np.float64) for name, value in start.items()}
    m = {name: np.zeros_like(value) for name, value in expected.items()}
    v = {name: np.zeros_like(value) for name, value in expected.items()}
    for t in range(1, 6):
        used = [t % 4, (t + 2) % 4]
        gradients = {name: draw.normal(size=value.shape).astype(np.float32) for name, value in start.items()}
        gradients["table"][[row for row in range(4) if row not in used]] = 0.0
        adam.apply({"a": tf.constant(gradients["a"]), "table": rows_of(gradients["table"], used)}, 0.01, 0.5)
        rate = 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        for name in expected:
            g = 0.5 * gradients[name]
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g * g
            expected[name] -= rate * m[name] / (np.sqrt(v[name]) + 1e-8)
    for name in expected:
        np.testing.assert_allclose(variables[name], expected[name], atol=1e-6)
        np.testing.assert_allclose(adam.slots[f"adam/m/{name}"], m[name], atol=1e-6)
        np.testing.assert_allclose(adam.slots[f"adam/v/{name}"], v[name], atol=1e-6)
    assert float(adam.slots["adam/step"]) == 5.0


def test_an_unknown_optimizer_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"unknown optimizer 'sdg'. Did you mean 'sgd'"):
        optimizers.get_optimizer("sdg")
