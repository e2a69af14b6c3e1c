"""The process: `textmill serve` from its start to SIGTERM, checkpoints from elsewhere, errors in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from tests import generating
from tests.serving.running import PATIENCE, request, running, wait_until
from textmill import manifest
from textmill.cli import main
from textmill.errors import InputError, MachineError
from textmill.serving.fetching import local_checkpoint
from textmill.serving.server import listening, name_of
from textmill.serving.settings import ServeSettings
from textmill.stores import resumable
from textmill.writing.generator import Generator
from textmill.writing.settings import GenerateSettings


@pytest.fixture(scope="module")
def checkpoint(characters: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, weights = generating.recurrent(characters.tokenizer)
    return generating.save(tmp_path_factory.mktemp("served") / "small-mill", characters, weights)


class Process:
    """`textmill serve` in a process of its own."""

    def __init__(self, checkpoint: str, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "textmill.cli", "serve", checkpoint, "--port", "0", "--slots", "2"]
        self.process = subprocess.Popen(
            [*command, *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def until(self, words: str) -> str:
        def there() -> bool:
            return words in self.said or self.process.poll() is not None

        wait_until(there, f"it does not say {words!r}")
        assert words in self.said, self.said
        return next(line for line in self.lines if words in line)

    def url(self) -> str:
        return next(word for word in self.until("listening on").split() if "http://" in word).strip('",}')

    def ended(self) -> int:
        status = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return status


@contextlib.contextmanager
def process(checkpoint: str, *options: str, **environment: str) -> Iterator[Process]:
    found = Process(checkpoint, *options, **environment)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


# --- the command


def test_serve_says_where_it_is_answers_and_ends_on_sigterm(checkpoint: Path, characters: Generator) -> None:
    with process(str(checkpoint), "--precision", "float32") as service:
        url = service.url()
        line = service.until("try: curl")
        assert f"{url}/v1/completions" in line
        assert "ready: small-mill at" in service.said
        asked = {"model": "small-mill", "prompt": "ab", "max_tokens": 50, "seed": 4, "echo": True}
        answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=PATIENCE).json()
        [wanted] = characters.generate(["ab"], GenerateSettings.of(length=50, seed=4))
        assert answer["choices"][0]["text"] == wanted.text
        assert answer["system_fingerprint"].startswith("textmill-")
        service.process.send_signal(signal.SIGTERM)
        assert service.ended() == 0
        assert "stopping: no new requests; 0 texts go on" in service.said
        assert "Traceback" not in service.said


def test_sigterm_lets_a_stream_go_on_and_cuts_it_when_the_grace_is_over(checkpoint: Path) -> None:
    token = "the-token-of-this-test"
    options = ("--grace", "1", "--max-tokens", "10000000", "--log", "json")
    with process(str(checkpoint), *options, TEXTMILL_SERVE_TOKEN=token) as service:
        url = service.url()
        assert "$TEXTMILL_SERVE_TOKEN" in service.until("try: curl")
        asked = {"prompt": "ab", "max_tokens": 10_000_000, "stream": True}
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.stream(
            "POST", f"{url}/v1/completions", json=asked, headers=headers, timeout=PATIENCE
        ) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            service.process.send_signal(signal.SIGTERM)
            service.until("stopping")
            answer = httpx.post(f"{url}/v1/completions", json={"prompt": "ab"}, headers=headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert httpx.get(f"{url}/v2/health/ready").status_code == 503
            assert httpx.get(f"{url}/v2/health/live").status_code == 200
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))["choices"][0]
        assert (last["ended_by"], last["finish_reason"]) == ("shutdown", "length")
        assert service.ended() == 0
        assert all(json.loads(line) for line in service.lines), "each line is JSON"
        assert token not in service.said


def test_on_sigterm_it_answers_for_a_while_and_closes_each_connection(checkpoint: Path) -> None:
    """What sends requests here learns late that it should not: nobody gets a 503 meanwhile."""
    with process(str(checkpoint), "--linger", "600") as service:
        url = service.url()
        service.until("try: curl")
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            kept = client.post("/v1/completions", json={"prompt": "ab", "max_tokens": 5})
            assert "connection" not in kept.headers
            service.process.send_signal(signal.SIGTERM)
            service.until("new requests are taken for 600 s more")
            for _ in range(3):
                answer = client.post("/v1/completions", json={"prompt": "ab", "max_tokens": 5})
                assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            stream = client.post("/v1/completions", json={"prompt": "ab", "max_tokens": 5, "stream": True})
            assert stream.text.endswith("data: [DONE]\n\n")
            assert client.get("/v2/health/ready").status_code == 503
            assert client.get("/v2/health/live").status_code == 200
        assert service.process.poll() is None
        service.process.send_signal(signal.SIGTERM)  # once more: at once
        assert service.ended() == 0


def test_when_it_takes_no_more_connections_that_are_kept_are_closed(characters: Generator) -> None:
    with (
        running(characters, grace=PATIENCE, linger=0.01, max_tokens=10**7) as service,
        socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) as idle,
    ):
        idle.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = idle.recv(65536)
        while b'{"live":' not in answer:
            answer += idle.recv(65536)
        asked = {"prompt": "ab", "max_tokens": 10**7, "stream": True}
        with service.client.stream("POST", "/v1/completions", json=asked) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data: ")
            service.stop()
            while idle.recv(65536):
                pass
            assert service.engine.running == 1, "a text that is being written goes on"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere"], 2, "textmill: there is no checkpoint at nowhere: no such folder."),
        (["nowhere", "--token-file", "none"], 2, "textmill: cannot read the token file none: No such file"),
        (["nowhere", "--host", "no such host"], 2, "textmill: cannot listen on no such host:0:"),
        (["ftp://here/model"], 2, "textmill: ftp://here/model: "),
    ],
)
def test_errors_are_one_line(arguments: list[str], status: int, message: str) -> None:
    with process(*arguments) as service:
        assert service.ended() == status
        assert message in service.lines[-1]
        assert "Traceback" not in service.said


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listening(ServeSettings.of(port=port))


def test_the_name_is_the_last_part_of_the_address(tmp_path: Path) -> None:
    assert name_of(str(tmp_path / "mill")) == "mill"
    assert name_of("s3://bucket/runs/mill/") == "mill"
    assert name_of("https://key:secret@here/mill?signature=secret") == "mill"


# --- the end


def test_draining_sends_whole_answers_and_takes_no_new_ones(characters: Generator) -> None:
    with running(characters, grace=60) as service:
        connection = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)
        connection.sendall(
            request("/v1/completions", {"prompt": "ab", "max_tokens": 4096, "n": 4, "seed": 1})
        )
        service.until(lambda: service.engine.running == 4, "not written")
        service.stop()
        service.until(lambda: service.engine.state != "ready", "not draining")
        with contextlib.suppress(httpx.TransportError):  # it may have ended already
            refused = service.complete(prompt="a")
            assert refused.status_code == 503
            said = refused.json()["error"]["message"]
            assert said == "the service is shutting down; try again later."
        found = b""
        while piece := connection.recv(65536):
            found += piece
        connection.close()
        choices = json.loads(found.partition(b"\r\n\r\n")[2])["choices"]
        assert {choice["ended_by"] for choice in choices} == {"length"}


def test_a_model_that_fails_is_said_and_ends_the_process(characters: Generator) -> None:
    with running(characters) as service:

        def fail(*_: object) -> None:
            raise RuntimeError("broken")

        for slots in service.engine._pools:
            slots.pool.run = fail
        answer = service.complete(prompt="a")
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "the model has failed; the service's log says why."
        service.until(lambda: hasattr(service.serving, "error"), "not ended")
        assert str(service.serving.error) == "broken"


# --- checkpoints from elsewhere


def test_a_checkpoint_is_fetched_from_its_address_and_kept(checkpoint: Path, tmp_path: Path) -> None:
    address = f"file://{checkpoint}"
    folder = local_checkpoint(address, tmp_path)
    assert Generator.open(folder).model.digest == Generator.open(checkpoint).model.digest  # type: ignore[union-attr]
    weights = next(folder.glob("weights-*"))
    before = weights.stat().st_mtime_ns
    assert local_checkpoint(address, tmp_path) == folder
    assert weights.stat().st_mtime_ns == before, "it is not fetched twice"
    weights.write_bytes(bytes(weights.stat().st_size))
    local_checkpoint(address, tmp_path)
    assert Generator.open(folder, "float32").model is not None, "what was altered is fetched again"


def test_a_checkpoint_is_fetched_into_a_folder_if_it_is_the_one_that_is_wanted(
    checkpoint: Path, tmp_path: Path
) -> None:
    wanted, out = manifest.read(checkpoint, "checkpoint").digest, tmp_path / "model"
    command = ["models", "fetch", checkpoint.as_uri(), "--out", str(out), "--sha256"]
    done = CliRunner().invoke(main, [*command, wanted])
    assert done.exit_code == 0, done.output
    assert manifest.read(out, "checkpoint", verify=True).digest == wanted
    refused = CliRunner().invoke(main, [*command, "f" * 64])
    assert refused.exit_code == 2
    assert f"has the SHA-256 {wanted}, not {'f' * 64}: it is another one by now." in refused.output
    assert not (out / "manifest.json").exists(), "nothing is served that was not wanted"
    assert CliRunner().invoke(main, [*command, ""]).exit_code == 0, "any"


def test_kfps_name_of_its_own_store_is_read_as_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(resumable, "open_store", lambda scheme: opened.append(scheme))
    assert resumable.open_remote("minio://mlpipeline/v2/x").label == "s3://mlpipeline/v2/x"
    assert opened == ["s3"]


def test_what_is_no_checkpoint_elsewhere_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no whole checkpoint at file://"):
        local_checkpoint(f"file://{tmp_path}/nowhere", tmp_path / "cache")
    (tmp_path / "manifest.json").write_text('{"format": "textmill/corpus", "files": {}}')
    with pytest.raises(InputError, match="holds no checkpoint, but: textmill/corpus"):
        local_checkpoint(f"file://{tmp_path}", tmp_path / "cache")
    for name in ("../x", "/x"):
        made = {"format": "textmill/checkpoint", "files": {name: {"size": 1, "sha256": ""}}}
        (tmp_path / "manifest.json").write_text(json.dumps(made))
        with pytest.raises(InputError, match="names a file outside of it"):
            local_checkpoint(f"file://{tmp_path}", tmp_path / "cache")
