"""A cluster of your own in docker, for who has the internet: kind, Kubeflow Pipelines 2.17 and our images.

usage: kind.py up | load | down

up      make the cluster `textmill`, install Kubeflow Pipelines, wait for it, and say how to reach it
load    put the images that `make images` built on its node, and write their table for `make test-cluster`
down    take the cluster away, with all that is in it
Needs docker, kind and kubectl. KIND_CLUSTER names another cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = os.environ.get("KIND_CLUSTER", "textmill")
MANIFESTS = ROOT / "manifests" / "kind"
SCOPED = "https://github.com/kubeflow/pipelines//manifests/kustomize/cluster-scoped-resources?ref=2.17.0"
CONTEXT = f"kind-{CLUSTER}"
HOW_ON = f"""\
Kubeflow Pipelines runs in cluster {CLUSTER}. To reach it, in a terminal of its own:
  kubectl --context {CONTEXT} port-forward -n kubeflow service/ml-pipeline 8888
then:
  make images kind-load
  make test-cluster KUBECONFIG=~/.kube/config KFP_ENDPOINT=http://127.0.0.1:8888
The dashboard: kubectl --context {CONTEXT} port-forward -n kubeflow service/ml-pipeline-ui 8080:80"""


def up() -> None:
    if CLUSTER not in said("kind", "get", "clusters").split():
        run(
            "kind",
            "create",
            "cluster",
            "--name",
            CLUSTER,
            "--config",
            str(MANIFESTS / "cluster.yaml"),
            "--wait",
            "120s",
        )
    kubectl("apply", "--server-side", "-k", SCOPED)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/workflows.argoproj.io")
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(MANIFESTS))
    print("waiting for Kubeflow Pipelines; its images take some minutes to pull", file=sys.stderr)
    kubectl("wait", "--for=condition=Available", "--timeout=900s", "-n", "kubeflow", "deployment", "--all")
    print(HOW_ON)


def load() -> None:
    sys.path.insert(0, str(ROOT))
    sys.path.insert(0, str(ROOT / "tools"))
    import images

    built = [v for v in images.VARIANTS if images.read(images.TABLE).get(images.name_of(v), {}).get("tag")]
    if not built:
        raise SystemExit("kind: no image was built yet; run: make images")
    for variant in built:
        run("kind", "load", "docker-image", "--name", CLUSTER, images.reference(images.TABLE, variant))


def down() -> None:
    run("kind", "delete", "cluster", "--name", CLUSTER)


def kubectl(*arguments: str) -> None:
    run("kubectl", "--context", CONTEXT, *arguments)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str]) -> int:
    verbs = {"up": up, "load": load, "down": down}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(__doc__, file=sys.stderr)
        return 2
    if missing := [name for name in ("docker", "kind", "kubectl") if not shutil.which(name)]:
        print(f"kind: not installed here: {', '.join(missing)}", file=sys.stderr)
        return 3
    try:
        verbs[arguments[0]]()
    except subprocess.CalledProcessError as error:
        print(f"kind: {' '.join(error.cmd[:3])} failed (exit code {error.returncode})", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
