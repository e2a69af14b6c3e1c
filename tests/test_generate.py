"""Texts from a model: prompts, stop rules, the same text whatever the batch, and the texts folder."""

from __future__ import annotations

import io
import itertools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textmill import manifest
from textmill.checkpoint import save_model
from textmill.errors import FolderError, InputError, SettingsError
from textmill.generate import (
    GenerateSettings,
    Generator,
    _sampler,
    generate,
    read_prompts,
    sample_text,
    start_ids,
)
from textmill.models.rnn import RNNConfig, init
from textmill.play import play, wrap
from textmill.sample import Variant
from textmill.tokenizers import CharTokenizer, WordTokenizer

pytest.importorskip("tensorflow")

MARKUP = (
    "<boname> MOLL <eoname> Who knocks so softly <question> <eos>\n"
    "<open-exp> The wheel turns <close-exp> <eos>\n"
    "<boname> TOBY <eoname> It is the rain <exclamation> <eoepisode>\n"
)
CHARACTERS = "abcdefghij .\n"


def model(tokenizer: Any) -> tuple[RNNConfig, dict[str, np.ndarray]]:
    """A small model with peaked guesses, which never ends a document."""
    word = {"cell": "lstm", "embedding": "learned"}
    kind = word if tokenizer.name == "word" else {"cell": "gru"}
    config = RNNConfig.of(vocabulary_size=tokenizer.size, num_layers=1, hidden_size=12, **kind)
    weights = {name: 2 * value for name, value in init(config, 3).items()}
    if tokenizer.end_of_document is not None:
        weights["output/bias"][tokenizer.end_of_document] = -30
    return config, weights


@pytest.fixture(scope="module")
def characters() -> Generator:
    tokenizer = CharTokenizer.train([CHARACTERS])
    return Generator(*model(tokenizer), tokenizer, precision="float32")


@pytest.fixture(scope="module")
def words() -> Generator:
    tokenizer = WordTokenizer.train([MARKUP], minimum_count=1)
    return Generator(*model(tokenizer), tokenizer, render="script", precision="float32")


def settings(**values: Any) -> GenerateSettings:
    return GenerateSettings.of(**{"length": 60, "stop_at_end": False, **values})


# --- one text, whatever is beside it


def test_a_text_is_the_same_alone_and_in_any_batch(characters: Generator) -> None:
    [alone] = characters.generate(["ab"], settings())
    for number, batch_size in ((2, 30), (7, 30), (7, 2), (2, 1)):
        many = characters.generate(["ab"], settings(number=number, batch_size=batch_size))
        assert many[0] == alone
        assert [text.index for text in many] == list(range(number))
    mixed = characters.generate(["ab", "c" * 90, ""], settings(batch_size=2))
    assert mixed[0] == alone, "what the other prompts are does not matter"


def test_a_streamed_text_is_the_same_text(characters: Generator, words: Generator) -> None:
    for generator in (characters, words):
        [text] = generator.generate(["a"], settings(length=150))
        pieces = list(generator.stream("a", settings(length=150)))
        assert len(pieces) > 2
        assert "".join(pieces) == text.text


def test_streams_may_be_interleaved(characters: Generator) -> None:
    texts = characters.generate(["a"], settings()) + characters.generate(["b"], settings())
    pairs = list(
        itertools.zip_longest(
            characters.stream("a", settings()), characters.stream("b", settings()), fillvalue=""
        )
    )
    assert ["".join(pieces) for pieces in zip(*pairs, strict=True)] == [text.text for text in texts]


def test_another_seed_is_another_text(characters: Generator) -> None:
    texts = [characters.generate([""], settings(seed=seed))[0].text for seed in (0, 1, 2**40)]
    assert len(set(texts)) == 3


def test_greedy_needs_no_seed(characters: Generator) -> None:
    texts = {characters.generate([""], settings(seed=seed, temperature=0))[0].text for seed in range(3)}
    assert len(texts) == 1


# --- stop rules


def test_length_in_tokens_and_in_characters(characters: Generator, words: Generator) -> None:
    [text] = characters.generate([""], settings(length=77))
    assert (text.tokens, text.characters, len(text.completion), text.finish_reason) == (77, 77, 77, "length")
    [text] = words.generate([""], settings(length=100, length_unit="characters", render="plain"))
    assert (text.characters, len(text.completion), text.finish_reason) == (100, 100, "length")
    assert text.tokens < 60


def test_a_stop_string_ends_the_text_before_it_however_it_is_made(characters: Generator) -> None:
    [whole] = characters.generate([""], settings(length=150))
    for at in (0, 30, 62, 63, 64, 100):  # 64 tokens are made at a time
        stop = whole.completion[at : at + 5]
        first = whole.completion.index(stop)
        [text] = characters.generate([""], settings(length=150, stop=["never", stop]))
        assert (text.completion, text.finish_reason) == (whole.completion[:first], "stop")
        assert text.tokens == first + 5, "the tokens that were needed to see it"
        assert "".join(characters.stream("", settings(length=150, stop=["never", stop]))) == text.text


