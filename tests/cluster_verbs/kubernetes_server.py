"""A small Kubernetes API server on loopback, for one Deployment and its Service: what is made, how it is patched, pods
that become ready some looks after each change, or do not. Its Service leads to a service that answers, or does not.

It merges as tests/cluster sees a real one do; what it does not know is answered 404.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

Object = dict[str, Any]


@dataclass
class State:
    """looks: until a change is rolled out. container: a status that the new pods have instead of getting ready.
    condition: one that the Deployment has instead. refuses: (verb, resource) -> (code, message). speaks: whether the
    service answers with its own checkpoint, another one ("foreign"), or an error's code. said: a container's log.
    """

    deployments: dict[str, Object] = field(default_factory=dict)
    services: dict[str, Object] = field(default_factory=dict)
    looks: int = 2
    container: Object | None = None
    condition: Object | None = None
    refuses: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    speaks: str = "own"
    token: str = ""
    said: str = ""
    requests: list[str] = field(default_factory=list)
    asked: list[Object] = field(default_factory=list)

    def env(self, name: str, container: str = "fetch") -> dict[str, str]:
        spec = self.deployments[name]["spec"]["template"]["spec"]
        [found] = [c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == container]
        return {pair["name"]: pair.get("value", "") for pair in found["env"]}

    def see(self, name: str) -> Object:
        """The Deployment as a look finds it, its rollout a step further."""
        found = self.deployments[name]
        found["left"] = max(0, found["left"] - 1)
        wanted, bad = found["spec"]["replicas"], self.container or self.condition
        new = 0 if found["left"] or (bad and found["metadata"]["generation"] == found["bad"]) else wanted
        found["status"] = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": wanted + (new < wanted),
            "updatedReplicas": wanted,
            "availableReplicas": wanted,
            "conditions": [self.condition] if self.condition else [],
        }
        return {key: value for key, value in found.items() if key not in ("left", "bad")}

    def changed(self, name: str) -> None:
        """A new template: rolled out some looks later, and bad if the next ones are."""
        found = self.deployments[name]
        found["metadata"]["generation"] += 1
        found["left"], found["bad"] = self.looks, found["metadata"]["generation"]


class Handler(BaseHTTPRequestHandler):
    state: State

    def do_GET(self) -> None:
        *_, resource, name = self._parts()
        if resource == "deployments" and name in self.state.deployments:
            self._answer(self.state.see(name))
        elif resource == "services" and name in self.state.services:
            self._answer(self.state.services[name])
        elif name == "pods":
            self._answer({"items": self._pods()})
        elif name == "log":
            self._answer(self.state.said)
        else:
            self._refuse(404, f'{resource} "{name}" not found')

    def do_POST(self) -> None:
        if self.path == "/v1/completions":
            self._complete()
            return
        *_, namespace, resource = self._parts()
        body = self._body()
        if resource in [r for v, r in self.state.refuses if v == "POST"]:
            self._refuse(*self.state.refuses["POST", resource])
            return
        name = body["metadata"]["name"]
        body["metadata"] |= {"namespace": namespace, "generation": 0}
        if resource == "services":
            body["spec"] |= {"clusterIP": "127.0.0.1"}
            body["spec"]["ports"][0]["port"] = self.server.server_address[1]
            self.state.services[name] = body
        else:
            body["spec"].setdefault("replicas", 1)
            body["spec"]["template"]["metadata"]["creationTimestamp"] = None
            self.state.deployments[name] = body
            self.state.changed(name)
        self._answer(body, 201)

    def do_PATCH(self) -> None:
        *_, name = self._parts()
        body, found = self._body(), self.state.deployments[name]
        before = copy.deepcopy(found["spec"])
        if isinstance(body, list):
            assert self.headers["Content-Type"] == "application/json-patch+json"
            for step in body:
                *path, last = [p.replace("~1", "/") for p in step["path"].split("/")[1:]]
                place = found
                for part in path:
                    place = place[part]
                assert last in place, f"there is no {step['path']}"
                if step["op"] == "remove":
                    del place[last]
                else:
                    place[last] = step["value"]
        else:
            assert self.headers["Content-Type"] == "application/strategic-merge-patch+json"
            merge(found, body)
        if found["spec"] != before:
            self.state.changed(name)
        self._answer(self.state.deployments[name])

    def _pods(self) -> list[Object]:
        pods = []
        for name, found in self.state.deployments.items():
            annotations = found["spec"]["template"]["metadata"].get("annotations", {})
            status = {"initContainerStatuses": [self.state.container]} if self.state.container else {}
            pods.append({"metadata": {"name": f"{name}-1", "annotations": annotations}, "status": status})
        return pods

    def _complete(self) -> None:
        self.state.asked.append(self._body())
        if self.state.token and self.headers.get("authorization") != f"Bearer {self.state.token}":
            self._answer({}, 401)
            return
        if self.state.speaks.isdigit():
            self._answer({}, int(self.state.speaks))
            return
        [name] = self.state.deployments
        digest = self.state.env(name)["CHECKPOINT_SHA256"] if self.state.speaks == "own" else "f" * 64
        self._answer({"system_fingerprint": f"textmill-{digest[:12]}", "choices": [{"text": "ab"}]})

    def _parts(self) -> list[str]:
        path = urlsplit(self.path).path
        self.state.requests.append(f"{self.command} {path.partition('/namespaces/')[2]}")
        return path.strip("/").split("/")

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _refuse(self, code: int, message: str) -> None:
        self._answer({"kind": "Status", "message": message, "code": code}, code)

    def _answer(self, value: Any, code: int = 200) -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def merge(base: Object, patch: Object) -> None:
    """As Kubernetes merges containers and their variables: by name; null removes."""
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict):
            merge(base.setdefault(key, {}), value)
        elif key in ("containers", "initContainers", "env"):
            for entry in value:
                there = [x for x in base[key] if x["name"] == entry["name"]]
                if there:
                    merge(there[0], entry)
                else:
                    base[key].append(entry)
        else:
            base[key] = value


@contextmanager
def serve(state: State, folder: Path, namespace: str = "here") -> Iterator[str]:
    """The path of its kubeconfig."""
    handler = type("OneHandler", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield str(path)
    finally:
        server.shutdown()
        server.server_close()
