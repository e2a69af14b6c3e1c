"""Start a compiled pipeline on Kubeflow Pipelines, once or again and again."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from textmill import hardware
from textmill.cluster.connection import ConnectionSettings, api_errors, endpoint_of
from textmill.errors import InputError, SettingsError
from textmill.pipeline_file import PipelineFile, read_pipeline
from textmill.settings import setting


@dataclass(frozen=True)
class RunSettings(ConnectionSettings):
    """How a run is made."""

    name: str = setting("", "The run's name (empty: the pipeline's name and the time).")
    experiment: str = setting("textmill", "The experiment it belongs to; made where it is not there.")
    root: str = setting("", "Folder of the object store for what it makes (empty: the server's own).")
    service_account: str = setting(
        "", "Kubernetes service account of its pods (empty: the server's default)."
    )
    caching: str = setting(
        "auto",
        "Take the results of tasks that ran before with the same input: as the pipeline says (auto), or never (no).",
        choices=("auto", "no"),
    )
    hardware: str = setting(
        "",
        "What train asks for, by name: cpu-small, gpu-l4, spot-gpu-a100 … (textmill/hardware.yaml). A --param train_… "
        "still wins; a gpu wants --param train_image=… too (empty: as the pipeline says).",
    )
    nodes: str = setting(
        "",
        "With hardware: whose labels the nodes have: nvidia, gke, karpenter or aks (empty: any node that has it).",
    )

    def check(self) -> None:
        super().check()
        if self.hardware:
            hardware.parameters(self.hardware, self.nodes)
        elif self.nodes:
            raise SettingsError("setting 'nodes' goes with 'hardware'; give both.")


@dataclass(frozen=True)
class SubmitSettings(RunSettings):
    """How a run is made, and when."""

    every: str = setting(
        "",
        "Start it again and again, one run at a time: a length such as 6h, 30m, or a cron expression with six fields "
        "such as '0 0 4 * * *' (empty: once, now).",
    )

    def check(self) -> None:
        super().check()
        if self.every:
            interval(self.every)


@dataclass(frozen=True)
class Submitted:
    """What the server made: a run, or a recurring run where `recurring`."""

    identity: str
    name: str
    recurring: bool
    endpoint: str


def check(
    pipeline: str | Path, parameters: Mapping[str, Any], settings: RunSettings | None = None
) -> tuple[PipelineFile, dict[str, Any]]:
    """The pipeline and its parameters, those of the settings' hardware among them, checked before anything is asked of
    a server. Raises InputError."""
    found = read_pipeline(pipeline)
    profile = settings.hardware if settings else ""
    if not settings or not profile:
        return found, found.arguments(parameters)
    asked = hardware.parameters(profile, settings.nodes)
    if missing := [name for name in asked if name not in found.parameters]:
        raise InputError(
            f"pipeline {found.name} has no parameter {missing[0]}: its hardware cannot be chosen by name."
        )
    if hardware.variant(profile) == "gpu" and "train_image" not in parameters:
        raise InputError(f"hardware {profile} wants the gpu image: give it with --param train_image=…")
    return found, found.arguments({**asked, **parameters})


def submit(
    client: Any,
    pipeline: PipelineFile,
    arguments: Mapping[str, Any],
    settings: RunSettings,
    every: str = "",
    *,
    anew: bool = False,
) -> Submitted:
    """Have the server start it, or where `every` is given (see SubmitSettings) start it again and again.

    Again and again, and with `anew`, what reads `source` is never taken from the cache: KFP knows it by its address,
    which stays while what it holds changes.

    Raises InputError where it refuses, MachineError where it cannot be reached.
    """
    name = settings.name or f"{pipeline.name} {datetime.now():%Y-%m-%d %H:%M:%S}"
    endpoint = endpoint_of(settings)
    with api_errors(endpoint or "the cluster"):
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # it prints an address of the dashboard, which may be none
            experiment = client.create_experiment(settings.experiment, namespace=settings.namespace or None)
        job = client._create_job_config(
            params=dict(arguments),
            pipeline_package_path=str(pipeline.path),
            pipeline_id=None,
            version_id=None,
            enable_caching=False if settings.caching == "no" else None,
            cache_key=None,
            pipeline_root=settings.root or None,
        )
        if every or anew:
            _read_source_anew(job.pipeline_spec)
        common = {
            "experiment_id": experiment.experiment_id,
            "display_name": name,
            "pipeline_spec": job.pipeline_spec,
            "runtime_config": job.runtime_config,
            "service_account": settings.service_account or None,
        }
        if every:
            made = _recurring(client, common, every)
            return Submitted(made.recurring_run_id, name, True, endpoint)
        import kfp_server_api

        run = client._run_api.run_service_create_run(run=kfp_server_api.V2beta1Run(**common))
    return Submitted(run.run_id, name, False, endpoint)


def _read_source_anew(spec: dict[str, Any]) -> None:
    """Take the cache from the tasks that get the pipeline's parameter `source`."""
    spec = spec.get("pipeline_spec", spec)  # beside a platform_spec
    for task in spec["root"]["dag"]["tasks"].values():
        given = task.get("inputs", {}).get("parameters", {}).values()
        if any(value.get("componentInputParameter") == "source" for value in given):
            task["cachingOptions"] = {}


def _recurring(client: Any, common: Mapping[str, Any], every: str) -> Any:
    import kfp_server_api as api

    seconds = interval(every)
    if seconds:
        trigger = api.V2beta1Trigger(
            periodic_schedule=api.V2beta1PeriodicSchedule(interval_second=str(seconds))
        )
    else:
        trigger = api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=every))
    body = api.V2beta1RecurringRun(
        **common, mode="ENABLE", trigger=trigger, max_concurrency="1", no_catchup=True
    )
    return client._recurring_run_api.recurring_run_service_create_recurring_run(recurring_run=body)


def interval(every: str) -> int:
    """Seconds of a length such as 90s, 30m, 6h, 1d; 0 for a cron expression. Raises SettingsError for neither."""
    number, unit = every[:-1], every[-1:]
    if number.isdigit() and unit in "smhd" and int(number):
        return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    if len(every.split()) == 6:
        return 0
    raise SettingsError(
        f"setting 'every' is {every!r}; give a length such as 30m, 6h or 1d, or a cron expression of six fields "
        "(second minute hour day month weekday)."
    )
