"""GPT-2's fast engine: equal to the plain model, its gradients right, its bits the same in every process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textmill.errors import InputError, SettingsError
from textmill.models import gpt2_layers, gpt2_tensorflow
from textmill.models.gpt2 import GPT2Config, forward, init
from textmill.models.gpt2_tensorflow import GPT2Engine, count_streams, tf

ROWS, STEPS, VOCABULARY = 2, 11, 23
TINY = GPT2Config.of(vocabulary_size=VOCABULARY, context=16, width=8, num_heads=2, num_layers=2)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of queries and of rows of logits, the last ones not full."""
    monkeypatch.setattr(gpt2_layers, "QUERY_BLOCK", 4)
    monkeypatch.setattr(gpt2_tensorflow, "LOSS_ROWS", 8)
    monkeypatch.setattr(gpt2_tensorflow, "EVALUATED_TOKENS", 2 * STEPS)


def lively(config: GPT2Config = TINY, seed: int = 5) -> dict[str, np.ndarray]:
    """Weights at which every part of the model matters."""
    draw = np.random.default_rng(seed)
    return {
        name: value + draw.normal(scale=0.3, size=value.shape).astype(np.float32)
        for name, value in init(config, seed).items()
    }


def make(**settings: Any) -> GPT2Engine:
    defaults: dict[str, Any] = {
        "batch_size": ROWS,
        "num_steps": STEPS,
        "precision": "float32",
        "seed": 3,
        "threads": 2,
    }
    engine = GPT2Engine(TINY, **{**defaults, **settings})
    engine.restore(lively())
    return engine


