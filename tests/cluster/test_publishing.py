"""The proof on Kubeflow Pipelines: a training pod is deleted three times at random moments, the run ends bit-equal."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kubernetes import Kubectl
from tests.cluster.pipelines import Pipelines, compiled
from tests.cluster.test_recipes import bucket, files_of
from textmill.checkpoints import published
from textmill.stores import open_store

__all__ = ["bucket"]

STEPS = int(
    os.environ.get("KILL_STEPS", "10000")
)  # enough for three disturbances: some 100 to 1,000 a second
TRAINING: dict[str, Any] = {
    "overrides": {
        "batch_size": 4,
        "num_steps": 16,
        "validate_every": STEPS // 4,
        "sample_every": STEPS // 2,
        "log_every": STEPS // 4,
    },
    "max_steps": STEPS,
    "save_every_minutes": 0.03,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("surviving", tmp_path_factory.mktemp("compiled"))


def training_pod(kubectl: Kubectl, namespace: str, run: str) -> tuple[str, str]:
    """Name and identity of the run's pod whose component is train and that runs; empty without one.

    Argo may start a pod that was deleted again under its old name.
    """
    for pod in kubectl.json("get", "pods", "-n", namespace, "-l", f"pipeline/runid={run}")["items"]:
        main = next((c for c in pod["spec"]["containers"] if c["name"] == "main"), {})
        said = json.dumps(main.get("args", []) + main.get("command", []))
        running = pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
        if running and "def train(" in said:
            return str(pod["metadata"]["name"]), str(pod["metadata"]["uid"])
    return "", ""


def published_step(bucket: Any, run: str) -> int:
    """The newest step that the run's training has published; -1 before the first one."""
    keys = files_of(bucket, run, "train")
    if "checkpoint/latest.json" not in keys:
        return -1
    uri = f"s3://{bucket.name}/{keys['checkpoint/latest.json'].rpartition('/')[0]}"
    steps = published.read_pointer(open_store(uri))[0].steps
    return max((s.step for s in steps), default=-1)


def weights_of(bucket: Any, run: str) -> dict[str, str]:
    """SHA-256 by file of the model and of the last state, from the manifests that the launcher uploaded."""
    keys = files_of(bucket, run, "train")
    found: dict[str, str] = {}
    for name in ("checkpoint/manifest.json", f"checkpoint/state/step-{STEPS:08d}/manifest.json"):
        files = json.loads(bucket.Object(keys[name]).get()["Body"].read())["files"]
        found |= {f"{name}: {file}": about["sha256"] for file, about in files.items()}
    return found


def test_a_training_pod_deleted_three_times_ends_bit_equal(
    pipelines: Pipelines, kubectl: Kubectl, package: Path, bucket: Any
) -> None:
    undisturbed = pipelines.submit(package, image=pipelines.image, **TRAINING)
    whole = pipelines.succeeds(undisturbed)
    run = pipelines.submit(package, image=pipelines.image, **TRAINING)
    draw, at, deleted = random.Random(), [], {""}

    def started() -> bool:
        return training_pod(kubectl, pipelines.namespace, run)[1] not in deleted

    for _ in range(3):
        kubectl.wait_for(started, 600, "the next attempt's pod")
        before = published_step(bucket, run)
        kubectl.wait_for(lambda before=before: published_step(bucket, run) > before, 600, "a published step")
        time.sleep(draw.uniform(0, 4))
        at.append(published_step(bucket, run))
        pod, identity = training_pod(kubectl, pipelines.namespace, run)
        assert pod, "the training ended before it was disturbed: set KILL_STEPS higher"
        kubectl("delete", "pod", "-n", pipelines.namespace, pod, "--force", "--grace-period=0")
        deleted.add(identity)
    disturbed = pipelines.succeeds(run)
    took, alone = disturbed.task("train").seconds, whole.task("train").seconds
    print(
        f"\ndeleted at steps {at}; train {alone:.0f} s undisturbed, {took:.0f} s: {(took - alone) / 3:.0f} s a pod"
    )
    assert weights_of(bucket, run) == weights_of(bucket, undisturbed)
    left = files_of(bucket, run, "train")
    extra = [name for name in left if name.startswith("checkpoint/published/")]
    assert len(extra) <= 1, "what was published on the way is gone"
    assert at == sorted(set(at)), "each attempt went on from the one before"
