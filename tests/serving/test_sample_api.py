"""The way in of the service before this one."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.serving.running import Running, running
from textmill.writing.generator import Generator
from textmill.writing.settings import GenerateSettings


def test_a_sample_as_json_goes_on_from_the_text(service: Running) -> None:
    answer = service.client.get("/", params={"sample": "ab"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["sample_text"].startswith("ab")


def test_a_callback_gets_the_answer(service: Running) -> None:
    answer = service.client.get("/", params={"sample": "ab", "callback": "page.show_$1"})
    assert answer.headers["content-type"].startswith("application/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    before, _, rest = answer.text.partition("(")
    assert before == "/**/page.show_$1"
    assert json.loads(rest.removesuffix(");"))["sample_text"].startswith("ab")


@pytest.mark.parametrize(
    "callback", ["alert(1)//", "a b", "1a", "a.", "a;b", "<script>", "é", "a\n", "x" * 101]
)
@pytest.mark.parametrize("path", ["/?sample=ab", "/mock?"])
def test_a_callback_that_is_no_name_is_refused(service: Running, callback: str, path: str) -> None:
    answer = service.client.get(path.split("?")[0], params={"sample": "ab", "callback": callback})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert callback not in answer.text


def test_the_mock_needs_no_model(service: Running) -> None:
    plain, called = service.client.get("/mock"), service.client.get("/mock?callback=show")
    assert called.text == f"/**/show({json.dumps(plain.json())});"
    assert plain.json()["sample_text"].endswith(".")


def test_an_empty_sample_has_a_prompt_of_its_own_and_is_cut_after_a_sentence(
    characters: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = GenerateSettings.of(length=256, temperature=0.7, whole_sentences=True)
    texts = (characters.generate(["abc"], asked.replace(seed=seed))[0] for seed in itertools.count())
    cut = next(text for text in texts if text.finish_reason == "sentence")
    monkeypatch.setattr("secrets.randbits", lambda bits: cut.seed)
    with running(characters, default_prompt="abc") as service:
        assert service.client.get("/?sample=").json()["sample_text"] == cut.text
        assert cut.text.startswith("abc")
        assert cut.text.endswith(".")


def test_a_sample_is_bounded(characters: Generator) -> None:
    with running(characters, max_prompt=20) as service:
        assert service.client.get("/", params={"sample": "a" * 20}).status_code == 200
        answer = service.client.get("/", params={"sample": "a" * 21})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "sample"


def test_without_a_sample_the_page_or_the_ways_in_are_shown(service: Running) -> None:
    answer = service.client.get("/")
    assert answer.status_code == 200
    assert "sample_text" not in answer.text
