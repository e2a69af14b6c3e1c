"""Accelerators on a real scheduler: a pod that asks for one waits where there is none and runs where there is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.kubernetes import Kubectl, pod
from tests.cluster.pipelines import Pipelines, main_container
from textmill import hardware

GPU = "nvidia.com/gpu"
QUICK = {"preset": "tiny", "overrides": {"epochs": 1}, "length": 40, "number": 1}


@pytest.fixture
def give_gpu(ours: Kubectl) -> Iterator[Callable[[], None]]:
    """A call makes the node say that it has a GPU; it has none again afterwards. No device plugin watches over it."""
    [node] = ours.json("get", "nodes")["items"]
    name, has = node["metadata"]["name"], GPU in node["status"]["capacity"]
    if has:
        pytest.skip("this node has GPUs of its own")

    def patch(change: dict[str, str]) -> None:
        path = "/status/capacity/" + GPU.replace("/", "~1")
        ours(
            "patch",
            "node",
            name,
            "--subresource=status",
            "--type=json",
            "-p",
            json.dumps([{**change, "path": path}]),
        )

    given = []
    try:
        yield lambda: given.append(patch({"op": "add", "value": "1"}))
    finally:
        if given:
            patch({"op": "remove"})


def test_a_pod_waits_for_a_gpu_and_says_so(
    kubectl: Kubectl, namespace: str, image: str, give_gpu: Callable[[], None]
) -> None:
    asks = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi", GPU: "1"}}
    kubectl.apply(pod("gpu", image, ["true"], resources=asks), "-n", namespace)
    kubectl.wait_for(lambda: bool(kubectl.why_pending(namespace, "gpu")), 30, "the scheduler's reason")
    assert f"Insufficient {GPU}" in kubectl.why_pending(namespace, "gpu")
    give_gpu()
    assert kubectl.pod_ends(namespace, "gpu") == "Succeeded"


def test_train_of_a_recipe_waits_for_the_gpu_that_its_parameters_ask_for(
    pipelines: Pipelines, give_gpu: Callable[[], None]
) -> None:
    asked = hardware.parameters("gpu-l4") | {"train_cpu": "1", "train_memory": "2Gi"}
    run = pipelines.recipe("quickstart", cache=False, **{**QUICK, **asked})
    waiting = pipelines.pod_of(run, "train", 400)
    assert main_container(waiting)["resources"]["limits"][GPU] == "1"
    assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in waiting["spec"]["tolerations"]
    name = waiting["metadata"]["name"]
    pipelines.when(lambda: bool(pipelines.kubectl.why_pending(pipelines.namespace, name)), 30, "the reason")
    assert f"Insufficient {GPU}" in pipelines.kubectl.why_pending(pipelines.namespace, name)
    give_gpu()
    assert pipelines.succeeds(run).task("train").state == "SUCCEEDED"


def test_nodes_and_tolerations_reach_the_pod(pipelines: Pipelines) -> None:
    """A node that no cluster has: the pod waits for it, and the run is taken away again."""
    asked = hardware.parameters("spot-cpu-small", "gke")
    run = pipelines.recipe("quickstart", **{**QUICK, **asked, "train_cpu": "1", "train_memory": "1Gi"})
    try:
        spec = pipelines.pod_of(run, "train", 400)["spec"]
        assert spec["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
        spot = {
            "key": "cloud.google.com/gke-spot",
            "operator": "Equal",
            "value": "true",
            "effect": "NoSchedule",
        }
        assert spot in spec["tolerations"]
    finally:
        pipelines.client.terminate_run(run)
