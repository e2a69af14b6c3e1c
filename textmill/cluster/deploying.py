"""The service of a checkpoint on Kubernetes: made, or given another checkpoint, waited for, tried, or put back.

What is made where nothing is stands in serving/*.yaml beside this file, which manifests/serving builds on too. Of a
Deployment that is there only what belongs to the checkpoint is changed: where it lies, its digest, the image, and what
the settings name; all else is its owner's.

An update that fails is put back. The template before it is kept in an annotation until the new one has answered, so a
deploying that is killed and started again knows what to put back too.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from textmill import manifest
from textmill.cluster.deployments import Deployments, Object, is_rolled_out, trouble, why_not
from textmill.errors import InputError, MachineError, SettingsError
from textmill.serving.settings import TOKEN_VARIABLE, ServeSettings
from textmill.settings import Settings, setting

log = logging.getLogger("textmill.cluster")

TEMPLATES = Path(__file__).parent / "serving"
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
KIND = "textmill-serve"
BEFORE = "textmill/before"  # annotation: the template to put back; "" of a Deployment that never answered
CHECKPOINT, SHA256 = "textmill/checkpoint", "textmill/sha256"
REACHED = ("s3", "minio", "gs", "gcs", "http", "https")
EVERY = 2.0  # seconds between two looks
ANSWERS = 15  # times that the new service is asked, EVERY seconds apart: nodes learn of its pods one by one
ANSWER_SECONDS = 60.0
TOKENS = 8  # of the text that is asked for


@dataclass(frozen=True)
class DeploySettings(Settings):
    """Where a checkpoint is served, and how."""

    name: str = setting("textmill", "The service's name: of its Deployment and its Service.")
    namespace: str = setting("", "Its namespace (empty: the one that this runs in).")
    image: str = setting("", "Image of the service, by digest (empty: the one that it has).")
    cpu: str = setting("", 'Cores that a pod of it asks for, such as "2" (empty: as it is; 2 of a new one).')
    memory: str = setting(
        "", "Memory that a pod of it asks for and gets at most (empty: as it is; 4Gi of a new one)."
    )
    service: dict[str, Any] = setting(
        {}, "Settings of the service by name, such as {page_kind: episodes, max_tokens: 500}."
    )
    minutes: float = setting(
        15.0, "Minutes until it must answer; then what was before is put back.", minimum=0.1
    )

    def check(self) -> None:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", self.name):
            raise SettingsError(
                f"setting 'name' is {self.name!r}; it must be small letters, digits and hyphens, a letter first."
            )
        ServeSettings.from_dict(self.service, where="service")


class _NotServing(Exception):
    """It does not come to serve; the words say why."""


def deploy(checkpoint: Path, uri: str, settings: DeploySettings | None = None) -> dict[str, Any]:
    """Serve the checkpoint that lies at `uri`, of which `checkpoint` is a copy here; return the summary: the service's
    address in the cluster, and how long it took.

    Raises InputError for what cannot be deployed or is refused, before anything is changed where that can be known, and
    MachineError where the service did not come to answer: then what was before is put back.
    """
    settings = settings or DeploySettings()
    digest = manifest.read(Path(checkpoint), "checkpoint").digest
    if not re.match(rf"({'|'.join(REACHED)})://", uri):
        raise InputError(
            f"pods cannot fetch the checkpoint from {uri}: it must lie at s3://, gs:// or https://."
        )
    began = time.monotonic()
    deployments = Deployments(settings.namespace)
    return _Deploying(deployments, settings, uri, digest).run() | {"seconds": time.monotonic() - began}


class _Deploying:
    def __init__(self, deployments: Deployments, settings: DeploySettings, uri: str, digest: str) -> None:
        self.deployments, self.settings, self.uri, self.digest = deployments, settings, uri, digest
        self.name = settings.name
        self.place = f"{settings.name} in namespace {deployments.namespace}"
        self.said = ""

    def run(self) -> dict[str, Any]:
        found = self.deployments.find(self.name)
        if found is None:
            what, before = "made", ""
            self._make()
        else:
            what, before = "updated", self._update(found)
        service = self.deployments.find_service(self.name) or self.deployments.make_service(
            self._template("service.yaml")
        )
        summary = {
            "address": _address(self.name, self.deployments.namespace, service),
            "what": what,
            "checkpoint": self.uri,
            "sha256": self.digest,
        }
        try:
            asleep = found is not None and found["spec"].get("replicas") == 0 and before
            if asleep:
                log.info("%s is scaled to zero: it has the new checkpoint, and was not tried", self.place)
            else:
                self._wait()
            seconds = 0.0 if asleep else self._try(service)
        except _NotServing as why:
            self._put_back(before)
            after = "what was before is put back" if before else "it was scaled to zero"
            raise MachineError(f"{self.place} does not serve {self.uri}: {why}; {after}.") from why
        now = self.deployments.change(self.name, {"metadata": {"annotations": {BEFORE: None}}})
        replicas = now["spec"].get("replicas", 1)
        log.info("%s serves %s at %s", self.place, self.uri, summary["address"])
        return {**summary, "replicas": replicas, "first_answer_seconds": seconds}

    # ------------------------------------------------------------------ what is wanted

    def _make(self) -> None:
        if not self.settings.image:
            raise InputError(f"there is no Deployment {self.place} yet: give the image of the service.")
        new = _merged(self._template("deployment.yaml"), self._wanted(""))
        own = {"name": "TEXTMILL_SERVE_NAME", "value": self.settings.service.get("name") or self.name}
        new = _merged(new, _in_pod({"containers": [{"name": "service", "env": [own]}]}))
        log.info("making the Deployment %s", self.place)
        self.deployments.make(new)

    def _update(self, found: Object) -> str:
        """Give it the new checkpoint; what to put back, "" where it never answered."""
        if found["metadata"].get("labels", {}).get(NAME) != KIND:
            raise InputError(
                f"the Deployment {self.place} is not a service of textmill; choose another name."
            )
        before: str = (
            found["metadata"].get("annotations", {}).get(BEFORE, json.dumps(found["spec"]["template"]))
        )
        wanted = self._wanted(before)
        if not before:
            wanted["spec"]["replicas"] = max(1, found["spec"].get("replicas", 1))
        log.info("giving the Deployment %s the checkpoint %s", self.place, self.uri)
        self.deployments.change(self.name, wanted)
        return before

    def _wanted(self, before: str) -> Object:
        """What a Deployment of this checkpoint must have."""
        image = {"image": self.settings.image} if self.settings.image else {}
        served = ServeSettings.from_dict(self.settings.service)
        env = [
            {"name": f"TEXTMILL_SERVE_{name.upper()}", "value": _as_text(getattr(served, name))}
            for name in self.settings.service
        ]
        requests = {"cpu": self.settings.cpu, "memory": self.settings.memory}
        limits = {"memory": self.settings.memory}
        resources = {
            kind: given
            for kind, all_of in (("requests", requests), ("limits", limits))
            if (given := {name: value for name, value in all_of.items() if value})
        }
        service = {"name": "service", **image, "env": env, "resources": resources}
        where = [
            {"name": "CHECKPOINT", "value": self.uri},
            {"name": "CHECKPOINT_SHA256", "value": self.digest},
        ]
        pod = {
            "initContainers": [{"name": "fetch", **image, "env": where}],
            "containers": [{name: value for name, value in service.items() if value}],
        }
        said = {CHECKPOINT: self.uri, SHA256: self.digest}
        return {"metadata": {"annotations": {BEFORE: before}}, **_in_pod(pod, said)}

    def _template(self, file: str) -> Object:
        """An object of serving/, under this service's name."""
        found: Object = yaml.safe_load((TEMPLATES / file).read_text(encoding="utf-8"))
        found["metadata"]["name"] = self.name
        for labels in _labels(found):
            labels[INSTANCE] = self.name
        return found

    # ------------------------------------------------------------------ what becomes of it

    def _wait(self) -> None:
        """Until all its pods are new and ready. Raises _NotServing."""
        deadline = time.monotonic() + 60 * self.settings.minutes
        while True:
            found = self.deployments.find(self.name)
            if found is None:
                raise _NotServing("it was deleted meanwhile")
            if is_rolled_out(found):
                return
            why = why_not(found) or self._trouble()
            if why and why != self.said:
                log.info("waiting for %s: %s", self.name, why)
                self.said = why
            if time.monotonic() > deadline:
                raise _NotServing(why or f"it was not ready after {self.settings.minutes:g} minutes")
            time.sleep(EVERY)

    def _trouble(self) -> str:
        """What keeps its new pods from being ready. Raises _NotServing where waiting is useless."""
        why = ""
        for pod in self.deployments.pods(f"{NAME}={KIND},{INSTANCE}={self.name}"):
            if pod["metadata"].get("annotations", {}).get(SHA256) != self.digest:
                continue
            container, reason, useless = trouble(pod)
            if not reason:
                continue
            why = f"{container or 'its pod'}: {reason}".rstrip(".")
            if useless:
                said = self.deployments.last_line(pod["metadata"]["name"], container)
                raise _NotServing(f"{why} ({said.removeprefix('textmill: ').rstrip('.')})" if said else why)
        return why

    def _try(self, service: Object) -> float:
        """Ask it for a text; the seconds until it came. Raises _NotServing."""
        url = _address(self.name, self.deployments.namespace, service, by_name=False)
        why = ""
        for attempt in range(ANSWERS):
            time.sleep(EVERY if attempt else 0)
            began = time.monotonic()
            try:
                answer = _complete(url)
            except urllib.error.HTTPError as error:
                why = f"it answers {error.code}"
                if error.code == 401:
                    raise _NotServing(
                        f"it wants a token, and {TOKEN_VARIABLE} has none that it knows"
                    ) from error
                continue
            except (OSError, ValueError) as error:
                why = f"no answer from {url} ({getattr(error, 'reason', None) or error})"
                continue
            if answer.get("system_fingerprint") == f"textmill-{self.digest[:12]}" and answer.get("choices"):
                return time.monotonic() - began
            why = f"the answer comes from another checkpoint ({answer.get('system_fingerprint')})"
        raise _NotServing(why)

    def _put_back(self, before: str) -> None:
        if not before:
            self.deployments.change(self.name, {"spec": {"replicas": 0}})
            return
        template = [{"op": "replace", "path": "/spec/template", "value": json.loads(before)}]
        annotation = f"/metadata/annotations/{BEFORE.replace('/', '~1')}"
        self.deployments.change(self.name, [*template, {"op": "remove", "path": annotation}])


