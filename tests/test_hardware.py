"""Hardware profiles: what a name turns into, and that the recipes have a parameter for all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from textmill import hardware
from textmill.errors import SettingsError
from textmill.pipeline_file import read_pipeline

COMPILED = Path(__file__).parents[1] / "pipelines" / "compiled"
GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def test_a_cpu_profile() -> None:
    assert hardware.parameters("cpu-medium") == {
        "train_cpu": "4",
        "train_memory": "10Gi",
        "train_accelerator_type": "nvidia.com/gpu",
        "train_accelerator_count": "0",
        "train_nodes": {},
        "train_tolerations": [],
    }
    assert hardware.variant("cpu-medium") == "cpu"


def test_a_gpu_on_spot_nodes_of_gke() -> None:
    assert hardware.parameters("spot-gpu-l4", "gke") == {
        "train_cpu": "8",
        "train_memory": "24Gi",
        "train_accelerator_type": "nvidia.com/gpu",
        "train_accelerator_count": "1",
        "train_nodes": {
            "cloud.google.com/gke-accelerator": "nvidia-l4",
            "cloud.google.com/gke-spot": "true",
        },
        "train_tolerations": [
            GPU,
            {
                "key": "cloud.google.com/gke-spot",
                "operator": "Equal",
                "value": "true",
                "effect": "NoSchedule",
            },
        ],
    }
    assert hardware.variant("spot-gpu-l4") == "gpu"


def test_spot_nodes_without_a_taint() -> None:
    asked = hardware.parameters("spot-gpu-h100", "karpenter")
    assert asked["train_nodes"] == {
        "karpenter.k8s.aws/instance-gpu-name": "h100",
        "karpenter.sh/capacity-type": "spot",
    }
    assert asked["train_tolerations"] == [GPU]


def test_without_a_kind_of_nodes_the_count_alone_decides() -> None:
    assert hardware.parameters("gpu-a100")["train_nodes"] == {}


def test_the_named_profiles_are_there() -> None:
    wanted = {"cpu-small", "gpu-l4", "gpu-a100", "gpu-h100", "spot-cpu-small", "spot-gpu-h100"}
    assert wanted <= set(hardware.names())


@pytest.mark.parametrize("name", hardware.names())
def test_every_profile_is_whole(name: str) -> None:
    for nodes in ("gke", "karpenter"):
        asked = hardware.parameters(name, nodes)
        assert all(
            isinstance(asked[key], str) for key in asked if key not in ("train_nodes", "train_tolerations")
        )
        assert (asked["train_accelerator_count"] != "0") == (hardware.variant(name) == "gpu")


@pytest.mark.parametrize(
    ("profile", "nodes", "line"),
    [
        ("gpu-l5", "", "unknown hardware profile 'gpu-l5'. Did you mean 'gpu-l4'?"),
        ("spot-gpu-l4", "", "spot-gpu-l4: say whose spot nodes these are: gke, karpenter, aks."),
        ("spot-cpu-small", "nvidia", "spot nodes: none known for 'nvidia'; there are: gke, karpenter, aks."),
        (
            "gpu-l4",
            "aks",
            "labels of nodes for gpu-l4: none known for 'aks'; there are: nvidia, gke, karpenter.",
        ),
    ],
)
def test_what_it_cannot_do(profile: str, nodes: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        hardware.parameters(profile, nodes)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    "recipe",
    sorted(p.stem for p in COMPILED.glob("*.yaml") if p.stem not in ("script_generate", "batch_generate")),
)
def test_every_recipe_that_trains_takes_it(recipe: str) -> None:
    parameters = read_pipeline(COMPILED / f"{recipe}.yaml").parameters
    for name, value in hardware.parameters("gpu-l4", "gke").items():
        kind = {str: "STRING", dict: "STRUCT", list: "LIST"}[type(value)]
        assert parameters[name].kind == kind, name
