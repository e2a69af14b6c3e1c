"""manifests/serving on a real cluster: fetched from the store, ready, rolled to another checkpoint under load without a
lost request, put to sleep and woken; and the component's deploying with the rights of its role alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import pinned_image
from pipelines.tasks import STORE_SECRET, STORE_VARIABLES
from tests.cluster.kubernetes import MANIFESTS, Kubectl, pod
from tests.cluster.pipelines import Pipelines
from tests.cluster.test_recipes import SMALL_GPT2, bucket, tiny_gpt2_on_s3
from textmill import manifest
from textmill.cluster.deploying import DeploySettings, deploy
from textmill.errors import InputError, MachineError

__all__ = ["bucket", "tiny_gpt2_on_s3"]

LOAD = (Path(__file__).parent / "answering.py").read_text(encoding="utf-8")
SMALL = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
READY = 600  # seconds: two cores load the image's libraries for two pods


@pytest.fixture(scope="module")
def served(table: Path) -> str:
    """Reference of the serve image."""
    if "textmill-python-serve" not in json.loads(table.read_text())["images"]:
        pytest.skip("the serve image was not built")
    return pinned_image("serve", table)


@pytest.fixture(scope="module")
def store() -> dict[str, str]:
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("no object store: AWS_ENDPOINT_URL is not set")
    return {name: os.environ[name] for name in STORE_VARIABLES if os.environ.get(name)}


@pytest.fixture(scope="module")
def checkpoints(
    store: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, str]]:
    """Two GPT-2 of two layers with the same tokenizer: name -> (folder here, address in the store)."""
    boto3 = pytest.importorskip("boto3")
    bucket = boto3.resource("s3", region_name="us-east-1").Bucket(os.environ.get("KFP_BUCKET", "mlpipeline"))
    with contextlib.suppress(bucket.meta.client.exceptions.ClientError):
        bucket.create()
    found = {}
    for name, scale in (("one", 8), ("two", 6)):
        folder = tmp_path_factory.mktemp("served") / name
        _save_gpt2(folder, scale)
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"textmill-test/served/{name}/{path.relative_to(folder)}"
                bucket.upload_file(str(path), key)
        found[name] = (folder, f"s3://{bucket.name}/textmill-test/served/{name}")
    return found


def _save_gpt2(folder: Path, scale: int) -> None:
    from tests.generating import MERGES, save
    from textmill.models import gpt2
    from textmill.tokenizers import BPETokenizer
    from textmill.writing.generator import Generator

    tokenizer = BPETokenizer.of(MERGES)
    config = gpt2.GPT2Config.of(
        vocabulary_size=tokenizer.size, context=64, width=32, num_heads=2, num_layers=2
    )
    weights = {k: v * (scale if v.ndim == 2 else 1) for k, v in gpt2.init(config, 3).items()}
    save(folder, Generator(config, weights, tokenizer, precision="float32"), weights)


def digest(folder: Path) -> str:
    return manifest.read(folder, "checkpoint").digest


def fingerprint(folder: Path) -> str:
    return f"textmill-{digest(folder)[:12]}"


@pytest.fixture
def place(kubectl: Kubectl, namespace: str, store: dict[str, str]) -> str:
    """A namespace with the store's secret."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORE_SECRET}, "stringData": store}
    kubectl.apply(secret, "-n", namespace)
    return namespace


@pytest.fixture
def apply(kubectl: Kubectl, place: str, served: str, tmp_path: Path) -> Callable[[tuple[Path, str]], None]:
    """Apply manifests/serving with this checkpoint, small."""

    def applied(checkpoint: tuple[Path, str]) -> None:
        folder, uri = checkpoint
        name, _, version = served.rpartition("@" if "@" in served else ":")
        fetch = {
            "name": "fetch",
            "env": [
                {"name": "CHECKPOINT", "value": uri},
                {"name": "CHECKPOINT_SHA256", "value": digest(folder)},
            ],
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
        }
        container = {"name": "service", "imagePullPolicy": "IfNotPresent", "resources": SMALL}
        template = {"spec": {"template": {"spec": {"initContainers": [fetch], "containers": [container]}}}}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "textmill"}}
        one = {"spec": {"minReplicas": 1}}
        scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
        patches = [{**deployment, **template}, {**scaler, "metadata": {"name": "textmill"}, **one}]
        made = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": place,
            "resources": [os.path.relpath(MANIFESTS / "serving", tmp_path)],
            "images": [
                {
                    "name": "textmill-python-serve",
                    "newName": name,
                    "digest" if "@" in served else "newTag": version,
                }
            ],
            "patches": [{"patch": yaml.safe_dump(patch)} for patch in patches],
        }
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(made))
        kubectl("apply", "--server-side", "--force-conflicts", "-k", str(tmp_path))

    return applied


