"""What a GPT-2's training will need in memory, before its first step, and the setting that would fit where it does not.

The formula counts what the engine (textmill/models/gpt2_tensorflow.py) keeps alive at the peak of a step, and what is
copied while a checkpoint is saved on top of it, as TensorFlow gives nothing back after a step. Measured against peak
resident memory on a CPU: see `plan`. Knows sizes; reads no text and loads no weights.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from textmill.errors import InputError, SettingsError
from textmill.models.gpt2 import GPT2Config, parameter_shapes
from textmill.models.schedules import TransformerSchedule

if TYPE_CHECKING:
    from textmill.training.settings import TrainSettings

log = logging.getLogger("textmill.train")

BATCH = ("batch_size", "accumulate_gradients")

RUNTIME = 800_000_000  # Python, TensorFlow and compiled graphs, bytes
SHORTEST_ROW = 64  # tokens; shorter rows are not proposed
PROPOSED_LORA_RANK = 8
HELD = 1.25  # what TensorFlow holds of activations for each byte of them that is still needed
UNDONE = 2.0  # bytes of activations that XLA keeps on a CPU for each that the JAX engine asks it to keep
MERGED = 3  # bytes for each value of a matrix while LoRA's products are added to it
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 0}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they are for; together the peak."""

    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {_gb(size)}" for name, size in self.parts.items() if size >= 50_000_000)
        return f"{_gb(self.total)} ({shown})"


@dataclass(frozen=True)
class Target:
    """What trains. Each of JAX's devices holds the whole model and its share of a batch's rows."""

    backend: str = "tensorflow"
    platform: str = "cpu"
    devices: int = 1


def target_of(backend: str) -> Target:
    """What the setting `backend` stands for on this machine."""
    from textmill import devices

    if devices.choose_backend(backend, devices.BACKENDS, "gpt2") == "tensorflow":
        return Target()
    return Target("jax", devices.jax_platform(), len(devices.jax().local_devices()))


