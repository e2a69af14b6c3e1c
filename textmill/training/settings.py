"""What a training run is told: the user's settings, the preset's schedule, and what a resume must find unchanged."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

from textmill.checkpoints.base_model import BaseModel, check_tokenizer
from textmill.datasets.dataset import Dataset
from textmill.errors import InputError, SettingsError
from textmill.models import Family, get_model
from textmill.settings import Settings, setting, unknown_name

log = logging.getLogger("textmill.train")


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What a training run can be told. Sizes come from the preset; `overrides` changes any field of it."""

    model: str = setting("char-gru", "Model family: char-gru, word-lstm or gpt2.")
    preset: str = setting("small", "Named sizes and schedule of the model family.")
    overrides: dict[str, Any] = setting(
        {}, "Fields of the preset to change, such as {hidden_size: 256, epochs: 5}."
    )
    base: str = setting(
        "",
        "Model to start from: a checkpoint of textmill, OpenAI, gpt-2-simple or Hugging Face (empty: fresh weights).",
    )
    seed: int = setting(
        0,
        "Seed of the initial weights, of dropout and of the order of a GPT-2's rows.",
        minimum=0,
        maximum=2**31 - 1,
    )
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
    resume_from: str = setting(
        "",
        "Earlier run's checkpoint to go on from where this one has no state yet: a folder or a URI (empty: none).",
    )
    publish_uri: str = setting(
        "",
        "Where each saved state is copied in the background, to go on from there on another machine: s3://, minio://, "
        "gs:// or a folder (empty: nowhere).",
    )
    precision: str = setting(
        "auto",
        "Number format of the matrix products: auto takes the fastest one of this machine.",
        choices=("auto", "float32", "bfloat16"),
    )
    backend: str = setting(
        "auto",
        "Library that trains a GPT-2: auto takes JAX where it sees a GPU, TensorFlow elsewhere.",
        choices=("auto", "tensorflow", "jax"),
    )
    memory_check: bool = setting(
        True, "Refuse to start a GPT-2 training that needs more memory than this machine has free."
    )
    engine: str = setting(
        "textmill",
        "What trains: textmill itself, or the package gpt-2-simple in a process of its own.",
        choices=("textmill", "gpt-2-simple"),
    )


def plan(settings: TrainSettings, source: Dataset, base: BaseModel | None = None) -> tuple[Any, Any]:
    """The model's config and the schedule from preset and overrides; of a model that starts from `base` the sizes are
    the base's. Checks everything before the first slow act."""
    family = get_model(settings.model)
    family.preset(settings.preset)
    config_fields, schedule_fields = family.config_class.kinds(), family.schedule_class.kinds()
    for name in settings.overrides:
        if name == "vocabulary_size" or (name not in config_fields and name not in schedule_fields):
            known = [n for n in (*config_fields, *schedule_fields) if n != "vocabulary_size"]
            raise SettingsError(unknown_name("setting", name, known, "overrides"))
    model = {k: v for k, v in settings.overrides.items() if k in config_fields}
    loop = {k: v for k, v in settings.overrides.items() if k in schedule_fields}
    preset = settings.preset
    if base is None:
        config = family.config(preset, source.tokenizer.size, model)
    else:
        config = _sizes_of_base(family, base, source, model)
        if not family.has_sizes_of(preset, config):
            preset = family.preset_like(config)
            log.info(
                "the base's sizes are not those of preset %s: training as preset %s does",
                settings.preset,
                preset,
            )
    schedule = family.schedule(preset, loop)
    return config, family.training().fit(schedule, loop, config, source)


def _sizes_of_base(family: Family, base: BaseModel, source: Dataset, overrides: dict[str, Any]) -> Any:
    config = base.config.replace(**{k: v for k, v in overrides.items() if k in family.free})
    asked = config.replace(**overrides).as_dict()
    for name, value in config.as_dict().items():
        if asked[name] != value:
            raise SettingsError(
                f"setting {name!r} in overrides is {asked[name]}; the base {base.folder} has {value}, and the sizes "
                "are the base's."
            )
    check_tokenizer(base, source)
    if source.tokenizer.size != config.vocabulary_size:
        raise InputError(
            f"the dataset's tokenizer has {source.tokenizer.size:,} tokens, the base {base.folder} knows "
            f"{config.vocabulary_size:,}; make the dataset with the base's tokenizer."
        )
    return config


def identity_of(
    settings: TrainSettings, config: Any, schedule: Any, source: Dataset, base: BaseModel | None = None
) -> dict[str, Any]:
    """What must be equal for a resume to be exact. When to log, save and stop may change."""
    facts: dict[str, Any] = {
        "dataset": source.digest,
        "tokenizer": source.tokenizer_digest,
        "settings": {
            "model": settings.model,
            "seed": settings.seed,
            "config": config.as_dict(),
            "schedule": schedule.identity(),
        },
    }
    if base is not None:
        facts["base"] = base.digest
    if settings.engine != "textmill":
        facts["settings"]["engine"] = settings.engine
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return {**facts, "key": key}