def rolled_out(kubectl: Kubectl, namespace: str) -> None:
    status = ["rollout", "status", "deployment/textmill", "-n", namespace, f"--timeout={READY}s"]
    try:
        kubectl(*status)
    except AssertionError as error:
        said = kubectl("get", "pods", "-n", namespace, "-o", "wide")
        logs = kubectl("logs", "-n", namespace, "-l", "app.kubernetes.io/name=textmill-serve", "--tail=20",
                       "--all-containers", "--ignore-errors")  # fmt: skip
        raise AssertionError(f"{error}\n{said}\n{logs}") from None


def counts(kubectl: Kubectl, namespace: str) -> dict[str, int]:
    """How the requests of the load ended until now."""
    lines = kubectl("logs", "-n", namespace, "load", "--tail=1").splitlines()
    found: dict[str, int] = json.loads(lines[-1]) if lines else {}
    return found


@pytest.fixture
def load(kubectl: Kubectl, place: str, served: str) -> Iterator[Callable[[], None]]:
    """A call starts the load."""

    def start() -> None:
        kubectl.apply(pod("load", served, ["python3", "-c", LOAD, "textmill"]), "-n", place)
        kubectl.wait_for(lambda: kubectl.phase(place, "load") == "Running", 120, "the load")

    yield start
    kubectl("delete", "pod", "load", "-n", place, "--ignore-not-found", "--wait=false")


def test_a_roll_to_another_checkpoint_under_load_loses_no_request(
    kubectl: Kubectl,
    place: str,
    checkpoints: dict[str, tuple[Path, str]],
    apply: Callable[[tuple[Path, str]], None],
    load: Callable[[], None],
) -> None:
    (one, _), (two, _) = checkpoints["one"], checkpoints["two"]
    apply(checkpoints["one"])
    rolled_out(kubectl, place)
    load()

    def seen(kind: str, how: str) -> int:
        return counts(kubectl, place).get(f"{kind}: {how}", 0)

    first, second = fingerprint(one), fingerprint(two)
    kubectl.wait_for(
        lambda: seen("kept", first) >= 50 and seen("stream", "whole") >= 2, 300, "answers of the first"
    )
    apply(checkpoints["two"])
    rolled_out(kubectl, place)
    kubectl.wait_for(
        lambda: seen("kept", second) >= 50 and seen("new", second) >= 20, 300, "answers of the second"
    )
    gone = lambda: len(service_pods(kubectl, place)) == 1  # noqa: E731
    kubectl.wait_for(gone, 120, "the end of the first's pod")
    streams = seen("stream", "whole")
    kubectl.wait_for(lambda: seen("stream", "whole") >= streams + 2, 120, "two more streams")
    kubectl("exec", "-n", place, "load", "--", "touch", "/tmp/stop")
    assert kubectl.pod_ends(place, "load") == "Succeeded"
    found = counts(kubectl, place)
    print("\n" + json.dumps(found, indent=1))
    good = {f"{kind}: {how}" for kind in ("kept", "new") for how in (first, second)} | {"stream: whole"}
    assert set(found) == good, "every request got its whole answer"


