"""What KFP shows beside a folder: an artifact's metadata, its metrics, and where TensorBoard's events are.

Plain values only, made from what the stages wrote; the components copy them. Never imports kfp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.files import write_json


def metadata(folder: str | Path, kind: str, **more: Any) -> dict[str, Any]:
    """The facts that lead from an artifact to its bytes and its parents; `more` is added where it is not None.

    `format`, `sha256`, `<parent>_sha256`; of a checkpoint also `step`, `tokens_seen`, `valid_loss`, `tokenizer_sha256`.
    """
    found = manifest.read(Path(folder), kind)
    facts: dict[str, Any] = {"format": f"textmill/{kind}/{manifest.VERSION}", "sha256": found.digest}
    facts |= {f"{name}_sha256": digest for name, digest in found.parents.items()}
    details = found.details
    if kind == "checkpoint":
        facts |= {
            "step": details["step"],
            "tokens_seen": details["tokens_seen"],
            "valid_loss": details.get("loss"),
        }
        facts |= {"tokenizer_sha256": details["dataset"]["tokenizer"]}
    if kind == "dataset":
        facts |= {"tokenizer_sha256": details["tokenizer"]["digest"]}
    return {name: value for name, value in {**facts, **more}.items() if value is not None}


def paths(*inputs: Any) -> list[str | None]:
    """Where KFP has put each optional input artifact; None for one that was not given."""
    return [getattr(given, "path", None) for given in inputs]


def parents(dataset: Any, *models: Any) -> dict[str, str | None]:
    """A checkpoint's `dataset_uri`, and its `parent_uri`: the last of the models it goes on from, else the dataset."""
    return {
        "parent_uri": [m.uri for m in (dataset, *models) if m is not None][-1],
        "dataset_uri": dataset.uri,
    }


def metrics(summary: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str]:
    """A stage's summary as KFP's Metrics take it: flat, and without what is no finite number or text."""
    flat: dict[str, int | float | str] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            flat |= metrics(value, f"{prefix}{name}_")
        elif isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value)):
            flat[f"{prefix}{name}"] = value
    return flat


def write_tensorboard_link(path: str | Path, uri: str) -> None:
    """The file by which KFP's dashboard offers a TensorBoard over the events below `uri`."""
    write_json(Path(path), {"outputs": [{"type": "tensorboard", "source": uri}]})
