"""The plain model: TensorFlow 1's cells number by number, initial weights, state carried over steps."""

from __future__ import annotations

import numpy as np
import pytest

from textmill.models import rnn
from textmill.models.rnn import RNNConfig


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def test_gru_cell_resets_before_the_product_as_tensorflow_1_does() -> None:
    projected, h, kernel = drawn(2, 9), drawn(2, 3) * 0.5, drawn(3, 9) * 0.7
    r = sigmoid(projected[:, :3] + h @ kernel[:, :3])
    u = sigmoid(projected[:, 3:6] + h @ kernel[:, 3:6])
    c = np.tanh(projected[:, 6:] + (r * h) @ kernel[:, 6:])
    np.testing.assert_allclose(rnn.gru_cell(projected, h, kernel), u * h + (1 - u) * c, atol=1e-6)


def test_lstm_cell_is_basic_lstm_cell() -> None:
    projected, c, h, kernel = drawn(2, 12), drawn(2, 3), drawn(2, 3) * 0.5, drawn(3, 12) * 0.7
    i, j, f, o = np.split(projected + h @ kernel, 4, axis=1)
    after = c * sigmoid(f + 1.5) + sigmoid(i) * np.tanh(j)
    found_c, found_h = rnn.lstm_cell(projected, c, h, kernel, 1.5)
    np.testing.assert_allclose(found_c, after, atol=1e-6)
    np.testing.assert_allclose(found_h, np.tanh(after) * sigmoid(o), atol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("embedding", ["one_hot", "learned"])
def test_two_halves_with_carried_state_are_one_whole(cell: str, embedding: str) -> None:
    config = RNNConfig(cell=cell, vocabulary_size=7, num_layers=2, hidden_size=5, embedding=embedding)
    params = rnn.init(config, 1)
    tokens = np.array([[1, 2, 3, 4], [6, 5, 0, 1]], np.int32)
    whole, after = rnn.forward(config, params, tokens, rnn.initial_state(config, 2))
    first, state = rnn.forward(config, params, tokens[:, :1], rnn.initial_state(config, 2))
    rest, state = rnn.forward(config, params, tokens[:, 1:], state)
    np.testing.assert_allclose(whole, np.concatenate([first, rest], axis=1), atol=1e-6)
    assert list(after) == rnn.state_names(config)
    for name in after:
        np.testing.assert_allclose(after[name], state[name], atol=1e-6)


def test_one_hot_input_is_the_product_with_a_one_hot_vector() -> None:
    config = RNNConfig(cell="gru", vocabulary_size=4, num_layers=1, hidden_size=3)
    params, state = rnn.init(config, 0), {"layer0/h": drawn(2, 3) * 0.5}
    _, after = rnn.step(config, params, np.array([2, 0]), state)
    projected = np.eye(4)[[2, 0]] @ params["layer0/input_kernel"] + params["layer0/bias"]
    expected = rnn.gru_cell(
        projected.astype(np.float32), state["layer0/h"], params["layer0/recurrent_kernel"]
    )
    np.testing.assert_allclose(after["layer0/h"], expected, atol=1e-6)


def test_dropout_masks_are_applied_to_inputs_and_to_the_last_output() -> None:
    config = RNNConfig(cell="lstm", vocabulary_size=6, num_layers=2, hidden_size=3, embedding="learned")
    params = rnn.init(config, 0)
    tokens = np.array([[1, 2]], np.int32)
    masks = [np.ones((1, 2, 3), np.float32) for _ in range(3)]
    masks[2][:] = 0.0
    logits, _ = rnn.forward(config, params, tokens, rnn.initial_state(config, 1), masks)
    np.testing.assert_allclose(logits, np.broadcast_to(params["output/bias"], (1, 2, 6)), atol=1e-7)
    plain, _ = rnn.forward(config, params, tokens, rnn.initial_state(config, 1))
    masks[2][:] = 1.0
    same, _ = rnn.forward(config, params, tokens, rnn.initial_state(config, 1), masks)
    np.testing.assert_allclose(same, plain, atol=1e-7)


def test_uniform_initial_weights_of_s1() -> None:
    config = RNNConfig(
        cell="lstm", vocabulary_size=50, num_layers=2, hidden_size=20, embedding="learned", init_scale=0.05
    )
    params = rnn.init(config, 3)
    for name, value in params.items():
        assert value.dtype == np.float32
        if name.endswith("bias") and name != "output/bias":
            assert not value.any()
        else:
            assert 0.04 < np.abs(value).max() <= 0.05


def test_glorot_initial_weights_of_s3() -> None:
    config = RNNConfig(cell="gru", vocabulary_size=30, num_layers=2, hidden_size=20)
    params = rnn.init(config, 3)
    bias = params["layer0/bias"]
    assert bias[:40].tolist() == [1.0] * 40
    assert not bias[40:].any()
    assert not params["output/bias"].any()
    gates, candidate = np.sqrt(6 / (30 + 20 + 40)), np.sqrt(6 / (30 + 20 + 20))
    for kernel in (params["layer0/input_kernel"], params["layer0/recurrent_kernel"]):
        assert 0.95 * gates < np.abs(kernel[:, :40]).max() <= gates
        assert 0.95 * candidate < np.abs(kernel[:, 40:]).max() <= candidate
    limit = np.sqrt(6 / (20 + 30))
    assert 0.95 * limit < np.abs(params["output/kernel"]).max() <= limit


def test_initial_weights_are_the_same_on_every_machine() -> None:
    params = rnn.init(RNNConfig(cell="gru", vocabulary_size=5, num_layers=1, hidden_size=2), 0)
    expected = [0.731347382, 0.667357862, -0.330749571, -0.339082330, -0.371931553]
    assert params["output/kernel"][0].tolist() == pytest.approx(expected, rel=1e-7)
