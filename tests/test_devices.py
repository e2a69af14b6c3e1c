"""What the machine offers: cores under a container's limit, precision by CPU features and by a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from textmill import devices
from textmill.errors import MachineError, SettingsError


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 4), ("150000 100000", 2), ("50000 100000", 1), ("900000 100000", 4), ("odd", 4)],
)
def test_cores_are_those_of_the_container(four_cores: None, tmp_path: Path, limit: str, cores: int) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(limit + "\n")
    assert devices.available_cores(quota) == cores


def test_cores_without_cgroups(four_cores: None, tmp_path: Path) -> None:
    assert devices.available_cores(tmp_path / "none") == 4


def test_float32_without_a_test_where_the_cpu_has_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset({"avx2", "fma"}))
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda *_: pytest.fail("no test was needed"))
    assert devices.choose_precision("auto", 50, 512) == "float32"
    assert devices.choose_precision("bfloat16", 50, 512) == "bfloat16"


@pytest.mark.parametrize(("gain", "precision"), [(2.0, "bfloat16"), (1.1, "float32")])
def test_bfloat16_where_it_is_faster(monkeypatch: pytest.MonkeyPatch, gain: float, precision: str) -> None:
    monkeypatch.setattr(devices, "cpu_features", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(devices, "_bfloat16_gain", lambda *_: gain)
    assert devices.choose_precision("auto", 50, 512) == precision


def test_the_self_test_measures() -> None:
    assert devices._bfloat16_gain(8, 16) > 0


def test_an_unknown_precision_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"unknown precision 'float16'. Did you mean"):
        devices.choose_precision("float16", 1, 1)


def test_without_tensorflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(MachineError, match=r"pip install 'textmill\[train\]'"):
        devices.tensorflow()


def test_threads_of_a_running_tensorflow_are_left_alone() -> None:
    devices.tensorflow().zeros([1])
    before = devices.tensorflow().config.threading.get_intra_op_parallelism_threads()
    assert devices.configure_threads(streams=1, threads=before + 3) is False
    assert devices.tensorflow().config.threading.get_intra_op_parallelism_threads() == before


def test_the_cpu_is_named() -> None:
    assert devices.cpu_name()
    assert isinstance(devices.cpu_features(), frozenset)


@pytest.mark.parametrize(
    ("wanted", "there", "platform", "chosen"),
    [
        ("auto", ["tensorflow", "jax"], "gpu", "jax"),
        ("auto", ["tensorflow", "jax"], "cpu", "tensorflow"),
        ("auto", ["tensorflow"], "gpu", "tensorflow"),
        ("tensorflow", ["tensorflow", "jax"], "gpu", "tensorflow"),
        ("jax", ["tensorflow", "jax"], "cpu", "jax"),
    ],
)
def test_the_backend_follows_from_the_device(
    wanted: str, there: list[str], platform: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "sees_accelerator", lambda: platform == "gpu")
    assert devices.choose_backend(wanted, there, "gpt2") == chosen


def test_jax_is_asked_where_the_system_shows_a_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "jax", lambda: pytest.fail("there is nothing to ask for"))
    (tmp_path / "nvidiactl").touch()
    assert devices.jax_platform(tmp_path) == "cpu"
    assert not devices.sees_accelerator(tmp_path)
    (tmp_path / "nvidia0").touch()
    for platform, seen in (("gpu", True), ("cpu", False)):
        fake = SimpleNamespace(default_backend=lambda platform=platform: platform)
        monkeypatch.setattr(devices, "jax", lambda fake=fake: fake)
        assert devices.jax_platform(tmp_path) == platform
        assert devices.sees_accelerator(tmp_path) is seen


def test_a_backend_without_an_engine_is_one_line() -> None:
    with pytest.raises(SettingsError, match="'backend' is jax; char-gru trains with tensorflow"):
        devices.choose_backend("jax", ["tensorflow"], "char-gru")
    with pytest.raises(SettingsError, match="unknown backend 'torch'"):
        devices.choose_backend("torch", ["tensorflow"], "char-gru")


def test_jax_leaves_tensorflow_s_log_level_as_it_is() -> None:
    """JAX would set 1 where none is set, and TensorFlow, loaded after it, would warn into the log."""
    program = (
        "from textmill import devices; devices.jax(); import os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "3", done.stderr
