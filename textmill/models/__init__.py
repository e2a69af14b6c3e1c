"""The models: a table of families, each with its presets. A preset is data; any of its fields can be overridden.

A new family is one file with a config dataclass of its own, an engine and a decoder, and one row in MODELS (or an entry
point of another package). Importing this package is cheap: no numerical library is loaded before `Family.engine`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textmill import devices, extensions
from textmill.errors import SettingsError
from textmill.models import gpt2, rnn
from textmill.models.gpt2 import GPT2Config
from textmill.models.rnn import RNNConfig
from textmill.models.schedules import RecurrentSchedule, Schedule, TransformerSchedule
from textmill.settings import Settings, unknown_name

Preset = dict[str, dict[str, Any]]  # {"model": config fields, "train": training settings}


@dataclass(frozen=True)
class Family:
    """One kind of model: its configuration, its presets, and where what works on it is ("module:class", imported on
    use)."""

    name: str
    summary: str
    config_class: type[Settings]
    schedule_class: type[Schedule]
    parameter_count: Callable[[Any], int]
    engine_paths: dict[str, str]  # by backend, what trains and scores: class RNNEngine says how
    decoder_path: str  # steps slots of text: class RNNDecoder says how
    training_path: str  # batches, learning rate and lines: class textmill.train.Training says how
    weights_format: str  # how a checkpoint keeps the model: a row of textmill.checkpoints.checkpoint.WEIGHTS
    base: dict[str, Any]  # config fields that make the family what it is
    presets: dict[str, Preset]
    free: tuple[
        str, ...
    ] = ()  # config fields that may differ from those of the model that a training starts from

    def preset(self, name: str) -> Preset:
        """The preset of this name. Raises SettingsError with what exists."""
        if name not in self.presets:
            raise SettingsError(unknown_name(f"preset of {self.name}", name, self.presets))
        return self.presets[name]

    def config(self, preset: str, vocabulary_size: int, overrides: Mapping[str, Any] | None = None) -> Any:
        """The checked configuration: family, then preset, then `overrides`. Raises SettingsError."""
        chosen = self.preset(preset)["model"]
        values = {**self.base, **chosen, "vocabulary_size": vocabulary_size, **(overrides or {})}
        return self.config_class.from_dict(values)

    def schedule(self, preset: str, overrides: Mapping[str, Any] | None = None) -> Any:
        """The checked schedule: the preset's, then `overrides`. Raises SettingsError."""
        return self.schedule_class.from_dict({**self.preset(preset)["train"], **(overrides or {})})

    def preset_like(self, config: Any) -> str:
        """The preset whose number of parameters is nearest to that of `config`, as a ratio."""
        mine = self.parameter_count(config)

        def distance(name: str) -> float:
            return abs(math.log(self.parameter_count(self._sized(name, config)) / mine))

        return min(self.presets, key=distance)

    def has_sizes_of(self, preset: str, config: Any) -> bool:
        """Whether the preset makes a model of the sizes of `config`."""
        return self._sized(preset, config) == config

    def _sized(self, preset: str, config: Any) -> Any:
        same = {name: getattr(config, name) for name in self.free}
        return self.config(preset, config.vocabulary_size, same)

    def engine(self, backend: str = "auto") -> Any:
        """The training engine's class; imports the numerical library. Raises SettingsError (devices.choose_backend)."""
        return _load(self.engine_paths[devices.choose_backend(backend, self.engine_paths, self.name)])

    def decoder(self) -> Any:
        """The decoder's class; imports the numerical library."""
        return _load(self.decoder_path)

    def training(self) -> Any:
        """The class of what the training loop asks."""
        return _load(self.training_path)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def get_model(name: str) -> Family:
    """The family of this name. Raises SettingsError with what exists."""
    family = extensions.look_up(MODELS, "models", name, Family)
    if family is None:
        raise SettingsError(unknown_name("model", name, extensions.known(MODELS, "models")))
    return family


def _ptb(
    hidden_size: int,
    num_layers: int,
    init_scale: float,
    keep_prob: float,
    *,
    batch_size: int,
    num_steps: int,
    max_epoch: int,
    epochs: int,
    max_grad_norm: float,
    lr_decay: float,
) -> Preset:
    """A row of the table in TensorFlow's ptb_word_lm.py, which S1 trains with."""
    model = {
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "init_scale": init_scale,
        "keep_prob": keep_prob,
    }
    train = {
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "lr_decay": lr_decay,
        "max_epoch": max_epoch,
        "epochs": epochs,
        "max_grad_norm": max_grad_norm,
        "batch_size": batch_size,
        "num_steps": num_steps,
        "carry": "epoch",
    }
    return {"model": model, "train": train}


def _characters(hidden_size: int, num_layers: int, keep_prob: float = 1.0, **train: Any) -> Preset:
    """A character model in the manner of tensorflow-rnn-shakespeare: Adam, state carried across epochs by rolling,
    validation in sequences of 1,024 characters."""
    model = {"hidden_size": hidden_size, "num_layers": num_layers, "keep_prob": keep_prob}
    defaults = {"optimizer": "adam", "learning_rate": 1e-3, "carry": "roll", "validation_row": 1024}
    return {"model": model, "train": {**defaults, **train}}


def _transformer(sizes: tuple[int, int, int], context: int, **train: Any) -> Preset:
    """A GPT-2 of (layers, width, heads)."""
    layers, width, heads = sizes
    model = {"num_layers": layers, "width": width, "num_heads": heads, "context": context}
    return {"model": model, "train": {"num_steps": context, **train}}


