"""The doctor: each look is one line that says what to do, and no look can end it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace as Of

import pytest
from click.testing import CliRunner

from textmill.cli import main
from textmill.cluster.pods import why_pending
from textmill.doctor import NOTE, OK, WRONG, kubernetes, machine, object_store
from textmill.doctor.kubernetes import amount
from textmill.stores.local import LocalStore

NO_CLUSTER = {"KUBECONFIG": "/nonexistent/config", "KFP_ENDPOINT": "", "KF_PIPELINES_ENDPOINT": ""}


def test_this_machine_is_looked_at_and_nothing_else_is_asked_for() -> None:
    found = CliRunner().invoke(main, ["doctor"], env=NO_CLUSTER)
    lines = found.output.splitlines()
    looked = [line[7:].split(":")[0] for line in lines if line[:2] in ("OK", "no", "WR")]
    assert looked == [
        "Python",
        "packages",
        "backend",
        "CPU",
        "memory",
        "disk",
        "GPU",
        "object store",
        "cluster",
        "Kubeflow Pipelines",
    ]
    assert "TensorFlow 2" in found.output
    assert found.exit_code == 0


def test_a_server_that_does_not_answer_is_wrong_and_the_exit_code_says_so() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        found = CliRunner().invoke(main, ["doctor", "--endpoint", endpoint], env=NO_CLUSTER)
    assert found.exit_code == 3
    assert "WRONG  Kubeflow Pipelines: cannot reach" in found.output
    assert "1 thing to mend" in found.output
    assert "Traceback" not in found.output


class OtherServer(BaseHTTPRequestHandler):
    """Answers, but is no Kubeflow Pipelines."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"not here")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), OtherServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_server_of_another_kind_is_wrong(other_server: str) -> None:
    found = CliRunner().invoke(main, ["doctor", "--endpoint", other_server], env=NO_CLUSTER)
    assert "WRONG  Kubeflow Pipelines" in found.output
    assert "is no Kubeflow Pipelines (404); give its API or its dashboard, as http" in found.output


def test_a_kubeconfig_whose_cluster_is_away_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: t}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    findings = list(kubernetes.examine("texts"))
    assert [(f.what, f.state) for f in findings] == [("cluster", WRONG)]
    assert "127.0.0.1:1" in findings[0].text


def test_a_full_disk_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: Of(free=1 << 20))
    finding = machine._disk()
    assert finding.state == WRONG
    assert "Make room" in finding.line()


def test_a_machine_without_bfloat16_gets_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.devices, "cpu_features", lambda: frozenset({"avx2"}))
    assert machine._cpu().state == NOTE
    monkeypatch.setattr(machine.devices, "cpu_features", lambda: frozenset({"avx2", "avx512_bf16"}))
    assert machine._cpu().state == OK


def pod(*, container: object = None, condition: object = None) -> Of:
    statuses = [Of(state=Of(waiting=container))] if container else []
    return Of(
        status=Of(
            container_statuses=statuses,
            init_container_statuses=None,
            conditions=[condition] if condition else None,
        )
    )


def test_why_a_pod_waits() -> None:
    scheduler = Of(
        type="PodScheduled",
        status="False",
        reason="Unschedulable",
        message="0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: …",
    )
    assert why_pending(pod(condition=scheduler)) == (
        "Unschedulable",
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    )
    image = Of(reason="ErrImagePull", message='failed to pull "textmill"')
    assert why_pending(pod(container=image)) == ("ErrImagePull", 'failed to pull "textmill".')
    assert why_pending(pod(container=Of(reason="ContainerCreating", message=None))) == ("", "")
    assert why_pending(pod()) == ("", "")


@pytest.mark.parametrize(
    ("said", "number"),
    [("2", 2), ("500m", 0.5), ("2Gi", 2 << 30), ("1k", 1000), ("1.5Ki", 1536), ("what", 0)],
)
def test_quantities(said: str, number: float) -> None:
    assert amount(said) == pytest.approx(number)


def test_an_object_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    found = CliRunner().invoke(main, ["doctor", "--store", str(tmp_path)], env=NO_CLUSTER)
    assert "OK     object store" in found.output
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"mine.txt"}


def test_a_store_that_forgets_conditions_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: LocalStore, name: str, data: bytes, version: str) -> str:
        self.write(name, data)
        return "any"

    monkeypatch.setattr(LocalStore, "write_if_unchanged", careless)
    (finding,) = object_store.examine(str(tmp_path))
    assert finding.state == WRONG
    assert "no conditional writes" in finding.text


def test_a_store_that_is_not_known_is_wrong() -> None:
    (finding,) = object_store.examine("s4://bucket/x")
    assert (finding.state, "s4" in finding.text) == (WRONG, True)
