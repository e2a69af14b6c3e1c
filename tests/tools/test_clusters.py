"""tools/cluster_tests.py and tools/kind.py without a cluster: what they say, and what they would do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["ASKED"], "a") as file:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=file)
if sys.argv[1:3] == ["get", "clusters"]:
    print(os.environ.get("THERE", ""))
sys.exit(os.environ.get("FAILS") in sys.argv)
"""


def run(tool: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {
        k: v
        for k, v in os.environ.items()
        if k not in ("KUBECONFIG", "KFP_ENDPOINT", "KFP_BIN", "CLUSTER_IMAGES")
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *arguments],
        env={**base, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """docker, kind and kubectl that only write down what they are asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "kind", "kubectl"):
        (folder / name).write_text(PROGRAM)
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "ASKED": str(tmp_path / "asked")}


def asked(programs: dict[str, str]) -> list[list[str]]:
    return [json.loads(line) for line in Path(programs["ASKED"]).read_text().splitlines()]


def test_without_a_cluster_it_says_what_it_skipped(tmp_path: Path) -> None:
    done = run("cluster_tests.py", "--cluster", str(tmp_path))
    assert done.returncode == 0
    assert f"SKIPPED: all cluster tests: there is no test cluster at {tmp_path}" in done.stderr


@pytest.mark.parametrize("environment", [{}, {"KUBECONFIG": "somebody's"}])
def test_ci_starts_no_cluster_and_takes_nobodys(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "cluster").touch()
    done = run("cluster_tests.py", "--if-ready", "--cluster", str(tmp_path), **environment)
    assert done.returncode == 0
    assert (
        "SKIPPED: all cluster tests: no KUBECONFIG and CLUSTER_IMAGES; make test-cluster starts"
        in done.stderr
    )


def test_ci_leaves_kubeflow_pipelines_out(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\n")
    ready = {"KUBECONFIG": str(tmp_path / "config"), "CLUSTER_IMAGES": str(tmp_path / "digests.json")}
    ready["KFP_ENDPOINT"] = "http://127.0.0.1:1"
    done = run("cluster_tests.py", "--if-ready", "tests/cluster/test_retries.py", **ready)
    assert done.returncode == 0, done.stdout
    assert "SKIPPED: what needs Kubeflow Pipelines" in done.stderr
    assert " passed" not in done.stdout


def test_a_cluster_that_does_not_come_up_is_started_once_more(
    programs: dict[str, str], tmp_path: Path
) -> None:
    for name in ("cluster", "bin/go", "bin/apt-get"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    done = run("cluster_tests.py", "--cluster", str(tmp_path), FAILS="up", **programs)
    if os.geteuid() != 0:
        assert "the test cluster needs root" in done.stderr
        return
    assert done.returncode == 3
    assert asked(programs) == [["cluster", "up"], ["cluster", "up"], ["cluster", "down"]]
    assert "cluster up failed (exit code 1)" in done.stderr


def test_with_a_cluster_that_does_not_answer_every_test_is_skipped_by_name(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\n")
    done = run("cluster_tests.py", "tests/cluster/test_manifests.py", KUBECONFIG=str(tmp_path / "config"))
    assert done.returncode == 0, done.stdout
    assert "SKIPPED: what needs Kubeflow Pipelines" in done.stderr
    assert "no cluster: KUBECONFIG names none that answers" in done.stdout
    assert " passed" not in done.stdout


def test_kind_up_installs_in_order(programs: dict[str, str]) -> None:
    done = run("kind.py", "up", **programs)
    assert done.returncode == 0, done.stderr
    steps = [(line[0], *line[1:4]) for line in asked(programs)]
    applied = ("kubectl", "--context", "kind-textmill", "apply")
    waited = ("kubectl", "--context", "kind-textmill", "wait")
    assert steps == [
        ("kind", "get", "clusters"),
        ("kind", "create", "cluster", "--name"),
        applied,
        waited,
        applied,
        waited,
    ]
    assert asked(programs)[4][-1] == str(ROOT / "manifests" / "kind")
    assert "port-forward -n kubeflow service/ml-pipeline 8888" in done.stdout


def test_kind_up_keeps_a_cluster_that_is_there(programs: dict[str, str]) -> None:
    assert run("kind.py", "up", THERE="textmill", **programs).returncode == 0
    assert not [line for line in asked(programs) if "create" in line]


def test_kind_down(programs: dict[str, str]) -> None:
    assert run("kind.py", "down", KIND_CLUSTER="other", **programs).returncode == 0
    assert asked(programs) == [["kind", "delete", "cluster", "--name", "other"]]


def test_what_goes_wrong_with_kind_is_one_line(programs: dict[str, str], tmp_path: Path) -> None:
    done = run("kind.py", "up", FAILS="create", **programs)
    assert (done.returncode, done.stderr) == (3, "kind: kind create cluster failed (exit code 1)\n")
    done = run("kind.py", "up", **{**programs, "PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (3, "kind: not installed here: docker, kind, kubectl\n")
    assert run("kind.py", "sideways", **programs).returncode == 2
