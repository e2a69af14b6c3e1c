"""Hardware: every field stands in the compiled YAML as Kubernetes wants it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

SOURCE = """
import sys
from kfp import compiler, dsl
from pipelines.tasks import Hardware, apply

@dsl.component(base_image="python-none", install_kfp_package=False)
def work():
    pass

@dsl.pipeline(name="sized")
def sized(gpus: str = "1"):
    apply(work(), Hardware(
        image="registry/work@sha256:1", cpu="2", memory="4Gi", accelerator_count=gpus,
        node_selector={"zone": "a"}, tolerate="nvidia.com/gpu", spot="cloud/spot", shm="1Gi", queue="team", minutes=90,
        retries=2, backoff="60s"))
    apply(work(), Hardware())

compiler.Compiler().compile(sized, sys.argv[1])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sized")
    (folder / "source.py").write_text(SOURCE)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['', 'sized.yaml']; import source"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return list(yaml.safe_load_all((folder / "sized.yaml").read_text()))


def test_resources_image_and_retries(compiled: list[dict[str, Any]]) -> None:
    container = compiled[0]["deploymentSpec"]["executors"]["exec-work"]["container"]
    assert container["image"] == "registry/work@sha256:1"
    assert {k: v for k, v in container["resources"].items() if k.startswith(("resource", "accelerator"))} == {
        "accelerator": {
            "resourceType": "nvidia.com/gpu",
            "type": "nvidia.com/gpu",  # deprecated field, written beside the new one
            "resourceCount": "{{$.inputs.parameters['pipelinechannel--gpus']}}",
        },
        "resourceCpuLimit": "2",
        "resourceCpuRequest": "2",
        "resourceMemoryLimit": "4Gi",
        "resourceMemoryRequest": "4Gi",
    }
    retry = compiled[0]["root"]["dag"]["tasks"]["work"]["retryPolicy"]
    assert (retry["maxRetryCount"], retry["backoffDuration"]) == (2, "60s")


def test_what_only_kubernetes_knows(compiled: list[dict[str, Any]]) -> None:
    sized = compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-work"]
    assert sized["nodeSelector"]["labels"] == {"zone": "a", "cloud/spot": "true"}
    assert [(t["key"], t["operator"]) for t in sized["tolerations"]] == [
        ("nvidia.com/gpu", "Exists"),
        ("cloud/spot", "Equal"),
    ]
    assert sized["emptyDirMounts"] == [
        {"mountPath": "/dev/shm", "volumeName": "shm", "medium": "Memory", "sizeLimit": "1Gi"}
    ]
    assert sized["podMetadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    assert sized["activeDeadlineSeconds"] == "5400"


def test_an_empty_hardware_asks_for_nothing(compiled: list[dict[str, Any]]) -> None:
    container = compiled[0]["deploymentSpec"]["executors"]["exec-work-2"]["container"]
    assert container["image"] == "python-none"
    assert "resources" not in container
    assert "retryPolicy" not in compiled[0]["root"]["dag"]["tasks"]["work-2"]
