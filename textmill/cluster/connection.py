"""The way to a Kubeflow Pipelines API server: its address, namespace and token, and its errors as one clear line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from textmill.cluster.kube import message_of
from textmill.errors import InputError, MachineError, SettingsError
from textmill.settings import Settings, setting

ENDPOINT_VARIABLES = ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT")
TOKEN_VARIABLE = "KFP_TOKEN"
REFUSED = {
    401: "the server wants a token: put it into the environment as KFP_TOKEN",
    403: "this account may not do that: ask for the roles in manifests/base",
}


@dataclass(frozen=True)
class ConnectionSettings(Settings):
    """Which Kubeflow Pipelines, and which part of it."""

    endpoint: str = setting(
        "",
        "Address of Kubeflow Pipelines' API server, such as http://localhost:8888 (empty: KFP_ENDPOINT, or the cluster "
        "that kubectl talks to). A token, where one is needed, is taken from KFP_TOKEN.",
    )
    namespace: str = setting(
        "", "Namespace of the runs, where each user has one (empty: the server has only one)."
    )

    def check(self) -> None:
        if self.endpoint and urlsplit(self.endpoint).scheme not in ("http", "https", ""):
            raise SettingsError(
                f"setting 'endpoint' is {self.endpoint!r}; it must begin with http:// or https://."
            )


def endpoint_of(settings: ConnectionSettings) -> str:
    """The address to use; empty where only kubectl's cluster is left."""
    found = settings.endpoint or next((os.environ[v] for v in ENDPOINT_VARIABLES if os.environ.get(v)), "")
    return found if not found or "://" in found else f"http://{found}"


def connect(settings: ConnectionSettings) -> Any:
    """A kfp.Client that has reached its server.

    Raises MachineError where kfp is not installed or the server cannot be reached, InputError where it refuses us.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import kfp
            import kfp_server_api
    except ImportError as error:
        raise MachineError("this needs kfp; install it with: pip install 'textmill[kfp]'") from error
    endpoint = endpoint_of(settings)
    if not endpoint and not _has_cluster():
        raise InputError(
            "no Kubeflow Pipelines is named: give --endpoint http://… or set KFP_ENDPOINT; without them the cluster of "
            "KUBECONFIG is used, and there is none."
        )

    class Client(kfp.Client):
        """Its own look at the server's health asks five times, five seconds apart, and hides what the server said."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
            try:
                return self._healthz_api.healthz_service_get_healthz(_request_timeout=10)
            except kfp_server_api.ApiException as error:
                if error.status != 404:
                    raise
                raise InputError(
                    f"what answers at {endpoint} is no Kubeflow Pipelines (404); give its API or its dashboard, "
                    "as http://localhost:8888 after kubectl port-forward -n kubeflow service/ml-pipeline 8888."
                ) from error

    with api_errors(endpoint or "the cluster that kubectl talks to"), _quiet():
        client = Client(
            host=endpoint or None,
            namespace=settings.namespace or "kubeflow",
            existing_token=os.environ.get(TOKEN_VARIABLE) or None,
        )
        client.get_kfp_healthz()
    return client


def version_of(client: Any) -> str:
    """The server's version, or ""; the client's own model of the answer leaves it out."""
    answer = client._healthz_api.healthz_service_get_healthz(_preload_content=False, _request_timeout=10)
    version = str(json.loads(answer.data).get("tag_name") or "")
    return version if version != "unknown" else ""


def _has_cluster() -> bool:
    """Is there a kubeconfig, or are we in a pod?"""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(f).is_file() for f in files.split(os.pathsep))


@contextlib.contextmanager
def api_errors(server: str) -> Iterator[None]:
    """Turn what the client raises into one line that names the server and says what to do."""
    import kfp_server_api
    import urllib3

    try:
        yield
    except kfp_server_api.ApiException as error:
        why = REFUSED.get(error.status or 0) or message_of(error, 300)
        kind = InputError if error.status and 400 <= error.status < 500 else MachineError
        raise kind(f"Kubeflow Pipelines at {server} says {error.status}: {why}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise MachineError(
            f"cannot reach Kubeflow Pipelines at {server}: {reason_of(error)}. Is the address right (--endpoint), and "
            "is the port forwarded (kubectl port-forward -n kubeflow service/ml-pipeline 8888)?"
        ) from error
    except (RuntimeError, ValueError, TypeError) as error:  # the client's own: no kubeconfig, no proxy
        raise MachineError(f"cannot reach Kubeflow Pipelines at {server}: {reason_of(error)}.") from error


def reason_of(error: BaseException) -> str:
    """The innermost reason, without the objects' addresses that urllib3 puts before it."""
    inner: Any = error
    while getattr(inner, "reason", None) is not None and isinstance(inner.reason, BaseException):
        inner = inner.reason
    text = " ".join(str(inner).split()).rstrip(".")
    return re.sub(r"^(<[^>]*>|\w+\(host=[^)]*\)): ", "", text) or type(inner).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kfp warns of experimental things, and urllib3 of each try that failed; it sets its loggers' levels itself."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
