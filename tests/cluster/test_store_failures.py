"""Training goes on while a real store fails for a while, publishes again afterwards, and ends as if nothing had been.

MinIO, as a program of its own on a small disk: stopped, standing still, out of space; and behind a way to it that
answers 500 or is slow. Set MINIO to the program; FAILING_SECONDS to how long it fails (60).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.checkpoints.test_train_published import Node, newest
from tests.killing import assert_same_run
from textmill.checkpoints import checkpoint as layout
from textmill.checkpoints import published
from textmill.stores import open_store
from textmill.train import train
from textmill.training.settings import TrainSettings

SECONDS = float(os.environ.get("FAILING_SECONDS", "60"))
PACE = 0.1  # seconds a step, so that there are some in a minute
STEPS = int(
    (2.5 * SECONDS + 30) / PACE
)  # it fails, publishes again, the longest wait between two tries is a minute
SETTINGS = {
    "preset": "tiny",
    "overrides": {
        "epochs": 300,
        "batch_size": 4,
        "num_steps": 8,
        "keep_prob": 0.8,
        "validate_every": 600,
        "log_every": 600,
    },
    "max_steps": STEPS,
    "save_every_steps": 10,
}
DISK = "256m"


class Way:
    """A way to a server, byte by byte: open; answering 500; slow."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target, self.state = target, "open"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            first = client.recv(65536)
            if self.state == "500":
                client.sendall(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(self.target) as server:
                server.sendall(first)
                back = threading.Thread(target=self._pass, args=(server, client), daemon=True)
                back.start()
                self._pass(client, server)
                back.join()

    def _pass(self, source: socket.socket, into: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 if self.state == "slow" else 65536):
                if self.state == "500":
                    break
                if self.state == "slow":
                    time.sleep(0.05)
                into.sendall(data)
        for end in (source, into):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()


class MinIO:
    """The program, on a disk of its own of DISK bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                os.environ["MINIO"],
                "server",
                str(self.folder),
                "--address",
                f"127.0.0.1:{self.port}",
                "--quiet",
            ],
            env={**os.environ, "MINIO_ROOT_USER": "minio", "MINIO_ROOT_PASSWORD": "minio123"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise AssertionError("MinIO did not start")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def fill(self) -> None:
        with contextlib.suppress(OSError), open(self.folder / "fill", "wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()

    def empty(self) -> None:
        (self.folder / "fill").unlink()

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.stop()
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def minio(tmp_path: Path) -> Iterator[MinIO]:
    if not os.environ.get("MINIO") or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("MINIO names no program of MinIO, or this is not root: its small disk is mounted")
    (tmp_path / "disk").mkdir()
    server = MinIO(tmp_path / "disk")
    yield server
    server.close()


@pytest.fixture
def way(minio: MinIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    import boto3

    made = Way(("127.0.0.1", minio.port))
    for name, value in {
        "AWS_ENDPOINT_URL": made.address,
        "AWS_ACCESS_KEY_ID": "minio",
        "AWS_SECRET_ACCESS_KEY": "minio123",
    }.items():
        monkeypatch.setenv(name, value)
    for _ in range(60):  # it answers some time after it listens
        try:
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="runs")
            break
        except Exception:
            time.sleep(1)
    yield made
    made.close()


def fail(how: str, minio: MinIO, way: Way) -> Callable[[], None]:
    """Make the store fail; what heals it."""
    if how == "stopped":
        minio.stop()
        return minio.start
    if how == "standing still":
        minio.process.send_signal(signal.SIGSTOP)
        return lambda: minio.process.send_signal(signal.SIGCONT)
    if how == "full":
        minio.fill()
        return minio.empty
    way.state = how

    def heal() -> None:
        way.state = "open"

    return heal


@pytest.mark.parametrize("how", ["stopped", "standing still", "full", "500", "slow"])
def test_a_store_that_fails_for_a_minute(
    how: str, minio: MinIO, way: Way, char_dataset: Path, tmp_path: Path
) -> None:
    train(char_dataset, tmp_path / "whole", TrainSettings.of(**SETTINGS))
    folder, store = tmp_path / "run", open_store("s3://runs/17")
    settings = {**SETTINGS, "publish_uri": "s3://runs/17"}
    heal: Callable[[], None] | None = None
    before = failed_at = waiting = published_at = -1
    healed_after = published_after = 0.0
    started = time.monotonic()
    for step in Paced(char_dataset).steps(folder, settings):
        if published_at < 0:
            time.sleep(PACE)
        if failed_at < 0 and step % 10 == 5:
            if (before := newest(store)) >= 20:
                heal, failed_at, started = fail(how, minio, way), step, time.monotonic()
        elif heal and time.monotonic() - started > SECONDS:
            saved = layout.newest_step(folder)
            assert saved is not None
            assert saved > failed_at, "training goes on"
            waiting = saved
            heal()
            heal, healed_after, started = None, time.monotonic() - started, time.monotonic()
        elif failed_at >= 0 and not heal and published_at < 0 and step % 10 == 5:
            found = newest(store)
            if found >= waiting:
                published_at, published_after = found, time.monotonic() - started
    assert before >= 20
    assert healed_after, "the training ended before the store was healed: give it more steps"
    assert published_at > failed_at, "it is published when the store works again"
    assert_same_run(tmp_path / "whole", folder)
    assert published.fetch_newest(store, tmp_path / "brought") == (STEPS, []), (
        "the last step is there, and whole"
    )
    assert_same_run(tmp_path / "whole", tmp_path / "brought")
    print(
        f"\n{how}: failed for {healed_after:.0f} s at step {failed_at}; {waiting} was saved when it worked again; "
        f"{published_at} was published {published_after:.0f} s later"
    )


class Paced(Node):
    """A pod whose steps wait for whoever reads them."""

    def __init__(self, dataset: Path) -> None:
        super().__init__(dataset, {})

    def steps(self, folder: Path, settings: dict[str, object]) -> Iterator[int]:
        """Each step before it is made."""
        import json

        job = {"dataset": str(self.dataset), "folder": str(folder), "settings": settings, "attempt": 0}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            word, _, value = line.strip().partition(" ")
            if word == "step":
                yield int(value)
                os.write(self._pace, b".")
            elif word == "ended":
                self.close()
                return
