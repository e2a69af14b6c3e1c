"""What set_retry means with upstream's settings of Argo, and with manifests/retries."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kubernetes import MANIFESTS, Kubectl
from tests.cluster.pipelines import Pipelines, compiled

SETTINGS = "workflow-controller-configmap"
# Argo ends itself over a value of one line that holds a mapping: a line's end makes it a block.
UPSTREAM = "spec: {templateDefaults: {retryStrategy: {limit: '2', retryPolicy: OnError}}}\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled("failing_once", tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def settings(ours: Kubectl, pipelines: Pipelines) -> Iterator[Kubectl]:
    """Argo's settings, put back afterwards."""
    before = ours.json("get", "configmap", SETTINGS, "-n", pipelines.namespace)["data"]
    yield ours
    ours(
        "patch",
        "configmap",
        SETTINGS,
        "-n",
        pipelines.namespace,
        "--type=merge",
        "-p",
        json.dumps({"data": before}),
    )


def argo_has_read_them() -> None:
    time.sleep(5)  # it watches the config map; nothing outside tells when it has read it


def test_with_upstreams_settings_a_program_that_fails_is_not_started_again(
    settings: Kubectl, pipelines: Pipelines, package: Path
) -> None:
    change = json.dumps({"data": {"workflowDefaults": UPSTREAM}})
    settings("patch", "configmap", SETTINGS, "-n", pipelines.namespace, "--type=merge", "-p", change)
    argo_has_read_them()
    run = pipelines.submit(package, image=pipelines.image)
    assert pipelines.wait(run).state == "FAILED"
    assert len(pipelines.pods(run)) == 1


def test_with_ours_it_is(settings: Kubectl, pipelines: Pipelines, package: Path) -> None:
    patch = str(MANIFESTS / "retries" / "patch.yaml")
    settings("patch", "configmap", SETTINGS, "-n", pipelines.namespace, "--patch-file", patch)
    argo_has_read_them()
    run = pipelines.submit(package, image=pipelines.image)
    assert pipelines.succeeds(run).state == "SUCCEEDED"
    assert len(pipelines.pods(run)) == 2
