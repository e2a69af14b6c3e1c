"""checkpoint -> a service that answers"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def serve(
    checkpoint: dsl.Input[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    name: str = "textmill",
    namespace: str = "",
    image: str = "",
    cpu: str = "",
    memory: str = "",
    service: dict = {},  # noqa: B006
    minutes: float = 15.0,
) -> str:
    """Serve a checkpoint on this cluster, or give it to the service that is there, and try it; what fails is put back.

    Args:
        checkpoint: What train made; the service's pods fetch it from where it lies.
        name: The service's name: of its Deployment and its Service.
        namespace: Its namespace (empty: the one that this runs in).
        image: Image of the service, by digest (empty: the one that it has).
        cpu: Cores that a pod of it asks for, such as "2" (empty: as it is; 2 of a new one).
        memory: Memory that a pod of it asks for and gets at most (empty: as it is; 4Gi of a new one).
        service: Settings of the service by name, such as {page_kind: episodes, max_tokens: 500}.
        minutes: Minutes until it must answer; then what was before is put back.
        metrics: How many pods serve it, and how long it took.

    Returns:
        The service's address in the cluster.
    """
    from textmill import artifacts
    from textmill.cluster import deploying as stage

    settings = stage.DeploySettings.of(
        name=name,
        namespace=namespace,
        image=image,
        cpu=cpu,
        memory=memory,
        service=service,
        minutes=minutes,
    )
    summary = stage.deploy(checkpoint.path, checkpoint.uri, settings)
    metrics.metadata.update(artifacts.metrics(summary))
    return summary["address"]
