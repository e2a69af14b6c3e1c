"""The images, in pods that Pod Security `restricted` admits: no root, nothing written outside /tmp, all in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components import pinned_image
from tests.cluster.kubernetes import Kubectl, pod

WRITTEN = """
import os, pathlib, sys
from textmill import ingest, normalize, train, generate
corpus, dataset, checkpoint, texts = (f"/tmp/{n}" for n in ("corpus", "dataset", "checkpoint", "texts"))
ingest.ingest("sample:play", corpus)
normalize.normalize(corpus, dataset, normalize.NormalizeSettings.of(tokenizer="char"))
train.train(dataset, checkpoint, train.TrainSettings.of(preset="tiny", max_steps=3))
generate.generate(checkpoint, texts, generate.GenerateSettings.of(number=1, length=20))
print("user", os.getuid(), "text", len(pathlib.Path(texts, "texts.txt").read_text()) > 0)
"""


@pytest.mark.parametrize("variant", ["cpu", "serve"])
def test_admitted_without_root_on_a_read_only_root(
    kubectl: Kubectl, namespace: str, table: Path, variant: str
) -> None:
    if f"textmill-python-{variant}" not in json.loads(table.read_text())["images"]:
        pytest.skip(f"the {variant} image was not built")
    check = "id -u; touch /opt/textmill/x 2>/dev/null && echo writable; touch /tmp/x && echo tmp; textmill --version"
    kubectl.apply(pod("look", pinned_image(variant, table), ["sh", "-c", check]), "-n", namespace)
    assert kubectl.pod_ends(namespace, "look") == "Succeeded"
    said = kubectl("logs", "-n", namespace, "look").split("\n")
    assert said[0] == "65532"
    assert "writable" not in said
    assert said[1] == "tmp"
    assert said[2].startswith("textmill")


def test_every_stage_works_there(kubectl: Kubectl, namespace: str, image: str) -> None:
    resources = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}
    kubectl.apply(pod("stages", image, ["python3", "-c", WRITTEN], resources=resources), "-n", namespace)
    ended = kubectl.pod_ends(namespace, "stages", 600)
    said = kubectl("logs", "-n", namespace, "stages")
    assert ended == "Succeeded", said
    assert "user 65532 text True" in said


def test_a_pod_that_wants_root_is_not_admitted(kubectl: Kubectl, namespace: str, image: str) -> None:
    wants = pod("root", image, ["id"])
    wants["spec"]["containers"][0]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        kubectl.apply(wants, "-n", namespace)
