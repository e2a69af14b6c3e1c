"""manifests/schedule on a cluster: a look starts a run, a look at the same source does not, a changed source does."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kubernetes import MANIFESTS, Kubectl
from tests.cluster.pipelines import ENDED, Pipelines
from tests.cluster.test_recipes import QUICK, bucket

__all__ = ["bucket"]


@pytest.fixture
def volume(ours: Kubectl, tmp_path: Path) -> Iterator[str]:
    """A volume of this node, for the claim that manifests/schedule makes."""
    name = f"textmill-{uuid.uuid4().hex[:6]}"
    folder = Path("/var/tmp") / name
    folder.mkdir()
    folder.chmod(0o777)
    ours.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": name,
                "hostPath": {"path": str(folder)},
            },
        }
    )
    yield name
    ours("delete", "pv", name, "--wait=false")


def test_a_look_starts_a_run_when_the_source_changed_and_else_none(
    pipelines: Pipelines, ours: Kubectl, volume: str, bucket: Any
) -> None:
    source = f"textmill-test/{volume}"
    name = pipelines.namespace
    bucket.put_object(Key=f"{source}/one.txt", Body=b"ALMA: The wheel turns.\nJO: So it does.\n" * 200)
    ours("apply", "--server-side", "-k", str(MANIFESTS / "base"), "-n", name)
    made = [d for d in yaml.safe_load_all(ours("kustomize", str(MANIFESTS / "schedule"))) if d]
    for found in made:
        found["metadata"]["namespace"] = name
        if found["kind"] == "PersistentVolumeClaim":
            found["spec"] |= {"storageClassName": volume, "volumeName": volume}
        else:
            found["spec"]["suspend"] = True
            container = found["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
            container["image"] = pipelines.image
            set_parameters(container, pipelines, f"s3://{bucket.name}/{source}/")
    ours.apply({"apiVersion": "v1", "kind": "List", "items": made})
    try:
        assert "/ is new; starting quickstart" in look(pipelines, "first")
        [run] = pipelines.of_experiment(volume)
        assert "/: running" in look(pipelines, "second")
        pipelines.succeeds(run)
        assert "/: unchanged" in look(pipelines, "third")
        assert pipelines.of_experiment(volume) == [run]
        bucket.put_object(Key=f"{source}/two.txt", Body=b"JO: More flour.\nALMA: At once.\n" * 50)
        assert "/ changed; starting quickstart" in look(pipelines, "fourth")
        [other] = set(pipelines.of_experiment(volume)) - {run}
        pipelines.pod_of(other, "ingest")  # not from the cache, which knows the source by its address
        pipelines.client.terminate_run(other)
    finally:
        ours("delete", "cronjob,pvc", "textmill-watch", "-n", name, "--wait=false", "--ignore-not-found")
        ours("delete", "jobs", "-n", name, "-l", "textmill-test=watch", "--wait=false")


def set_parameters(container: dict[str, Any], pipelines: Pipelines, source: str) -> None:
    asked = {**QUICK, "source": source, "image": pipelines.image, "train_image": pipelines.image}
    asked |= {"train_cpu": "1", "train_memory": "2Gi"}
    options = [a for a in container["args"] if not a.startswith("--param")]
    container["args"] = options + [
        f"--param={name}={json.dumps(value) if isinstance(value, dict) else value}"
        for name, value in asked.items()
    ]
    container["args"].append(f"--experiment={source.split('/')[-2]}")


def look(pipelines: Pipelines, name: str) -> str:
    """One job of the schedule, at once; what it said."""
    kubectl, job = pipelines.kubectl, f"textmill-watch-{name}"
    kubectl("delete", "job", job, "-n", pipelines.namespace, "--ignore-not-found")
    kubectl("create", "job", job, "--from=cronjob/textmill-watch", "-n", pipelines.namespace)
    kubectl("label", "job", job, "textmill-test=watch", "-n", pipelines.namespace)

    def status() -> dict[str, Any]:
        found: dict[str, Any] = kubectl.json("get", "job", job, "-n", pipelines.namespace)["status"]
        return found

    kubectl.wait_for(
        lambda: bool(status().get("succeeded") or status().get("failed")), 300, f"the end of {job}"
    )
    said = kubectl("logs", f"job/{job}", "-n", pipelines.namespace)
    assert status().get("succeeded"), said
    return said


def test_by_the_clock_one_run_at_a_time(pipelines: Pipelines) -> None:
    from textmill.cluster.submit import SubmitSettings, check, submit

    experiment = f"clock-{uuid.uuid4().hex[:6]}"
    settings = SubmitSettings.of(endpoint=os.environ["KFP_ENDPOINT"], experiment=experiment, every="20s")
    asked = {**QUICK, "image": pipelines.image, "train_image": pipelines.image}
    found, arguments = check("quickstart", {**asked, "train_cpu": "1", "train_memory": "2Gi"}, settings)
    made = submit(pipelines.client, found, arguments, settings, settings.every)
    try:
        pipelines.when(lambda: len(pipelines.of_experiment(experiment)) == 1, 120, "the first run")
        [first] = pipelines.of_experiment(experiment)
        time.sleep(45)  # the time of the next one or two
        assert pipelines.of_experiment(experiment) == [first] or pipelines.run(first).state == "SUCCEEDED"
        given = pipelines.client.get_run(first).runtime_config.parameters
        assert given["preset"] == "tiny"
    finally:
        pipelines.client.disable_recurring_run(made.identity)
        for run in pipelines.of_experiment(experiment):
            if pipelines.run(run).state not in ENDED:
                pipelines.client.terminate_run(run)
        pipelines.client.delete_recurring_run(made.identity)  # takes its runs' workflows with it
