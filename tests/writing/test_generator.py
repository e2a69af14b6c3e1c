"""Texts from a model: the same text whatever the batch, stop rules, prompts, scores, flat memory."""

from __future__ import annotations

import gc
import itertools
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import generating
from tests.generating import CHARACTERS, FollowedDecoder, recurrent, save, transformer
from textmill.errors import InputError
from textmill.models import gpt2
from textmill.models.sample import uniforms
from textmill.tokenizers import BPETokenizer, CharTokenizer
from textmill.writing.drafts import Kept
from textmill.writing.generator import Generator, _sampler, sample_text
from textmill.writing.prompts import Prompt
from textmill.writing.settings import GenerateSettings

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def characters() -> Generator:
    return generating.character_generator()


@pytest.fixture(scope="module")
def words() -> Generator:
    return generating.word_generator()


@pytest.fixture(scope="module")
def pairs() -> Generator:
    """A GPT-2 with a context of 24 byte pairs."""
    return generating.gpt2_generator()


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
    _, weights = recurrent(characters.tokenizer)
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
    score = characters.score(text.completion)
    assert score.mean_log_probability == pytest.approx(text.scores["mean_log_probability"], rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(-score.log_probability / 90))
    assert score.tokens == 90
    with pytest.raises(InputError, match="nothing to score"):
        characters.score("")


def test_pools_do_not_grow_with_calls(characters: Generator, pairs: Generator) -> None:
    for generator in (characters, pairs):
        for number in (1, 2, 3, 5, 7, 9):
            generator.generate(["a" * number], settings(number=number, length=5))
            generator.score("abc" * number)
            list(zip(*(generator.stream("", settings(length=9)) for _ in range(3)), strict=False))
            assert len(generator._pools) <= 2
            assert len(generator._streaming) <= 1


def test_a_model_and_a_tokenizer_of_two_runs_are_refused() -> None:
    tokenizer = CharTokenizer.train([CHARACTERS])
    config, weights = recurrent(tokenizer)
    with pytest.raises(InputError, match="15 tokens and its tokenizer 5"):
        Generator(config, weights, CharTokenizer.train(["abc"]))


# --- while training


def test_sample_text_follows_the_weights_without_compiling_anew(characters: Generator) -> None:
    tokenizer = characters.tokenizer
    config, weights = recurrent(tokenizer)
    first = sample_text(config, weights, tokenizer, length=40, seed=1)
    decoder = _sampler["generator"].decoder
    compiled = list(decoder._steps.signatures)
    assert sample_text(config, weights, tokenizer, length=40, seed=1) == first
    other = sample_text(config, {k: 0.5 * v for k, v in weights.items()}, tokenizer, length=40, seed=1)
    assert len(first) == 40
    assert other != first
    [kept] = _sampler.values()
    assert kept.decoder is decoder
    assert decoder._steps.signatures == compiled
    assert first == characters.generate([""], settings(length=40, seed=1))[0].text


# --- a model with a context: GPT-2


