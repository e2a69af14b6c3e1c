"""Kubeflow Pipelines: does its API server answer, and which version is it?"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from textmill.cluster.connection import ConnectionSettings, connect, endpoint_of, version_of
from textmill.doctor.finding import NOTE, OK, WRONG, Finding
from textmill.errors import TextmillError

TESTED = "2.17"


def examine(settings: ConnectionSettings) -> Iterator[Finding]:
    """One finding; a note where no endpoint is named."""
    endpoint = endpoint_of(settings)
    if not endpoint:
        yield Finding("Kubeflow Pipelines", NOTE, "no endpoint is named.", "give --endpoint to look at one")
        return
    if importlib.util.find_spec("kfp") is None:
        yield Finding("Kubeflow Pipelines", NOTE, "kfp is not installed.", "pip install 'textmill[kfp]'")
        return
    try:
        client = connect(settings)
        version = version_of(client)
        experiments = client.list_experiments(page_size=1, namespace=settings.namespace or None)
    except TextmillError as error:
        yield Finding("Kubeflow Pipelines", WRONG, str(error))
        return
    except Exception as error:
        yield Finding("Kubeflow Pipelines", WRONG, f"{endpoint}: {' '.join(str(error).split())[:200]}")
        return
    text = f"{version or 'it answers'} at {endpoint}, {experiments.total_size or 0} experiments."
    if not version or version.startswith(TESTED):
        yield Finding("Kubeflow Pipelines", OK, text)
    else:
        yield Finding("Kubeflow Pipelines", NOTE, f"{text} textmill is tested with {TESTED}.")
