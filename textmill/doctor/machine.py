"""This machine: Python, packages, CPU, memory, disk, GPU."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from textmill import devices
from textmill.doctor.finding import NOTE, OK, WRONG, Finding
from textmill.errors import MachineError
from textmill.manifest import version_of

PYTHONS = ((3, 11), (3, 13))
EXTRAS = {  # what one of its packages is called, and what it is for
    "train": ("tensorflow", "training and generating"),
    "kfp": ("kfp", "running and submitting pipelines"),
    "report": ("jinja2", "reports"),
    "crawl": ("scrapy", "sites, wikis and feeds"),
    "social": ("atproto", "Mastodon, Bluesky and X"),
    "s3": ("boto3", "S3, MinIO, SeaweedFS"),
    "gcs": ("google-cloud-storage", "Google Cloud Storage"),
    "serve": ("starlette", "serving a model"),
}
LEAST_MEMORY = 3 << 30  # bytes: the quickstart takes about 1.2 GB
LEAST_DISK = 2 << 30
NVIDIA = Path("/proc/driver/nvidia/version")


def examine() -> Iterator[Finding]:
    """Findings on this machine."""
    yield _python()
    yield _packages()
    yield _backend()
    yield _cpu()
    yield _memory()
    yield _disk()
    yield _gpu()


def _python() -> Finding:
    found = platform.python_version()
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return Finding("Python", OK, f"{found} in {sys.prefix}.")
    first, last = (".".join(map(str, version)) for version in PYTHONS)
    return Finding("Python", WRONG, f"{found}.", f"use Python {first} to {last}")


def _packages() -> Finding:
    there, missing = [], []
    for extra, (package, purpose) in EXTRAS.items():
        try:
            there.append(f"{extra} ({package} {version_of(package)})")
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{extra} ({purpose})")
    text = f"{', '.join(there) or 'none'}."
    if not missing:
        return Finding("packages", OK, text)
    names = ",".join(extra.partition(" ")[0] for extra in missing)
    return Finding(
        "packages",
        NOTE,
        f"{text} Not installed: {', '.join(missing)}.",
        f"pip install 'textmill[{names}]' adds them",
    )


def _backend() -> Finding:
    """The libraries that train and generate load, and one product of matrices comes out right."""
    try:
        tf = devices.tensorflow()
        jax = devices.jax()
    except MachineError as error:
        return Finding("backend", NOTE, str(error))
    except Exception as error:  # a broken installation raises anything
        return Finding(
            "backend",
            WRONG,
            f"TensorFlow or JAX does not load ({type(error).__name__}: {error}).",
            "install them anew",
        )
    product = float(tf.linalg.matmul(tf.ones((2, 3)), tf.ones((3, 2)))[0, 0])
    if product != 3.0:
        return Finding(
            "backend", WRONG, f"a product came out as {product} instead of 3.", "install TensorFlow anew"
        )
    return Finding(
        "backend", OK, f"TensorFlow {tf.__version__}, JAX {jax.__version__} on {devices.jax_platform()}."
    )


def _cpu() -> Finding:
    cores, features = devices.available_cores(), devices.cpu_features()
    fast = sorted(features & (devices.BFLOAT16_FEATURES | {"avx2", "avx512f", "asimd"}))
    text = f"{devices.cpu_name()}, {cores} cores, {' '.join(fast) or 'no vector instructions known'}."
    if not features & devices.BFLOAT16_FEATURES:
        return Finding("CPU", NOTE, f"{text} It has no bfloat16 products: training runs in float32.")
    return Finding("CPU", OK, text)


def _memory() -> Finding:
    total, free = memory()
    text = f"{_size(free)} of {_size(total)} free."
    if free < LEAST_MEMORY:
        return Finding("memory", NOTE, text, "close something, or train a small model")
    return Finding("memory", OK, text)


def memory() -> tuple[int, int]:
    """This machine's memory, and what of it may be taken, in bytes; a container's limit counts."""
    from textmill.training.memory_plan import available

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total, min(total, available())


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{_size(free)} free here ({Path.cwd()})."
    if free < LEAST_DISK:
        return Finding("disk", WRONG, text, "make room: a GPT-2 checkpoint with its state takes 2 GB")
    return Finding("disk", OK, text)


def _gpu() -> Finding:
    seen = ""
    if shutil.which("nvidia-smi"):
        asked = [
            "nvidia-smi",
            "--query-gpu=name,memory.total,driver_version",
            "--format=csv,noheader",
        ]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
        seen = "; ".join(found.stdout.split("\n")).strip("; ")
    if not seen and not NVIDIA.exists():
        return Finding("GPU", NOTE, "none here; training runs on the CPU.")
    try:
        platform_name = devices.jax_platform()
    except MachineError as error:
        return Finding("GPU", WRONG, f"{seen or 'there is one'}. {error}")
    if platform_name != "gpu":
        return Finding(
            "GPU",
            WRONG,
            f"{seen or 'there is one'}, but JAX does not use it.",
            "pip install 'jax[cuda12]'",
        )
    return Finding("GPU", OK, f"{seen or 'there is one'}; JAX uses it.")


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
