"""A real cluster for the tests marked `cluster`. `make test-cluster` sets these and says what it could not have:

KUBECONFIG       the cluster; without one that answers everything here is skipped
CLUSTER_IMAGES   the table that tools/images.py wrote; its images are on the cluster's nodes
KFP_ENDPOINT     a Kubeflow Pipelines on that cluster, its pods in KFP_NAMESPACE (kubeflow)
MLMD_ENDPOINT    that one's metadata service (127.0.0.1:8080), for what it recorded of artifacts
MINIO            the program, for tests in which a store fails; FAILING_SECONDS (60) is how long
KILL_STEPS       steps of the training whose pods are deleted (10000); more where they are fast
CLUSTER_IS_OURS  anything but empty: the tests may change the node and Argo's settings
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import pinned_image
from pipelines.tasks import STORE_SECRET, STORE_VARIABLES
from tests.cluster.kubernetes import Kubectl
from tests.cluster.pipelines import Pipelines


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    found = Kubectl()
    if not os.environ.get("KUBECONFIG") or not found.answers():
        pytest.skip("no cluster: KUBECONFIG names none that answers")
    return found


@pytest.fixture(scope="session")
def ours(kubectl: Kubectl) -> Kubectl:
    """The cluster, if the tests may change its node and its settings."""
    if not os.environ.get("CLUSTER_IS_OURS"):
        pytest.skip(
            "this changes the node or Argo's settings; set CLUSTER_IS_OURS if nobody else uses the cluster"
        )
    return kubectl


@pytest.fixture(scope="session")
def table() -> Path:
    if not os.environ.get("CLUSTER_IMAGES"):
        pytest.skip("no images: CLUSTER_IMAGES names no table of them")
    return Path(os.environ["CLUSTER_IMAGES"])


@pytest.fixture(scope="session")
def image(table: Path) -> str:
    """Reference of the CPU image."""
    return pinned_image("cpu", table)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of manifests/namespace: Pod Security `restricted`, quota, accounts; removed afterwards."""
    with kubectl.namespace_of_ours() as name:
        yield name


@pytest.fixture(scope="session")
def pipelines(kubectl: Kubectl, image: str) -> Pipelines:
    if not os.environ.get("KFP_ENDPOINT"):
        pytest.skip("no Kubeflow Pipelines: KFP_ENDPOINT is not set")
    namespace = os.environ.get("KFP_NAMESPACE", "kubeflow")
    store = {name: os.environ[name] for name in STORE_VARIABLES if os.environ.get(name)}
    if store:
        about = {"name": STORE_SECRET, "namespace": namespace}
        kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": store})
    return Pipelines(os.environ["KFP_ENDPOINT"], namespace, image, kubectl)
