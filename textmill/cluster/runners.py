"""Where a watch's runs happen: on a cluster, or on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from textmill.cluster.connection import api_errors, connect, endpoint_of
from textmill.cluster.submit import RunSettings, submit
from textmill.cluster.watch import FAILED, RUNNING, SUCCEEDED
from textmill.errors import InputError, TextmillError
from textmill.pipeline_file import PipelineFile


class ClusterRunner:
    """Runs on Kubeflow Pipelines. Connects anew each time: a watch lives for months, a connection does not."""

    def __init__(self, pipeline: PipelineFile, arguments: Mapping[str, Any], settings: RunSettings) -> None:
        self.pipeline, self.arguments, self.settings = pipeline, arguments, settings

    def start(self) -> str:
        client = connect(self.settings)
        return submit(client, self.pipeline, self.arguments, self.settings, anew=True).identity

    def state(self, identity: str) -> str:
        try:
            with api_errors(endpoint_of(self.settings) or "the cluster"):
                found = connect(self.settings).get_run(identity).state
        except InputError:  # deleted meanwhile
            return FAILED
        if found == "SUCCEEDED":
            return SUCCEEDED
        return FAILED if found in ("FAILED", "CANCELED", "SKIPPED") else RUNNING


class LocalRunner:
    """Runs here, as `textmill run` does; a run has ended when `start` comes back."""

    def __init__(self, pipeline: PipelineFile, arguments: Mapping[str, Any], output: Path) -> None:
        self.pipeline, self.arguments, self.output = pipeline, arguments, output
        self.ended: dict[str, str] = {}

    def start(self) -> str:
        from textmill.local.running import run_pipeline

        identity = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        try:
            run_pipeline(self.pipeline.path, self.arguments, self.output)
            self.ended[identity] = SUCCEEDED
        except TextmillError as error:
            if error.exit_code == 130:
                raise
            self.ended[identity] = FAILED
        return identity

    def state(self, identity: str) -> str:
        return self.ended.get(identity, FAILED)
