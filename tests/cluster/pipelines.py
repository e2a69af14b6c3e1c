"""Runs of compiled pipelines on a real Kubeflow Pipelines, for tests: submit, wait, look at tasks, pods, artifacts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster.kubernetes import Kubectl
from tests.cluster.metadata import Recorded, recorded

ROOT = Path(__file__).parents[2]
COMPILED = ROOT / "pipelines" / "compiled"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
SMALL = {"train_cpu": "1", "train_memory": "2Gi"}  # fits beside everything else on a test machine


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of a run. `seconds` is from its driver's start to its end."""

    name: str
    state: str
    seconds: float
    cached: bool


@dataclasses.dataclass(frozen=True)
class Run:
    id: str
    state: str
    tasks: list[Task]
    error: str

    def task(self, name: str) -> Task:
        found = [task for task in self.tasks if task.name == name]
        assert found, f"no task {name}; there are {[task.name for task in self.tasks]}"
        return found[0]


class Pipelines:
    def __init__(self, endpoint: str, namespace: str, image: str, kubectl: Kubectl) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from kfp import Client
        self.client = Client(host=endpoint)
        self.namespace = namespace
        self.image = image
        self.kubectl = kubectl
        self.metadata = os.environ.get("MLMD_ENDPOINT", "127.0.0.1:8080")

    def submit(
        self, package: str | Path, *, cache: bool | None = None, account: str = "", **parameters: Any
    ) -> str:
        """Start a recipe (by name) or a compiled file; the run's id."""
        path = COMPILED / f"{package}.yaml" if isinstance(package, str) else package
        made = self.client.create_run_from_pipeline_package(
            str(path),
            arguments=parameters,
            run_name=f"{path.stem}-{uuid.uuid4().hex[:6]}",
            enable_caching=cache,
            service_account=account or None,
        )
        return str(made.run_id)

    def recipe(self, name: str, *, cache: bool | None = None, account: str = "", **parameters: Any) -> str:
        """Start a recipe in the images under test, its training small."""
        images = {"image": self.image, "train_image": self.image, **SMALL}
        if name == "script_generate":
            images = {"image": self.image}
        return self.submit(name, cache=cache, account=account, **{**images, **parameters})

    def wait(self, run_id: str, seconds: float = 1200) -> Run:
        deadline = time.monotonic() + seconds
        while (found := self.run(run_id)).state not in ENDED:
            assert time.monotonic() < deadline, (
                f"run {run_id} is {found.state} after {seconds:.0f} s: {found.tasks}"
            )
            time.sleep(3)
        behind = time.monotonic() + 60  # the list of tasks may be a moment behind the run itself
        while any(task.state == "RUNNING" for task in found.tasks) and time.monotonic() < behind:
            time.sleep(3)
            found = self.run(run_id)
        return found

    def run(self, run_id: str) -> Run:
        got = self.client.get_run(run_id)
        details = got.run_details.task_details if got.run_details else None
        tasks = [
            Task(
                name=str(t.display_name),
                state=str(t.state),
                seconds=_seconds(t.start_time, t.end_time),
                cached=str(t.state) == "CACHED",
            )
            for t in details or []
        ]
        return Run(run_id, str(got.state), tasks, str(got.error or ""))

    def succeeds(self, run_id: str, seconds: float = 1200) -> Run:
        found = self.wait(run_id, seconds)
        assert found.state == "SUCCEEDED", f"{found}\n{self.logs(run_id)}"
        return found

    def pods(self, run_id: str, task: str = "") -> list[dict[str, Any]]:
        """The pods in which the run's components work (not KFP's drivers), oldest first."""
        found = self.kubectl.json("get", "pods", "-n", self.namespace, "-l", f"pipeline/runid={run_id}")[
            "items"
        ]
        works = [pod for pod in found if task_of(pod) and (not task or task_of(pod) == task)]
        return sorted(works, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def worked(self, run_id: str) -> list[str]:
        """The tasks that a pod worked for, so not from the cache; once for each pod."""
        return sorted(task_of(pod) for pod in self.pods(run_id))

    def pod_of(self, run_id: str, task: str, seconds: float = 300) -> dict[str, Any]:
        """The newest pod of a task, waited for."""
        Kubectl.wait_for(lambda: bool(self.pods(run_id, task)), seconds, f"a pod of {task}")
        return self.pods(run_id, task)[-1]

    def outputs(self, run_id: str, task: str) -> dict[str, dict[str, Any]]:
        """Output artifacts of a task by name, as KFP's driver set them up: type and uri."""
        given = json.loads(argument(self.pods(run_id, task)[-1], "--executor_input"))
        found = given["outputs"]["artifacts"]
        return {
            name: {"type": a["type"]["schemaTitle"], "uri": a["uri"]}
            for name, [a] in ((n, about["artifacts"]) for n, about in found.items())
        }

    def of_experiment(self, name: str) -> list[str]:
        """The runs of an experiment."""
        experiment = self.client.get_experiment(experiment_name=name).experiment_id
        return [str(run.run_id) for run in self.client.list_runs(experiment_id=experiment).runs or []]

    def recorded(self, uri: str) -> Recorded:
        """What KFP's metadata store has of the artifact with this URI."""
        return recorded(self.metadata, uri)

    def when(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        Kubectl.wait_for(true, seconds, what)

    def logs(self, run_id: str) -> str:
        """The ends of the logs of the run's failed pods."""
        said = []
        for pod in self.pods(run_id):
            if pod["status"].get("phase") != "Succeeded":
                name = pod["metadata"]["name"]
                said.append(
                    f"== {name}\n"
                    + self.kubectl("logs", "-n", self.namespace, name, "-c", "main", "--tail=30")
                )
        return "\n".join(said)


def compiled(name: str, folder: Path) -> Path:
    """The pipeline of tests/cluster/<name>.py, compiled; in a process of its own, as kfp notes what it has seen."""
    target = folder / f"{name}.yaml"
    code = (
        "import sys; from kfp import compiler; from importlib import import_module as module;"
        "made = getattr(module('tests.cluster.' + sys.argv[1]), sys.argv[1]);"
        "compiler.Compiler().compile(made, sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, name, str(target)], check=True, cwd=ROOT)
    return target


def main_container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in pod["spec"]["containers"] if c["name"] == "main")
    return found


def task_of(pod: dict[str, Any]) -> str:
    """The component that a pod works for; empty for KFP's drivers."""
    spec = argument(pod, "--component_spec")
    return str(json.loads(spec)["executorLabel"]).removeprefix("exec-") if spec else ""


def argument(pod: dict[str, Any], flag: str) -> str:
    """What KFP's launcher got by this flag."""
    words = [*main_container(pod).get("command", []), *main_container(pod).get("args", [])]
    return words[words.index(flag) + 1] if flag in words else ""


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return (end - start).total_seconds() if start and end else 0.0
