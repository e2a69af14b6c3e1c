"""kubectl, for tests: what is asked of the cluster, and waiting for what comes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"


class Kubectl:
    def __call__(self, *arguments: str, input: str | None = None) -> str:
        done = subprocess.run(
            ["kubectl", *arguments], input=input, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def answers(self) -> bool:
        try:
            done = subprocess.run(
                ["kubectl", "get", "--raw", "/readyz", "--request-timeout=5s"],
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            return False
        return done.returncode == 0

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def apply(self, manifest: str | dict[str, Any], *options: str) -> str:
        """Server-side."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self("apply", "--server-side", "--force-conflicts", *options, "-f", "-", input=text)

    @contextlib.contextmanager
    def namespace_of_ours(self) -> Iterator[str]:
        """What manifests/namespace describes, under a name of its own."""
        name = f"textmill-test-{uuid.uuid4().hex[:6]}"
        made = [
            found for found in yaml.safe_load_all(self("kustomize", str(MANIFESTS / "namespace"))) if found
        ]
        for found in made:
            is_namespace = found["kind"] == "Namespace"
            found["metadata"]["name" if is_namespace else "namespace"] = name
            for subject in found.get("subjects", []):
                subject["namespace"] = name
        try:
            self.apply({"apiVersion": "v1", "kind": "List", "items": made})
            self.wait_for(
                lambda: "default" in self("get", "serviceaccounts", "-n", name), 30, "its default account"
            )
            yield name
        finally:
            self("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def pod_ends(self, namespace: str, name: str, seconds: float = 180) -> str:
        """Wait until the pod ends; its phase."""
        ended = ("Succeeded", "Failed")
        self.wait_for(lambda: self.phase(namespace, name) in ended, seconds, f"the end of pod {name}")
        return self.phase(namespace, name)

    def phase(self, namespace: str, name: str) -> str:
        return str(self.json("get", "pod", "-n", namespace, name)["status"].get("phase"))

    def why_pending(self, namespace: str, name: str) -> str:
        """What the scheduler says of a pod that waits; empty if it says nothing (yet)."""
        conditions = self.json("get", "pod", "-n", namespace, name)["status"].get("conditions", [])
        said = [
            c.get("message", "") for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"
        ]
        return said[0] if said else ""

    @staticmethod
    def wait_for(true: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s"
            time.sleep(1)


def pod(name: str, image: str, command: list[str], **spec: Any) -> dict[str, Any]:
    """A pod that Pod Security `restricted` admits, with a read-only root and a /tmp of its own."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "resources": spec.pop(
            "resources", {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
        ),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            **spec,
        },
    }
