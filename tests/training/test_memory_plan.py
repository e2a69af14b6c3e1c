"""The memory plan: what it counts, what it proposes, and what the machine says it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from textmill.errors import InputError, SettingsError
from textmill.models import get_model
from textmill.models.schedules import TransformerSchedule
from textmill.training import memory_plan
from textmill.training.memory_plan import machine_free, plan
from textmill.training.settings import TrainSettings

FAMILY = get_model("gpt2")
CONFIG = FAMILY.config("124M", 50257)
LONG = TransformerSchedule.of(batch_size=8, num_steps=1024)
GB = 10**9


def total(**changes: Any) -> int:
    return plan(CONFIG, LONG.replace(**changes), "bfloat16").total


def test_weights_and_optimizer_are_counted_to_the_byte() -> None:
    parts = plan(CONFIG, LONG, "float32").parts
    padded = 124_439_808 + (50304 - 50257) * 768
    assert parts["weights"] == 4 * padded
    assert parts["optimizer"] == 8 * padded
    assert plan(CONFIG, LONG.replace(optimizer="sgd"), "float32").parts["optimizer"] == 0
    assert plan(CONFIG, LONG, "auto").total == max(
        plan(CONFIG, LONG, p).total for p in ("float32", "bfloat16")
    )


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"num_steps": 512},
        {"gradient_checkpointing": True},
        {"lora_rank": 8},
        {"only_train_transformer_layers": True},
        {"optimizer": "sgd"},
        {"sample_num": 0},
    ],
)
def test_what_saves_memory_makes_the_plan_smaller(change: dict[str, Any]) -> None:
    assert total(**change) < total()


def test_samples_take_a_copy_of_the_weights_and_the_decoder_s_own() -> None:
    parts = plan(CONFIG, LONG.replace(sample_num=1), "float32").parts
    assert 2 * parts["weights"] * 0.98 < parts["samples"] < 2 * parts["weights"], (
        "all but places, norms and biases"
    )
    assert plan(CONFIG, LONG.replace(sample_num=0), "float32").parts["samples"] == 0


def settled(free: int, monkeypatch: pytest.MonkeyPatch, check: bool = True, **schedule: Any) -> Any:
    monkeypatch.setattr(memory_plan, "available", lambda: free)
    settings = TrainSettings.of(model="gpt2", precision="bfloat16", memory_check=check)
    return FAMILY.training().settle(LONG.replace(**schedule), CONFIG, settings, None)


@pytest.mark.parametrize(
    ("free", "proposed"),
    [
        (7.5 * GB, r"It would fit with: --set batch_size=[124] --set accumulate_gradients=[248] \(or"),
        (4.2 * GB, r"--set gradient_checkpointing=true|--set lora_rank=8"),
        (1.0 * GB, r"No setting makes it fit: the least is \d\.\d GB"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    free: float, proposed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=proposed) as caught:
        settled(int(free), monkeypatch)
    assert "\n" not in str(caught.value)
    assert f"there are {free / GB:.1f} GB free" in str(caught.value)


def test_what_is_proposed_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    for free in range(2 * GB, 12 * GB, GB // 2):
        try:
            settled(free, monkeypatch)
        except InputError as error:
            said = dict(word.split("=") for word in str(error).split() if "=" in word)
            if said:
                settled(free, monkeypatch, **said)


def test_it_can_be_told_to_start_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(GB, monkeypatch, check=False) == LONG


def test_an_open_batch_size_takes_what_fits_and_keeps_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for free in (8, 10, 14, 100):
        found = settled(free * GB, monkeypatch, batch_size=0, accumulate_gradients=8)
        assert found.batch_size * found.accumulate_gradients == 8
        assert plan(CONFIG, found, "bfloat16").total <= free * GB
        sizes.append(found.batch_size)
    assert sizes == sorted(sizes)
    assert sizes[-1] == 8
    with pytest.raises(InputError, match="needs about"):
        settled(GB, monkeypatch, batch_size=0, accumulate_gradients=8)


def test_a_batch_size_once_chosen_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that goes on where there is more memory must make the same steps."""
    monkeypatch.setattr(memory_plan, "available", lambda: 100 * GB)
    settings = TrainSettings.of(model="gpt2", precision="bfloat16")
    before = {"schedule": LONG.replace(batch_size=2, accumulate_gradients=4).as_dict()}
    found = FAMILY.training().settle(
        LONG.replace(batch_size=0, accumulate_gradients=8), CONFIG, settings, before
    )
    assert (found.batch_size, found.accumulate_gradients) == (2, 4)


