"""The manifests as a real API server takes them, and what the accounts may do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.kubernetes import MANIFESTS, Kubectl

STORES = sorted(path.name for path in (MANIFESTS / "stores").iterdir())


def may(kubectl: Kubectl, namespace: str, account: str, *asked: str) -> bool:
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    done = subprocess.run(
        ["kubectl", "auth", "can-i", *asked, who, "-n", namespace],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "yes"


@pytest.mark.parametrize("store", STORES)
def test_every_store_is_taken_with_the_accounts(
    kubectl: Kubectl, namespace: str, store: str, tmp_path: Path
) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    example = tmp_path / "manifests" / "examples" / "kustomization.yaml"
    text = example.read_text().replace("stores/seaweedfs", f"stores/{store}")
    example.write_text(text.replace("namespace: kubeflow", f"namespace: {namespace}"))
    assert kubectl("apply", "--server-side", "--force-conflicts", "-k", str(example.parent))
    launcher = kubectl.json("get", "configmap", "kfp-launcher", "-n", namespace)
    assert launcher["data"]["providers"]


def test_the_pipelines_account_may_do_what_kfp_needs_and_no_more(kubectl: Kubectl, namespace: str) -> None:
    for asked in (
        ("get", "configmap/kfp-launcher"),
        ("get", "secret/mlpipeline-minio-artifact"),
        ("get", "pods"),
        ("create", "workflowtaskresults.argoproj.io"),
    ):
        assert may(kubectl, namespace, "textmill-pipeline", *asked), asked
    for asked in (
        ("get", "secret/other"),
        ("list", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("delete", "pods"),
        ("get", "workflows.argoproj.io"),
    ):
        assert not may(kubectl, namespace, "textmill-pipeline", *asked), asked


def test_the_account_that_submits_has_no_rights(kubectl: Kubectl, namespace: str) -> None:
    for asked in (("get", "pods"), ("get", "secret/textmill-store"), ("get", "configmap/kfp-launcher")):
        assert not may(kubectl, namespace, "textmill-submit", *asked)


def test_the_quota_stands_in_the_way_of_too_much(kubectl: Kubectl, namespace: str) -> None:
    from tests.cluster.kubernetes import pod

    greedy = {"requests": {"cpu": "100", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    with pytest.raises(AssertionError, match=r"exceeded quota: textmill, requested: requests\.cpu=100"):
        kubectl.apply(pod("greedy", "python", ["true"], resources=greedy), "-n", namespace)
