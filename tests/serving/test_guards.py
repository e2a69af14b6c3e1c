"""Around every request: who may ask and how often, what is said of it, what is never said."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.serving.running import Running, running
from textmill.errors import SettingsError
from textmill.serving.answers import Problem
from textmill.serving.guards import CLIENTS, JsonLines, Line, Rates, read_tokens
from textmill.writing.generator import Generator

TOKENS = ("first-token-of-ours", "second-token-of-ours")
GUARDED = [
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/mill"),
    ("GET", "/v2"),
    ("GET", "/v2/models/mill"),
    ("POST", "/v2/models/mill/generate"),
    ("POST", "/v2/models/mill/generate_stream"),
    ("GET", "/?sample=ab"),
    ("GET", "/?callback=a&sample=ab"),
    ("GET", "/?%73ample=ab"),
    ("GET", "/?sample"),
    ("GET", "/?callback=a"),
    ("GET", "/?prompt=ab"),
    ("GET", "/mock"),
    ("GET", "/nowhere"),
]
OPEN = ["/v2/health/live", "/v2/health/ready", "/metrics", "/openapi.json", "/"]


def test_every_answer_has_an_id_and_says_what_a_browser_may_do(service: Running) -> None:
    for path in (*OPEN, "/v1/models", "/nowhere", "/mock"):
        headers = service.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert len(headers["x-request-id"]) == 16
        assert "server" not in headers
    given = service.client.get("/v1/models", headers={"X-Request-Id": "abc-7"}).headers["x-request-id"]
    assert given == "abc-7"
    given = service.client.get("/v1/models", headers={"X-Request-Id": "a b\x7f"}).headers["x-request-id"]
    assert len(given) == 16, "anything else is not put into logs and answers"


def test_errors_are_json_in_one_shape(service: Running) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v2", 405),
        ("GET", "/page/nothing.js", 404),
        ("GET", "/page/../../settings.py", 404),
        ("GET", "/page/%2e%2e/settings.py", 404),
    ):
        answer = service.client.request(method, path)
        assert answer.status_code == status, path
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
    assert service.client.get("/v1/completions").headers["allow"] == "POST"


def test_nothing_internal_leaks(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.engine, "submit", lambda order: 1 / 0)
    answer = service.complete(prompt="a")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "the service has failed to answer; its log says why."
    assert "division" not in answer.text


# --- tokens


def test_a_token_is_wanted_where_text_is_made_and_not_for_probes(characters: Generator) -> None:
    with running(characters, tokens=TOKENS) as service:
        for method, path in GUARDED:
            for headers in (
                {},
                {"Authorization": "Bearer wrong-token-of-ours"},
                {"Authorization": TOKENS[0]},
            ):
                answer = service.client.request(method, path, headers=headers)
                assert answer.status_code == 401, (path, headers)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["type"] == "authentication_error"
            for token in TOKENS:
                headers = {"Authorization": f"Bearer {token}"}
                assert service.client.request(method, path, headers=headers).status_code != 401
        for path in OPEN:
            assert service.client.get(path).status_code == 200


def test_tokens_come_from_the_environment_and_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("first-token\n\nsecond-token \n")
    assert read_tokens("environment-token", str(file)) == ["environment-token", "first-token", "second-token"]
    assert read_tokens("", "") == []
    file.write_text("\n")
    with pytest.raises(SettingsError, match="holds no token"):
        read_tokens("", str(file))
    with pytest.raises(SettingsError, match=r"cannot read the token file .*: No such file"):
        read_tokens("", str(tmp_path / "nowhere"))
    file.write_text("short")
    with pytest.raises(SettingsError, match="shorter than 8") as error:
        read_tokens("", str(file))
    assert "short\n" not in str(error.value)


# --- rates


def test_a_client_that_asks_too_often_waits_and_probes_do_not(characters: Generator) -> None:
    with running(characters, rate_limit=3) as service:
        answers = [service.client.get("/v1/models") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[3].json()["error"]["message"] == "more than 3 requests a minute; slow down."
        assert 1 <= int(answers[3].headers["retry-after"]) <= 20
        assert service.client.get("/v2/health/ready").status_code == 200
        assert service.client.get("/metrics").status_code == 200


def test_rates_fill_again_and_are_each_clients_own() -> None:
    rates = Rates(2)
    for _ in range(2):
        rates.check("a", now=0)
    with pytest.raises(Problem):
        rates.check("a", now=1)
    rates.check("b", now=1)
    rates.check("a", now=31)
    with pytest.raises(Problem):
        rates.check("a", now=31)
    for n in range(CLIENTS + 10):
        rates.check(f"client {n}", now=32)
    assert len(rates._buckets) == CLIENTS


def test_behind_a_trusted_proxy_the_clients_are_told_apart(characters: Generator) -> None:
    with running(characters, rate_limit=1, trusted_proxies=["127.0.0.1"]) as service:
        for client in ("10.0.0.1", "10.0.0.2"):
            headers = {"X-Forwarded-For": client}
            statuses = [service.client.get("/v1/models", headers=headers).status_code for _ in range(2)]
            assert statuses == [200, 429]
    with running(characters, rate_limit=1) as service:
        answers = [
            service.client.get("/v1/models", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in (1, 2)
        ]
        assert [a.status_code for a in answers] == [200, 429], "others may say what they like"


# --- pages of other origins


def test_origins_that_are_listed_may_call(characters: Generator) -> None:
    with running(characters, cors=["https://page.example"], tokens=TOKENS) as service:
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type"
        preflight = service.client.options("/v1/completions", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://page.example"
        refused = service.client.get("/v1/models", headers={"Origin": "https://page.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://page.example"
        other = service.client.get("/metrics", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
    with running(characters) as service:
        answer = service.client.get("/metrics", headers={"Origin": "https://page.example"})
        assert "access-control-allow-origin" not in answer.headers


# --- the log


def test_a_request_is_one_log_line_without_what_people_wrote(
    characters: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    with running(characters, tokens=TOKENS) as service, caplog.at_level(logging.DEBUG, logger="textmill"):
        headers = {"Authorization": f"Bearer {TOKENS[0]}", "X-Request-Id": "line-1"}
        service.client.post(
            "/v1/completions", json={"prompt": "hidden words", "max_tokens": 2}, headers=headers
        )
        service.client.get("/?sample=hidden", headers={**headers, "X-Request-Id": "line-2"})
        service.until(lambda: "line-2" in caplog.text, "no line")
        lines = [r for r in caplog.records if "line-1" in r.getMessage()]
        assert len(lines) == 1
        assert " POST /v1/completions 200 " in lines[0].getMessage()
        own = [r.getMessage() for r in caplog.records if r.name.startswith("textmill")]  # the client logs too
        assert not [line for line in own if "hidden" in line]
        assert TOKENS[0] not in caplog.text


def test_log_lines_as_json() -> None:
    line = Line(client="a", method="GET", path="/x\ny", status=200, seconds=0.5, bytes=3, request_id="r")
    record = logging.LogRecord("textmill.serving", logging.INFO, "", 0, "%s", (line,), None)
    said = json.loads(JsonLines().format(record))
    assert said.pop("time").endswith("Z")
    assert said == {"level": "info", "event": "request", **line.fields}
    assert "\n" not in str(line)
    record = logging.LogRecord("textmill", logging.WARNING, "", 0, "%d files", (3,), None)
    assert json.loads(JsonLines().format(record))["message"] == "3 files"


# --- figures


def test_the_figures_count_what_happened(characters: Generator) -> None:
    with running(characters) as service:
        service.complete(prompt="abc", max_tokens=10)
        service.complete(prompt="abc", max_tokens=10, n=2, stream=True)
        service.complete(prompt="abc", max_tokens=-1)
        assert service.figure("textmill_generation_tokens_total") == 30
        assert service.figure("textmill_prompt_tokens_total") == 15
        assert service.figure("textmill_texts_total", reason="length") == 3
        assert service.figure("textmill_http_requests_total", route="completions", status="200") == 2
        assert service.figure("textmill_http_requests_total", route="completions", status="400") == 1
        assert service.figure("textmill_time_to_first_token_seconds_count") == 3
        assert service.figure("textmill_text_seconds_count", model="mill") == 3
        assert service.figure("textmill_requests_running") == 0
        assert service.figure("textmill_http_open") == 1, "this one"
