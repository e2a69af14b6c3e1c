"""What KFP shows beside a folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

from textmill import artifacts, manifest
from textmill.files import write_bytes


def test_checkpoint_metadata_leads_to_its_bytes_and_parents(tmp_path: Path) -> None:
    write_bytes(tmp_path / "weights", b"weights")
    details = {"step": 400, "tokens_seen": 240_000, "loss": 1.5, "dataset": {"tokenizer": "ab" * 32}}
    made = manifest.write(tmp_path, "checkpoint", parents={"dataset": "ef" * 32}, details=details)
    facts = artifacts.metadata(tmp_path, "checkpoint", parent_uri="minio://bucket/dataset", nothing=None)
    assert facts == {
        "sha256": made.digest,
        "format": "textmill/checkpoint/1",
        "dataset_sha256": "ef" * 32,
        "tokenizer_sha256": "ab" * 32,
        "step": 400,
        "tokens_seen": 240_000,
        "valid_loss": 1.5,
        "parent_uri": "minio://bucket/dataset",
    }


def test_metrics_are_flat_and_finite() -> None:
    summary = {
        "a": 1,
        "b": {"c": 2.5, "d": {"e": "x"}},
        "f": math.nan,
        "g": math.inf,
        "h": None,
        "i": [1],
        "j": True,
    }
    assert artifacts.metrics(summary) == {"a": 1, "b_c": 2.5, "b_d_e": "x", "j": True}


def test_tensorboard_link_is_what_the_dashboard_reads(tmp_path: Path) -> None:
    artifacts.write_tensorboard_link(tmp_path / "ui", "minio://bucket/checkpoint/tensorboard")
    assert json.loads((tmp_path / "ui").read_bytes()) == {
        "outputs": [{"type": "tensorboard", "source": "minio://bucket/checkpoint/tensorboard"}]
    }


def test_inputs_that_were_not_given_have_no_path() -> None:
    given = type("Artifact", (), {"path": "/minio/base"})()
    assert artifacts.paths(given, None) == ["/minio/base", None]