def test_a_beginning_of_a_stop_string_is_held_back_and_then_given(characters: Generator) -> None:
    [whole] = characters.generate([""], settings())
    stop = whole.completion[-3:] + "!!!"
    assert "".join(characters.stream("", settings(stop=[stop]))) == whole.completion


def test_the_end_of_a_document_ends_the_text(characters: Generator) -> None:
    weights = characters.decoder._weights
    characters.decoder.load({**weights, "output/bias": 0 * weights["output/bias"]})
    texts = characters.generate([""], settings(number=7, length=200, stop_at_end=True))
    whole = characters.generate([""], settings(number=7, length=200))
    characters.decoder.load(weights)
    assert {text.finish_reason for text in texts} == {"end_of_document"}, "200 tokens of 15 kinds"
    for text, going_on in zip(texts, whole, strict=True):
        assert going_on.completion.startswith(text.completion)
        assert len(text.completion) == text.tokens < going_on.tokens == 200


# --- prompts


def test_prompt_and_completion_are_apart(characters: Generator) -> None:
    [text] = characters.generate(["abc"], settings())
    assert text.prompt == "abc"
    assert text.text == "abc" + text.completion
    [without] = characters.generate(["abc"], settings(include_prompt=False))
    assert without.text == without.completion == text.completion


def test_unknown_characters_of_a_prompt_are_counted_and_read_as_unknown(characters: Generator) -> None:
    assert characters.unknown_in("abXcé") == ["X", "é"]
    [text] = characters.generate(["abXcé"], settings())
    assert text.text.startswith("abXcé")
    assert "\ufffd" not in text.completion, "the unknown token is never drawn"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("MOLL: Who knocks", "[ MOLL ]: Who knocks"),
        ("[ MOLL ]: Who knocks?", "[ MOLL ]: Who knocks?"),
        ("<boname> MOLL <eoname> Who knocks", "[ MOLL ]: Who knocks"),
        ("{{ The wheel turns }}", "{{ The wheel turns }}"),
        ("Who knocks so", "Who knocks so"),
    ],
)
def test_a_prompt_for_a_script_may_be_plain(words: Generator, prompt: str, shown: str) -> None:
    [text] = words.generate([prompt], settings())
    assert text.prompt == prompt
    assert text.text.startswith(shown)
    assert not words.unknown_in(prompt)


def test_an_empty_prompt_starts_at_the_start(characters: Generator, words: Generator) -> None:
    newline = characters.tokenizer.encode("\n")[0]
    assert start_ids(characters.tokenizer).tolist() == [characters.tokenizer.end_of_document, newline]
    assert start_ids(words.tokenizer).tolist() == [0, *words.tokenizer.encode("\n")], "as S1 warms up"
    assert start_ids(CharTokenizer.train([], alphabet="ascii98")).tolist() == [97], "a line feed"


def test_a_script_shows_no_markup_and_balanced_brackets(words: Generator) -> None:
    for text in words.generate([""], settings(number=5, length=150, batch_size=1)):
        assert "<" not in text.text
        for opening, closing in (("[ ", " ]"), ("{{", "}}")):
            assert text.text.count(opening) == text.text.count(closing)
    [plain] = words.generate([""], settings(render="plain"))
    assert "<boname>" in plain.text


# --- scores and memory


def test_score_is_the_mean_log_probability_of_what_was_written(characters: Generator) -> None:
    [text] = characters.generate([""], settings(length=90))
    assert characters.score(text.completion) == pytest.approx(text.scores["mean_log_probability"], rel=1e-5)
    assert characters.score("abc") < 0
    with pytest.raises(InputError, match="nothing to score"):
        characters.score("")


def test_loops_and_pools_do_not_grow_with_calls(characters: Generator) -> None:
    characters.generate([""], settings(number=7))
    before = len(characters.decoder._loops), len(characters._pools)
    for seed in range(20):
        characters.generate(["a" * seed], settings(number=7, seed=seed, length=5))
        characters.score("abc" * seed + "a")
    assert (len(characters.decoder._loops), len(characters._pools)) == before
    assert all(loop.experimental_get_tracing_count() == 1 for loop in characters.decoder._loops.values())


def test_a_model_and_a_tokenizer_of_two_runs_are_refused() -> None:
    tokenizer = CharTokenizer.train([CHARACTERS])
    config, weights = model(tokenizer)
    with pytest.raises(InputError, match="15 tokens and its tokenizer 5"):
        Generator(config, weights, CharTokenizer.train(["abc"]))


# --- while training, and on the terminal


