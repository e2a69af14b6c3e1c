"""What Kubernetes knows of a run beside KFP's API: Argo's workflow, why a pod waits, the last lines of its log.

All of it is asked only where kubectl's cluster is the one the run is on; without it a run is followed by the API alone.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from typing import Any

from textmill.cluster import kube

RUN_LABEL = "pipeline/runid"
TIMEOUT = 10  # seconds for one question


class Pods:
    """A run's workflow and pods. Every answer may be empty: no cluster, no permission, already cleared away."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace or "kubeflow"
        self._core: Any = None
        self._custom: Any = None
        self._last: dict[str, Any] | None = None
        with contextlib.suppress(Exception):
            from kubernetes import client

            kube.load()
            api = kube.api_client(retries=0)
            self._core, self._custom = client.CoreV1Api(api), client.CustomObjectsApi(api)

    def workflow(self, run: str) -> dict[str, Any] | None:
        """Argo's workflow of this run, as JSON, as it was seen last; None where it never could be had."""
        if self._custom is None:
            return self._last
        try:
            found = self._custom.list_namespaced_custom_object(
                "argoproj.io",
                "v1alpha1",
                self.namespace,
                "workflows",
                label_selector=f"{RUN_LABEL}={run}",
                _request_timeout=TIMEOUT,
            )["items"]
        except Exception as error:
            if getattr(error, "status", 0) in (
                401,
                403,
                404,
            ):  # not allowed, or no Argo: the API alone has to do
                self._custom = None
            return self._last
        if found:
            self._last = found[0]
            status = self._last.get("status") or {}
            if "compressedNodes" in status:  # as Argo does with large workflows
                status["nodes"] = json.loads(gzip.decompress(base64.b64decode(status["compressedNodes"])))
        return self._last

    def waits_for(self, pod: str) -> str:
        """Why a pod is not running yet, in the scheduler's or the kubelet's words; "" where there is no reason."""
        if self._core is None:
            return ""
        try:
            return why_pending(self._core.read_namespaced_pod(pod, self.namespace, _request_timeout=TIMEOUT))[
                1
            ]
        except Exception:
            return ""

    def last_lines(self, pod: str, count: int) -> list[str]:
        """The end of what a pod's own container said."""
        if self._core is None or not pod:
            return []
        for container in ("main", None):
            with contextlib.suppress(Exception):
                said = self._core.read_namespaced_pod_log(
                    pod,
                    self.namespace,
                    container=container,
                    tail_lines=4 * count,
                    _request_timeout=TIMEOUT,
                    _preload_content=False,
                )
                return said.data.decode("utf-8", "replace").splitlines()
        return []


def why_pending(pod: Any) -> tuple[str, str]:
    """Why a pod waits (reason, message): the scheduler's words, or the kubelet's; ("", "") for one that just starts."""
    for status in [*(pod.status.container_statuses or []), *(pod.status.init_container_statuses or [])]:
        waiting = status.state and status.state.waiting
        if waiting and waiting.reason not in ("ContainerCreating", "PodInitializing"):
            return waiting.reason, (waiting.message or waiting.reason).strip().rstrip(".") + "."
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason or "", (condition.message or "").split(" preemption:")[0].strip()
    return "", ""