def machine(root: Path, cgroup: str, files: dict[str, str]) -> int:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text("MemTotal:  32000000 kB\nMemAvailable:   16000000 kB\n")
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    return machine_free(root / "proc", root / "cgroup")


def test_the_machine_has_what_linux_and_the_containers_limit_leave(tmp_path: Path) -> None:
    assert machine(tmp_path / "none", "0::/\n", {}) == 16_000_000 * 1024
    limits = {
        "memory.max": "max\n",
        "pod/memory.max": "8000000000\n",
        "pod/memory.current": "3000000000\n",
        "pod/memory.stat": "anon 1\ninactive_file 500000000\n",
        "pod/app/memory.max": "max\n",
    }
    assert machine(tmp_path / "two", "0::/pod/app\n", limits) == 5_500_000_000
    old = {
        "memory/memory.limit_in_bytes": "4000000000\n",
        "memory/memory.usage_in_bytes": "1000000000\n",
        "memory/memory.stat": "total_inactive_file 0\n",
    }
    assert machine(tmp_path / "one", "5:cpu:/x\n4:memory:/docker/x\n", old) == 3_000_000_000
    assert machine(tmp_path / "full", "0::/p\n", {"p/memory.max": "10", "p/memory.current": "20"}) == 0


def test_a_gpus_free_memory_is_asked_of_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 40536\necho 1000\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert memory_plan._gpu_free() == 40536 << 20
    tool.write_text("#!/bin/sh\necho 'No devices were found'\n")
    assert memory_plan._gpu_free() == 0


def test_this_machine_has_some() -> None:
    assert memory_plan.available() > 10_000_000


GPU = memory_plan.Target("jax", "gpu", 1)


def test_a_gpu_s_plan_keeps_no_weights_of_attention_and_each_gpu_has_its_share() -> None:
    def needed(target: memory_plan.Target, **changes: Any) -> dict[str, int]:
        return plan(CONFIG, LONG.replace(**changes), "bfloat16", target).parts

    one, two = needed(GPU), needed(memory_plan.Target("jax", "gpu", 2))
    assert two["activations"] * 2 == one["activations"]
    assert (two["weights"], two["optimizer"]) == (one["weights"], one["optimizer"])
    assert (one["program"], one["saving"]) == (0, 0)
    longer = needed(GPU, num_steps=512, batch_size=16)
    assert longer["activations"] == one["activations"]
    assert needed(memory_plan.Target("jax"))["activations"] > 1.2 * one["activations"]
    assert needed(GPU, gradient_checkpointing=True)["activations"] < 0.3 * one["activations"]
    assert needed(GPU, lora_rank=8)["optimizer"] < 0.05 * one["optimizer"]


def test_an_open_batch_divides_among_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    four = memory_plan.Target("jax", "gpu", 4)
    rows = LONG.replace(batch_size=0, accumulate_gradients=24)
    assert [choice.batch_size for choice in memory_plan.splits(rows, four)] == [24, 12, 8, 4]
    with pytest.raises(SettingsError, match=r"4 devices, .* choose a multiple of 4"):
        memory_plan.splits(LONG.replace(batch_size=0, accumulate_gradients=6), four)
    monkeypatch.setattr(memory_plan, "target_of", lambda backend: four)
    assert settled(10**12, monkeypatch, batch_size=0, accumulate_gradients=24).batch_size == 24
