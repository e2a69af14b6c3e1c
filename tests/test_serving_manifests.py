"""The manifests of the service: admitted where Pod Security is restricted, a stop that fits the service's own, the same
container under KServe, and no more rights for what deploys than it uses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.tasks import SERVE_SECRET, SERVE_VARIABLES, STORE_FOLDER, STORE_SECRET, STORE_VARIABLES
from textmill.cli import main
from textmill.cluster import deploying
from textmill.serving.server import LAST_SECONDS
from textmill.serving.settings import ServeSettings

MANIFESTS = Path(__file__).parents[1] / "manifests"
Object = dict[str, Any]


def built(folder: str) -> dict[str, Object]:
    """The objects of a kustomization by kind."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {found["kind"]: found for found in yaml.safe_load_all(done.stdout) if found}


@pytest.fixture(scope="module")
def made() -> dict[str, Object]:
    return built("serving")


@pytest.fixture(scope="module")
def pod(made: dict[str, Object]) -> Object:
    found: Object = made["Deployment"]["spec"]["template"]["spec"]
    return found


def env(container: Object) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in container["env"] if "value" in pair}


def from_secrets(container: Object) -> dict[str, tuple[str, str]]:
    """Variable -> (secret, key), all of which may be absent."""
    found = {}
    for pair in container["env"]:
        if "valueFrom" in pair:
            reference = pair["valueFrom"]["secretKeyRef"]
            assert reference["optional"] is True, pair
            found[pair["name"]] = (reference["name"], reference["key"])
    return found


def test_all_there_is(made: dict[str, Object]) -> None:
    assert set(made) == {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"
    }  # fmt: skip


def test_the_pod_is_one_that_pod_security_restricted_admits(pod: Object) -> None:
    about = pod["securityContext"]
    assert (about["runAsNonRoot"], about["seccompProfile"]["type"]) == (True, "RuntimeDefault")
    assert about["runAsUser"] == 65532, "a number: a name cannot be checked"
    for container in (*pod["initContainers"], *pod["containers"]):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
    assert pod["automountServiceAccountToken"] is False
    written = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    for container in (*pod["initContainers"], *pod["containers"]):
        for mount in container["volumeMounts"]:
            assert mount.get("readOnly") or mount["name"] in written


