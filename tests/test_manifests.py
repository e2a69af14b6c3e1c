"""The manifests: kustomize takes each of them, nobody gets more than named rights, no secret stands in them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).parents[1] / "manifests"
FOLDERS = sorted(p.parent.relative_to(MANIFESTS).as_posix() for p in MANIFESTS.rglob("kustomization.yaml"))
NEEDS_INTERNET = {"kind"}
UPSTREAM = {"retries"}  # patches what upstream installs; alone there is nothing to patch


def built(folder: str) -> list[dict[str, Any]]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "warnings, such as of deprecated fields"
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f not in NEEDS_INTERNET | UPSTREAM])
def test_kustomize_takes_it_without_a_word(folder: str) -> None:
    if "workload-identity" in folder:
        pytest.skip("a component that patches the account; see the test with an account")
    assert built(folder)


@pytest.mark.parametrize("store", sorted(p.name for p in (MANIFESTS / "stores").iterdir()))
def test_every_store_goes_with_the_accounts(store: str, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    example = tmp_path / "manifests" / "examples" / "kustomization.yaml"
    example.write_text(example.read_text().replace("stores/seaweedfs", f"stores/{store}"))
    found = built_at(tmp_path / "manifests" / "examples")
    [launcher] = [d for d in found if d["kind"] == "ConfigMap" and d["metadata"]["name"] == "kfp-launcher"]
    root = launcher["data"]["defaultPipelineRoot"]
    [(provider, about)] = yaml.safe_load(launcher["data"]["providers"]).items()
    assert root.partition("://")[0] == provider
    credentials = about["default"]["credentials"]
    [account] = [
        d for d in found if d["kind"] == "ServiceAccount" and d["metadata"]["name"] == "textmill-pipeline"
    ]
    without_key = store.endswith("workload-identity")
    assert credentials["fromEnv"] is without_key
    assert bool(account["metadata"].get("annotations")) is without_key
    if not without_key:
        [role] = [d for d in found if d["kind"] == "Role" and d["metadata"]["name"] == "textmill-pipeline"]
        [readable] = [r["resourceNames"] for r in role["rules"] if r["resources"] == ["secrets"]]
        assert credentials["secretRef"]["secretName"] in readable


def built_at(folder: Path) -> list[dict[str, Any]]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def test_patching_upstreams_settings_leaves_the_rest_of_them(tmp_path: Path) -> None:
    (tmp_path / "upstream.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: workflow-controller-configmap}\n"
        "data:\n  executor: kept\n"
        "  workflowDefaults: 'spec: {templateDefaults: {retryStrategy: {retryPolicy: OnError}}}'\n"
    )
    shutil.copytree(MANIFESTS / "retries", tmp_path / "retries")
    (tmp_path / "kustomization.yaml").write_text("resources: [upstream.yaml]\ncomponents: [retries]\n")
    [made] = built_at(tmp_path)
    assert made["data"]["executor"] == "kept"
    assert yaml.safe_load(made["data"]["workflowDefaults"])["spec"]["templateDefaults"]["retryStrategy"] == {
        "limit": "2",
        "retryPolicy": "Always",
    }


def documents() -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        found += [(path, d) for d in yaml.safe_load_all(path.read_text(encoding="utf-8")) if d]
    return found


def test_no_role_takes_all_of_anything_or_belongs_to_the_whole_cluster() -> None:
    roles = [(p, d) for p, d in documents() if d.get("kind", "").endswith("Role")]
    assert roles
    for path, role in roles:
        assert role["kind"] == "Role", path
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], path


def test_the_only_secret_is_a_shape_and_nothing_applies_it() -> None:
    secrets = [(p, d) for p, d in documents() if d.get("kind") == "Secret"]
    [(path, secret)] = secrets
    assert path == MANIFESTS / "examples" / "textmill-store.yaml"
    assert secret["stringData"]["AWS_SECRET_ACCESS_KEY"] == "replace-me"
    for kustomization in MANIFESTS.rglob("kustomization.yaml"):
        assert path.name not in kustomization.read_text()


def test_the_secrets_keys_are_those_that_the_tasks_ask_for() -> None:
    from pipelines.tasks import STORE_FOLDER, STORE_SECRET, STORE_VARIABLES

    secret = yaml.safe_load((MANIFESTS / "examples" / "textmill-store.yaml").read_text())
    assert secret["metadata"]["name"] == STORE_SECRET
    assert set(secret["stringData"]) - {"credentials.json"} <= set(STORE_VARIABLES)
    assert secret["stringData"]["GOOGLE_APPLICATION_CREDENTIALS"] == f"{STORE_FOLDER}/credentials.json"


def test_the_namespace_is_restricted() -> None:
    [namespace] = [d for d in built("namespace") if d["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
