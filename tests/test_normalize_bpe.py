"""normalize with byte pairs: a table of one's own, or that of the model to fine-tune."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.test_normalize import make_corpus, tree
from textmill import manifest
from textmill.checkpoints import huggingface
from textmill.checkpoints.checkpoint import save_model
from textmill.checkpoints.openai_checkpoint import write_model
from textmill.checkpoints.pretrained import PullSettings, pull
from textmill.cli import main
from textmill.datasets.dataset import read_dataset
from textmill.errors import FolderError, InputError, SettingsError
from textmill.models.gpt2 import GPT2Config, init
from textmill.normalize import NormalizeSettings, normalize
from textmill.tokenizers import Tokenizer
from textmill.tokenizers.bpe import BPETokenizer
from textmill.tokenizers.char import CharTokenizer

POSTS = {f"{i}.txt": f"the wheel turns {i} times and the moon turns the wheel" for i in range(10)}


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus", POSTS)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(["the wheel the moon " * 9], vocabulary_size=270)


def config(tokenizer: Tokenizer) -> GPT2Config:
    return GPT2Config.of(vocabulary_size=tokenizer.size, context=16, width=4, num_heads=1, num_layers=1)


@pytest.fixture(scope="module")
def openai(tokenizer: BPETokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openai")
    tokenizer.save(folder / "tokenizer")
    write_model(folder / "model", 0, config(tokenizer), init(config(tokenizer)), folder / "tokenizer")
    return folder / "model"


def settings(**values: object) -> NormalizeSettings:
    return NormalizeSettings.of(**{"near_duplicates": 0, "valid_fraction": 0.2, "test_fraction": 0, **values})


def test_a_table_of_ones_own(posts: Path, tmp_path: Path) -> None:
    normalize(posts, tmp_path / "d", settings(tokenizer="bpe", vocabulary_size=300))
    dataset = read_dataset(tmp_path / "d", verify=True)
    made = dataset.tokenizer
    assert isinstance(made, BPETokenizer)
    assert 257 < made.size <= 300
    ids = np.asarray(dataset.tokens("train"))
    assert (ids == made.end_of_document).sum() == 8
    texts = [text for _, text in dataset.texts("train")]
    assert made.decode(ids) == "".join(f"{text}<|endoftext|>" for text in texts)
    trained_on = BPETokenizer.train(texts, vocabulary_size=300)
    assert made.merges == trained_on.merges, "the validation text is not looked at"
    assert dataset.details["tokenizer"]["special_tokens"] == "id"
    assert dataset.report["tokenizer"]["unknown"] == {"train": 0, "valid": 0, "test": 0}
    assert dataset.manifest.versions["tiktoken"]
    normalize(posts, tmp_path / "e", settings(tokenizer="bpe", vocabulary_size=300))
    assert tree(tmp_path / "d") == tree(tmp_path / "e")


def test_literal_delimiters_are_recorded_and_written(posts: Path, tmp_path: Path) -> None:
    normalize(posts, tmp_path / "d", settings(tokenizer="bpe", special_tokens="literal"))
    dataset = read_dataset(tmp_path / "d")
    ids = np.asarray(dataset.tokens("train"))
    assert dataset.tokenizer.end_of_document not in ids
    text = dataset.tokenizer.decode(ids)
    assert text.count("<|startoftext|>") == text.count("<|endoftext|>\n") == 8
    assert text.startswith("<|startoftext|>the wheel")
    assert dataset.details["tokenizer"]["special_tokens"] == "literal"
    assert (
        json.loads((tmp_path / "d" / "tokenizer" / "tokenizer.json").read_text())["special_tokens"]
        == "literal"
    )


def test_a_document_that_is_cut_is_delimited_where_it_begins_and_ends(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", {"a.txt": "one line of it\n" * 40})
    chosen = settings(tokenizer="bpe", special_tokens="literal", test_fraction=0.2)
    normalize(corpus, tmp_path / "d", chosen)
    dataset = read_dataset(tmp_path / "d")
    shown = {s: dataset.tokenizer.decode(np.asarray(dataset.tokens(s))) for s in ("train", "valid", "test")}
    assert [text.count("<|startoftext|>") for text in shown.values()] == [1, 0, 0]
    assert [text.count("<|endoftext|>") for text in shown.values()] == [0, 0, 1]
    assert shown["train"].startswith("<|startoftext|>")
    assert shown["test"].endswith("<|endoftext|>\n")


def test_the_tokenizer_of_an_openai_folder(
    posts: Path, openai: Path, tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    figures = normalize(posts, tmp_path / "d", settings(), openai)
    dataset = read_dataset(tmp_path / "d")
    assert figures["vocabulary_size"] == tokenizer.size
    assert dataset.manifest.settings["tokenizer"] == "bpe"
    assert dataset.report["vocabulary_from"] == "base"
    assert set(dataset.manifest.parents) == {"corpus"}, "the folder has no digest of its own"
    for name in ("encoder.json", "vocab.bpe"):
        assert (tmp_path / "d" / "tokenizer" / name).read_bytes() == (openai / name).read_bytes()
    first = next(text for _, text in dataset.texts("train"))
    ids = np.asarray(dataset.tokens("train"))[: len(tokenizer.encode(first)) + 1]
    assert ids.tolist() == [*tokenizer.encode(first), tokenizer.end_of_document]


def test_the_tokenizer_of_a_pulled_model_and_its_digest(posts: Path, openai: Path, tmp_path: Path) -> None:
    pull(tmp_path / "m", PullSettings.of(uri=str(openai)))
    normalize(posts, tmp_path / "d", settings(), tmp_path / "m")
    parents = read_dataset(tmp_path / "d").manifest.parents
    assert parents["base"] == manifest.read(tmp_path / "m", "model").digest


def test_the_tokenizer_of_a_hugging_face_folder(posts: Path, tokenizer: BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "t")
    huggingface.write_model(tmp_path / "m", config(tokenizer), init(config(tokenizer)), tmp_path / "t")
    normalize(posts, tmp_path / "d", settings(special_tokens="literal"), tmp_path / "m")
    made = read_dataset(tmp_path / "d").tokenizer
    assert isinstance(made, BPETokenizer)
    assert (made.table, made.merges) == (tokenizer.table, tokenizer.merges)
    assert made.special_tokens == "literal"


@pytest.mark.parametrize(("asked", "got"), [("auto", "literal"), ("id", "id"), ("literal", "literal")])
def test_the_tokenizer_of_a_checkpoint_with_its_delimiters(
    asked: str, got: str, posts: Path, tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    sizes = config(tokenizer)
    digest = save_model(
        tmp_path / "c",
        init(sizes),
        {"model": "gpt2", "config": sizes.as_dict()},
        {"step": 3},
        tokenizer.with_delimiters("literal"),
        {},
    )
    normalize(posts, tmp_path / "d", settings(special_tokens=asked), tmp_path / "c")
    dataset = read_dataset(tmp_path / "d")
    assert dataset.details["tokenizer"]["special_tokens"] == got
    assert dataset.manifest.parents["base"] == digest


def test_a_base_that_does_not_fit_is_one_line(posts: Path, openai: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="there is no base model at"):
        normalize(posts, tmp_path / "d", settings(), tmp_path / "nowhere")
    with pytest.raises(FolderError, match="is no model to take a tokenizer from"):
        normalize(posts, tmp_path / "d", settings(), posts)
    with pytest.raises(SettingsError, match=r"'tokenizer' is 'word', but the base .* has bpe tokens"):
        normalize(posts, tmp_path / "d", settings(tokenizer="word"), openai)
    shutil.copytree(openai, tmp_path / "cut")
    (tmp_path / "cut" / "vocab.bpe").write_bytes((openai / "vocab.bpe").read_bytes()[:-3])
    with pytest.raises(FolderError, match=r"vocab\.bpe is cut short"):
        normalize(posts, tmp_path / "d", settings(), tmp_path / "cut")
    CharTokenizer.train(["abc"]).save(tmp_path / "char" / "tokenizer")
    with pytest.raises(InputError, match="special_tokens 'id' needs byte pairs; the base has char tokens"):
        normalize(posts, tmp_path / "d", settings(special_tokens="id"), tmp_path / "char")
    assert not (tmp_path / "d").exists()


def test_the_command_takes_a_base(posts: Path, openai: Path, tokenizer: BPETokenizer, tmp_path: Path) -> None:
    command = [
        "normalize",
        str(posts),
        "-o",
        str(tmp_path / "d"),
        "--base",
        str(openai),
        "--special-tokens",
        "literal",
    ]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    made = read_dataset(tmp_path / "d").tokenizer
    assert isinstance(made, BPETokenizer)
    assert (made.merges, made.special_tokens) == (tokenizer.merges, "literal")
