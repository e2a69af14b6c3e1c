"""The cluster that kubectl talks to: reach, namespace, what we may do there, quotas, GPUs, and pods that wait."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from textmill.cluster import kube
from textmill.cluster.connection import reason_of
from textmill.cluster.pods import why_pending
from textmill.doctor.finding import NOTE, OK, WRONG, Finding

GPU = "nvidia.com/gpu"
TIMEOUT = 10  # seconds for one question
NEARLY = 0.9  # of a quota
NEEDED = (  # what following a run and reading its logs takes: verb, group, resource
    ("list", "", "pods"),
    ("get", "", "pods/log"),
    ("list", "argoproj.io", "workflows"),
)
UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    unit: 1024.0**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)
}


def examine(namespace: str = "") -> Iterator[Finding]:
    """Findings on the cluster; one note where there is none."""
    try:
        from kubernetes import client
        from kubernetes.config import ConfigException
    except ImportError:
        yield Finding(
            "cluster", NOTE, "the kubernetes package is not installed.", "pip install 'textmill[kfp]'"
        )
        return
    try:
        where, _ = kube.load()
    except (ConfigException, OSError):
        yield Finding(
            "cluster", NOTE, "no kubeconfig: no cluster is looked at.", "set KUBECONFIG to look at one"
        )
        return
    namespace = namespace or "kubeflow"
    try:
        version = client.VersionApi().get_code(_request_timeout=TIMEOUT).git_version
    except Exception as error:  # the client passes on whatever its sockets raise
        yield Finding(
            "cluster",
            WRONG,
            f"{where} does not answer ({reason_of(error)}).",
            "check KUBECONFIG and the network",
        )
        return
    yield Finding("cluster", OK, f"Kubernetes {version} at {where}.")
    core = client.CoreV1Api()
    yield from _told("namespace", _namespace, core, namespace)
    yield from _told("permissions", _permissions, client, namespace)
    yield from _told("quotas", _quotas, core, namespace)
    yield from _told("cluster's GPUs", _gpus, core)
    yield from _told("waiting pods", _waiting, core, namespace)
    yield from _told("retries", _retries, core, namespace)


def _told(what: str, look: Any, *arguments: Any) -> Iterator[Finding]:
    """What `look` finds; where we may not look, that is the finding."""
    from kubernetes.client import ApiException

    try:
        yield from look(*arguments)
    except ApiException as error:
        if error.status == 403:
            yield Finding(what, NOTE, "this account may not look.")
        else:
            yield Finding(what, WRONG, f"the cluster says {error.status}: {error.reason}.")
    except Exception as error:
        yield Finding(what, WRONG, f"no answer ({reason_of(error)}).")


def _namespace(core: Any, namespace: str) -> Iterator[Finding]:
    from kubernetes.client import ApiException

    try:
        found = core.read_namespace(namespace, _request_timeout=TIMEOUT)
    except ApiException as error:
        if error.status != 404:
            raise
        do = "name another one with --namespace, or kubectl apply -k manifests/base"
        yield Finding("namespace", WRONG, f"there is no namespace {namespace}.", do)
        return
    level = (found.metadata.labels or {}).get("pod-security.kubernetes.io/enforce", "")
    yield Finding("namespace", OK, f"{namespace}, Pod Security {level or 'not enforced'}.")


def _permissions(client: Any, namespace: str) -> Iterator[Finding]:
    asking, refused = client.AuthorizationV1Api(), []
    for verb, group, resource in NEEDED:
        name, _, sub = resource.partition("/")
        attributes = client.V1ResourceAttributes(
            namespace=namespace, verb=verb, group=group, resource=name, subresource=sub or None
        )
        review = client.V1SelfSubjectAccessReview(
            spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
        )
        answer = asking.create_self_subject_access_review(review, _request_timeout=TIMEOUT)
        if not answer.status.allowed:
            refused.append(f"{verb} {resource}")
    if refused:
        text = f"this account may not {', '.join(refused)} in {namespace}: runs are followed without pods and logs."
        yield Finding("permissions", NOTE, text, "ask for the role textmill-reader of manifests/base")
    else:
        yield Finding("permissions", OK, f"runs' pods and logs can be read in {namespace}.")


def _quotas(core: Any, namespace: str) -> Iterator[Finding]:
    full, rows = [], []
    for quota in core.list_namespaced_resource_quota(namespace, _request_timeout=TIMEOUT).items:
        hard, used = quota.status.hard or {}, quota.status.used or {}
        for name, limit in hard.items():
            rows.append(f"{name} {used.get(name, '0')} of {limit}")
            if amount(limit) and amount(used.get(name, "0")) >= NEARLY * amount(limit):
                full.append(f"{name} ({used.get(name, '0')} of {limit})")
    if full:
        do = "wait for other pods to end, ask for less, or raise the quota"
        yield Finding("quotas", WRONG, f"nearly used up: {', '.join(full)}.", do)
    elif rows:
        yield Finding("quotas", OK, f"{', '.join(rows)}.")
    else:
        yield Finding("quotas", OK, f"none in {namespace}.")


def _gpus(core: Any) -> Iterator[Finding]:
    nodes = core.list_node(_request_timeout=TIMEOUT).items
    offered = sum(int(node.status.allocatable.get(GPU, "0")) for node in nodes)
    if not offered:
        text = f"none of {len(nodes)} nodes offers {GPU}: a task that asks for one waits."
        yield Finding(
            "cluster's GPUs", NOTE, text, f"add a node with its device plugin, or ask for none: {_WITHOUT}"
        )
        return
    taken = 0
    with contextlib.suppress(Exception):  # pods of other namespaces may not be ours to see
        for pod in core.list_pod_for_all_namespaces(_request_timeout=TIMEOUT).items:
            if pod.spec.node_name and pod.status.phase in ("Pending", "Running"):
                limits = [(c.resources.limits or {}) for c in pod.spec.containers if c.resources]
                taken += sum(int(limit.get(GPU, "0")) for limit in limits)
    state = OK if taken < offered else NOTE
    yield Finding("cluster's GPUs", state, f"{offered - taken} of {offered} {GPU} free.")


_WITHOUT = "--param train_accelerator_count=0"


def _waiting(core: Any, namespace: str) -> Iterator[Finding]:
    """Pods of pipelines that no node takes, with the scheduler's reason."""
    found = False
    pods = core.list_namespaced_pod(
        namespace, field_selector="status.phase=Pending", _request_timeout=TIMEOUT
    ).items
    for pod in pods:
        labels = pod.metadata.labels or {}
        reason, message = why_pending(pod)
        if not reason:
            continue
        found = True
        run = labels.get("pipeline/runid", "")
        do = ""
        if GPU in message:
            do = f"add a node with a GPU, or submit it with {_WITHOUT}"
        elif "Insufficient" in message:
            do = "ask for less (train_cpu, train_memory), or add a node"
        elif reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
            do = "push the images (make images-push), and name them with image= and train_image="
        elif reason == "CreateContainerConfigError":
            do = "make the secret it names (manifests/examples)"
        about = f" of run {run}" if run else ""
        yield Finding("waiting pods", WRONG, f"{pod.metadata.name}{about} waits: {message or reason}", do)
    if not found:
        yield Finding("waiting pods", OK, "none.")


def _retries(core: Any, namespace: str) -> Iterator[Finding]:
    """Upstream's workflow defaults have OnError: then a task that fails by itself is not tried again."""
    from kubernetes.client import ApiException

    try:
        found = core.read_namespaced_config_map(
            "workflow-controller-configmap", namespace, _request_timeout=TIMEOUT
        )
    except ApiException as error:
        if error.status == 404:
            return
        raise
    policy = re.search(r"retryPolicy:\s*\"?(\w+)", "\n".join((found.data or {}).values()))
    if policy and policy[1] == "OnError":
        text = "a task that exits with an error is not tried again, only one whose pod was lost (retryPolicy OnError)."
        yield Finding("retries", NOTE, text, "apply manifests/retries to have both")
    else:
        yield Finding("retries", OK, f"retryPolicy {policy[1] if policy else 'is the tasks own'}.")


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number: "500m" 0.5, "2Gi" 2147483648."""
    found = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(quantity))
    return float(found[1]) * UNITS.get(found[2], 1.0) if found else 0.0