def _complete(url: str) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"prompt": "", "max_tokens": TOKENS, "seed": 0}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a cluster's own addresses
    with opener.open(
        urllib.request.Request(f"{url}/v1/completions", body, headers), timeout=ANSWER_SECONDS
    ) as answer:
        found = json.loads(answer.read())
    if not isinstance(found, dict):
        raise ValueError("it is no completion")
    return found


def _address(name: str, namespace: str, service: Object, *, by_name: bool = True) -> str:
    """Where pods reach it: by its name, or by its address where it has one."""
    port = service["spec"]["ports"][0]["port"]
    given = service["spec"].get("clusterIP", "None")
    host = f"{name}.{namespace}.svc" if by_name or given in ("", "None") else given
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}" if port == 80 else f"http://{host}:{port}"


def _in_pod(spec: Object, annotations: Object | None = None) -> Object:
    return {"spec": {"template": {"metadata": {"annotations": annotations or {}}, "spec": spec}}}


def _merged(base: Any, change: Any) -> Any:
    """`base` with the change: mappings and lists of things with names are merged, all else is replaced."""
    if isinstance(base, dict) and isinstance(change, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in change.items()}}
    if (
        isinstance(base, list)
        and isinstance(change, list)
        and all(isinstance(x, dict) and "name" in x for x in base)
    ):
        named = {x["name"]: x for x in base}
        return list({**named, **{x["name"]: _merged(named.get(x["name"]), x) for x in change}}.values())
    return copy.deepcopy(change)


def _labels(value: Any) -> list[Object]:
    """Every mapping in an object that holds the label of an instance."""
    if isinstance(value, list):
        return [found for each in value for found in _labels(each)]
    if not isinstance(value, dict):
        return []
    own = [value] if INSTANCE in value else []
    return own + [found for each in value.values() for found in _labels(each)]


def _as_text(value: Any) -> str:
    """A setting as an environment variable holds it."""
    return value if isinstance(value, str) else json.dumps(value)