def test_everybody_is_selected_by_the_same_labels(made: dict[str, Object], pod: Object) -> None:
    deployment = made["Deployment"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert made["Service"]["spec"]["selector"] == labels
    assert made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert made["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    [port] = pod["containers"][0]["ports"]
    assert (port["name"], port["containerPort"]) == ("http", ServeSettings().port)
    assert made["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert made["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": "http"}]
    assert labels[deploying.NAME] == deploying.KIND


def test_a_roll_takes_no_pod_before_another_is_ready_and_nothing_fights_the_autoscaler(
    made: dict[str, Object],
) -> None:
    spec = made["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in spec
    assert (
        made["HorizontalPodAutoscaler"]["spec"]["minReplicas"]
        > made["PodDisruptionBudget"]["spec"]["maxUnavailable"]
    )


def test_the_stop_fits_the_services_own(pod: Object) -> None:
    """linger, then grace, then the last answers; and the kubelet waits longer than that."""
    given = ServeSettings.from_dict(
        {
            name.removeprefix("TEXTMILL_SERVE_").lower(): value
            for name, value in env(pod["containers"][0]).items()
        }
    )
    assert given.host == "0.0.0.0"
    assert given.linger >= 5
    longest = given.linger + given.grace + 2 * LAST_SECONDS
    assert pod["terminationGracePeriodSeconds"] > longest
    assert pod["enableServiceLinks"] is False, "a Service textmill-serve would set TEXTMILL_SERVE_PORT"


def test_the_probes_ask_what_the_service_answers(pod: Object) -> None:
    from textmill.serving import openapi

    known = openapi.document(ServeSettings(), "mill", secured=True)["paths"]
    [service] = pod["containers"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = service[name]["httpGet"]
        assert asked["port"] == "http"
        assert "get" in known[asked["path"]]
    assert service["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert service["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_the_model_is_fetched_by_a_verb_that_there_is_to_where_it_is_served_from(pod: Object) -> None:
    [fetch], [service] = pod["initContainers"], pod["containers"]
    program, *words = fetch["command"]
    assert (program, words[:2]) == ("textmill", ["models", "fetch"])
    command = main.commands["models"].commands["fetch"]  # type: ignore[attr-defined]
    given = command.make_context("fetch", words[2:]).params
    assert given["checkpoint"] == "$(CHECKPOINT)"
    assert given["sha256"] == "$(CHECKPOINT_SHA256)"
    assert service["command"] == ["textmill", "serve", str(given["out"])]
    assert fetch["env"][:2] == [
        {"name": "CHECKPOINT", "value": "s3://my-bucket/my-checkpoint"},
        {"name": "CHECKPOINT_SHA256", "value": ""},
    ]
    assert from_secrets(fetch) == {name: (STORE_SECRET, name) for name in STORE_VARIABLES}
    assert {"name": "store", "mountPath": STORE_FOLDER, "readOnly": True} in fetch["volumeMounts"]
    assert from_secrets(service) == {
        variable: (SERVE_SECRET, key) for key, variable in SERVE_VARIABLES.items()
    }, "the service itself has no key of the store"


def test_kserve_gets_the_same_container(pod: Object) -> None:
    [found] = built("serving/kserve").values()
    predictor = found["spec"]["predictor"]
    assert predictor["minReplicas"] == 0
    assert (predictor["automountServiceAccountToken"], predictor["enableServiceLinks"]) == (False, False)
    [ours], [theirs], [fetch] = pod["containers"], predictor["containers"], pod["initContainers"]
    assert theirs["name"] == "kserve-container", "by which KServe knows it"
    assert theirs["image"] == ours["image"]
    assert theirs["resources"] == ours["resources"]
    assert ours["securityContext"].items() <= theirs["securityContext"].items()
    assert theirs["securityContext"]["runAsUser"] == pod["securityContext"]["runAsUser"]
    assert env(theirs) == env(ours) | {"CHECKPOINT": env(fetch)["CHECKPOINT"]}
    assert from_secrets(theirs) == from_secrets(ours) | from_secrets(fetch)
    assert theirs["command"] == ["textmill", "serve", "$(CHECKPOINT)"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert theirs[probe]["httpGet"]["path"] == ours[probe]["httpGet"]["path"]
    assert theirs["ports"][0]["containerPort"] == ours["ports"][0]["containerPort"]
    assert "lifecycle" not in theirs
    assert "initContainers" not in predictor, "Knative takes neither by itself"


def test_the_example_replaces_what_is_a_placeholder() -> None:
    found = built("examples/serving")["Deployment"]
    spec = found["spec"]["template"]["spec"]
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["image"].startswith("registry.example/team/textmill-python-serve@sha256:")
    assert env(spec["initContainers"][0])["CHECKPOINT"] == "s3://my-bucket/runs/episodes/checkpoint"
    own = {k: v for k, v in env(spec["containers"][0]).items() if k.startswith("TEXTMILL_SERVE_")}
    given = ServeSettings.from_dict({k.removeprefix("TEXTMILL_SERVE_").lower(): v for k, v in own.items()})
    assert (given.name, given.page_kind, given.whole_sentences) == ("episodes", "episodes", True)


def test_what_deploys_may_do_what_it_does_and_no_more() -> None:
    """The verbs of deployments.py, each of which a test of deploying sees used."""
    found = built("serving/deployer")
    rules = {
        (rule["apiGroups"][0], *rule["resources"]): set(rule["verbs"]) for rule in found["Role"]["rules"]
    }
    assert rules == {
        ("apps", "deployments"): {"get", "create", "patch"},
        ("", "services"): {"get", "create"},
        ("", "pods"): {"list"},
        ("", "pods/log"): {"get"},
    }
    account = {"kind": "ServiceAccount", "name": "textmill-pipeline", "namespace": "kubeflow"}
    assert found["RoleBinding"]["subjects"] == [account]
    base = built("base")
    assert "textmill-deployer" not in yaml.safe_dump(base), "who deploys nothing may not"
