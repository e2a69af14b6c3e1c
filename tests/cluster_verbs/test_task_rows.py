"""A run's tasks as rows. workflow.json: what Argo 4.0.5 said of a failed run on Kubeflow Pipelines 2.17, shortened."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace as Of
from typing import Any

import pytest

from textmill.cluster.follow import sentence
from textmill.cluster.task_rows import rows_of_run, rows_of_workflow

SAID = json.loads((Path(__file__).parent / "workflow.json").read_text())
NAME = SAID["metadata"]["name"]


@pytest.fixture
def workflow() -> dict[str, Any]:
    return copy.deepcopy(SAID)


def node(workflow: dict[str, Any], path: str) -> dict[str, Any]:
    found = [n for n in workflow["status"]["nodes"].values() if n["name"] == f"{NAME}{path}"]
    assert len(found) == 1, path
    return found[0]


def test_the_pipelines_tasks_and_nothing_of_kfps(workflow: dict[str, Any]) -> None:
    rows = {row.name: row for row in rows_of_workflow(workflow)}
    assert {name: row.state for name, row in rows.items()} == {
        "ingest": "done",
        "normalize": "done",
        "train": "failed",
        "generate": "skipped",
        "report": "skipped",
    }
    assert rows["train"].pod == "quickstart-chpcg-retry-system-container-impl-3999349177"
    assert rows["train"].message == "main: Error (exit code 1)"
    assert rows["ingest"].seconds(datetime.now(UTC)) == 22
    assert [row.attempts for row in rows.values()][:3] == [1, 1, 1]


def test_a_task_from_the_cache(workflow: dict[str, Any]) -> None:
    for attempt in ("", "(0)"):
        driver = node(workflow, f"(0).root(0).normalize-driver{attempt}")
        driver["outputs"]["parameters"] = [{"name": "cached-decision", "value": "true"}]
    assert {row.name: row.state for row in rows_of_workflow(workflow)}["normalize"] == "cached"


def test_a_condition_that_does_not_hold(workflow: dict[str, Any]) -> None:
    driver = node(workflow, "(0).root(0).normalize-driver")
    driver["outputs"]["parameters"] = [{"name": "condition", "value": "false"}]
    assert {row.name: row.state for row in rows_of_workflow(workflow)}["normalize"] == "skipped"


def test_a_killed_pod_is_a_second_attempt(workflow: dict[str, Any]) -> None:
    nodes = workflow["status"]["nodes"]
    first = node(workflow, "(0).root(0).train(0).executor(0)")
    first |= {"phase": "Error", "message": "pod deleted", "finishedAt": first["startedAt"]}
    for path in ("(0).root(0).train", "(0).root(0).train(0)", "(0).root(0).train(0).executor"):
        node(workflow, path)["phase"] = "Running"
    second = {
        **first,
        "id": f"{NAME}-77",
        "name": f"{NAME}(0).root(0).train(0).executor(1)",
        "phase": "Pending",
    }
    second |= {"startedAt": "2026-11-21T17:37:00Z", "message": "Unschedulable: 1 Insufficient nvidia.com/gpu"}
    nodes[second["id"]] = second
    (train,) = (row for row in rows_of_workflow(workflow) if row.name == "train")
    assert (train.state, train.attempts, len(train.pods)) == ("waiting", 2, 2)
    assert train.pod.endswith("-77")
    assert sentence(train, datetime.now(UTC)) == (
        "train: waiting, attempt 2 (Unschedulable: 1 Insufficient nvidia.com/gpu)"
    )


def test_the_turns_of_a_loop_are_told_apart(workflow: dict[str, Any]) -> None:
    nodes = workflow["status"]["nodes"]
    start = {"phase": "Succeeded", "startedAt": "2026-11-21T17:37:00Z", "finishedAt": "2026-11-21T17:37:09Z"}
    loop = f"{NAME}(0).root(0).for-loop-1(0)"
    for number in (0, 1):
        turn = f"{loop}.iteration-iterations({number}:{number})(0)"
        train = f"{turn}.iteration-item(0).train"
        for name, kind in (
            (turn, "DAG"),
            (f"{turn}.iteration-item(0)", "DAG"),
            (train, "DAG"),
            (f"{train}.executor(0)", "Pod"),
        ):
            identity = f"{NAME}-{len(nodes)}"
            nodes[identity] = {"id": identity, "name": name, "type": kind, "templateName": "impl", **start}
    nodes["loop"] = {"id": "loop", "name": loop, "type": "DAG", **start}
    titles = [row.title for row in rows_of_workflow(workflow)]
    assert "train [0]" in titles
    assert "train [1]" in titles
    assert "for-loop-1" not in titles


def test_the_api_alone_knows_names_and_states() -> None:
    def detail(name: str, state: str) -> Of:
        when = datetime(2026, 11, 21, 17, 0, tzinfo=UTC)
        unknown = datetime(1970, 1, 1, tzinfo=UTC)
        ended = unknown if state == "RUNNING" else when
        return Of(display_name=name, state=state, start_time=when, end_time=ended, error=None)

    said = [
        "root",
        "root(0)",
        "root-driver(0)",
        "train-driver",
        "train",
        "train(0)",
        "executor",
        "executor(0)",
    ]
    rows = rows_of_run([detail(name, "RUNNING") for name in said])
    assert [(row.name, row.state, row.ended) for row in rows] == [("train", "running", None)]
