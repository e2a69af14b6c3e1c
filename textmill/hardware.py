"""Named hardware for the training task: profiles as data (hardware.yaml), and a profile as a recipe's parameters.

    parameters("spot-gpu-l4", nodes="gke")   ->   {"train_cpu": "8", "train_memory": "24Gi", …}

The recipes' parameters of these names carry it to the pod (pipelines/tasks.py), so each can be given otherwise for one
run, without compiling anything anew.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from textmill.errors import SettingsError
from textmill.settings import unknown_name

TABLE = Path(__file__).with_suffix(".yaml")
SPOT = "spot-"


@functools.cache
def _table() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return read


def names() -> list[str]:
    """All profiles: those of the table, and each of them on spot nodes."""
    plain = list(_table()["profiles"])
    return [*plain, *(SPOT + name for name in plain)]


def parameters(profile: str, nodes: str = "") -> dict[str, Any]:
    """What the recipes' parameters of train's hardware are for this profile.

    `nodes` says whose node labels to ask for: nvidia, gke, karpenter or aks; empty asks for no particular node, as
    the count of accelerators does where a cluster has but one kind. Spot needs it: which nodes are spot, every cloud
    says in its own way. Raises SettingsError for an unknown profile or kind of nodes. The image is not among the
    parameters; `variant` tells it.
    """
    found = _profile(profile)
    selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []
    if nodes and found.get("nodes"):
        selector.update(_of_kind(found["nodes"], nodes, f"labels of nodes for {profile}"))
    if found.get("accelerator"):
        tolerations.append({"key": found["accelerator"], "operator": "Exists", "effect": "NoSchedule"})
    if profile.startswith(SPOT):
        if not nodes:
            kinds = ", ".join(_table()["spot"])
            raise SettingsError(f"{profile}: say whose spot nodes these are: {kinds}.")
        spot = _of_kind(_table()["spot"], nodes, "spot nodes")
        selector.update(spot["nodes"])
        tolerations += [spot["taint"]] if "taint" in spot else []
    return {
        "train_cpu": found["cpu"],
        "train_memory": found["memory"],
        "train_accelerator_type": found.get("accelerator", "nvidia.com/gpu"),
        "train_accelerator_count": found.get("count", "0"),
        "train_nodes": selector,
        "train_tolerations": tolerations,
    }


def variant(profile: str) -> str:
    """Which image the profile is for: cpu or gpu. Raises SettingsError for an unknown profile."""
    return str(_profile(profile)["image"])


def _profile(name: str) -> dict[str, Any]:
    profiles: dict[str, Any] = _table()["profiles"]
    if name not in names():
        raise SettingsError(unknown_name("hardware profile", name, names()))
    found: dict[str, Any] = profiles[name.removeprefix(SPOT)]
    return found


def _of_kind(table: dict[str, Any], kind: str, what: str) -> dict[str, Any]:
    if kind not in table:
        raise SettingsError(f"{what}: none known for {kind!r}; there are: {', '.join(table)}.")
    found: dict[str, Any] = table[kind]
    return found
