"""What a training run is told: the user's settings, the preset's schedule, and what a resume must find unchanged."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from textmill.data import largest_batch
from textmill.dataset import Dataset
from textmill.errors import InputError, SettingsError
from textmill.models import get_model
from textmill.settings import Settings, setting, unknown_name

log = logging.getLogger("textmill.train")


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What a training run can be told. Sizes come from the preset; `overrides` changes any field of it."""

    model: str = setting("char-gru", "Model family: char-gru or word-lstm.")
    preset: str = setting("small", "Named sizes and schedule of the model family.")
    overrides: dict[str, Any] = setting(
        {}, "Fields of the preset to change, such as {hidden_size: 256, epochs: 5}."
    )
    seed: int = setting(0, "Seed of the initial weights and of dropout.", minimum=0, maximum=2**31 - 1)
    max_steps: int = setting(0, "Stop after this many steps in all (0: the preset's epochs).", minimum=0)
    max_minutes: float = setting(
        0.0, "Stop after about this many minutes of this run (0: no limit).", minimum=0
    )
    patience: int = setting(
        0, "Stop early after this many validations without a better loss (0: never).", minimum=0
    )
    save_every_minutes: float = setting(5.0, "Save the state for an exact resume this often.", minimum=0)
    save_every_steps: int = setting(
        0, "Save the state every so many steps too (0: by time alone).", minimum=0
    )
    keep: int = setting(2, "How many of the newest states to keep.", minimum=1)
    resume: str = setting(
        "auto",
        "What to do with a state that is there: auto goes on from it, never starts afresh, changed goes on even though "
        "the dataset or a setting changed.",
        choices=("auto", "never", "changed"),
    )
    precision: str = setting(
        "auto",
        "Number format of the matrix products: auto takes the fastest one of this machine.",
        choices=("auto", "float32", "bfloat16"),
    )


@dataclass(frozen=True)
class Schedule(Settings):
    """How a preset trains: batches, optimizer, and when to look. Counts of 0 mean what the help says."""

    epochs: int = setting(10, "Passes over the training text.", minimum=1)
    batch_size: int = setting(20, "Parallel streams of text.", minimum=1)
    num_steps: int = setting(20, "Tokens of each stream in one step (truncated back-propagation).", minimum=1)
    optimizer: str = setting("adam", "sgd or adam.", choices=("sgd", "adam"))
    learning_rate: float = setting(1e-3, "Learning rate of the first epochs.", minimum=0)
    lr_decay: float = setting(
        1.0, "Factor on the learning rate for each epoch after max_epoch.", minimum=0, maximum=1
    )
    max_epoch: int = setting(0, "Epochs at the full learning rate.", minimum=0)
    max_grad_norm: float = setting(0.0, "Clip gradients to this global norm (0: never).", minimum=0)
    carry: str = setting(
        "epoch",
        "epoch zeroes the hidden state at each epoch; roll carries it across epochs by rolling the streams.",
        choices=("epoch", "roll"),
    )
    log_every: int = setting(0, "Steps between progress lines (0: ten lines an epoch).", minimum=0)
    validate_every: int = setting(0, "Steps between validations (0: at each epoch's end).", minimum=0)
    sample_every: int = setting(0, "Steps between sample texts (0: at each epoch's end).", minimum=0)
    view_every: int = setting(0, "Steps between side-by-side views (0: at each epoch's end).", minimum=0)
    validation_row: int = setting(
        0,
        "Score validation and test text in rows of this many tokens (0: as batch_size long rows).",
        minimum=0,
    )


def plan(settings: TrainSettings, source: Dataset) -> tuple[Any, Schedule]:
    """The model's config and the schedule from preset and overrides. Checks everything before the first slow act."""
    family = get_model(settings.model)
    preset = family.preset(settings.preset)
    config_fields, schedule_fields = family.config_class.kinds(), Schedule.kinds()
    for name in settings.overrides:
        if name == "vocabulary_size" or (name not in config_fields and name not in schedule_fields):
            known = [n for n in (*config_fields, *schedule_fields) if n != "vocabulary_size"]
            raise SettingsError(unknown_name("setting", name, known, "overrides"))
    model = {k: v for k, v in settings.overrides.items() if k in config_fields}
    loop = {k: v for k, v in settings.overrides.items() if k in schedule_fields}
    config = family.config(settings.preset, source.tokenizer.size, model)
    schedule = Schedule.from_dict({**preset["train"], **loop}, where="overrides")
    return config, _fit(schedule, loop, len(source.tokens("train")))


def _fit(schedule: Schedule, chosen: dict[str, Any], tokens: int) -> Schedule:
    """A preset's batch is made smaller for a text too small for it; a batch that the user chose is not."""
    if tokens < 2:
        raise InputError(
            f"the training text has {tokens} tokens; there must be at least 2 to learn what follows what."
        )
    if "batch_size" in chosen or "num_steps" in chosen:
        return schedule
    batch, steps = largest_batch(tokens, schedule.batch_size, schedule.num_steps, schedule.carry)
    if (batch, steps) == (schedule.batch_size, schedule.num_steps):
        return schedule
    log.warning(
        "the training text has only %s tokens: training with batch_size %d and num_steps %d instead of %d and %d",
        f"{tokens:,}",
        batch,
        steps,
        schedule.batch_size,
        schedule.num_steps,
    )
    return schedule.replace(batch_size=batch, num_steps=steps)


def identity_of(settings: TrainSettings, config: Any, schedule: Schedule, source: Dataset) -> dict[str, Any]:
    """What must be equal for a resume to be exact. When to log, save and stop may change."""
    free = ("epochs", "log_every", "validate_every", "sample_every", "view_every", "validation_row")
    loop = {k: v for k, v in schedule.as_dict().items() if k not in free}
    facts = {
        "dataset": source.digest,
        "tokenizer": source.tokenizer_digest,
        "settings": {
            "model": settings.model,
            "seed": settings.seed,
            "config": config.as_dict(),
            "schedule": loop,
        },
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return {**facts, "key": key}
