"""The table of models: names, presets as data, parameter counts."""

from __future__ import annotations

import pytest

from textmill.errors import SettingsError
from textmill.models import MODELS, get_model
from textmill.models.rnn import parameter_count


def test_s1_s_table_of_presets() -> None:
    columns = ("init_scale", "keep_prob", "num_layers", "hidden_size")
    schedule = (
        "learning_rate",
        "max_grad_norm",
        "num_steps",
        "max_epoch",
        "epochs",
        "lr_decay",
        "batch_size",
    )
    table = {
        name: tuple(MODELS["word-lstm"].presets[name]["model"][c] for c in columns)
        + tuple(MODELS["word-lstm"].presets[name]["train"][c] for c in schedule)
        for name in ("test", "small", "medium", "large")
    }
    assert table == {
        "test": (0.1, 1.0, 1, 2, 1.0, 1.0, 2, 1, 1, 0.5, 10),
        "small": (0.1, 1.0, 2, 200, 1.0, 5.0, 20, 4, 13, 0.5, 20),
        "medium": (0.05, 0.5, 2, 650, 1.0, 5.0, 35, 6, 39, 0.8, 20),
        "large": (0.04, 0.35, 2, 1500, 1.0, 10.0, 35, 14, 55, 1 / 1.15, 20),
    }
    for preset in MODELS["word-lstm"].presets.values():
        assert preset["train"]["optimizer"] == "sgd"
        assert preset["train"]["carry"] == "epoch"


def test_s3_s_preset() -> None:
    preset = MODELS["char-gru"].presets["shakespeare"]
    assert preset["model"] == {"hidden_size": 512, "num_layers": 3, "keep_prob": 1.0}
    expected = {
        "batch_size": 100,
        "num_steps": 30,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "carry": "roll",
    }
    assert expected.items() <= preset["train"].items()
    assert preset["train"].get("max_grad_norm", 0.0) == 0.0
    assert preset["train"].get("lr_decay", 1.0) == 1.0


@pytest.mark.parametrize(
    ("family", "preset", "vocabulary_size", "count"),
    [
        ("word-lstm", "test", 10_617, 53_125),
        ("word-lstm", "small", 10_617, 4_899_017),
        ("word-lstm", "medium", 10_617, 20_577_917),
        ("word-lstm", "large", 10_617, 67_873_617),
        ("word-lstm", "small", 10_000, 4_651_600),
        ("word-lstm", "medium", 10_000, 19_775_200),
        ("word-lstm", "large", 10_000, 66_022_000),
        ("char-gru", "shakespeare", 98, 4_137_570),
    ],
)
def test_parameter_counts_are_those_of_the_old_systems(
    family: str, preset: str, vocabulary_size: int, count: int
) -> None:
    assert parameter_count(MODELS[family].config(preset, vocabulary_size)) == count


@pytest.mark.parametrize("family", MODELS)
def test_every_preset_is_valid_settings(family: str) -> None:
    for name, preset in MODELS[family].presets.items():
        assert set(preset) == {"model", "train"}
        MODELS[family].config(name, 50)
        MODELS[family].schedule(name)


def test_overrides_win_over_the_preset_and_are_checked() -> None:
    family = get_model("char-gru")
    assert family.config("tiny", 50, {"hidden_size": 24.0}).hidden_size == 24
    with pytest.raises(SettingsError, match=r"unknown setting 'hiden_size'. Did you mean 'hidden_size'"):
        family.config("tiny", 50, {"hiden_size": 24})
    with pytest.raises(SettingsError, match=r"'keep_prob' is 1.5; it must be at most 1"):
        family.config("tiny", 50, {"keep_prob": 1.5})


def test_unknown_names_are_one_line_with_what_exists() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown model 'char-gry'\. Did you mean 'char-gru'\? Known: char-gru"
    ):
        get_model("char-gry")
    with pytest.raises(SettingsError, match=r"unknown preset of word-lstm 'smal'\. Did you mean 'small'\?"):
        get_model("word-lstm").preset("smal")
