"""`make test-cluster`: a cluster where one can be had, the images on it, and the tests marked `cluster`.

usage: cluster_tests.py [--cluster DIR] [--keep] [--if-ready] [PYTEST ARGUMENT…]

- KUBECONFIG (and KFP_ENDPOINT) set: that cluster. Its nodes must have the images already (make kind-load, or
  make images-push); CLUSTER_IMAGES names their table, images/digests.json if it is not set.
- else DIR/cluster there, and root: that test cluster is started, the images are built and loaded; with KFP_BIN (a
  folder of the KFP backend's programs) Kubeflow Pipelines too. All of it is stopped in the end, unless --keep.
- else nothing is run, and that is said.

With --if-ready, as in .ci/run, no cluster is started, and none is taken that happens to be in somebody's KUBECONFIG:
CLUSTER_IMAGES must say that the images are on it. And Kubeflow Pipelines is left out: its runs take more than the hour
that a change may wait.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "out" / "test-images" / "digests.json"
VARIANTS = ("cpu", "serve")  # the GPU image takes 8 GB and nothing here could run it


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cluster", type=Path, default=ROOT.parent / "shared" / "cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument(
        "--if-ready", action="store_true", help="start no cluster: take KUBECONFIG's, or none"
    )
    given, rest = parser.parse_known_args(arguments)
    if given.if_ready:
        return if_ready(rest)
    if os.environ.get("KUBECONFIG"):
        os.environ.setdefault("CLUSTER_IMAGES", str(ROOT / "images" / "digests.json"))
        return tests(rest)
    if missing := what_is_missing(given.cluster):
        say(f"SKIPPED: all cluster tests: {missing}; or set KUBECONFIG to a cluster of yours.")
        return 0
    kfp = os.environ.get("KFP_BIN", "")
    try:
        start(given.cluster, kfp)
        return tests(rest)
    finally:
        if not given.keep:
            if kfp:
                call(str(given.cluster / "kfp"), "down", check=False)
            call(str(given.cluster / "cluster"), "down", check=False)


def if_ready(arguments: Sequence[str]) -> int:
    if not (os.environ.get("KUBECONFIG") and os.environ.get("CLUSTER_IMAGES")):
        say(
            "SKIPPED: all cluster tests: no KUBECONFIG and CLUSTER_IMAGES; make test-cluster starts a cluster."
        )
        return 0
    os.environ.pop("KFP_ENDPOINT", None)
    return tests(arguments)


def what_is_missing(cluster: Path) -> str:
    """Why no test cluster can be started here; empty if it can."""
    if not (cluster / "cluster").exists():
        return f"there is no test cluster at {cluster}"
    if os.geteuid() != 0:
        return "the test cluster needs root"
    wanted = [name for name in ("go", "kubectl", "apt-get") if not shutil.which(name)]
    return f"the test cluster needs {', '.join(wanted)}" if wanted else ""


def start(folder: Path, kfp: str) -> None:
    """Start the cluster, put the images on it, set the environment of the tests."""
    cluster = str(folder / "cluster")
    say("starting the test cluster (about 10 minutes the first time)")
    if call(
        cluster, "up", check=False
    ):  # on a busy machine its kubelet may ask for a containerd that is not there yet
        say("it did not come up; once more")
        call(cluster, "up")
    said = subprocess.run([cluster, "env"], check=True, capture_output=True, text=True).stdout
    os.environ.update(re.findall(r"(\w+)=(\S+)", said))
    call(cluster, "base-image")
    build = [sys.executable, str(ROOT / "tools" / "images.py"), "build", "--table", str(TABLE), *VARIANTS]
    call(*build, env={**os.environ, "DOCKER_BUILDKIT": "0"})
    sys.path.insert(0, str(ROOT))
    from components import pinned_image

    say("loading the images")
    call(cluster, "load", *(pinned_image(variant, TABLE) for variant in VARIANTS))
    minio = Path(os.environ["KUBECONFIG"]).parent / "bin" / "minio"
    os.environ.update(CLUSTER_IMAGES=str(TABLE), CLUSTER_IS_OURS="1", MINIO=str(minio))
    if kfp:
        say("starting Kubeflow Pipelines")
        call(str(folder / "kfp"), "up")
        os.environ["KFP_ENDPOINT"] = "http://127.0.0.1:8888"
        os.environ["MLMD_ENDPOINT"] = f"{urlsplit(os.environ['AWS_ENDPOINT_URL']).hostname}:8080"


def tests(arguments: Sequence[str]) -> int:
    if not os.environ.get("KFP_ENDPOINT"):
        say(
            "SKIPPED: what needs Kubeflow Pipelines: set KFP_BIN to a folder of its programs, or KFP_ENDPOINT."
        )
    everything = ["tests/cluster", "tests/stores", *arguments]
    chosen = arguments if any(not a.startswith("-") for a in arguments) else everything
    done = call(sys.executable, "-m", "pytest", "-m", "cluster", "-rs", "-v", *chosen, check=False)
    return 0 if done == 5 else done  # pytest's 5: nothing of what was asked for is there


def call(*command: str, check: bool = True, env: dict[str, str] | None = None) -> int:
    return subprocess.run(command, check=check, cwd=ROOT, env=env).returncode


def say(text: str) -> None:
    print(f"test-cluster: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        say(f"{' '.join(error.cmd[:2])} failed (exit code {error.returncode})")
        sys.exit(3)
