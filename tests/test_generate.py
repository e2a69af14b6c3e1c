"""The stage that writes: the texts folder, its figures, what was copied."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.generating import character_generator, gpt2_generator, recurrent, save, transformer, word_generator
from textmill import manifest
from textmill.checkpoints.checkpoint import save_model
from textmill.errors import FolderError, InputError, SettingsError
from textmill.generate import GenerateSettings, generate, score

pytest.importorskip("tensorflow")


def settings(**values: Any) -> GenerateSettings:
    return GenerateSettings.of(**{"length": 60, "stop_at_end": False, **values})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    generator = character_generator()
    return save(tmp_path / "checkpoint", generator, recurrent(generator.tokenizer)[1])


@pytest.fixture
def gpt2_checkpoint(tmp_path: Path) -> Path:
    generator = gpt2_generator()
    return save(tmp_path / "gpt2", generator, transformer(generator.tokenizer)[1])


def test_the_texts_folder(checkpoint: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    summary = generate(checkpoint, texts, settings(number=2, batch_size=1), prompts=["ab", "cX"])
    records = [json.loads(line) for line in (texts / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(r["index"], r["prompt"], r["seed"], r["tokens"]) for r in records] == [
        (0, "ab", 0, 60), (1, "ab", 0, 60), (2, "cX", 0, 60), (3, "cX", 0, 60)
    ]  # fmt: skip
    assert set(records[0]) == {
        "index", "prompt", "completion", "text", "finish_reason", "tokens", "characters", "seed", "scores"
    }  # fmt: skip
    plain = (texts / "texts.txt").read_text(encoding="utf-8")
    assert all(record["text"] in plain for record in records)
    assert plain.count("= TEXT ") == 4
    assert (summary["texts"], summary["tokens"], summary["unknown_in_prompts"]) == (4, 240, 1)
    assert summary["tokens_per_second"] > 0
    made = manifest.read(texts, "texts", verify=True)
    assert made.parents == {"checkpoint": manifest.read(checkpoint, "checkpoint").digest}
    assert made.settings["number"] == 2


def test_tensorflow_may_go_by_another_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images have tensorflow-cpu, and no distribution `tensorflow`; what writes is JAX anyway."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    generate(checkpoint, tmp_path / "texts", GenerateSettings.of(length=5))
    assert set(manifest.read(tmp_path / "texts", "texts").versions) == {"jax", "numpy", "python", "textmill"}


def test_a_delimiter_follows_each_text(checkpoint: Path, tmp_path: Path) -> None:
    for number, delimiter, form in (
        (2, None, "==================== TEXT 1 ====================\n{}\n"
                  "==================== TEXT 2 ====================\n{}\n"),
        (2, "====", "{}\n====\n{}\n====\n"),
        (2, "====\n", "{}\n====\n{}\n====\n"),
        (2, "", "{}\n{}\n"),
        (1, "====", "{}\n"),
    ):  # fmt: skip
        texts = tmp_path / "texts"
        generate(checkpoint, texts, settings(number=number, delimiter=delimiter, stop=["\n"]), prompts=["ab"])
        records = [json.loads(line) for line in (texts / "texts.jsonl").read_text().splitlines()]
        assert (texts / "texts.txt").read_text() == form.format(*(record["text"] for record in records))


def test_a_gpt2_checkpoint_writes_texts(gpt2_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": "the and"}\n{"prompt": "", "length": 7, "number": 1}\n'
        '{"prompt": "é", "seed": 5, "temperature": 0, "include_prompt": false}\n'
    )
    summary = generate(gpt2_checkpoint, tmp_path / "texts", settings(number=2), prompts=tmp_path / "p.jsonl")
    lines = (tmp_path / "texts" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["index"], r["prompt"], r["tokens"], r["seed"]) for r in records] == [
        (0, "the and", 60, 0), (1, "the and", 60, 0), (2, "", 7, 0), (3, "é", 60, 5), (4, "é", 60, 5)
    ]  # fmt: skip
    assert [r["text"] == r["prompt"] + r["completion"] for r in records] == [True, True, True, False, False]
    assert records[3]["completion"] == records[4]["completion"], "greedy"
    assert summary["tokens"] == 4 * 60 + 7
    assert summary["unknown_in_prompts"] == 0


def test_score_of_texts(gpt2_checkpoint: Path, checkpoint: Path) -> None:
    first, second = score(gpt2_checkpoint, ["the and the", "the" * 100])
    assert (first.tokens, second.tokens) == (3, 100)
    assert 0 < first.perplexity != second.perplexity
    assert score(checkpoint, ["abc"])[0].tokens == 3


def test_the_same_settings_give_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    digests = set()
    for name, batch_size in (("a", 30), ("b", 1)):
        generate(checkpoint, tmp_path / name, settings(number=7, batch_size=batch_size))
        digests.add(manifest.read(tmp_path / name, "texts").digest)
    assert len(digests) == 1


def test_copied_is_measured_where_the_dataset_is_given(char_dataset: Path, tmp_path: Path) -> None:
    from textmill.datasets.dataset import read_dataset

    dataset = read_dataset(char_dataset)
    config, weights = recurrent(dataset.tokenizer)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    said = {"model": "char-gru", "preset": "tiny", "config": config.as_dict(), "render": ""}
    save_model(folder, weights, said, {"step": 1}, dataset.tokenizer, {})
    summary = generate(folder, tmp_path / "texts", settings(number=2, batch_size=1), dataset=char_dataset)
    records = [json.loads(line) for line in (tmp_path / "texts" / "texts.jsonl").read_text().splitlines()]
    corpus = "\n".join(text for _, text in dataset.texts("train"))
    for record in records:
        assert record["copied"]["longest_run"] >= 1
        assert record["copied"]["longest_run_text"] in corpus
        assert record["copied"]["longest_run_text"] in record["completion"]
        assert record["copied"]["share_8grams"] == 0
    assert summary["longest_copied_run"] == max(r["copied"]["longest_run"] for r in records)
    assert manifest.read(tmp_path / "texts", "texts").parents["dataset"] == dataset.digest


def test_a_script_is_compared_as_it_is_read(word_dataset: Path) -> None:
    from textmill.datasets.dataset import read_dataset
    from textmill.generate import _learned

    dataset = read_dataset(word_dataset)
    generator = word_generator()
    shown = [generator.as_read(text, settings()) for _, text in _learned(dataset, dataset.tokenizer)]
    assert "[ MOLL ]: Is the wheel turning, Toby? I can't hear it." in "\n".join(shown)


def test_unknown_words_of_prompts_are_said(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "textmill.generate"):
        generate(checkpoint, tmp_path / "texts", settings(length=2, batch_size=1), prompts=["aéé", "Z"])
    assert "does not know 3 character(s) of the prompts ('é', 'Z')" in caplog.text


def test_another_folder_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="no texts folder"):
        generate(checkpoint, mine)
    with pytest.raises(FolderError, match="holds a checkpoint"):
        generate(checkpoint, checkpoint)
    with pytest.raises(FolderError, match="no such folder"):
        generate(tmp_path / "nowhere", tmp_path / "texts")
    assert (mine / "letter.txt").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"length": 0},
        {"temperature": -1},
        {"top_p": 1.5},
        {"stop": [""]},
        {"stop": [3]},
        {"render": "html"},
        {"most_characters": -1},
        {"delimiter": 3},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        GenerateSettings.of(**values)
