"""What the recipes share: the hardware that a task asks for on a cluster.

On one machine (`textmill run`) all of it is ignored.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from kfp import dsl, kubernetes

Text = Any  # a text, or a pipeline's parameter of type str


@dataclass(frozen=True)
class Hardware:
    """What a task's pod asks for. An empty field asks for nothing.

    image, cpu, memory and the accelerator may be pipeline parameters. These must be of type str, the accelerator's
    count too: KFP's driver reads a parameter of another type as an empty text and asks for no accelerator at all.
    """

    image: Text = ""  # whole reference; a parameter within a longer text is not resolved by KFP's driver
    cpu: Text = ""  # request and limit, such as "2"
    memory: Text = ""  # request and limit, such as "4Gi"
    accelerator_type: Text = "nvidia.com/gpu"
    accelerator_count: Text = ""
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerate: str = ""  # key of a taint, such as "nvidia.com/gpu"
    spot: str = ""  # label and taint key of spot nodes, such as "cloud.google.com/gke-spot"
    shm: str = ""  # size of /dev/shm, such as "1Gi"
    queue: str = ""  # Kueue's local queue
    minutes: int = 0  # the pod's deadline
    retries: int = 0
    backoff: str = "30s"

    def on(self, image: Text) -> "Hardware":
        """The same in this image."""
        return replace(self, image=image)


LIGHT = Hardware(cpu="1", memory="2Gi", retries=2)  # every task but train


def apply(task: dsl.PipelineTask, hardware: Hardware) -> dsl.PipelineTask:
    """Make the task's pod ask for this hardware."""
    _resources(task, hardware)
    for label, value in hardware.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    if hardware.tolerate:
        kubernetes.add_toleration(task, key=hardware.tolerate, operator="Exists", effect="NoSchedule")
    if hardware.spot:
        kubernetes.add_node_selector(task, hardware.spot, "true")
        kubernetes.add_toleration(
            task, key=hardware.spot, operator="Equal", value="true", effect="NoSchedule"
        )
    if hardware.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=hardware.shm)
    if hardware.queue:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", hardware.queue)
    if hardware.minutes:
        kubernetes.set_timeout(task, hardware.minutes * 60)
    if hardware.retries:
        task.set_retry(hardware.retries, backoff_duration=hardware.backoff, backoff_factor=2.0)
    return task


def _resources(task: dsl.PipelineTask, hardware: Hardware) -> None:
    # `is not ""` would be odd and `!= ""` on a pipeline's parameter makes a condition: ask for the type first.
    if _given(hardware.image):
        task.set_container_image(hardware.image)
    if _given(hardware.cpu):
        task.set_cpu_request(hardware.cpu).set_cpu_limit(hardware.cpu)
    if _given(hardware.memory):
        task.set_memory_request(hardware.memory).set_memory_limit(hardware.memory)
    if _given(hardware.accelerator_count):
        task.set_accelerator_type(hardware.accelerator_type).set_accelerator_limit(hardware.accelerator_count)
    # KFP passes a parameter into a loop for the tasks that it knows to use it, and does not look for it in resources.
    asked = (hardware.cpu, hardware.memory, hardware.accelerator_type, hardware.accelerator_count)
    task.register_pipeline_channels([value for value in asked if not isinstance(value, str)])


def _given(value: Text) -> bool:
    return not isinstance(value, str) or value != ""
