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
def sized(gpus: str = "1", nodes: dict = {}, taints: list = [], files: list = ["a"]):
    apply(work(), Hardware(
        image="registry/work@sha256:1", cpu="2", cpu_limit="3", memory="4Gi", memory_limit="5Gi",
        accelerator_type="amd.com/gpu", accelerator_count=gpus, node_selector={"zone": "a"},
        tolerations=[{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        shm="1Gi", queue="team", minutes=90, retries=2, backoff="60s"))
    apply(work(), Hardware())
    with dsl.ParallelFor(files) as file:
        apply(work(), Hardware(accelerator_count=gpus, node_selector=nodes, tolerations=taints))

compiler.Compiler().compile(sized, sys.argv[1])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sized")
    (folder / "source.py").write_text(SOURCE)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['', 'sized.yaml']; import source"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    return list(yaml.safe_load_all((folder / "sized.yaml").read_text()))


def kubernetes(compiled: list[dict[str, Any]], task: str) -> dict[str, Any]:
    """What only Kubernetes knows of a task."""
    found: dict[str, Any] = compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][
        f"exec-{task}"
    ]
    return found


def test_resources_image_and_retries(compiled: list[dict[str, Any]]) -> None:
    container = compiled[0]["deploymentSpec"]["executors"]["exec-work"]["container"]
    assert container["image"] == "registry/work@sha256:1"
    assert {k: v for k, v in container["resources"].items() if k.startswith(("resource", "accelerator"))} == {
        "accelerator": {
            "resourceType": "amd.com/gpu",
            "type": "amd.com/gpu",  # deprecated field, written beside the new one
            "resourceCount": "{{$.inputs.parameters['pipelinechannel--gpus']}}",
        },
        "resourceCpuLimit": "3",
        "resourceCpuRequest": "2",
        "resourceMemoryLimit": "5Gi",
        "resourceMemoryRequest": "4Gi",
    }
    retry = compiled[0]["root"]["dag"]["tasks"]["work"]["retryPolicy"]
    assert (retry["maxRetryCount"], retry["backoffDuration"], retry["backoffFactor"]) == (2, "60s", 2.0)


def test_what_only_kubernetes_knows(compiled: list[dict[str, Any]]) -> None:
    sized = kubernetes(compiled, "work")
    constant = sized["nodeSelector"]["nodeSelectorJson"]["runtimeValue"]["constant"]
    assert constant == {"zone": "a"}
    assert sized["tolerations"] == [{"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
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
    assert set(kubernetes(compiled, "work-2")) == {"secretAsEnv", "secretAsVolume", "securityContext"}


def test_parameters_reach_into_a_loop(compiled: list[dict[str, Any]]) -> None:
    """KFP's compiler passes on only what it knows the tasks of a loop to use."""
    passed = compiled[0]["root"]["dag"]["tasks"]["for-loop-1"]["inputs"]["parameters"]
    assert {name: about.get("componentInputParameter") for name, about in passed.items()} == {
        "pipelinechannel--files": "files",
        "pipelinechannel--gpus": "gpus",
        "pipelinechannel--nodes": "nodes",
        "pipelinechannel--taints": "taints",
    }
    in_loop = kubernetes(compiled, "work-3")
    assert in_loop["nodeSelector"]["nodeSelectorJson"] == {
        "componentInputParameter": "pipelinechannel--nodes"
    }
    assert in_loop["tolerations"] == [
        {"tolerationJson": {"componentInputParameter": "pipelinechannel--taints"}}
    ]


def test_every_task_runs_as_no_root_and_may_lack_the_stores_secret(compiled: list[dict[str, Any]]) -> None:
    for task in ("work", "work-2", "work-3"):
        found = kubernetes(compiled, task)
        assert found["securityContext"] == {"runAsNonRoot": True}
        [env] = found["secretAsEnv"]
        assert (env["secretName"], env["optional"]) == ("textmill-store", True)
        assert {"secretKey": "AWS_ENDPOINT_URL", "envVar": "AWS_ENDPOINT_URL"} in env["keyToEnv"]
        [volume] = found["secretAsVolume"]
        assert (volume["mountPath"], volume["optional"]) == ("/var/run/secrets/textmill-store", True)
