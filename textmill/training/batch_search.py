"""The fastest batch that fits: the rows of an update are tried in batches of several sizes.

Which sizes may fit, the memory plan says; each is then tried by real steps in a process of its own, which is stopped
when it takes more memory than there is: so a trial that does not fit harms nothing. The same numbers of rows of random
tokens are learned from as in the training, but for accumulation, which two batches show as well as many.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from textmill.errors import InputError
from textmill.models.gpt2 import GPT2Config
from textmill.models.schedules import TransformerSchedule
from textmill.training import memory_plan

if TYPE_CHECKING:
    from textmill.training.settings import TrainSettings

log = logging.getLogger("textmill.train")

MOST_TRIALS = 4
SECONDS = 4.0  # of the timed steps, at least
MOST_STEPS = 50
LOOKED_AT_EVERY = 0.05  # seconds between looks at a trial's memory


@dataclass(frozen=True)
class Trial:
    """How a number of rows did: tokens a second, 0 where it did not fit, and the peak of its memory in bytes."""

    schedule: TransformerSchedule
    tokens_per_second: float
    peak: int
    why: str = ""  # it did not fit

    def __str__(self) -> str:
        named = f"batch_size {self.schedule.batch_size}"
        if self.why:
            return f"{named}: {self.why}"
        return f"{named}: {self.tokens_per_second:,.0f} tokens/s, peak {self.peak / 1e9:.1f} GB"


def fastest(
    schedule: TransformerSchedule, config: GPT2Config, settings: TrainSettings
) -> TransformerSchedule:
    """The schedule with the batch_size that learned most tokens a second in its trial.

    Raises InputError when no trial fits.
    """
    target = memory_plan.target_of(settings.backend)
    free = memory_plan.free_for(target)
    choices = [
        choice
        for choice in memory_plan.splits(schedule, target)
        if memory_plan.plan(config, choice, settings.precision, target).total <= free
    ]
    if not choices:
        choices = [memory_plan.splits(schedule, target)[-1]]
    trials: list[Trial] = []
    for choice in choices[:MOST_TRIALS]:
        log.info("trying batch_size %d …", choice.batch_size)
        trials.append(attempt(choice, config, settings, free))
        log.info("%s", trials[-1])
    best = max(trials, key=lambda trial: trial.tokens_per_second)
    if not best.tokens_per_second:
        said = "; ".join(str(trial) for trial in trials)
        raise InputError(
            f"no batch fits ({said}). Set a smaller num_steps, gradient_checkpointing true or a lora_rank, or take a "
            "machine with more memory."
        )
    return best.schedule


def attempt(schedule: TransformerSchedule, config: GPT2Config, settings: TrainSettings, limit: int) -> Trial:
    """Some steps with this schedule in a process that may take `limit` bytes.

    Raises InputError when the process ends for another reason than memory.
    """
    told = {
        "config": config.as_dict(),
        "schedule": schedule.replace(accumulate_gradients=min(schedule.accumulate_gradients, 2)).as_dict(),
        "precision": settings.precision,
        "backend": settings.backend,
    }
    with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+") as complaints:
        command = [sys.executable, "-m", "textmill.training.batch_search", json.dumps(told)]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answer, stderr=complaints)
        try:
            peak = 0
            while child.poll() is None:
                peak = max(peak, _resident_peak(child.pid))
                if peak > limit:
                    return Trial(schedule, 0.0, peak, f"does not fit, stopped at {peak / 1e9:.1f} GB")
                time.sleep(LOOKED_AT_EVERY)
        finally:
            child.kill()
            child.wait()
        said, complaint = (_text_of(file) for file in (answer, complaints))
    if child.returncode == 0:
        found = json.loads(said.strip().splitlines()[-1])
        return Trial(schedule, found["tokens_per_second"], found["peak"])
    last = (complaint.strip().splitlines() or [""])[-1]
    if child.returncode == -9 or any(sign in complaint for sign in _OUT_OF_MEMORY):
        return Trial(schedule, 0.0, peak, "does not fit, out of memory")
    raise InputError(f"the trial with batch_size {schedule.batch_size} failed: {last[:300]}")


# What the libraries say: TensorFlow and XLA, Python
_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "ResourceExhausted",
    "OOM when allocating",
    "MemoryError",
    "bad_alloc",
)


def _text_of(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _resident_peak(process: int) -> int:
    """Bytes that a process had resident at most so far; 0 where that is not told."""
    try:
        for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


def measure(told: dict[str, Any]) -> dict[str, float]:
    """In the trial's process: tokens a second after the first step, and the process's or GPU's peak in bytes."""
    from textmill.models import get_model

    config = GPT2Config.from_dict(told["config"])
    schedule = TransformerSchedule.from_dict(told["schedule"])
    engine = get_model("gpt2").engine(told["backend"])(
        config,
        batch_size=schedule.batch_size,
        num_steps=schedule.num_steps,
        precision=told["precision"],
        **schedule.engine_settings(),
    )
    rows = schedule.batch_size * schedule.accumulate_gradients
    drawn = np.random.default_rng(0).integers(0, config.vocabulary_size, (rows, schedule.num_steps + 1))
    x, y = drawn[:, :-1].astype(np.int32), drawn[:, 1:].astype(np.int32)
    engine.train_step(x, y, step=0, learning_rate=1e-4)
    steps, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS and steps < MOST_STEPS:
        engine.train_step(x, y, step=steps, learning_rate=1e-4)
        steps += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tokens_per_second": steps * x.size / seconds, "peak": _gpu_peak() or peak}


def _gpu_peak() -> int:
    """Bytes of the fullest GPU that JAX had at most, 0 where it computes on a CPU or did not compute."""
    if "jax" not in sys.modules:
        return 0
    told = [device.memory_stats() or {} for device in sys.modules["jax"].local_devices()]
    return max((int(one.get("peak_bytes_in_use", 0)) for one in told), default=0)


def main() -> None:
    """Make the trial that the argument says, and write what was found to standard output."""
    print(json.dumps(measure(json.loads(sys.argv[1]))), flush=True)


if __name__ == "__main__":
    main()