def service_pods(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    label = "app.kubernetes.io/name=textmill-serve"
    found: list[dict[str, Any]] = kubectl.json("get", "pods", "-n", namespace, "-l", label)["items"]
    return found


def test_to_zero_and_back(
    kubectl: Kubectl,
    place: str,
    checkpoints: dict[str, tuple[Path, str]],
    apply: Callable[[tuple[Path, str]], None],
) -> None:
    apply(checkpoints["one"])
    rolled_out(kubectl, place)
    kubectl("scale", "deployment/textmill", "-n", place, "--replicas=0")
    kubectl.wait_for(lambda: not service_pods(kubectl, place), 120, "the end of its pod")
    kubectl("scale", "deployment/textmill", "-n", place, "--replicas=1")
    rolled_out(kubectl, place)
    assert ask(kubectl, place) == fingerprint(checkpoints["one"][0])


ASK = """
import json, sys, urllib.request
body = json.dumps({"prompt": "the", "max_tokens": 4}).encode()
request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=60))["system_fingerprint"])
"""


def ask(kubectl: Kubectl, namespace: str) -> str:
    """The fingerprint that the service answers with, asked from one of its pods."""
    command = ["python3", "-c", ASK, "http://textmill/v1/completions"]
    return kubectl("exec", "-n", namespace, "deployment/textmill", "-c", "service", "--", *command).strip()


# ---------------------------------------------------------------------- what the component does


@pytest.fixture
def as_the_tasks_account(kubectl: Kubectl, place: str, tmp_path: Path) -> Iterator[None]:
    """KUBECONFIG of the account textmill-pipeline, with the rights of manifests/serving/deployer."""
    for found in yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS / "serving" / "deployer"))):
        found["metadata"]["namespace"] = place
        for subject in found.get("subjects", []):
            subject["namespace"] = place
        kubectl.apply(found)
    own = yaml.safe_load(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    token = kubectl("create", "token", "textmill-pipeline", "-n", place).strip()
    own["users"] = [{"name": "task", "user": {"token": token}}]
    own["contexts"][0]["context"] |= {"user": "task", "namespace": place}
    (tmp_path / "account").write_text(yaml.safe_dump(own))
    with pytest.MonkeyPatch.context() as patched:  # the namespace is removed with other rights
        patched.setenv("KUBECONFIG", str(tmp_path / "account"))
        yield


@pytest.fixture
def reached(kubectl: Kubectl) -> None:
    """Services' addresses must lead somewhere from here, as they do from a pod."""
    spec = kubectl.json("get", "service", "kubernetes", "-n", "default")["spec"]
    try:
        with contextlib.closing(socket.create_connection((spec["clusterIP"], spec["ports"][0]["port"]), 5)):
            pass
    except OSError:
        pytest.skip("the cluster's services cannot be reached from this machine")


def test_deploying_with_the_rights_of_its_role_alone(
    kubectl: Kubectl,
    place: str,
    served: str,
    checkpoints: dict[str, tuple[Path, str]],
    reached: None,
    as_the_tasks_account: None,
) -> None:
    """Made, given another checkpoint, and put back where the next one does not come."""
    small = {"cpu": "100m", "memory": "2Gi"}
    asked = DeploySettings.of(name="episodes", image=served, minutes=READY / 60, **small)
    (one, uri_one), (two, uri_two) = checkpoints["one"], checkpoints["two"]
    summary = deploy(one, uri_one, asked)
    assert (summary["what"], summary["replicas"]) == ("made", 1)
    assert summary["address"] == f"http://episodes.{place}.svc"
    summary = deploy(two, uri_two, DeploySettings.of(name="episodes", minutes=READY / 60))
    assert summary["what"] == "updated"
    with pytest.raises(MachineError) as error:
        deploy(one, f"{uri_one}-that-is-not-there", DeploySettings.of(name="episodes", minutes=READY / 60))
    assert "fetch: exit code 2 (there is no whole checkpoint at" in str(error.value)
    assert str(error.value).endswith("what was before is put back.")
    again = deploy(two, uri_two, DeploySettings.of(name="episodes", minutes=READY / 60))
    assert again["sha256"] == digest(two)
    assert again["seconds"] < READY
    with pytest.raises(
        InputError, match=r"Kubernetes says 403: .*needs the role of manifests/serving/deployer"
    ):
        deploy(one, uri_one, DeploySettings.of(name="episodes", namespace="default"))


def test_episodes_gpt2_serves_its_model_in_the_end(
    kubectl: Kubectl, pipelines: Pipelines, served: str, tiny_gpt2_on_s3: str
) -> None:
    """On Kubeflow Pipelines, as the account of manifests/base with the role of manifests/serving/deployer."""
    namespace, name = pipelines.namespace, f"episodes-{os.getpid()}"
    for folder in ("base", "serving/deployer"):
        for found in yaml.safe_load_all(kubectl("kustomize", str(MANIFESTS / folder))):
            found["metadata"]["namespace"] = namespace
            for subject in found.get("subjects", []):
                subject["namespace"] = namespace
            kubectl.apply(found)
    small = {"serve_name": name, "serve_image": served, "serve_cpu": "100m", "serve_memory": "2Gi"}
    asked = {**SMALL_GPT2, "length": 12, "base_uri": tiny_gpt2_on_s3, **small}
    try:
        run = pipelines.succeeds(pipelines.recipe("episodes_gpt2", account="textmill-pipeline", **asked))
        assert run.task("serve").state == "SUCCEEDED"
        made = kubectl.json("get", "deployment", name, "-n", namespace)
        [fetch] = made["spec"]["template"]["spec"]["initContainers"]
        env = {pair["name"]: pair.get("value") for pair in fetch["env"]}
        assert env["CHECKPOINT"] == pipelines.outputs(run.id, "train")["checkpoint"]["uri"]
        figures = pipelines.recorded(pipelines.outputs(run.id, "serve")["metrics"]["uri"]).metadata
        assert figures["address"] == f"http://{name}.{namespace}.svc"
        assert figures["sha256"] == env["CHECKPOINT_SHA256"]
    finally:
        for kind in ("deployment", "service"):
            kubectl("delete", kind, name, "-n", namespace, "--ignore-not-found", "--wait=false")
