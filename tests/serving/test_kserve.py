"""KServe's way in: health, metadata and the generate extension of the Open Inference Protocol."""

from __future__ import annotations

import threading

import pytest

from tests.serving.running import Running, events, running
from textmill.writing.generator import Generator
from textmill.writing.settings import GenerateSettings


def test_health_and_metadata(service: Running) -> None:
    assert service.client.get("/v2/health/live").json() == {"live": True}
    assert service.client.get("/v2/health/ready").json() == {"ready": True}
    assert service.client.get("/v2").json()["name"] == "textmill"
    found = service.client.get("/v2/models/mill").json()
    assert found["name"] == "mill"
    assert found["inputs"] == [{"name": "text_input", "datatype": "BYTES", "shape": [1]}]
    assert service.client.get("/v2/models/mill/ready").json() == {"name": "mill", "ready": True}
    assert service.client.get("/v2/models/other").status_code == 404
    assert service.client.get("/v2/models/other/ready").status_code == 404


def test_generate_and_its_stream(service: Running, characters: Generator) -> None:
    settings = GenerateSettings.of(length=50, seed=9, temperature=0.5, include_prompt=False)
    wanted = characters.generate(["ab"], settings)[0].text
    asked = {
        "id": "7",
        "text_input": "ab",
        "parameters": {"max_tokens": 50, "seed": 9, "temperature": 0.5},
    }
    whole = service.client.post("/v2/models/mill/generate", json=asked).json()
    assert whole["text_output"] == wanted
    assert (whole["model_name"], whole["id"]) == ("mill", "7")
    assert whole["details"]["finish_reason"] == "length"
    assert whole["details"]["generated_tokens"] == 50
    stream = events(service.client.post("/v2/models/mill/generate_stream", json=asked).content)
    assert "".join(event["text_output"] for event in stream) == wanted
    assert stream[-1]["details"] == whole["details"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "text_input is missing."),
        ({"text_input": 3}, "text_input must be a string."),
        ({"text_input": "a", "parameters": {"top_p": 2}}, "parameters.top_p is 2; it must be at most 1."),
        (
            {"text_input": "a", "parameters": {"topp": 1}},
            "unknown parameter 'topp' in parameters. Did you mean 'top_p'?",
        ),
    ],
)
def test_bad_requests(service: Running, body: object, message: str) -> None:
    answer = service.client.post("/v2/models/mill/generate", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


def test_not_ready_while_loading_and_alive(characters: Generator) -> None:
    go_on = threading.Event()

    def load() -> Generator:
        assert go_on.wait(60)
        return characters

    with running(load, ready=False) as service:
        try:
            assert service.client.get("/v2/health/live").status_code == 200
            answer = service.client.get("/v2/health/ready")
            assert (answer.status_code, answer.json()) == (503, {"ready": False})
            refused = service.complete(prompt="a")
            assert refused.status_code == 503
            assert refused.json()["error"]["message"] == "the model is being loaded; try again later."
            assert int(refused.headers["retry-after"]) > 0
            assert service.client.get("/openapi.json").status_code == 200
        finally:
            go_on.set()
        service.until(lambda: service.client.get("/v2/health/ready").status_code == 200, "not ready")
        assert service.complete(prompt="a", max_tokens=2).status_code == 200
