"""The OpenAPI document is true: whatever is sent by it, or against it, is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.running import Running, running
from textmill.serving import parameters
from textmill.serving.openapi import document
from textmill.serving.settings import ServeSettings
from textmill.writing.generator import Generator

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def served(characters: Generator) -> Iterator[Running]:
    with running(characters, length=5, max_tokens=20, max_prompt=200, max_texts=4, queue=1000) as found:
        yield found


def fuzz(service: Running, examples: int) -> int:
    """Send `examples` valid and invalid requests to each operation; the number of answers."""
    import hypothesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    api = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    answers = 0
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    for result in api.get_all_operations():
        operation = result.ok()
        for mode in modes:

            def check(case: Any) -> None:
                nonlocal answers
                # what holds between parameters (best_of and n) stands in no schema: it may be refused
                case.call_and_validate(timeout=120, excluded_checks=[positive_data_acceptance])
                answers += 1

            try:
                strategy = operation.as_strategy(generation_mode=mode)
                hypothesis.given(case=strategy)(settings(check))()
            except (hypothesis.errors.Unsatisfiable, schemathesis.errors.InvalidSchema):
                assert mode is schemathesis.GenerationMode.NEGATIVE, operation.label
    return answers


def test_the_document_holds_for_what_is_sent(served: Running) -> None:
    assert fuzz(served, 10) > 100


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_document_holds_for_much_that_is_sent(served: Running) -> None:
    assert fuzz(served, 300) > 3000


def test_every_route_is_in_the_document_and_no_other(served: Running) -> None:
    app = served.serving._server.config.app
    routes = {route.path.replace(":path", "") for route in app.routes if route.path != "/page"}  # type: ignore[union-attr]
    assert routes == set(served.client.get("/openapi.json").json()["paths"])


def test_a_token_is_said_to_be_wanted_only_where_it_is() -> None:
    plain = document(ServeSettings(), "mill", secured=False)
    secured = document(ServeSettings(), "mill", secured=True)
    assert "securitySchemes" not in plain["components"]
    assert secured["paths"]["/v1/completions"]["post"]["security"] == [{"bearer": []}]
    assert "security" not in secured["paths"]["/v2/health/live"]["get"]


# --- the check of a request against its table

TABLE: dict[str, Any] = parameters.completion(ServeSettings())


def test_what_is_checked_is_what_was_given_without_nulls() -> None:
    asked = {"prompt": "a", "stop": None, "n": 2.0, "stream_options": {"include_usage": True}}
    assert parameters.check(asked, TABLE) == {
        "prompt": "a",
        "n": 2,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 1.5}, "n must be a whole number."),
        ({"n": True}, "n must be a whole number."),
        ({"stream": 1}, "stream must be true or false."),
        ({"stop": [""]}, "stop[0] is 0 characters long; it must be at least 1."),
        ({"stop": ["a"] * 17}, "stop is 17 items long; it must be at most 16."),
        ({"stop": {}}, "stop must be a string or a list of which each is a string."),
        ({"render": "html"}, 'render must be one of: "auto", "script", "sentences", "plain", null.'),
        ({"stream_options": {"x": 1}}, "unknown parameter 'x' in stream_options."),
        ({"seed": 2**63}, "seed is 9223372036854775808; it must be at most 9223372036854775807."),
        ({"prompt": "\ud800"}, "prompt holds half of a character (a lone surrogate)."),
        ({"prompt": []}, "prompt is 0 items long; it must be at least 1."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(parameters.BadRequest) as error:
        parameters.check(values, TABLE)
    assert str(error.value).startswith(message)
