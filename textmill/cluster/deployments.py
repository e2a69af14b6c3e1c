"""A Deployment and its Service in one namespace, through the kubernetes client: read, made, changed; what its pods say.

Plain dictionaries as Kubernetes' JSON has them. Errors are one clear line: Refused where the cluster will not, and
MachineError where it cannot be reached. Knows nothing of what is deployed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from textmill.cluster import kube
from textmill.cluster.connection import reason_of
from textmill.errors import InputError, MachineError

TIMEOUT = 30  # seconds for one question
MANAGER = "textmill"  # who is said to own the fields that are set
# What a container waits for that does not come by waiting.
HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError")
CRASHES = 2  # of one container, after which it is not waited for
LOG_LINES = 20

Object = dict[str, Any]


class Refused(InputError):
    """The cluster will not do it: no right, no such namespace, an object that it does not take."""


class Deployments:
    """Those of one namespace: the one given, else the one that this pod or kubeconfig is in.

    Raises MachineError where the kubernetes client is not installed or there is no cluster.
    """

    def __init__(self, namespace: str = "") -> None:
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise MachineError(
                "deploying needs the package kubernetes: pip install 'textmill[kfp]'."
            ) from error
        try:
            self.host, own = kube.load()
        except (config.ConfigException, OSError) as error:
            raise MachineError(
                "there is no cluster to deploy to: this is no pod with a token, and KUBECONFIG names none."
            ) from error
        self.namespace = namespace or own or "default"
        api = kube.api_client(retries=2)
        self._apps, self._core, self._refusal = (
            client.AppsV1Api(api),
            client.CoreV1Api(api),
            client.ApiException,
        )

    # ------------------------------------------------------------------ objects

    def find(self, name: str) -> Object | None:
        """The Deployment, None where there is none."""
        return self._found(self._apps.read_namespaced_deployment, name)

    def make(self, body: Object) -> Object:
        """A new Deployment."""
        return self._asked(self._apps.create_namespaced_deployment, body=body, field_manager=MANAGER)

    def change(self, name: str, patch: Object | list[Object]) -> Object:
        """A mapping is merged as Kubernetes merges its own objects, a list is a JSON patch."""
        return self._asked(self._apps.patch_namespaced_deployment, name, body=patch, field_manager=MANAGER)

    def find_service(self, name: str) -> Object | None:
        return self._found(self._core.read_namespaced_service, name)

    def make_service(self, body: Object) -> Object:
        return self._asked(self._core.create_namespaced_service, body=body, field_manager=MANAGER)

    def pods(self, selector: str) -> list[Object]:
        """The pods with these labels that are not being removed."""
        found = self._asked(self._core.list_namespaced_pod, label_selector=selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def last_line(self, pod: str, container: str) -> str:
        """What a container that ended said last; "" where that cannot be had."""
        with contextlib.suppress(Exception):
            for before in (True, False):
                with contextlib.suppress(self._refusal):
                    said = self._core.read_namespaced_pod_log(
                        pod, self.namespace, container=container, previous=before, tail_lines=LOG_LINES,
                        _request_timeout=TIMEOUT, _preload_content=False,
                    )  # fmt: skip
                    if lines := said.data.decode("utf-8", "replace").split("\n"):
                        return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    # ------------------------------------------------------------------ asking

    def _found(self, read: Any, name: str) -> Object | None:
        try:
            return self._asked(read, name)
        except Refused as error:
            if getattr(error.__cause__, "status", 0) == 404:
                return None
            raise

    def _asked(self, verb: Any, *names: str, **more: Any) -> Object:
        with self._errors():
            answer = verb(
                *names, namespace=self.namespace, _request_timeout=TIMEOUT, _preload_content=False, **more
            )
            found: Object = json.loads(answer.data)
            return found

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import urllib3

        try:
            yield
        except self._refusal as error:
            said = f"Kubernetes says {error.status}: {kube.message_of(error).rstrip('.')}."
            if error.status in (401, 403):
                said += " The account needs the role of manifests/serving/deployer."
            raise (Refused if 400 <= (error.status or 0) < 500 else MachineError)(said) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise MachineError(f"cannot reach the cluster at {self.host}: {reason_of(error)}.") from error


def is_rolled_out(deployment: Object) -> bool:
    """Whether every pod that it wants is one of the newest template, ready, and no older one is left to be called."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    counts = [status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")]
    return bool(seen) and counts == [wanted] * 3


def why_not(deployment: Object) -> str:
    """What keeps it from having its pods at all, in the controller's words (a quota, Pod Security); ""."""
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return str(condition.get("message", condition.get("reason", "")))
    return ""


def trouble(pod: Object) -> tuple[str, str, bool]:
    """(container, why it is not ready, whether waiting is useless); ("", "", False) while it just starts."""
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        name, state = container["name"], container.get("state", {})
        waiting = state.get("waiting", {})
        reason = waiting.get("reason", "")
        ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
        if ended.get("exitCode") and not container.get("ready"):
            why = (
                "ran out of memory"
                if ended.get("reason") == "OOMKilled"
                else f"exit code {ended['exitCode']}"
            )
            return name, why, container.get("restartCount", 0) >= CRASHES
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return name, waiting.get("message") or reason, reason in HOPELESS
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "", str(condition.get("message", condition.get("reason", ""))), False
    return "", "", False
