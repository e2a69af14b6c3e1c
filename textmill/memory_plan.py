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

from textmill.errors import InputError
from textmill.models.gpt2 import GPT2Config, parameter_shapes
from textmill.schedules import TransformerSchedule

if TYPE_CHECKING:
    from textmill.train_settings import TrainSettings

log = logging.getLogger("textmill.train")

BATCH = ("batch_size", "accumulate_gradients")

RUNTIME = 800_000_000  # Python, TensorFlow and compiled graphs, bytes
SHORTEST_ROW = 64  # tokens; shorter rows are not proposed
PROPOSED_LORA_RANK = 8
HELD = 1.25  # what TensorFlow holds of activations for each byte of them that is still needed
ADDED = 9  # bytes for each trained value while a batch's gradients are added to those before
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


def plan(config: GPT2Config, schedule: TransformerSchedule, precision: str = "auto") -> MemoryPlan:
    """The peak of a training with this schedule; `precision` "auto" takes the larger of the two.

    Within 6 % below and 7 % above the peak resident memory that was measured on a CPU, for 124M (context 1,024,
    batch 1 and 4, both precisions, accumulated, checkpointed, LoRA) and 6 x 384 (context 512, batch 16): 2 to 7.5 GB.
    """
    if precision == "auto":
        return max((plan(config, schedule, p) for p in ("float32", "bfloat16")), key=lambda p: p.total)
    from textmill.models.gpt2_layers import QUERY_BLOCK
    from textmill.models.gpt2_tensorflow import LOSS_ROWS, PADDING

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
    sums = (4 + ADDED) * trained * (schedule.accumulate_gradients > 1)

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
            "saving": 4 * weights + slots,
        }
    )


def fitted(schedule: TransformerSchedule, config: GPT2Config, settings: TrainSettings) -> TransformerSchedule:
    """The schedule, with a batch_size where it left that open. Says what the training will need.

    Raises InputError, with the settings that would fit, when there is less; with settings.memory_check off it warns.
    """
    free = available()
    if not schedule.batch_size:
        schedule = _largest_batch(schedule, config, settings.precision, free)
        log.info(
            "batch_size %d, accumulate_gradients %d: the largest batch that fits",
            schedule.batch_size,
            schedule.accumulate_gradients,
        )
    needed = plan(config, schedule, settings.precision)
    if needed.total <= free:
        log.info("memory: about %s of %s", needed, _gb(free))
        return schedule
    short = f"this training needs about {needed}, there are {_gb(free)} free"
    if not settings.memory_check:
        log.warning("%s; memory_check is off: starting all the same", short)
        return schedule
    raise InputError(f"{short}. {_way_out(schedule, config, settings.precision, free)}")


def _largest_batch(
    schedule: TransformerSchedule, config: GPT2Config, precision: str, free: int
) -> TransformerSchedule:
    """The rows of an update in as few batches as fit, of one row where none does."""
    for choice in _splits(schedule.replace(batch_size=schedule.accumulate_gradients, accumulate_gradients=1)):
        if plan(config, choice, precision).total <= free:
            break
    return choice


def _splits(schedule: TransformerSchedule) -> Iterator[TransformerSchedule]:
    """The same rows an update in smaller and smaller batches."""
    rows = schedule.batch_size * schedule.accumulate_gradients
    for batch in range(schedule.batch_size, 0, -1):
        if rows % batch == 0:
            yield schedule.replace(batch_size=batch, accumulate_gradients=rows // batch)


def _way_out(schedule: TransformerSchedule, config: GPT2Config, precision: str, free: int) -> str:
    """The mildest change of settings that fits, as one sentence."""
    for choice in _milder(schedule):
        if plan(config, choice, precision).total <= free:
            now, then = schedule.as_dict(), choice.as_dict()
            changes = " ".join(f"--set {k}={str(v).lower()}" for k, v in then.items() if v != now[k])
            return f"It would fit with: {changes} (or start with --no-memory-check)."
    least = min(plan(config, choice, precision).total for choice in _milder(schedule))
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


__all__: list[Any] = ["BATCH", "MemoryPlan", "available", "fitted", "machine_free", "plan"]
