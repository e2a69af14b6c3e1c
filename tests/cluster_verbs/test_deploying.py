"""Deploying: made where nothing is, only the checkpoint changed where something is, put back when nothing answers."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.cluster_verbs.kubernetes_server import State, serve
from textmill import manifest
from textmill.cluster import deploying
from textmill.cluster.deploying import DeploySettings, deploy
from textmill.errors import FolderError, InputError, MachineError, SettingsError

IMAGE = "registry.example/textmill-python-serve@sha256:1"
URI = "minio://mlpipeline/v2/artifacts/episodes/train/checkpoint"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    state = State()
    monkeypatch.setattr(deploying, "EVERY", 0.01)
    monkeypatch.delenv("TEXTMILL_SERVE_TOKEN", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with serve(state, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
        yield state


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return made(tmp_path / "checkpoint", b"weights")


def made(folder: Path, data: bytes) -> Path:
    folder.mkdir()
    (folder / "weights").write_bytes(data)
    manifest.write(folder, "checkpoint")
    return folder


def digest(folder: Path) -> str:
    return manifest.read(folder, "checkpoint").digest


def test_made_where_there_is_none(cluster: State, checkpoint: Path) -> None:
    service = {"page_kind": "episodes", "max_tokens": 500.0, "examples": ["It was"], "whole_sentences": True}
    asked = DeploySettings.of(name="episodes", image=IMAGE, cpu="1", memory="2Gi", service=service)
    summary = deploy(checkpoint, URI, asked)
    port = cluster.services["episodes"]["spec"]["ports"][0]["port"]
    assert summary["address"] == f"http://episodes.here.svc:{port}"
    assert (summary["what"], summary["replicas"], summary["sha256"]) == ("made", 1, digest(checkpoint))
    made_now = cluster.deployments["episodes"]
    selector = made_now["spec"]["selector"]["matchLabels"]
    assert selector["app.kubernetes.io/instance"] == "episodes"
    assert selector.items() <= made_now["spec"]["template"]["metadata"]["labels"].items()
    assert cluster.services["episodes"]["spec"]["selector"] == selector
    pod = made_now["spec"]["template"]["spec"]
    assert [c["image"] for c in (*pod["initContainers"], *pod["containers"])] == [IMAGE] * 2
    assert cluster.env("episodes")["CHECKPOINT"] == URI
    assert cluster.env("episodes")["CHECKPOINT_SHA256"] == digest(checkpoint)
    env = cluster.env("episodes", "service")
    assert (env["TEXTMILL_SERVE_NAME"], env["TEXTMILL_SERVE_MAX_TOKENS"]) == ("episodes", "500")
    assert env["TEXTMILL_SERVE_EXAMPLES"] == '["It was"]'
    assert env["TEXTMILL_SERVE_WHOLE_SENTENCES"] == "true"
    assert env["TEXTMILL_SERVE_LINGER"], "the rest is the template's"
    resources = pod["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}
    assert "textmill/before" not in made_now["metadata"]["annotations"]
    assert len(cluster.asked) == 1


def test_what_is_made_is_what_the_manifests_have(cluster: State, checkpoint: Path) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    [template] = yaml.safe_load_all((deploying.TEMPLATES / "deployment.yaml").read_text())
    made_now = copy.deepcopy(cluster.deployments["textmill"]["spec"])
    pod, wanted = made_now["template"]["spec"], template["spec"]["template"]["spec"]
    for ours, theirs in zip(
        pod["initContainers"] + pod["containers"],
        wanted["initContainers"] + wanted["containers"],
        strict=True,
    ):
        assert ours.pop("image") == IMAGE
        del theirs["image"]
        for pair in [*ours["env"], *theirs["env"]]:
            if pair["name"].startswith("CHECKPOINT"):
                pair["value"] = ""
    assert pod == wanted
    assert made_now["strategy"] == template["spec"]["strategy"]


def test_an_update_changes_the_checkpoint_and_nothing_of_its_owners(
    cluster: State, checkpoint: Path, tmp_path: Path
) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    owned = cluster.deployments["textmill"]
    owned["spec"]["replicas"] = 3
    owned["spec"]["template"]["spec"]["nodeSelector"] = {"pool": "text"}
    before = copy.deepcopy(owned["spec"])
    other = made(tmp_path / "other", b"better weights")
    summary = deploy(other, "s3://models/other", DeploySettings.of())
    assert (summary["what"], summary["replicas"]) == ("updated", 3)
    after = copy.deepcopy(cluster.deployments["textmill"]["spec"])
    assert cluster.env("textmill")["CHECKPOINT"] == "s3://models/other"
    assert cluster.env("textmill")["CHECKPOINT_SHA256"] == digest(other)
    for spec in (before, after):
        for pair in spec["template"]["spec"]["initContainers"][0]["env"]:
            if pair["name"].startswith("CHECKPOINT"):
                del pair["value"]
        del spec["template"]["metadata"]["annotations"]
    assert after == before
    assert not [r for r in cluster.requests if r.startswith("POST")][2:], "nothing was made anew"


def test_the_same_again_rolls_nothing(cluster: State, checkpoint: Path) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    generation = cluster.deployments["textmill"]["metadata"]["generation"]
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    assert cluster.deployments["textmill"]["metadata"]["generation"] == generation


CRASHED = {
    "name": "fetch",
    "ready": False,
    "restartCount": 2,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
    "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}},
}


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ({"container": CRASHED, "said": "x\ntextmill: there is no whole checkpoint at s3://x.\n"},
         "fetch: exit code 2 (there is no whole checkpoint at s3://x)"),
        ({"container": CRASHED | {"lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}},
         "fetch: ran out of memory"),
        ({"container": CRASHED | {"state": {"waiting": {"reason": "InvalidImageName"}}, "lastState": {}}},
         "fetch: InvalidImageName"),
        ({"condition": {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: textmill"}},
         "exceeded quota: textmill"),
        ({"looks": 10**9}, "it was not ready after 0.1 minutes"),
        ({"speaks": "503"}, "it answers 503"),
        ({"speaks": "foreign"}, "the answer comes from another checkpoint (textmill-ffffffffffff)"),
        ({"token": "of-this-test"}, "it wants a token, and TEXTMILL_SERVE_TOKEN has none that it knows"),
    ],
)  # fmt: skip
def test_what_does_not_answer_is_put_back_and_said(
    cluster: State, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any, why: str
) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    before = copy.deepcopy(cluster.deployments["textmill"]["spec"])
    for name, value in trouble.items():
        setattr(cluster, name, value)
    clock = iter(range(10**6))
    watch = SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=lambda seconds: None)
    monkeypatch.setattr(deploying, "time", watch)
    with pytest.raises(MachineError) as error:
        deploy(made(tmp_path / "other", b"other"), "s3://models/other", DeploySettings.of(minutes=0.1))
    assert str(error.value) == (
        f"textmill in namespace here does not serve s3://models/other: {why}; what was before is put back."
    )
    assert cluster.deployments["textmill"]["spec"] == before
    assert "textmill/before" not in cluster.deployments["textmill"]["metadata"]["annotations"]


def test_a_new_one_that_does_not_answer_is_scaled_to_zero_and_the_next_one_comes_back(
    cluster: State, checkpoint: Path, tmp_path: Path
) -> None:
    cluster.container = CRASHED
    with pytest.raises(MachineError, match="fetch: exit code 2; it was scaled to zero"):
        deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    assert cluster.deployments["textmill"]["spec"]["replicas"] == 0
    cluster.container = None
    assert deploy(made(tmp_path / "whole", b"whole"), URI, DeploySettings.of())["replicas"] == 1


def test_deploying_that_was_killed_still_knows_what_to_put_back(
    cluster: State, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    before = copy.deepcopy(cluster.deployments["textmill"]["spec"])
    other = made(tmp_path / "other", b"other")

    class Killed(BaseException):
        pass

    def killed(self: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(deploying._Deploying, "_wait", killed)
        with pytest.raises(Killed):
            deploy(other, "s3://models/other", DeploySettings.of())
    kept = cluster.deployments["textmill"]["metadata"]["annotations"]["textmill/before"]
    assert json.loads(kept) == before["template"]
    cluster.container = CRASHED
    with pytest.raises(MachineError, match="what was before is put back"):
        deploy(other, "s3://models/other", DeploySettings.of())
    assert cluster.deployments["textmill"]["spec"] == before


def test_one_that_sleeps_gets_the_checkpoint_and_sleeps_on(
    cluster: State, checkpoint: Path, tmp_path: Path
) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    cluster.deployments["textmill"]["spec"]["replicas"] = 0
    summary = deploy(made(tmp_path / "other", b"other"), "s3://models/other", DeploySettings.of())
    assert summary["replicas"] == 0
    assert cluster.env("textmill")["CHECKPOINT"] == "s3://models/other"
    assert len(cluster.asked) == 1, "the first one's"


def test_the_token_is_the_environments(
    cluster: State, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.token = "of-this-test"
    monkeypatch.setenv("TEXTMILL_SERVE_TOKEN", "of-this-test")
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    assert len(cluster.asked) == 1


# ---------------------------------------------------------------------- refused


def test_what_cannot_be_deployed_is_refused_before_anything_is_asked(
    cluster: State, checkpoint: Path, tmp_path: Path
) -> None:
    for uri in ("/data/checkpoint", "file:///data/checkpoint", ""):
        with pytest.raises(InputError, match="pods cannot fetch the checkpoint from"):
            deploy(checkpoint, uri, DeploySettings.of(image=IMAGE))
    with pytest.raises(FolderError, match="there is no checkpoint at"):
        deploy(tmp_path / "nowhere", URI)
    for wrong in ({"name": "Episodes"}, {"name": "a.b"}, {"name": "-a"}):
        with pytest.raises(SettingsError, match="setting 'name' is"):
            DeploySettings.of(**wrong)
    with pytest.raises(
        SettingsError, match=r"unknown setting 'page_kinds' in service\. Did you mean 'page_kind'"
    ):
        DeploySettings.of(service={"page_kinds": "x"})
    assert not cluster.requests


def test_a_new_one_wants_an_image(cluster: State, checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match="there is no Deployment textmill in namespace there yet: give the image"
    ):
        deploy(checkpoint, URI, DeploySettings.of(namespace="there"))
    assert cluster.requests == ["GET there/deployments/textmill"]


def test_a_deployment_of_others_is_left_alone(cluster: State, checkpoint: Path) -> None:
    deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    cluster.deployments["textmill"]["metadata"]["labels"] = {"app.kubernetes.io/name": "shop"}
    before = copy.deepcopy(cluster.deployments)
    with pytest.raises(InputError, match="is not a service of textmill; choose another name"):
        deploy(checkpoint, "s3://models/other", DeploySettings.of())
    assert {n: d["spec"] for n, d in cluster.deployments.items()} == {n: d["spec"] for n, d in before.items()}


def test_a_right_that_is_missing_names_the_role(cluster: State, checkpoint: Path) -> None:
    message = 'deployments.apps is forbidden: User "system:serviceaccount:kubeflow:x" cannot create'
    cluster.refuses["POST", "deployments"] = (403, message)
    with pytest.raises(InputError) as error:
        deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    role = "The account needs the role of manifests/serving/deployer."
    assert str(error.value) == f"Kubernetes says 403: {message}. {role}"


def test_no_cluster_and_one_that_does_not_answer(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(MachineError, match="there is no cluster to deploy to"):
        deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
    with serve(State(), tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
    with pytest.raises(MachineError, match=r"cannot reach the cluster at http://127\.0\.0\.1:\d+: .*refused"):
        deploy(checkpoint, URI, DeploySettings.of(image=IMAGE))
