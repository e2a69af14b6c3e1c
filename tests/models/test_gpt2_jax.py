"""GPT-2's engine on JAX: equal to the plain model and to TensorFlow's engine, also on several devices, and exact to
resume. On a CPU; tests/gpu has what needs a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from textmill.errors import InputError, SettingsError
from textmill.models import gpt2_jax, gpt2_tensorflow
from textmill.models.gpt2 import GPT2Config, forward, init, init_adapters
from textmill.models.gpt2_jax import GPT2Engine

ROWS, STEPS, VOCABULARY = 2, 11, 23
TINY = GPT2Config.of(vocabulary_size=VOCABULARY, context=16, width=8, num_heads=2, num_layers=2)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows of logits and of rows to score, the last ones not full."""
    monkeypatch.setattr(gpt2_jax, "LOSS_ROWS", 8)
    monkeypatch.setattr(gpt2_jax, "EVALUATED_TOKENS", 2 * STEPS)


def lively(seed: int = 5) -> dict[str, np.ndarray]:
    """Weights at which every part of the model matters."""
    draw = np.random.default_rng(seed)
    return {
        name: value + draw.normal(scale=0.3, size=value.shape).astype(np.float32)
        for name, value in init(TINY, seed).items()
    }


def make(kind: Any = GPT2Engine, **settings: Any) -> Any:
    defaults: dict[str, Any] = {"batch_size": ROWS, "num_steps": STEPS, "precision": "float32", "seed": 3}
    engine = kind(TINY, **{**defaults, **settings})
    engine.restore(lively())
    return engine


KINDS: dict[str, dict[str, Any]] = {
    "adam": {},
    "clipped adamw": {"optimizer": "adamw", "weight_decay": 0.1, "max_grad_norm": 0.5, "accumulate": 3},
    "inner layers": {
        "trained": "transformer_layers",
        "optimizer": "sgd",
        "max_grad_norm": 0.05,
        "checkpointing": True,
    },
    "lora": {
        "lora_rank": 2,
        "lora_alpha": 6.0,
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "checkpointing": True,
        "accumulate": 2,
    },
}
_MADE: dict[Any, Any] = {}


def fresh(kind: str = "adam", engine: Any = GPT2Engine, precision: str = "float32") -> Any:
    """An engine as it is at first; programs take seconds to compile, so each is made once."""
    key = (kind, engine, precision)
    if key not in _MADE:
        made = make(engine, precision=precision, **KINDS[kind])
        _MADE[key] = made, made.export()
    made, beginning = _MADE[key]
    made.restore(*beginning)
    return made


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


def telling(name: str, *values: np.ndarray) -> list[np.ndarray]:
    """Without the keys' biases: they change no weight of attention, so their gradients are rounding errors, which Adam
    makes as large as any."""
    if not name.endswith("attn/c_attn/b"):
        return list(values)
    width = TINY.width
    return [np.delete(value, slice(width, 2 * width)) for value in values]


def learned(engine: Any, count: int, first: int = 0) -> list[float]:
    """The losses of `count` steps."""
    rows = ROWS * engine.accumulate
    return [
        engine.train_step(*tokens(rows=rows, seed=i), step=i, learning_rate=0.01)[0]
        for i in range(first, first + count)
    ]


