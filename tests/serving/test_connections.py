"""Connections that are held for nothing, bodies that are too large, clients that vanish: others are served."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from tests import generating
from tests.serving.running import PATIENCE, Running, raw, request, running
from textmill.serving import bodies, connections, engine
from textmill.writing.generator import Generator


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.5)
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.5)


@contextlib.contextmanager
def connected(service: Running, data: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        yield connection


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@contextlib.contextmanager
def held_service(**values: Any) -> Iterator[tuple[Running, threading.Event]]:
    """A service whose model, once it is warm, writes nothing until the event is set."""
    generator, go_on = generating.followed_generator(), threading.Event()
    go_on.set()
    run = generating.FollowedPool.run

    def held(*arguments: Any) -> Any:
        assert go_on.wait(PATIENCE)
        return run(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(generating.FollowedPool, "run", held)
        with running(generator, **values) as service:
            go_on.clear()
            try:
                yield service, go_on
            finally:
                go_on.set()


# --- heads and bodies


def test_a_body_that_is_too_large_is_refused_before_it_comes(characters: Generator) -> None:
    with running(characters, max_body=2000) as service:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        answer = raw(service.port, head + b"Content-Length: 1000000000\r\n\r\n")
        assert status(answer) == 413
        assert b"the body must be at most 2,000 bytes." in answer
        chunk = b"%x\r\n%s\r\n" % (1500, b"x" * 1500)
        assert status(raw(service.port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2)) == 413
        assert service.complete(prompt="a" * 1800, max_tokens=1).status_code == 200


def test_a_head_that_is_too_large_is_refused(service: Running) -> None:
    for data in (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 400_000,
    ):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            answer = raw(service.port, data)
            assert status(answer) == 431
            assert b"the request's head is larger than 65,536 bytes." in answer


def test_what_is_no_http_is_refused(service: Running) -> None:
    answer = raw(service.port, b"nothing of the kind\r\n\r\n")
    assert status(answer) == 400
    assert b'"message":"this is no HTTP/1.1 request."' in answer


def test_heads_and_bodies_that_come_drop_by_drop_are_ended_and_others_served(service: Running) -> None:
    body = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n"
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(service, b"GET / HTT")) for _ in range(20)]
        slow += [stack.enter_context(connected(service, body)) for _ in range(20)]
        ended: dict[socket.socket, bytes] = {}
        for connection in slow:
            connection.settimeout(0.001)
        while len(ended) < len(slow):
            assert service.complete(prompt="a", max_tokens=1).status_code == 200
            for connection in slow:
                if connection in ended:
                    continue
                try:
                    connection.sendall(b"x")
                    ended[connection] = connection.recv(4096)
                except TimeoutError:
                    continue
                except OSError:
                    ended[connection] = b""
        assert {status(answer) for answer in ended.values() if answer} == {408}


def test_a_connection_that_says_nothing_is_closed(service: Running) -> None:
    with connected(service) as connection:
        assert status(connection.recv(4096)) == 408
        assert connection.recv(4096) == b""


def test_a_connection_may_be_used_again(service: Running) -> None:
    with connected(service) as connection:
        for _ in range(3):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            found = b""
            while b'{"live":true}' not in found:
                piece = connection.recv(65536)
                assert piece, "closed"
                found += piece
            time.sleep(0.2)


def test_too_many_connections_are_refused(characters: Generator) -> None:
    with running(characters, connections=5) as service, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(service, b"GET"))
        service.until(lambda: len(service.serving._server.server_state.connections) == 5, "not connected")
        with connected(service) as one_more:
            assert status(one_more.recv(4096)) == 503


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"prompt": NaN}', 400),
        (b'{"temperature": 1e999}', 400),
        (b'{"temperature": Infinity}', 400),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 50_000, 400),
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "a", "max_tokens": 1.5}', 400),
        (b'{"prompt": "a", "max_tokens": true}', 400),
        (b'{"prompt": "a", "max_tokens": "5"}', 400),
        (b'{"prompt": "a", "max_tokens": 5.0}', 200),
        (b'{"prompt": null, "max_tokens": 2, "stop": null}', 200),
    ],
)
def test_bodies(service: Running, body: bytes, said: int) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"  # noqa: E501
    answer = raw(service.port, head.encode() + body)
    assert status(answer) == said, answer
    assert b"Traceback" not in answer


def test_a_body_must_be_said_to_be_json(service: Running) -> None:
    answer = service.client.post("/v1/completions", content=b'{"prompt": "a"}')
    assert answer.status_code == 415


# --- clients that vanish


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_vanishes_frees_its_slots(service: Running, stream: bool) -> None:
    gone = service.figure("textmill_texts_total", reason="gone")
    asked = {"prompt": "ab", "max_tokens": 4000, "n": 4, "stream": stream, "stop": ["never"]}
    with connected(service, request("/v1/completions", asked)):
        service.until(lambda: service.engine.running == 4, "not written")
    service.until(lambda: service.engine.running == 0, "the slots are not freed")
    assert service.figure("textmill_texts_total", reason="gone") > gone
    assert service.complete(prompt="a", max_tokens=1).status_code == 200


def test_a_client_that_vanishes_from_the_queue_is_not_written(service: Running) -> None:
    first = request("/v1/completions", {"prompt": "ab", "max_tokens": 4000, "n": 4})
    with connected(service, first):
        service.until(lambda: service.engine.running == 4, "not written")
        with connected(service, first):
            service.until(lambda: service.engine.waiting == 4, "not waiting")
        service.until(lambda: service.engine.waiting == 0, "still waiting")


def test_a_reader_that_does_not_read_holds_no_slot_and_is_left(characters: Generator) -> None:
    with running(characters) as service:
        asked = {"prompt": "ab", "max_tokens": 4096, "n": 32, "stream": True, "logprobs": 0}
        with connected(service) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request("/v1/completions", asked))
            service.until(lambda: service.engine.running > 0, "not written")
            service.until(lambda: not service.serving._server.server_state.tasks, "its task is still there")
            service.until(lambda: service.engine.running == service.engine.waiting == 0, "slots are held")


def test_when_the_queue_is_full_the_answer_says_when_to_come_again() -> None:
    with held_service(slots=2, queue=2) as (service, _), contextlib.ExitStack() as stack:
        asked = request("/v1/completions", {"prompt": "ab", "max_tokens": 3000, "n": 2})
        stack.enter_context(connected(service, asked))
        service.until(lambda: service.engine.running == 2, "not written")
        stack.enter_context(connected(service, asked))
        service.until(lambda: service.engine.waiting == 2, "not waiting")
        answer = service.complete(prompt="ab")
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "queue_full"
        assert answer.json()["error"]["message"] == "too many requests wait already; try again later."
        assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_a_text_that_is_too_late_is_cut_and_one_that_waits_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed, perf_counter=time.perf_counter)
    monkeypatch.setattr(engine, "time", clock)
    with held_service(slots=2, deadline=1000) as (service, go_on), ThreadPoolExecutor(2) as clients:
        writing = clients.submit(service.complete, prompt="ab", max_tokens=3000, n=2)
        service.until(lambda: service.engine.running == 2, "not written")
        late = clients.submit(service.complete, prompt="ab", max_tokens=3000)
        service.until(lambda: service.engine.waiting == 1, "not waiting")
        passed = 2000.0
        go_on.set()
        cut, refused = writing.result(), late.result()
    assert [choice["ended_by"] for choice in cut.json()["choices"]] == ["deadline"] * 2
    assert 0 < cut.json()["usage"]["completion_tokens"] < 6000
    assert refused.status_code == 503
    assert "no slot became free in time" in refused.json()["error"]["message"]