def test_sample_text_follows_the_weights_without_compiling_anew(characters: Generator) -> None:
    tokenizer = characters.tokenizer
    config, weights = model(tokenizer)
    first = sample_text(config, weights, tokenizer, length=40, seed=1)
    assert sample_text(config, weights, tokenizer, length=40, seed=1) == first
    other = sample_text(config, {k: 0.5 * v for k, v in weights.items()}, tokenizer, length=40, seed=1)
    assert len(first) == 40
    assert other != first
    [kept] = _sampler.values()
    assert kept.decoder._loop(1, Variant()).experimental_get_tracing_count() == 1
    assert first == characters.generate([""], settings(length=40, seed=1))[0].text


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_wrap_breaks_lines_after_width_characters(size: int) -> None:
    text = "x" * 25 + "\n" + "y" * 10 + "\n\n" + "z" * 11
    pieces = (text[i : i + size] for i in range(0, len(text), size))
    assert (
        "".join(wrap(pieces, 10))
        == "x" * 10 + "\n" + "x" * 10 + "\n" + "x" * 5 + "\n" + "y" * 10 + "\n\n" + "z" * 10 + "\nz"
    )


def test_wrap_holds_nothing_back() -> None:
    assert list(wrap(iter("abcd"), 2)) == ["a", "b", "\nc", "d"]


class Terminal(io.StringIO):
    """Ctrl-C after so many characters."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.patience = patience

    def write(self, text: str) -> int:
        if len(self.getvalue()) > self.patience and text != "\n":
            raise KeyboardInterrupt
        return super().write(text)


def test_play_is_endless_until_ctrl_c(checkpoint: Path) -> None:
    out = Terminal(patience=3000)
    play(checkpoint, GenerateSettings.of(seed=4), out)
    lines = out.getvalue().split("\n")
    assert len(out.getvalue()) > 3000, "more than the default length"
    assert max(map(len, lines)) <= 100
    assert lines[-1] == ""


def test_play_keeps_a_length_that_is_set(checkpoint: Path) -> None:
    out = io.StringIO()
    play(checkpoint, GenerateSettings.of(length=50), out)
    assert len(out.getvalue().replace("\n", "")) <= 50


# --- the stage


@pytest.fixture
def checkpoint(tmp_path: Path, characters: Generator) -> Path:
    config, weights = model(characters.tokenizer)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    said = {"model": "char-gru", "preset": "tiny", "config": config.as_dict(), "render": ""}
    save_model(folder, weights, said, {"step": 1}, characters.tokenizer, {"dataset": "0" * 64})
    return folder


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


def test_the_same_settings_give_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    digests = set()
    for name, batch_size in (("a", 30), ("b", 1)):
        generate(checkpoint, tmp_path / name, settings(number=7, batch_size=batch_size))
        digests.add(manifest.read(tmp_path / name, "texts").digest)
    assert len(digests) == 1


def test_copied_is_measured_where_the_dataset_is_given(char_dataset: Path, tmp_path: Path) -> None:
    from textmill.dataset import read_dataset

    dataset = read_dataset(char_dataset)
    config, weights = model(dataset.tokenizer)
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


def test_a_script_is_compared_as_it_is_read(word_dataset: Path, tmp_path: Path) -> None:
    from textmill.dataset import read_dataset
    from textmill.generate import _as_shown

    dataset = read_dataset(word_dataset)
    shown = dict(_as_shown(dataset, dataset.tokenizer, True))
    assert "[ MOLL ]: Is the wheel turning, Toby? I can't hear it." in "\n".join(shown.values())


def test_unknown_words_of_prompts_are_said(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "textmill.generate"):
        generate(checkpoint, tmp_path / "texts", settings(length=2, batch_size=1), prompts=["aéé", "Z"])
    assert "does not know 3 character(s) of the prompts ('é', 'Z')" in caplog.text


def test_prompts_from_files(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfone \r\n\r\n two\n")
    assert read_prompts(tmp_path / "p.txt") == ["one ", " two"]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\\nb"}\n\n{"prompt": ""}\n')
    assert read_prompts(tmp_path / "p.jsonl") == ["a\nb", ""]
    assert read_prompts(None, "x") == ["x"]
    assert read_prompts([], "x") == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": 3}\n', 'line 2 of .* is not of the form {"prompt"'),
        ("p.jsonl", b"oops\n", "line 1"),
        ("p.txt", b"\n \n", "holds no prompt"),
        ("p.txt", b"\xff\xfe\xff", "not UTF-8"),
        ("p.txt", None, "cannot read the prompts' file"),
    ],
)
def test_a_bad_prompts_file_is_one_line(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_prompts(tmp_path / name)


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
    [{"length": 0}, {"temperature": -1}, {"top_p": 1.5}, {"stop": [""]}, {"stop": [3]}, {"render": "html"}],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        GenerateSettings.of(**values)