@pytest.mark.parametrize("columns", [1, 3, STEPS, 16])
def test_losses_and_right_predictions_are_the_plain_model_s(columns: int) -> None:
    x, y = tokens(rows=5, columns=columns)
    loss, right, state = fresh().evaluate(x, y)
    expected, correct = reference(lively(), x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (right, state) == (correct, {})
    assert isinstance(right, int)


def test_a_step_tells_the_mean_loss_and_the_accuracy_before_it() -> None:
    x, y = tokens()
    expected, correct = reference(lively(), x, y)
    loss, accuracy = fresh().train_step(x, y, step=0, learning_rate=0.1)
    assert loss == pytest.approx(expected / (y >= 0).sum(), rel=1e-5)
    assert accuracy == pytest.approx(correct / (y >= 0).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_tensorflow_s_engine(kind: str) -> None:
    """Losses within 1e-5; gradients show in plain descent's weights, moments and LoRA's matrices in the slots."""
    here, there = fresh(kind), fresh(kind, gpt2_tensorflow.GPT2Engine)
    np.testing.assert_allclose(learned(here, 5), learned(there, 5), atol=1e-5)
    for mine, other in zip(here.export(), there.export(), strict=True):
        assert set(mine) == set(other)
        for name, value in mine.items():
            assert (value.shape, value.dtype) == (other[name].shape, np.float32)
            np.testing.assert_allclose(*telling(name, value, other[name]), atol=2e-4, err_msg=name)
    merged = there.merged()
    for name, value in here.merged().items():
        np.testing.assert_allclose(*telling(name, value, merged[name]), atol=2e-4, err_msg=name)
    assert here.evaluate(*tokens(rows=5))[0] == pytest.approx(reference(merged, *tokens(rows=5))[0], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ["from TensorFlow", "to TensorFlow"])
def test_a_training_goes_on_in_the_other_engine(kind: str, direction: str) -> None:
    kinds = [gpt2_tensorflow.GPT2Engine, GPT2Engine]
    first, second = kinds if direction == "from TensorFlow" else kinds[::-1]
    begun, other = fresh(kind, first), fresh(kind, second)
    learned(begun, 2)
    other.restore(*begun.export())
    for mine, its in zip(other.export(), begun.export(), strict=True):
        for name in its:
            np.testing.assert_array_equal(mine[name], its[name])
    np.testing.assert_allclose(learned(other, 3, first=2), learned(begun, 3, first=2), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_is_bit_equal_to_not_stopping(kind: str) -> None:
    """In bfloat16; the accumulating one goes on in another engine, which compiled its own program."""
    engine = fresh(kind, precision="bfloat16")
    learned(engine, 2)
    state = engine.export()
    losses = learned(engine, 2, first=2)
    end = engine.export()
    other = make(precision="bfloat16", **KINDS[kind]) if kind == "clipped adamw" else engine
    learned(other, 3, first=7)
    other.restore(*state)
    assert learned(other, 2, first=2) == losses
    for mine, its in zip(other.export(), end, strict=True):
        for name in its:
            np.testing.assert_array_equal(mine[name], its[name], err_msg=name)


def test_what_was_exported_stays_as_it_is_when_the_training_goes_on() -> None:
    engine = fresh()
    weights, _, _ = engine.export()
    learned(engine, 1)
    np.testing.assert_array_equal(weights["wte"], lively()["wte"])
    assert (engine.export()[0]["wte"] != weights["wte"]).any()


def test_rows_that_fill_up_the_vocabulary_stay_zero() -> None:
    engine = fresh("clipped adamw")
    learned(engine, 2)
    table = np.asarray(engine.trained["wte"])
    assert len(table) == 128
    assert not table[VOCABULARY:].any()
    assert engine.export()[0]["wte"].shape == (VOCABULARY, 8)


def test_nothing_counted_is_no_loss_and_no_gradient() -> None:
    x, y = tokens()
    y[:] = -1
    engine = fresh("inner layers")
    assert engine.train_step(x, y, step=0, learning_rate=1.0) == (0.0, 0.0)
    for name, value in engine.export()[0].items():
        np.testing.assert_array_equal(value, lively()[name])


def test_fresh_weights_and_lora_s_are_those_of_tensorflow_s_engine() -> None:
    sizes = {"batch_size": ROWS, "num_steps": STEPS, "lora_rank": 2, "seed": 4, "precision": "float32"}
    mine, its = (kind(TINY, **sizes).export() for kind in (GPT2Engine, gpt2_tensorflow.GPT2Engine))
    for here, there in zip(mine, its, strict=True):
        assert list(here) == list(there)
        for name in there:
            np.testing.assert_array_equal(here[name], there[name])
    assert {n for n in mine[1] if n.startswith("lora/")} == set(init_adapters(TINY, 2, 4))


def test_bfloat16_stays_near_float32_over_200_steps() -> None:
    """The bound is that of TensorFlow's engine: 0.05 nats between means of 20 steps."""
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
    assert (near != exact).any()
    np.testing.assert_allclose(near, exact, atol=0.05)


def test_foreign_weights_are_refused_and_nothing_changes() -> None:
    engine = fresh()
    weights, slots, carried = engine.export()
    for wrong in (
        {name: value for name, value in weights.items() if name != "wpe"},
        {**weights, "wte": weights["wte"][:-1]},
    ):
        with pytest.raises(InputError, match="not of this model"):
            engine.restore({name: value + 1 for name, value in wrong.items()}, slots, carried)
    for name, value in engine.export()[0].items():
        np.testing.assert_array_equal(value, weights[name])


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


def test_on_a_cpu_attention_is_xla_s_and_auto_is_exact() -> None:
    said = make(precision="auto").describe()
    assert (said["attention"], said["precision"], said["devices"]) == ("xla", "float32", 1)
    assert said["device"].startswith("cpu (")


PROGRAM = """
import json, sys
import numpy as np
from textmill.errors import SettingsError
from textmill.models.gpt2 import GPT2Config
from textmill.models.gpt2_jax import GPT2Engine

config = GPT2Config.of(vocabulary_size=90, context=32, width=32, num_heads=4, num_layers=2)

def batch(i, rows):
    drawn = np.random.default_rng(i).integers(0, 30, (rows, 33)).astype(np.int32)
    drawn[0, -5:] = -1
    return np.maximum(drawn[:, :-1], 0), drawn[:, 1:]

said = {}
for case, settings in {
    "all": dict(accumulate=2, checkpointing=True, optimizer="adamw", weight_decay=0.1, max_grad_norm=1.0),
    "lora": dict(lora_rank=2),
}.items():
    engine = GPT2Engine(config, batch_size=4, num_steps=32, precision="float32", **settings)
    rows = 4 * settings.get("accumulate", 1)
    losses = [engine.train_step(*batch(i, rows), step=i, learning_rate=0.01) for i in range(5)]
    said[case] = [losses, engine.evaluate(*batch(9, 5))[:2], float(np.abs(engine.merged()["wte"]).sum())]
said["devices"] = engine.describe()["devices"]
try:
    GPT2Engine(config, batch_size=3, num_steps=32)
except SettingsError as error:
    said["refused"] = str(error)
print(json.dumps(said))
"""


def run_on(count: int) -> dict[str, Any]:
    """What PROGRAM says on so many devices, which are parts of this CPU."""
    flags = f"--xla_force_host_platform_device_count={count}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XLA_FLAGS": flags}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_two_devices_learn_what_one_learns() -> None:
    one, two = run_on(1), run_on(2)
    assert (one.pop("devices"), two.pop("devices")) == (1, 2)
    assert "refused" not in one
    assert two.pop("refused") == (
        "setting 'batch_size' is 3; this machine has 2 devices, and each takes the same number of rows: choose a "
        "multiple of 2, or show the training fewer devices (CUDA_VISIBLE_DEVICES)."
    )
    for case, (losses, scores, table) in one.items():
        assert losses[0][0] - losses[-1][0] > 0.01 or case == "lora"
        np.testing.assert_allclose(two[case][0], losses, atol=1e-5)
        np.testing.assert_allclose(two[case][1], scores, rtol=1e-5)
        assert two[case][2] == pytest.approx(table, rel=1e-4)


def test_no_logits_of_all_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA's own count of what a step needs beside its arguments grows by less than one block of logits a row."""
    monkeypatch.setattr(gpt2_jax, "LOSS_ROWS", 32)
    config = GPT2Config.of(vocabulary_size=20_000, context=64, width=8, num_heads=1, num_layers=1)
    needed = []
    for rows in (2, 8):
        engine = GPT2Engine(config, batch_size=rows, num_steps=64, precision="float32")
        batch = np.zeros((1, rows, 64), np.int32)
        numbers = (np.float32(1), np.float32(1), np.ones(2, np.float32))
        program = engine._train.lower(
            engine.trained, engine.slots, engine.frozen, batch, batch, *numbers
        ).compile()
        needed.append(program.memory_analysis().temp_size_in_bytes)
    logits_of_a_row = 4 * 64 * engine.padded
    assert needed[1] - needed[0] < 6 * logits_of_a_row / 2


def test_the_weights_buffers_are_given_to_the_step() -> None:
    engine = fresh()
    before = engine.trained["wte"], engine.slots["adam/m/wte"]
    learned(engine, 1)
    assert all(value.is_deleted() for value in before)


def test_attention_without_cudnn_is_xla_s_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a GPU that cuDNN does not know, which this CPU plays."""
    monkeypatch.setattr(gpt2_jax.devices, "jax_platform", lambda: "gpu")
    with caplog.at_level("INFO", logger="textmill.models.gpt2_jax"):
        found = gpt2_jax.choose_attention(gpt2_jax.jnp.dtype("bfloat16"), (2, 16, 2, 8), fresh().mesh)
    assert found == "xla"
    assert len([line for line in caplog.messages if line.startswith("attention without cuDNN: ")]) == 1
    assert gpt2_jax.choose_attention(gpt2_jax.jnp.dtype("float32"), (2, 16, 2, 8), fresh().mesh) == "xla"
