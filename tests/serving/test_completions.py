"""OpenAI's way in, through OpenAI's own client and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from tests.serving.running import Running, events, running
from textmill.models import sample
from textmill.serving import parameters
from textmill.serving.token_log import TokenLog
from textmill.writing.drafts import Kept
from textmill.writing.generator import Generator
from textmill.writing.settings import GenerateSettings


@pytest.fixture(scope="module")
def client(service: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def gpt2(pairs: Generator) -> Iterator[Running]:
    with running(pairs) as found:
        yield found


def offline(generator: Generator, prompt: str, **values: Any) -> list[str]:
    settings = GenerateSettings.of(**{"include_prompt": False, **values})
    return [text.text for text in generator.generate([prompt], settings)]


# --- OpenAI's client


def test_a_completion(client: openai.OpenAI, characters: Generator) -> None:
    made = client.completions.create(
        model="mill", prompt="ab", max_tokens=30, seed=7, temperature=0.8, top_p=0.9, stop=["zz"], user="me"
    )
    [choice] = made.choices
    assert [choice.text] == offline(
        characters, "ab", length=30, seed=7, temperature=0.8, top_p=0.9, stop=["zz"]
    )
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert (made.object, made.model) == ("text_completion", "mill")
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens, made.usage.total_tokens) == (4, 30, 34)


def test_lists_of_prompts_and_several_texts(client: openai.OpenAI, characters: Generator) -> None:
    made = client.completions.create(model="mill", prompt=["ab", "cd"], n=2, max_tokens=20, seed=1, echo=True)
    settings = GenerateSettings.of(length=20, seed=1, number=2)
    wanted = [text.text for text in characters.generate(["ab", "cd"], settings)]
    assert [choice.text for choice in made.choices] == wanted
    assert [choice.index for choice in made.choices] == [0, 1, 2, 3]
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (8, 80), "a prompt counts once"


def test_a_streamed_completion_is_the_same_text(client: openai.OpenAI, characters: Generator) -> None:
    stream = client.completions.create(
        model="mill",
        prompt="ab",
        n=2,
        max_tokens=200,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, reasons, usage = {0: "", 1: ""}, {}, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert list(texts.values()) == offline(characters, "ab", length=200, seed=3, number=2)
    assert reasons == {0: "length", 1: "length"}
    assert usage is not None
    assert usage.completion_tokens == 400


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["mill"]
    assert client.models.retrieve("mill").owned_by == "textmill"
    with pytest.raises(openai.NotFoundError, match="there is no model 'other' here; this service has 'mill'"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="a")


def test_what_cannot_be_done_is_said(client: openai.OpenAI) -> None:
    for values, message, param in (
        ({"temperature": 3}, "temperature is 3; it must be at most 2", "temperature"),
        ({"suffix": "x"}, "suffix is 1 characters long; it must be at most 0", "suffix"),
        ({"extra_body": {"tempreature": 1}}, "Did you mean 'temperature'", "tempreature"),
        ({"n": 99}, "n is 99; it must be at most 32", "n"),
        ({"n": 20, "prompt": ["a", "b"]}, "2 prompts of 20 texts each are too many", "n"),
        ({"best_of": 4}, "best_of is supported only where it equals n", "best_of"),
        ({"prompt": [1, 2]}, r"prompt\[0\] must be a string", "prompt[0]"),
        ({"logprobs": 1, "extra_body": {"recapitalize": True}}, "recapitalize and logprobs", "recapitalize"),
        ({"logit_bias": {"5": 1}}, "logit_bias is not supported", "logit_bias"),
    ):
        with pytest.raises(openai.BadRequestError, match=message) as error:
            client.completions.create(**{"model": "mill", "prompt": "a", **values})  # type: ignore[arg-type]
        assert error.value.param == param
        assert error.value.type == "invalid_request_error"


# --- log probabilities


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", [[], ["."]])
def test_the_tokens_make_the_text_and_have_the_models_probabilities(
    gpt2: Running, pairs: Generator, stream: bool, stop: list[str]
) -> None:
    asked = {"prompt": "the and", "max_tokens": 60, "seed": 2, "logprobs": 1, "echo": True, "stop": stop}
    answer = gpt2.complete(**asked, stream=stream)
    if stream:
        choices = [event["choices"][0] for event in events(answer.content)[:-1]]
        assert sum(bool(choice["logprobs"]["tokens"]) for choice in choices) > 3, "they come with their text"
        text = "".join(choice["text"] for choice in choices)
        logged = {
            key: [one for choice in choices for one in choice["logprobs"][key]]
            for key in ("tokens", "token_logprobs", "text_offset")
        }
    else:
        text, logged = answer.json()["choices"][0]["text"], answer.json()["choices"][0]["logprobs"]
    assert text.startswith("the and")
    assert "".join(logged["tokens"]) == text
    assert logged["text_offset"] == [
        len("".join(logged["tokens"][:i])) for i in range(len(logged["text_offset"]))
    ]
    scores = logged["token_logprobs"]
    assert all(score <= 0 for score in scores)
    ids = pairs.tokenizer.encode("the and")
    prompt = pairs.token_scores([pairs.tokenizer.end_of_document, *ids])  # type: ignore[arg-type]
    assert scores[: len(ids)] == pytest.approx(prompt.tolist(), abs=1e-5)
    if not stop:
        [whole] = pairs.generate(["the and"], GenerateSettings.of(length=60, seed=2))
        drawn = scores[len(ids) :]
        assert len(drawn) == whole.tokens
        assert sum(drawn) / whole.tokens == pytest.approx(whole.scores["mean_log_probability"], abs=1e-4)


@pytest.mark.parametrize("stream", [False, True])
def test_the_likeliest_tokens_stand_beside_each(gpt2: Running, pairs: Generator, stream: bool) -> None:
    asked = {"prompt": "the and", "max_tokens": 40, "seed": 2, "logprobs": 3, "echo": True}
    answer = gpt2.complete(**asked, stream=stream)
    found = events(answer.content)[:-1] if stream else [answer.json()]
    logged = {
        key: [one for event in found for one in event["choices"][0]["logprobs"][key]]
        for key in ("tokens", "token_logprobs", "top_logprobs")
    }
    assert len(logged["top_logprobs"]) == len(logged["tokens"]) > 40
    text = ""
    for token, score, likeliest in zip(*logged.values(), strict=True):
        assert 1 <= len(likeliest) <= 4
        assert list(likeliest.values()) == sorted(likeliest.values(), reverse=True)
        assert score <= max(likeliest.values())
        if token and "\ufffd" not in token:
            assert likeliest[token] >= score
        assert all(name for name in likeliest)
        text += token
    ids = pairs.tokenizer.encode("the and")
    _, others = pairs.likeliest([pairs.tokenizer.end_of_document, *ids], 3)  # type: ignore[arg-type]
    for known, wanted in zip(logged["top_logprobs"], others, strict=False):
        assert max(known.values()) == pytest.approx(wanted[0][1], abs=1e-5)
    assert gpt2.complete(**{**asked, "logprobs": 0}).json()["choices"][0]["logprobs"]["top_logprobs"] is None


def test_a_token_that_is_no_text_is_named_as_openai_does(pairs: Generator) -> None:
    tokenizer = pairs.tokenizer
    euro = tokenizer.encode("€").tolist()
    end = tokenizer.end_of_document
    assert len(euro) == 3
    kept = Kept(2)
    kept.ids, kept.scores = euro, [-1.0, -2.0, -3.0]
    kept.others = [[(euro[0], -1.0), (end, -4.0)], [(1, -0.5), (euro[1], -2.0)], [(euro[2], -3.0)]]
    log = TokenLog(tokenizer, np.array([end], np.int32), kept, with_prompt=False)
    assert [(token.text, dict(token.likeliest)) for token in log.told(1)] == [
        ("", {r"bytes:\xe2": -1.0, "<|endoftext|>": -4.0}),
        ("", {r"bytes:\x22": -0.5, r"bytes:\x82": -2.0}),
        ("€", {"€": -3.0}),
    ]


def test_as_many_likeliest_tokens_as_the_decoders_tell() -> None:
    assert parameters.MOST_LIKELIEST == sample.MOST_LIKELIEST


def test_a_prompt_alone_can_be_scored(service: Running, characters: Generator) -> None:
    choice = service.complete(prompt="abcd", max_tokens=0, echo=True, logprobs=0).json()["choices"][0]
    assert choice["text"] == "abcd"
    assert choice["logprobs"]["tokens"] == list("abcd")
    total = characters.score("abcd").log_probability
    assert sum(choice["logprobs"]["token_logprobs"]) == pytest.approx(total, abs=1e-4)
    assert service.text(prompt="abcd", max_tokens=0) == ""
    streamed = events(
        service.complete(prompt="abcd", max_tokens=0, echo=True, logprobs=0, stream=True).content
    )
    assert "".join(event["choices"][0]["text"] for event in streamed[:-1]) == "abcd"


# --- by hand


def test_the_stream_ends_with_done(service: Running) -> None:
    answer = service.complete(prompt="ab", max_tokens=5, stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(answer.content)
    assert found[-1] == "[DONE]"
    assert found[-2]["choices"][0]["finish_reason"] == "length"
    assert found[-2]["choices"][0]["ended_by"] == "length"


def test_without_a_seed_one_is_chosen_and_said(service: Running) -> None:
    first, second = (service.complete(prompt="ab", max_tokens=40).json() for _ in range(2))
    assert first["seed"] != second["seed"]
    assert service.text(prompt="ab", max_tokens=40, seed=first["seed"]) == first["choices"][0]["text"]


def test_only_whole_characters_are_streamed(gpt2: Running, pairs: Generator) -> None:
    """The model writes bytes; those that make no character show as U+FFFD in any case, but no character comes in
    parts: each piece is the next part of the text that comes whole."""
    whole = gpt2.text(prompt="é", max_tokens=80, seed=4, temperature=2)
    assert any(ord(character) > 127 for character in whole)
    pieces = events(gpt2.complete(prompt="é", max_tokens=80, seed=4, temperature=2, stream=True).content)[:-1]
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == whole


def test_a_prompt_longer_than_the_context_is_refused(gpt2: Running) -> None:
    answer = gpt2.complete(prompt="xyz" * 20)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["message"] == "the prompt has 61 tokens; this model reads at most 24."


def test_scripts_are_set_for_reading_unless_plain_is_asked_for(words: Generator) -> None:
    with running(words) as service:
        shown = service.text(prompt="MOLL: Who", max_tokens=60, seed=1, echo=True)
        assert [shown] == offline(words, "MOLL: Who", length=60, seed=1, include_prompt=True)
        assert "<boname>" not in shown
        assert "<boname>" in service.text(
            prompt="MOLL: Who", max_tokens=60, seed=1, render="plain", echo=True
        )
        streamed = events(service.complete(prompt="MOLL: Who", max_tokens=60, seed=1, stream=True).content)
        whole = service.text(prompt="MOLL: Who", max_tokens=60, seed=1)
        assert "".join(event["choices"][0]["text"] for event in streamed[:-1]) == whole


def test_finishing_is_an_option_of_the_request_and_of_the_service(characters: Generator) -> None:
    with running(characters, whole_sentences=True, recapitalize=True) as service:
        asked = {"prompt": "ab", "max_tokens": 150, "seed": 5}
        cut = service.text(**asked)
        assert [cut] == offline(characters, "ab", length=150, seed=5, whole_sentences=True, recapitalize=True)
        plain = service.text(**asked, whole_sentences=False, recapitalize=False)
        assert [plain] == offline(characters, "ab", length=150, seed=5)
        assert cut != plain


def test_a_request_has_the_services_length_where_it_says_none(characters: Generator) -> None:
    with running(characters, length=33, max_tokens=50) as service:
        assert service.complete(prompt="ab").json()["usage"]["completion_tokens"] == 33
        assert service.complete(prompt="ab", max_tokens=51).status_code == 400
