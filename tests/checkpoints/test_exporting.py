"""Models in and out by the command line: what was exported is read by the other format's reader, and is the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from textmill.checkpoints import huggingface, openai_checkpoint
from textmill.cli import main
from textmill.models.gpt2 import Arrays, GPT2Config, init
from textmill.tokenizers.bpe import BPETokenizer

CONFIG = GPT2Config.of(vocabulary_size=257, context=32, width=8, num_heads=2, num_layers=2)


@pytest.fixture(scope="module")
def weights() -> Arrays:
    return init(CONFIG, 8)


@pytest.fixture(scope="module")
def openai(weights: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openai")
    BPETokenizer.train([]).save(folder / "tokenizer")
    openai_checkpoint.write_model(folder / "model", 40, CONFIG, weights, folder / "tokenizer")
    return folder / "model"


def textmill(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["models", *map(str, arguments)])


def equal(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_export_there_and_back(openai: Path, weights: Arrays, tmp_path: Path) -> None:
    there = textmill("export", openai, "--to", "huggingface", "-o", tmp_path / "hf")
    assert there.exit_code == 0, there.output
    assert equal(huggingface.read_model(tmp_path / "hf")[1], weights)
    back = textmill("export", tmp_path / "hf", "--to", "openai", "-o", tmp_path / "openai")
    assert back.exit_code == 0, back.output
    assert equal(openai_checkpoint.read_model(tmp_path / "openai")[1], weights)
    assert (tmp_path / "openai" / "vocab.bpe").read_bytes() == (openai / "vocab.bpe").read_bytes()
    same = textmill("export", openai, "--to", "openai", "-o", tmp_path / "again")
    assert same.exit_code == 0, same.output
    assert {p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()} == {
        p.name: p.read_bytes() for p in openai.iterdir()
    }


def test_show_says_what_it_is(openai: Path, tmp_path: Path) -> None:
    found = json.loads(textmill("show", openai).output)
    assert (found["format"], found["model"], found["step"]) == ("openai", "gpt2", 40)
    assert found["parameters"] == sum(v.size for v in init(CONFIG).values())
    assert found["config"] == CONFIG.as_dict()
    assert found["tokenizer"] == {"name": "bpe", "size": 257, "special_tokens": "id"}


def test_pull_from_a_folder(openai: Path, tmp_path: Path) -> None:
    done = textmill("pull", "124M", "--from", openai, "-o", tmp_path / "m")
    assert done.exit_code == 0, done.output
    shown = json.loads(textmill("show", tmp_path / "m").output)
    assert len(shown["sha256"]) == 64
    assert shown["step"] == 40


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["show", "{tmp}/nowhere"], "there is no model at"),
        (["show", "{tmp}"], "holds no GPT-2: neither"),
        (["export", "{tmp}", "--to", "openai", "-o", "{tmp}/x"], "is no model to start from"),
        (["export", "{openai}", "--to", "openai", "-o", "{openai}"], "there is something at"),
        (["pull", "--from", "{tmp}/nowhere", "-o", "{tmp}/y"], "there is no GPT-2 at"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], line: str, openai: Path, tmp_path: Path
) -> None:
    done = textmill(*(a.format(tmp=tmp_path, openai=openai) for a in arguments))
    assert done.exit_code == 2
    assert line in done.output
    assert done.output.count("\n") == 1


def test_a_checkpoint_of_another_family_is_refused(openai: Path, tmp_path: Path) -> None:
    from textmill.tokenizers.char import CharTokenizer

    (tmp_path / "m" / "tokenizer").mkdir(parents=True)
    CharTokenizer.train(["abc"]).save(tmp_path / "m" / "tokenizer")
    config = CONFIG.replace(vocabulary_size=5)
    openai_checkpoint.write_model(tmp_path / "m", 1, config, init(config))
    done = textmill("export", tmp_path / "m", "--to", "huggingface", "-o", tmp_path / "hf")
    assert done.exit_code == 2
    assert "has char tokens; other programs read a GPT-2 of byte pairs alone" in done.output
