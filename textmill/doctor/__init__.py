"""`textmill doctor`: is this machine, object store and cluster as textmill needs it, and what to do where not?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from textmill.cluster.connection import ConnectionSettings
from textmill.doctor.finding import NOTE, OK, WRONG, Finding
from textmill.settings import setting

__all__ = ["NOTE", "OK", "WRONG", "DoctorSettings", "Finding", "examine"]


@dataclass(frozen=True)
class DoctorSettings(ConnectionSettings):
    """Where to look besides this machine."""

    store: str = setting(
        "",
        "A folder of the object store to try, such as s3://bucket/runs: a small object is written, read and removed.",
    )


def examine(settings: DoctorSettings) -> Iterator[Finding]:
    """Look at one thing after the other; a look that fails is a finding, never an error."""
    from textmill.doctor import kubeflow, kubernetes, machine, object_store

    looks: list[Callable[[DoctorSettings], Iterator[Finding]]] = [
        lambda _: machine.examine(),
        lambda s: object_store.examine(s.store),
        lambda s: kubernetes.examine(s.namespace),
        kubeflow.examine,
    ]
    for look in looks:
        yield from look(settings)