def _released(*sizes: int) -> Preset:
    """A GPT-2 that OpenAI released, fine-tuned with gpt-2-simple's defaults (gpt_2.finetune); its `steps` has no end
    there, S5 took 1,000. Validation in the manner of nshepperd's train.py: 40 batches."""
    train = {
        "steps": 1000,
        "batch_size": 1,
        "accumulate_gradients": 5,
        "optimizer": "adam",
        "learning_rate": 1e-4,
    }
    often = {"validate_every": 100, "validate_batches": 40, "sample_every": 100, "sample_length": 1023}
    layers, width, heads = sizes
    return _transformer((layers, width, heads), 1024, **train, **often)


RECURRENT: dict[str, Any] = {
    "config_class": RNNConfig,
    "schedule_class": RecurrentSchedule,
    "parameter_count": rnn.parameter_count,
    "engine_paths": {"tensorflow": "textmill.models.rnn_tensorflow:RNNEngine"},
    "decoder_path": "textmill.models.rnn_decode:RNNDecoder",
    "training_path": "textmill.training.recurrent:RecurrentTraining",
    "weights_format": "safetensors",
    "free": ("keep_prob", "init_scale"),
}

MODELS: dict[str, Family] = {
    "char-gru": Family(
        name="char-gru",
        summary="A GRU over characters, as in tensorflow-rnn-shakespeare.",
        **RECURRENT,
        base={"cell": "gru", "embedding": "one_hot"},
        presets={
            # seconds, for tests
            "tiny": _characters(16, 2, batch_size=4, num_steps=8, epochs=1),
            # a few minutes on 2 cores for 80 KB of text
            "small": _characters(
                256,
                2,
                0.8,
                batch_size=20,
                num_steps=40,
                epochs=22,
                learning_rate=3e-3,
                lr_decay=0.8,
                max_epoch=14,
                max_grad_norm=5.0,
                log_every=50,
                view_every=400,
                sample_every=400,
            ),
            # S3: 4,137,570 parameters with the alphabet of 98; its upstream later used keep_prob 0.8 and batch 200
            "shakespeare": _characters(
                512,
                3,
                batch_size=100,
                num_steps=30,
                epochs=10,
                log_every=50,
                view_every=250,
                validate_every=500,
                sample_every=500,
            ),
        },
    ),
    "word-lstm": Family(
        name="word-lstm",
        summary="An LSTM over words, TensorFlow's PTB model.",
        **RECURRENT,
        base={"cell": "lstm", "embedding": "learned", "forget_bias": 0.0},
        presets={
            # S1's table; `test` is too small to learn more than word counts
            "test": _ptb(
                2,
                1,
                0.1,
                1.0,
                batch_size=10,
                num_steps=2,
                max_epoch=1,
                epochs=1,
                max_grad_norm=1.0,
                lr_decay=0.5,
            ),
            "small": _ptb(
                200,
                2,
                0.1,
                1.0,
                batch_size=20,
                num_steps=20,
                max_epoch=4,
                epochs=13,
                max_grad_norm=5.0,
                lr_decay=0.5,
            ),
            "medium": _ptb(
                650,
                2,
                0.05,
                0.5,
                batch_size=20,
                num_steps=35,
                max_epoch=6,
                epochs=39,
                max_grad_norm=5.0,
                lr_decay=0.8,
            ),
            "large": _ptb(
                1500,
                2,
                0.04,
                0.35,
                batch_size=20,
                num_steps=35,
                max_epoch=14,
                epochs=55,
                max_grad_norm=10.0,
                lr_decay=1 / 1.15,
            ),
            # seconds, for tests
            "tiny": _ptb(
                16,
                2,
                0.1,
                1.0,
                batch_size=4,
                num_steps=8,
                max_epoch=1,
                epochs=1,
                max_grad_norm=5.0,
                lr_decay=0.5,
            ),
        },
    ),
    "gpt2": Family(
        name="gpt2",
        summary="OpenAI's GPT-2: fine-tuned from a released model, or from scratch.",
        config_class=GPT2Config,
        schedule_class=TransformerSchedule,
        parameter_count=gpt2.parameter_count,
        engine_paths={
            "tensorflow": "textmill.models.gpt2_tensorflow:GPT2Engine",
            "jax": "textmill.models.gpt2_jax:GPT2Engine",
        },
        decoder_path="textmill.models.gpt2_decode:GPT2Decoder",
        training_path="textmill.training.transformer:TransformerTraining",
        weights_format="openai",
        base={},
        presets={
            # seconds, for tests
            "tiny": _transformer(
                (2, 16, 2),
                32,
                batch_size=2,
                accumulate_gradients=2,
                learning_rate=3e-3,
                print_every=5,
                sample_every=0,
                sample_length=40,
            ),
            # 2.7 million parameters and the vocabulary's, from scratch: some minutes on 2 cores for 300 KB of text
            "small": _transformer(
                (6, 192, 6),
                256,
                epochs=10,
                batch_size=8,
                optimizer="adamw",
                weight_decay=0.1,
                learning_rate=1e-3,
                warmup_steps=50,
                decay="cosine",
                min_factor=0.1,
                max_grad_norm=1.0,
                print_every=10,
                sample_length=200,
            ),
            "124M": _released(12, 768, 12),
            "355M": _released(24, 1024, 16),
            "774M": _released(36, 1280, 20),
            "1558M": _released(48, 1600, 25),
        },
    ),
}
