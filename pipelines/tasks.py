"""What the recipes share: the hardware that a task asks for on a cluster, its rights, its way to the object store.

On one machine (`textmill run`) all of it is ignored. Named hardware is in textmill/hardware.yaml.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from kfp import dsl, kubernetes

Given = Any  # a plain value, or a pipeline's parameter

# The environment of the object store, from a secret that may be absent: what a task reads from and publishes to itself.
# A secret with the credentials.json of a Google service account names its place below, as
# GOOGLE_APPLICATION_CREDENTIALS. With workload identity there is no secret.
STORE_SECRET = "textmill-store"
STORE_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
STORE_FOLDER = "/var/run/secrets/textmill-store"

# The keys of services that texts are collected from (docs/dumps_and_posts.md), from a secret that may be absent or hold
# some of them: without its key a service gives what it gives to anyone.
COLLECT_SECRET = "textmill-collect"
COLLECT_VARIABLES = (
    "BLUESKY_APP_PASSWORD",
    "BLUESKY_HANDLE",
    "MASTODON_ACCESS_TOKEN",
    "X_BEARER_TOKEN",
)

# The bearer token of the service, in a secret that is absent where it wants none.
SERVE_SECRET = "textmill-serve"
SERVE_VARIABLES = {"token": "TEXTMILL_SERVE_TOKEN"}


@dataclass(frozen=True)
class Hardware:
    """What a task's pod asks for. An empty field asks for nothing.

    image, cpu, memory, the accelerator, node_selector and tolerations may be pipeline parameters; the last two of type
    dict and list, the others of type str, the accelerator's count too: KFP's driver reads a parameter of another type
    as an empty text and asks for no accelerator at all.
    """

    image: Given = ""  # whole reference; a parameter within a longer text is not resolved by KFP's driver
    cpu: Given = ""  # request, and limit where there is no other, such as "2"
    cpu_limit: Given = ""
    memory: Given = ""  # request, and limit where there is no other, such as "4Gi"
    memory_limit: Given = ""
    accelerator_type: Given = "nvidia.com/gpu"
    accelerator_count: Given = ""
    node_selector: Given = field(default_factory=dict)  # labels of the nodes that will do
    tolerations: Given = field(
        default_factory=list
    )  # as Kubernetes writes them: {key, operator, value, effect}
    shm: str = ""  # size of /dev/shm, such as "1Gi"; it counts as memory of the pod
    queue: str = ""  # Kueue's local queue
    minutes: int = 0  # the pod's deadline
    retries: int = 0
    backoff: str = "30s"  # before the first retry; then twice as long each time

    def on(self, image: Given) -> "Hardware":
        """The same in this image."""
        return replace(self, image=image)


# Requests of one core: a node of two has never two left, as KFP's and the node's own pods take some.
LIGHT = Hardware(cpu="1", memory="2Gi", retries=2)  # every task but those below and train
WRITING = Hardware(cpu="1", cpu_limit="2", memory="6Gi", retries=2)  # a GPT-2 writes
CLEANING = Hardware(cpu="1", cpu_limit="2", memory="4Gi", retries=2)  # some of a large corpus
DEPLOYING = Hardware(cpu="250m", memory="1Gi", retries=1)  # waits for others most of the time


def apply(task: dsl.PipelineTask, hardware: Hardware) -> dsl.PipelineTask:
    """Make the task's pod ask for this hardware, run as no root, and find the object store."""
    _resources(task, hardware)
    if _given(hardware.node_selector):
        kubernetes.add_node_selector_json(task, hardware.node_selector)
    if _given(hardware.tolerations):
        kubernetes.add_toleration_json(task, hardware.tolerations)
    if hardware.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=hardware.shm)
    if hardware.queue:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", hardware.queue)
    if hardware.minutes:
        kubernetes.set_timeout(task, hardware.minutes * 60)
    if hardware.retries:
        task.set_retry(hardware.retries, backoff_duration=hardware.backoff, backoff_factor=2.0)
    kubernetes.set_security_context(task, run_as_non_root=True)  # Pod Security's `restricted` wants it said
    kubernetes.use_secret_as_env(task, STORE_SECRET, {name: name for name in STORE_VARIABLES}, optional=True)
    kubernetes.use_secret_as_volume(task, STORE_SECRET, STORE_FOLDER, optional=True)
    return task


def collecting(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give the task the services' keys; never take an earlier run's result: an address stays, what it holds changes."""
    task.set_caching_options(False)
    return kubernetes.use_secret_as_env(
        task, COLLECT_SECRET, {name: name for name in COLLECT_VARIABLES}, optional=True
    )


def deploying(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give the task the token that the service wants, where it wants one; the world may have changed: no caching."""
    task.set_caching_options(False)
    return kubernetes.use_secret_as_env(task, SERVE_SECRET, SERVE_VARIABLES, optional=True)


def _resources(task: dsl.PipelineTask, hardware: Hardware) -> None:
    cpu_limit = hardware.cpu_limit if _given(hardware.cpu_limit) else hardware.cpu
    memory_limit = hardware.memory_limit if _given(hardware.memory_limit) else hardware.memory
    for value, use in (
        (hardware.image, task.set_container_image),
        (hardware.cpu, task.set_cpu_request),
        (cpu_limit, task.set_cpu_limit),
        (hardware.memory, task.set_memory_request),
        (memory_limit, task.set_memory_limit),
    ):
        if _given(value):
            use(value)
    if _given(hardware.accelerator_count):
        task.set_accelerator_type(hardware.accelerator_type).set_accelerator_limit(hardware.accelerator_count)
    # KFP passes a parameter into a loop for the tasks that it knows to use it, and does not look for it in resources.
    asked = (
        hardware.cpu,
        cpu_limit,
        hardware.memory,
        memory_limit,
        hardware.accelerator_type,
        hardware.accelerator_count,
        hardware.node_selector,
        hardware.tolerations,
    )
    task.register_pipeline_channels([value for value in asked if not isinstance(value, (str, dict, list))])


def _given(value: Given) -> bool:
    # `value != ""` on a pipeline's parameter makes a condition: ask for the type first.
    return not isinstance(value, (str, dict, list)) or bool(value)