def follow(prompt: list[int], index: int, steps: int, context: int) -> list[int]:
    """What FollowedDecoder writes, step by step: the plain meaning of a window that slides."""
    decoder = FollowedDecoder(None, None)
    seen, written = list(prompt[:-1]), []
    following = prompt[-1]
    for position in range(steps):
        if len(seen) == context:  # full: the last half is read again
            last = (prompt + written)[-(context // 2) :]
            seen, following = last[:-1], last[-1]
        seen.append(following)
        following = decoder.next_token(seen, float(uniforms(0, index, position)))
        written.append(following)
    return written


@pytest.mark.parametrize("context", [2, 7, 12])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_text_longer_than_the_context_slides_the_window(context: int, batch_size: int) -> None:
    tokenizer = BPETokenizer.of([])
    config = gpt2.GPT2Config.of(vocabulary_size=tokenizer.size, context=context)
    generator = Generator(config, {}, tokenizer, decoder=FollowedDecoder)
    prompts = ["a", "", "abcdef"[: context - 1], "b", "abc"[: context - 1]]
    own = [Prompt(prompt, {"length": 40 + 7 * i}) for i, prompt in enumerate(prompts)]
    texts = generator.generate(own, settings(batch_size=batch_size))
    for text, asked in zip(texts, own, strict=True):
        ids = [256, *tokenizer.encode(asked.text).tolist()]
        expected = follow(ids, text.index, asked.own["length"], context)
        assert text.tokens == asked.own["length"]
        assert text.completion == tokenizer.decode(ids[-8:] + expected)[len(tokenizer.decode(ids[-8:])) :]
    streamed = "".join(generator.stream("a", settings(length=40)))
    assert streamed == texts[0].text


def test_repetition_penalty_counts_the_whole_text(pairs: Generator) -> None:
    asked = settings(length=100, temperature=0, repetition_penalty=1e6)
    draft = pairs.draft(0, "", asked)
    draft.kept = Kept()
    assert list(pairs._write([draft], 1)) == [draft]
    assert len(draft.kept.ids) == 100
    assert len(set(draft.kept.ids)) == 100, "also what has left the context is not said again"


def test_of_a_prompt_longer_than_the_context_the_last_part_is_read(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = BPETokenizer.of([])
    config = gpt2.GPT2Config.of(vocabulary_size=tokenizer.size, context=10)
    generator = Generator(config, {}, tokenizer, decoder=FollowedDecoder)
    with caplog.at_level(logging.INFO, "textmill.generate"):
        texts = generator.generate(["abc", "0123456789"], settings(length=3, number=2))
    assert caplog.messages == [
        "1 prompt(s) of up to 11 tokens do not fit into the context of 10: their last part is read"
    ]
    end = tokenizer.end_of_document
    shown = ["" if ids[0] == end else tokenizer.decode(ids) for ids in generator.decoder.reads]
    assert shown == ["", "", "3456789", "3456789"], "with room for the 3 tokens to come"
    assert texts[2].text.startswith("0123456789"), "all of the prompt is shown"
    generator.decoder.reads.clear()
    generator.generate(["0123456789"], settings(length=1000))
    assert tokenizer.decode(generator.decoder.reads[0]) == "56789", "half, where more is to come than fits"


def test_gpt2_writes_the_same_alone_and_in_any_batch(pairs: Generator) -> None:
    [alone] = pairs.generate(["the"], settings())
    assert alone.tokens == 60 > 24, "longer than the context"
    for number, batch_size in ((2, 30), (7, 30), (7, 2), (2, 1)):
        assert pairs.generate(["the"], settings(number=number, batch_size=batch_size))[0] == alone
    assert pairs.generate(["the", "and" * 40, ""], settings(batch_size=2))[0] == alone
    assert "".join(pairs.stream("the", settings())) == alone.text


def test_gpt2_writes_what_its_arithmetic_says(pairs: Generator) -> None:
    """Greedy, against the plain forward of models/gpt2.py."""
    config, weights = transformer(pairs.tokenizer)
    ids = [pairs.tokenizer.end_of_document, *pairs.tokenizer.encode("the and").tolist()]
    seen = list(ids)
    for _ in range(16):
        seen.append(int(gpt2.forward(config, weights, np.array([seen]))[0, -1].argmax()))
    [text] = pairs.generate(["the and"], settings(length=16, temperature=0))
    assert text.text == pairs.tokenizer.decode(seen)[len("<|endoftext|>") :]


def test_score_of_gpt2_is_that_of_its_arithmetic(pairs: Generator) -> None:
    config, weights = transformer(pairs.tokenizer)
    for text in (
        "the",
        "the and then " * 2,
        "the and then " * 20,
    ):  # shorter and longer than the context of 24
        ids = np.array([pairs.tokenizer.end_of_document, *pairs.tokenizer.encode(text)])
        expected, half = 0.0, config.context // 2
        for at in range(1, len(ids)):
            start = 0 if at < config.context else (at - half) // half * half  # blocks that overlap by half
            logits = gpt2.forward(config, weights, ids[None, start:at])[0, -1].astype(np.float64)
            expected += logits[ids[at]] - np.log(np.exp(logits).sum())
        score = pairs.score(text)
        assert score.tokens == len(ids) - 1
        assert score.log_probability == pytest.approx(expected, rel=1e-4)


def test_byte_pairs_come_as_whole_characters() -> None:
    whole = "né 🙂 早い " * 4
    generator = generating.scripted_generator(whole)
    pieces = list(generator.stream("", settings(length=1000, stop_at_end=True)))
    assert "".join(pieces) == whole
    assert not [piece for piece in pieces if "\ufffd" in piece]
    assert len(pieces) > 20, "as they are made"
    cut = generator.generate([""], settings(length=3))[0]  # n and the two bytes of é
    assert (cut.completion, cut.tokens) == ("né", 3)
    half = generator.generate([""], settings(length=2))[0]
    assert (half.completion, half.tokens) == ("n", 2), "half a character is not shown"


def test_a_document_ends_by_its_token_or_its_mark() -> None:
    token = generating.scripted_generator("one two")
    assert [(t.completion, t.finish_reason) for t in token.generate([""], settings(stop_at_end=True))] == [
        ("one two", "end_of_document")
    ]
    mark = generating.scripted_generator(" one two <|endoftext|> three", "literal")
    [ended] = mark.generate([""], settings(stop_at_end=True))
    assert (ended.completion, ended.finish_reason) == (" one two ", "end_of_document")
    [going_on] = mark.generate([""], settings(length=20))
    assert going_on.completion.startswith(" one two <|endoftext|>")
    assert "".join(mark.stream("", settings(stop_at_end=True))) == " one two "


# --- finished texts


def test_a_post_keeps_its_length_and_stops_early() -> None:
    generator = generating.scripted_generator(" " + "One two three. " * 100)
    [post] = generator.generate([""], settings(length=1500, most_characters=50))
    assert (post.text, post.finish_reason) == ("One two three. One two three. One two three.", "characters")
    assert post.tokens < 60, "what would be cut off is not written"
    assert "".join(generator.stream("", settings(length=1500, most_characters=50))) == post.text
    [shown] = generator.generate(["A cold day."], settings(length=1500, most_characters=30))
    assert shown.text == "A cold day. One two three."


def test_an_episode_ends_with_a_sentence_and_has_capitals() -> None:
    generator = generating.scripted_generator(" slept , and ran . they ate . and th")
    asked = settings(whole_sentences=True, recapitalize=True, stop_at_end=True)
    [text] = generator.generate(["ash and pikachu"], asked)
    assert text.text == "Ash and pikachu slept, and ran. They ate."
    assert text.completion == " slept , and ran . they ate . and th", "as the model wrote it"
    assert text.finish_reason == "sentence"
    pieces = list(generator.stream("ash and pikachu", asked))
    assert pieces == ["Ash and pikachu slept, and ran.", " They ate."]


def test_a_model_of_parted_punctuation_reads_and_shows_plain_text() -> None:
    generator = generating.scripted_generator(" ran ( fast ) . they ate .")
    generator.render = "sentences"
    [text] = generator.generate(["ash, then Misty"], settings(stop_at_end=True))
    assert text.text == "Ash, then Misty ran (fast). They ate."
    fed = generator.decoder.reads[0]
    assert generator.tokenizer.decode(fed) == "<|endoftext|>ash , then Misty"
    [plain] = generator.generate(["ash, then Misty"], settings(stop_at_end=True, render="plain"))
    assert plain.text == "ash , then Misty ran ( fast ) . they ate ."


def test_so_many_sentences() -> None:
    generator = generating.scripted_generator("One. Two! Three? Four.")
    [text] = generator.generate([""], settings(sentences=2))
    assert (text.text, text.finish_reason) == ("One. Two!", "sentence")
    assert text.tokens == len("One. Two! T"), "the next one had to begin"


def test_a_script_is_finished_as_it_is_read(words: Generator) -> None:
    [whole] = words.generate([""], settings(length=150))
    [cut] = words.generate([""], settings(length=150, most_characters=40))
    assert cut.finish_reason == "characters"
    assert len(cut.text) <= 40
    assert whole.text.startswith(cut.text)
    assert "".join(words.stream("", settings(length=150, most_characters=40))) == cut.text


# --- flat memory


@pytest.mark.parametrize("name", ["characters", "pairs"])
def test_memory_is_flat_over_any_number_of_calls(name: str, request: pytest.FixtureRequest) -> None:
    generator = request.getfixturevalue(name)

    def calls(count: int) -> None:
        for seed in range(count):
            generator.generate(["a" * (seed % 20)], settings(number=3, seed=seed, length=30))
            "".join(generator.stream("ab", settings(seed=seed, length=10)))
            next(iter(generator.stream("ab", settings(seed=seed, length=10))))  # a client that vanishes
            generator.score("a" * (seed % 40 + 1))

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    calls(40)
    grown = []
    for _ in range(4):  # what other tests left behind in this process settles; a leak grows in every round
        before, objects = resident(), len(gc.get_objects())
        calls(60)
        grown.append((resident() - before, len(gc.get_objects()) - objects))
        if grown[-1][0] < 2e6 and grown[-1][1] < 500:
            return
    pytest.fail(f"bytes and objects more after each round of calls: {grown}")


def test_an_opened_model_s_weights_are_held_once(tmp_path: Path) -> None:
    """As the decoder laid them out; beside that only their number is known."""
    tokenizer = CharTokenizer.train([CHARACTERS])
    config, weights = recurrent(tokenizer)
    fresh = Generator(config, weights, tokenizer, precision="float32")
    opened = Generator.open(save(tmp_path / "checkpoint", fresh, weights), "float32")
    assert opened.model is not None
    assert opened.model.weights == {}
    assert opened.model.parameters == sum(weight.size for weight in weights.values())
    assert opened.generate(["a"], settings(length=20)) == fresh.generate(["a"], settings(length=20))
