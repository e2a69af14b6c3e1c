"""The Kubernetes client as every part asks for it: the pod's own account, or kubectl's; and a server's own words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def load() -> tuple[str, str]:
    """Set the kubernetes client up for the cluster this runs in, else for KUBECONFIG's (or ~/.kube/config's) context.

    Returns (where it is, in words; the namespace it names, or ""). Raises ImportError where the package kubernetes is
    not installed, and kubernetes.config.ConfigException or OSError where there is no cluster to be found.
    """
    from kubernetes import client, config

    try:
        config.load_incluster_config()
        return "the cluster this runs in", OWN_NAMESPACE.read_text().strip()
    except config.ConfigException:
        file = os.environ.get("KUBECONFIG") or None
        config.load_kube_config(config_file=file)
        context = config.list_kube_config_contexts(file)[1]["context"]
        return client.Configuration.get_default_copy().host, context.get("namespace", "")


def api_client(retries: int) -> Any:
    """A client of the cluster that load() found, which asks so many times more where the connection fails."""
    from kubernetes import client

    settings = client.Configuration.get_default_copy()
    settings.retries = retries
    return client.ApiClient(settings)


def message_of(error: Any, most: int = 500) -> str:
    """What an API server said of its refusal, on one line; it wraps that in JSON."""
    try:
        text = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        text = str(error.reason or "no reason given")
    return " ".join(text.split())[:most]