def tokens(rows: int = ROWS, columns: int = STEPS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x, y with three labels that are not counted."""
    drawn = np.random.default_rng(seed).integers(0, VOCABULARY, (rows, columns + 1)).astype(np.int32)
    x, y = drawn[:, :-1].copy(), drawn[:, 1:].copy()
    y[0, :2], y[-1, -1] = -1, -1
    return x, y


def reference(params: Mapping[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    """The plain model's losses' sum and its right predictions."""
    logits = forward(TINY, params, x).astype(np.float64)
    peak = logits.max(-1, keepdims=True)
    log_sums = np.log(np.exp(logits - peak).sum(-1)) + peak[..., 0]
    own = np.take_along_axis(logits, np.maximum(y, 0)[..., None], axis=-1)[..., 0]
    counted = y >= 0
    return float((log_sums - own)[counted].sum()), int((logits.argmax(-1) == y)[counted].sum())


def gradients(engine: GPT2Engine, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Of the mean loss."""
    run = tf.function(engine.gradients, autograph=False)
    scale = tf.constant(1 / (y >= 0).sum(), tf.float32)
    found = run(tf.constant(x), tf.constant(y), scale)[2]
    shapes = engine.export()[0]
    return {
        name: np.asarray(tf.cast(value, tf.float32))[: len(shapes[name]) if name in shapes else None]
        for name, value in found.items()
    }


def slope(name: str, direction: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The plain model's mean loss along a direction of one parameter, by central differences in float64."""
    params = {key: value.astype(np.float64) for key, value in lively().items()}
    ends = []
    for sign in (1.0, -1.0):
        moved = {**params, name: params[name] + sign * 1e-5 * direction}
        ends.append(reference(moved, x, y)[0] / (y >= 0).sum())
    return (ends[0] - ends[1]) / 2e-5


@pytest.mark.parametrize("vocabulary", [65, 100, 128])
def test_logits_behind_the_vocabulary_never_count(vocabulary: int) -> None:
    draw = np.random.default_rng(0)
    rows, matrix = (draw.standard_normal((count, 4)).astype(np.float32) for count in (3, 128))
    run = tf.function(lambda r, m: gpt2_layers.output_logits(r, m, vocabulary), autograph=False)
    expected = rows @ matrix.T
    expected[:, vocabulary:] = gpt2_layers.NEVER
    np.testing.assert_allclose(run(tf.constant(rows), tf.constant(matrix)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("columns", [1, 3, STEPS, 16])
def test_losses_and_right_predictions_are_the_plain_model_s(columns: int) -> None:
    x, y = tokens(rows=5, columns=columns)
    loss, right, state = make().evaluate(x, y)
    expected, correct = reference(lively(), x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (right, state) == (correct, {})
    assert isinstance(right, int)


def test_a_step_tells_the_mean_loss_and_the_accuracy_before_it() -> None:
    x, y = tokens()
    expected, correct = reference(lively(), x, y)
    loss, accuracy = make().train_step(x, y, step=0, learning_rate=0.1)
    assert loss == pytest.approx(expected / (y >= 0).sum(), rel=1e-5)
    assert accuracy == pytest.approx(correct / (y >= 0).sum())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_finite_differences(checkpointing: bool) -> None:
    x, y = tokens()
    found = gradients(make(checkpointing=checkpointing), x, y)
    draw = np.random.default_rng(1)
    assert set(found) == set(lively())
    for name, gradient in found.items():
        direction = draw.normal(size=gradient.shape)
        expected = slope(name, direction, x, y)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-3, abs=1e-5), name


def test_one_stream_and_two_find_the_same() -> None:
    x, y = tokens(rows=3)
    engines = [make(batch_size=3, threads=threads) for threads in (1, 2)]
    assert [engine.describe()["streams"] for engine in engines] == [1, 2]
    one, two = (gradients(engine, x, y) for engine in engines)
    for name, gradient in one.items():
        np.testing.assert_allclose(gradient, two[name], atol=1e-6)
    assert engines[0].evaluate(x, y)[0] == pytest.approx(engines[1].evaluate(x, y)[0], rel=1e-6)


def test_streams_follow_from_sizes() -> None:
    assert [count_streams(*sizes) for sizes in ((4, 2), (4, 1), (1, 2), (2, 8))] == [2, 1, 1, 2]


def test_nothing_counted_is_no_loss_and_no_gradient() -> None:
    x, y = tokens()
    y[:] = -1
    engine = make(optimizer="sgd")
    assert engine.train_step(x, y, step=0, learning_rate=1.0) == (0.0, 0.0)
    for name, value in engine.export()[0].items():
        np.testing.assert_array_equal(value, lively()[name])


def test_a_certain_and_an_impossible_label_have_finite_exact_losses() -> None:
    logits = np.zeros([2, 5], np.float32)
    logits[0, 2], logits[1, 1] = 12.0, 200.0
    for dtype, close in ((tf.float32, 1e-4), (tf.bfloat16, 1e-2)):
        loss = gpt2_layers.softmax_loss(tf.cast(logits, dtype), tf.constant([2, 0]))
        assert float(loss.losses[0]) == pytest.approx(4 * np.exp(-12.0), rel=close)
        assert 80 < float(loss.losses[1]) < 100
        assert float(loss.rest[0, 0]) == pytest.approx(4 * np.exp(-12.0), rel=close)
        assert loss.right.numpy().tolist() == [True, False]


def test_rows_of_the_same_place_add_up() -> None:
    table, rows = np.ones([4, 2], np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    run = tf.function(lambda t: gpt2_layers.add_rows(2.0 * t, tf.constant([3, 1, 3]), tf.constant(rows)))
    np.testing.assert_array_equal(run(table), [[2, 2], [4, 5], [2, 2], [6, 8]])


def test_sgd_is_clipped_by_the_global_norm() -> None:
    x, y = tokens()
    found = gradients(make(), x, y)
    engine = make(optimizer="sgd", max_grad_norm=0.05)
    engine.train_step(x, y, step=0, learning_rate=0.5)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in found.values()))
    assert norm > 0.05
    for name, value in engine.export()[0].items():
        np.testing.assert_allclose(value, lively()[name] - 0.5 * found[name] * 0.05 / norm, atol=1e-6)


def test_adamw_decays_matrices_alone() -> None:
    x, y = tokens()
    ends = []
    for settings in ({"optimizer": "adam"}, {"optimizer": "adamw", "weight_decay": 0.1}):
        engine = make(**settings)
        engine.train_step(x, y, step=0, learning_rate=0.01)
        ends.append(engine.export()[0])
    for name, start in lively().items():
        decayed = 0.01 * 0.1 * start if start.ndim == 2 else 0.0 * start
        np.testing.assert_allclose(ends[0][name] - ends[1][name], decayed, atol=1e-6)
        assert (ends[0][name] != start).any()


def test_micro_batches_are_one_batch() -> None:
    x, y = tokens(rows=6)
    ends, losses = [], []
    for settings in ({"batch_size": 6}, {"batch_size": 2, "accumulate": 3}):
        engine = make(**settings, optimizer="sgd", max_grad_norm=1.0)
        losses.append([engine.train_step(x, y, step=i, learning_rate=0.1) for i in range(2)])
        ends.append(engine.export()[0])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for name in ends[0]:
        np.testing.assert_allclose(ends[0][name], ends[1][name], atol=1e-5)


def test_inner_layers_alone_can_be_trained() -> None:
    x, y = tokens()
    engine = make(trained="transformer_layers")
    engine.train_step(x, y, step=0, learning_rate=0.01)
    weights, slots, _ = engine.export()
    for name, start in lively().items():
        assert (weights[name] != start).any() == name.startswith("h")
    assert {name.split("/")[2] for name in slots if name != "adam/step"} == {"h0", "h1"}


def test_lora_trains_two_narrow_matrices_beside_each_product() -> None:
    x, y = tokens()
    engine = make(lora_rank=2, lora_alpha=6.0)
    for name, value in engine.merged().items():
        assert value.shape == lively()[name].shape
        np.testing.assert_array_equal(value, lively()[name])
    draw = np.random.default_rng(2)
    weights, slots, carried = engine.export()
    products = {name.removeprefix("lora/")[:-2] for name in slots if name.startswith("lora/")}
    assert products == {name[:-2] for name in weights if name.endswith("/w")}
    for name in slots:
        if name.startswith("lora/"):
            slots[name] = draw.normal(scale=0.2, size=slots[name].shape).astype(np.float32)
    engine.restore(weights, slots, carried)
    merged = engine.merged()
    a, b = (slots[f"lora/h1/mlp/c_fc/{part}"] for part in "ab")
    np.testing.assert_allclose(merged["h1/mlp/c_fc/w"], weights["h1/mlp/c_fc/w"] + 3.0 * a @ b, atol=1e-5)
    assert engine.evaluate(x, y)[0] == pytest.approx(reference(merged, x, y)[0], rel=1e-5)
    found = gradients(engine, x, y)
    assert set(found) == {name for name in slots if name.startswith("lora/")}
    wide = {name: value.astype(np.float64) for name, value in {**weights, **slots}.items()}
    for name, gradient in found.items():
        product, _, part = name.removeprefix("lora/").rpartition("/")
        direction = draw.normal(size=gradient.shape)
        ends = []
        for sign in (1.0, -1.0):
            pair = {key: wide[f"lora/{product}/{key}"] for key in "ab"}
            pair[part] = pair[part] + sign * 1e-5 * direction
            changed = weights[f"{product}/w"] + 3.0 * pair["a"] @ pair["b"]
            ends.append(reference({**merged, f"{product}/w": changed}, x, y)[0] / (y >= 0).sum())
        slope = (ends[0] - ends[1]) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-3, abs=1e-5), name


def test_lora_learns_and_leaves_the_weights_alone() -> None:
    x, y = tokens()
    engine = make(lora_rank=2, checkpointing=True)
    losses = [engine.train_step(x, y, step=i, learning_rate=0.05)[0] for i in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    for name, value in engine.export()[0].items():
        np.testing.assert_array_equal(value, lively()[name])
    plain = make()
    plain.restore(engine.merged())
    assert plain.evaluate(x, y)[0] == pytest.approx(engine.evaluate(x, y)[0], rel=1e-5)


def test_what_is_kept_has_the_plain_model_s_names_and_shapes() -> None:
    engine = make()
    x, y = tokens()
    engine.train_step(x, y, step=0, learning_rate=0.1)
    weights, slots, carried = engine.export()
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in lively().items()
    }
    assert slots["adam/m/wte"].shape == (VOCABULARY, 8)
    assert carried == engine.zero_state(3) == {}


def test_foreign_weights_are_refused_and_nothing_changes() -> None:
    engine = make()
    weights, slots, carried = engine.export()
    for wrong in (
        {name: value for name, value in weights.items() if name != "wpe"},
        {**weights, "h9/ln_1/g": weights["h0/ln_1/g"]},
        {**weights, "wte": weights["wte"][:-1]},
    ):
        with pytest.raises(InputError, match="not of this model"):
            engine.restore({name: value + 1 for name, value in wrong.items()}, slots, carried)
    for name, value in engine.export()[0].items():
        np.testing.assert_array_equal(value, weights[name])


def test_bfloat16_stays_near_float32_over_200_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound: 0.05 nats between the two curves' means of 20 steps, where they fall from 3.2 to less than 2."""
    monkeypatch.setattr(gpt2_layers, "QUERY_BLOCK", 8)
    monkeypatch.setattr(gpt2_tensorflow, "LOSS_ROWS", 64)
    curves = []
    for precision in ("float32", "bfloat16"):
        engine = GPT2Engine(TINY, batch_size=4, num_steps=16, precision=precision, seed=1)
        assert engine.describe()["precision"] == precision
        x, y = tokens(rows=8, columns=16, seed=4)
        parts = [slice(0, 4), slice(4, 8)]
        curves.append(
            [engine.train_step(x[p], y[p], step=i, learning_rate=3e-3)[0] for i in range(100) for p in parts]
        )
    exact, near = (np.reshape(curve, [10, 20]).mean(axis=1) for curve in curves)
    assert exact[0] > 2.9
    assert exact[-1] < 2.0
    np.testing.assert_allclose(near, exact, atol=0.05)


def test_narrow_models_are_exact_unless_asked_otherwise() -> None:
    assert make(precision="auto").describe()["precision"] == "float32"
    assert make(precision="bfloat16").describe()["precision"] == "bfloat16"


def test_first_losses() -> None:
    engine = GPT2Engine(TINY, batch_size=ROWS, num_steps=STEPS, precision="float32", seed=1)
    losses = [engine.train_step(*tokens(), step=i, learning_rate=0.01)[0] for i in range(4)]
    assert losses == pytest.approx(FIRST_LOSSES, rel=1e-5)


FIRST_LOSSES = [3.1397986, 3.0832839, 2.9963208, 2.9229070]


def test_unknown_names_and_what_does_not_go_together_are_one_line() -> None:
    for settings, message in (
        ({"optimizer": "adem"}, "unknown optimizer 'adem'. Did you mean 'adam'"),
        ({"trained": "all_layers"}, "unknown trained 'all_layers'"),
        ({"precision": "float8"}, "unknown precision 'float8'"),
        ({"weight_decay": 0.1}, "only optimizer adamw"),
        ({"num_steps": 17}, "context is 16"),
    ):
        with pytest.raises(SettingsError, match=message) as caught:
            make(**settings)
        assert "\n" not in str(caught.value)


PROGRAM = """
import hashlib, json, sys
import numpy as np
from textmill.models.gpt2 import GPT2Config
from textmill.models.gpt2_tensorflow import GPT2Engine

config = GPT2Config.of(vocabulary_size=90, context=300, width=64, num_heads=4, num_layers=2)

def batch(i, rows):
    drawn = np.random.default_rng(i).integers(0, 30, (rows, 281)).astype(np.int32)
    return drawn[:, :-1], drawn[:, 1:]

def digest(engine):
    found = hashlib.sha256()
    for group in engine.export():
        for name in sorted(group):
            found.update(group[name].tobytes())
    return found.hexdigest()

folder, said = sys.argv[1], {}
for case, settings in {
    "bf16": dict(precision="bfloat16", accumulate=2, optimizer="adamw", weight_decay=0.1, max_grad_norm=1.0),
    "fp32": dict(precision="float32"),
    "lora": dict(precision="bfloat16", lora_rank=4, checkpointing=True, max_grad_norm=1.0),
}.items():
    rows = 2 * settings.get("accumulate", 1)
    make = lambda: GPT2Engine(config, batch_size=2, num_steps=280, threads=2, **settings)
    engine, losses = make(), []
    for i in range(4):
        if i == 2:
            middle = engine.export()
        losses.append(engine.train_step(*batch(i, rows), step=i, learning_rate=0.01))
    said[case] = [losses, digest(engine)]
    file = f"{folder}/{case}.npz"
    try:
        stored = np.load(file)
    except OSError:
        np.savez(file, **{f"{g}:{name}": v for g, group in enumerate(middle) for name, v in group.items()})
    else:
        other = make()
        other.train_step(*batch(9, rows), step=9, learning_rate=0.5)
        other.restore(*({k[2:]: stored[k] for k in stored.files if k[0] == str(g)} for g in range(3)))
        losses[2:] = [other.train_step(*batch(i, rows), step=i, learning_rate=0.01) for i in (2, 3)]
        assert [losses, digest(other)] == said[case], "resumed from the other process's file"
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


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("gpt_2_simple"), reason="gpt-2-simple is not installed")
def test_the_loss_curve_is_gpt_2_simple_s(tmp_path: Path) -> None:
    """The same weights and order of data, float32, 12 steps of Adam; its TensorFlow 1 session in its own process."""
    from benchmarks.gpt2_training import loss_curves

    mine, its = loss_curves(tmp_path, steps=12)
    assert its[0] - its[-1] > 0.02
    np.testing.assert_allclose(mine, its, atol=1e-3)