def plan(
    config: GPT2Config,
    schedule: TransformerSchedule,
    precision: str = "auto",
    target: Target = Target(),
) -> MemoryPlan:
    """The peak of a training with this schedule; `precision` "auto" takes the larger of the two.

    Within 6 % below and 10 % above the peak resident memory that was measured on a CPU, for 124M (context 1,024,
    batch 1 and 4, both precisions, accumulated, checkpointed, LoRA) and 6 x 384 (context 512, batch 16): 2 to 7.5 GB,
    steps and saving alone. A whole training of 124M with samples (batch 1, bfloat16) took 7.2 GB where this says 7.0.
    """
    if precision == "auto" and target.backend == "jax":
        precision = "float32" if target.platform == "cpu" else "bfloat16"
    if precision == "auto":
        both = (plan(config, schedule, p, target) for p in ("float32", "bfloat16"))
        return max(both, key=lambda found: found.total)
    if target.backend == "jax":
        return _jax_plan(config, schedule, 2 if precision == "bfloat16" else 4, target)
    from textmill.models.gpt2_layers import PADDING, QUERY_BLOCK
    from textmill.models.gpt2_tensorflow import LOSS_ROWS

    item = 2 if precision == "bfloat16" else 4
    width, rows = config.width, schedule.batch_size * schedule.num_steps
    vocabulary = -(-config.vocabulary_size // PADDING) * PADDING
    sizes = {name: int(np.prod(shape)) for name, shape in parameter_shapes(config).items()}
    sizes["wte"] = vocabulary * width
    weights = sum(sizes.values())
    matrices = sum(size for name, size in sizes.items() if name == "wte" or name.endswith("/w"))
    table = merging = 0
    if schedule.lora_rank:
        ends = [sum(shape) for name, shape in parameter_shapes(config).items() if name.endswith("/w")]
        trained, copies = schedule.lora_rank * sum(ends), item * matrices
        merging = MERGED * matrices
    else:
        inner = schedule.only_train_transformer_layers
        trained = sum(size for name, size in sizes.items() if not inner or name.startswith("h"))
        copies = item * matrices if item == 2 else 0
        table = 0 if inner else sizes["wte"]
    slots = 4 * MOMENTS[schedule.optimizer] * trained
    sums = 4 * trained * (schedule.accumulate_gradients > 1)  # each gradient is added in place

    length = schedule.num_steps
    attended = config.num_heads * schedule.batch_size * length * (length + min(length, QUERY_BLOCK)) // 2
    block = item * (10 * rows * width + attended)
    if schedule.gradient_checkpointing:
        kept = config.num_layers * 4 * rows * width + block
    else:
        kept = config.num_layers * block
    passing = (8 * item + 12) * rows * width
    logits = 8 * min(rows, LOSS_ROWS) * vocabulary
    several = table * (8 + item) if rows > LOSS_ROWS else 0  # parts of the table's gradient that are added up
    return MemoryPlan(
        {
            "program": RUNTIME,
            "weights": 4 * weights + copies,
            "optimizer": slots,
            "gradients": 4 * (trained + table) + sums + merging,
            "activations": int(HELD * (kept + passing)),
            "logits": logits + several,
            "samples": (4 * weights + item * matrices) * _samples(schedule),
            "saving": 4 * weights + slots,
        }
    )


def _samples(schedule: TransformerSchedule) -> bool:
    """Is text written while training? Then a decoder stays beside the engine, made from a copy of its weights."""
    return schedule.sample_num > 0


def _jax_plan(config: GPT2Config, schedule: TransformerSchedule, item: int, target: Target) -> MemoryPlan:
    """The peak on each device of what models/gpt2_jax.py compiles, for products of `item` bytes.

    Of a block its operands stay: two float32 residuals, and in the products' precision 14 values of the width. cuDNN
    keeps no weights of attention; XLA's attention keeps them. On a CPU XLA undoes what is to be computed twice, and
    gradient_checkpointing with it: with UNDONE the plan is 0 to 30 % above XLA's own count (124M at batch 1 to 4,
    6 x 384 at batch 16, accumulated, checkpointed, LoRA; float32). On a GPU it was not measured.
    """
    from textmill.models.gpt2_jax import LOSS_ROWS, PADDING

    width, length = config.width, schedule.num_steps
    batch = -(-schedule.batch_size // target.devices)
    rows = batch * length
    sizes = {name: int(np.prod(shape)) for name, shape in parameter_shapes(config).items()}
    vocabulary = -(-config.vocabulary_size // PADDING) * PADDING
    sizes["wte"] = vocabulary * width
    weights = sum(sizes.values())
    matrices = sum(size for name, size in sizes.items() if name == "wte" or name.endswith("/w"))
    if schedule.lora_rank:
        ends = [sum(shape) for name, shape in parameter_shapes(config).items() if name.endswith("/w")]
        trained, table = schedule.lora_rank * sum(ends), 0
        weights += trained
    else:
        inner = schedule.only_train_transformer_layers
        trained = sum(size for name, size in sizes.items() if not inner or name.startswith("h"))
        table = 0 if inner else sizes["wte"]
    host = target.platform == "cpu"
    slots = 4 * MOMENTS[schedule.optimizer] * trained
    attended = 0 if target.platform == "gpu" and item == 2 else 4 * config.num_heads * batch * length * length
    block = (8 + 14 * item) * rows * width + attended
    kept = (
        (config.num_layers * 4 * rows * width + block)
        if schedule.gradient_checkpointing and not host
        else (config.num_layers * block)
    )
    return MemoryPlan(
        {
            "program": RUNTIME if host else 0,
            "weights": 4 * weights + (item * matrices if item == 2 else 0),
            "optimizer": slots,
            "gradients": 4 * (trained + table) + 4 * trained * (schedule.accumulate_gradients > 1),
            "activations": int((kept + 24 * rows * width + 2 * attended) * (UNDONE if host else 1)),
            "logits": (8 + item) * min(rows, LOSS_ROWS) * vocabulary,
            "samples": (4 * weights * host + item * matrices) * _samples(schedule),
            "saving": 4 * weights + slots if host else 0,
        }
    )


def fitted(schedule: TransformerSchedule, config: GPT2Config, settings: TrainSettings) -> TransformerSchedule:
    """The schedule, with a batch_size where it left that open. Says what the training will need.

    Raises InputError, with the settings that would fit, when there is less; with settings.memory_check off it warns.
    """
    target = target_of(settings.backend)
    free = free_for(target)
    if not schedule.batch_size:
        schedule = _largest_batch(schedule, config, settings.precision, free, target)
        log.info(
            "batch_size %d, accumulate_gradients %d: the largest batch that fits",
            schedule.batch_size,
            schedule.accumulate_gradients,
        )
    needed = plan(config, schedule, settings.precision, target)
    if needed.total <= free:
        log.info("memory: about %s of %s", needed, _gb(free))
        return schedule
    short = f"this training needs about {needed}, there are {_gb(free)} free"
    if not settings.memory_check:
        log.warning("%s; memory_check is off: starting all the same", short)
        return schedule
    raise InputError(f"{short}. {_way_out(schedule, config, settings.precision, free, target)}")


def _largest_batch(
    schedule: TransformerSchedule, config: GPT2Config, precision: str, free: int, target: Target
) -> TransformerSchedule:
    """The rows of an update in as few batches as fit, of the least number of rows where none does."""
    for choice in splits(schedule, target):
        if plan(config, choice, precision, target).total <= free:
            break
    return choice


def splits(schedule: TransformerSchedule, target: Target) -> list[TransformerSchedule]:
    """The rows of an update, which accumulate_gradients counts where batch_size is 0, in smaller and smaller batches
    that divide among the devices. Raises SettingsError when none does."""
    rows = schedule.accumulate_gradients
    whole = schedule.replace(batch_size=rows, accumulate_gradients=1, batch_search=False)
    found = [choice for choice in _splits(whole) if choice.batch_size % target.devices == 0]
    if not found:
        raise SettingsError(
            f"setting 'accumulate_gradients' is {rows}, with batch_size 0 the rows of an update; this machine has "
            f"{target.devices} devices, and each takes the same number of rows: choose a multiple of {target.devices}."
        )
    return found


def _splits(schedule: TransformerSchedule) -> Iterator[TransformerSchedule]:
    """The same rows an update in smaller and smaller batches."""
    rows = schedule.batch_size * schedule.accumulate_gradients
    for batch in range(schedule.batch_size, 0, -1):
        if rows % batch == 0:
            yield schedule.replace(batch_size=batch, accumulate_gradients=rows // batch)


def _way_out(
    schedule: TransformerSchedule, config: GPT2Config, precision: str, free: int, target: Target
) -> str:
    """The mildest change of settings that fits, as one sentence."""
    choices = [choice for choice in _milder(schedule) if choice.batch_size % target.devices == 0]
    for choice in choices:
        if plan(config, choice, precision, target).total <= free:
            now, then = schedule.as_dict(), choice.as_dict()
            changes = " ".join(f"--set {k}={str(v).lower()}" for k, v in then.items() if v != now[k])
            return f"It would fit with: {changes} (or start with --no-memory-check)."
    least = min(plan(config, choice, precision, target).total for choice in choices or [schedule])
    return (
        f"No setting makes it fit: the least is {_gb(least)}. Take a machine with more memory or a smaller model "
        "(or start with --no-memory-check)."
    )


def _milder(schedule: TransformerSchedule) -> Iterator[TransformerSchedule]:
    """What can be changed, from what costs nothing to what changes the training most."""
    *_, single = splits = list(_splits(schedule))
    yield from splits[1:]
    saving = [choice.replace(gradient_checkpointing=True) for choice in splits]
    yield from saving
    shorter = [
        single.replace(num_steps=schedule.num_steps >> halvings)
        for halvings in range(1, schedule.num_steps.bit_length())
        if schedule.num_steps >> halvings >= SHORTEST_ROW
    ]
    yield from (choice.replace(gradient_checkpointing=True) for choice in shorter[:1])
    if not schedule.lora_rank:
        low = {"lora_rank": PROPOSED_LORA_RANK, "only_train_transformer_layers": False}
        yield from (choice.replace(**low) for choice in (*splits, saving[-1]))
        yield from (choice.replace(gradient_checkpointing=True, **low) for choice in shorter)
    yield from (choice.replace(gradient_checkpointing=True) for choice in shorter)


# ---------------------------------------------------------------------- what there is


def free_for(target: Target) -> int:
    """Bytes that a training may have in all: on each GPU what JAX may take there, elsewhere `available`."""
    if target.backend == "jax" and target.platform != "cpu":
        from textmill.devices import jax

        told = [device.memory_stats() or {} for device in jax().local_devices()]
        limits = [one["bytes_limit"] - one.get("bytes_in_use", 0) for one in told if "bytes_limit" in one]
        if limits:
            return int(min(limits))
    return available()


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes this process may have in all: of the GPU, where TensorFlow finds one, or of the machine: what Linux or the
    container's limit leaves free, and what the process has already."""
    from textmill.devices import tensorflow

    if tensorflow().config.list_physical_devices("GPU") and (free := _gpu_free()):
        return free
    return machine_free(proc, groups) + _resident(proc)


def machine_free(proc: Path, groups: Path) -> int:
    """The least of /proc/meminfo's MemAvailable and what each limit of the process's control groups leaves."""
    left = [_number(proc / "meminfo", "MemAvailable:") * 1024]
    try:
        entries = (proc / "self" / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        entries = []
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if not controllers:  # version 2: limits of all groups above count
            folders = [groups / path.strip("/"), *(groups / path.strip("/")).parents]
            names = ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folders = [groups / "memory" / path.strip("/"), groups / "memory"]
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in folders:
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if 0 < limit < 1 << 60:
                left.append(limit - used + _number(folder / "memory.stat", names[2]))
    known = [size for size in left if size]
    return max(min(known), 0) if known else 1 << 60


def _resident(proc: Path) -> int:
    return _number(proc / "self" / "status", "VmRSS:") * 1024


def _number(path: Path, name: str = "") -> int:
    """The number in the file, or the one behind `name`; 0 where there is none."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        words = line.split()
        if not name and words and words[0].isdigit():
            return int(words[0])
        if name and len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0


def _gpu_free() -> int:
    """Free bytes of the first GPU this process may use, 0 where nvidia-smi does not tell."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return 0
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    command = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    done = subprocess.run([*command, *(["--id", first] if first else [])], capture_output=True, text=True)
    lines = done.stdout.split()
    return int(lines[0]) << 20 if lines and lines[0].isdigit() else 0


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


__all__: list[Any] = [
    "BATCH",
    "MemoryPlan",
    "Target",
    "available",
    "fitted",
    "free_for",
    "machine_free",
    "plan",
    "splits",
    "target_of",
]
