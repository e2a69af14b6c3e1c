"""The models: a table of families, each with its presets. A preset is data; any of its fields can be overridden.

A new family is one file with a config dataclass and an engine, and one row in MODELS. Importing this package is cheap:
no numerical library is loaded before `Family.engine`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textmill.errors import SettingsError
from textmill.models.rnn import RNNConfig
from textmill.settings import unknown_name

Preset = dict[str, dict[str, Any]]  # {"model": config fields, "train": training settings}


@dataclass(frozen=True)
class Family:
    """One kind of model: its configuration, its presets and where its training engine is."""

    name: str
    summary: str
    config_class: type[RNNConfig]
    engine_path: str  # "module:class", imported on use
    base: dict[str, Any]  # config fields that make the family what it is
    presets: dict[str, Preset]

    def preset(self, name: str) -> Preset:
        """The preset of this name. Raises SettingsError with what exists."""
        if name not in self.presets:
            raise SettingsError(unknown_name(f"preset of {self.name}", name, self.presets))
        return self.presets[name]

    def config(
        self, preset: str, vocabulary_size: int, overrides: Mapping[str, Any] | None = None
    ) -> RNNConfig:
        """The checked configuration: family, then preset, then `overrides`. Raises SettingsError."""
        chosen = self.preset(preset)["model"]
        values = {**self.base, **chosen, "vocabulary_size": vocabulary_size, **(overrides or {})}
        return self.config_class.from_dict(values)

    def engine(self) -> Any:
        """The training engine's class; imports the numerical library."""
        module, _, name = self.engine_path.partition(":")
        return getattr(importlib.import_module(module), name)


def get_model(name: str) -> Family:
    """The family of this name. Raises SettingsError with what exists."""
    if name not in MODELS:
        raise SettingsError(unknown_name("model", name, MODELS))
    return MODELS[name]


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


RNN_ENGINE = "textmill.models.rnn_tensorflow:RNNEngine"

MODELS: dict[str, Family] = {
    "char-gru": Family(
        name="char-gru",
        summary="A GRU over characters, as in tensorflow-rnn-shakespeare.",
        config_class=RNNConfig,
        engine_path=RNN_ENGINE,
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
        config_class=RNNConfig,
        engine_path=RNN_ENGINE,
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
}
