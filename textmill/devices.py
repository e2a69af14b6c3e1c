"""What the machine offers and how it is used: cores, CPU features, threads, precision. Nothing here knows a model.

Threads and allocator have to be set before TensorFlow runs its first operation; a process that is already running
TensorFlow keeps what it has, and results stay right, only speed may differ.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import platform
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from textmill.errors import MachineError, SettingsError
from textmill.settings import unknown_name

log = logging.getLogger("textmill.devices")

PRECISIONS = ("auto", "float32", "bfloat16")
INT8 = "int8"
WRITING_PRECISIONS = (*PRECISIONS, INT8)  # of a model that is trained
BACKENDS = ("auto", "tensorflow", "jax")

# CPUs without one of these emulate bfloat16 products, several times slower than float32.
BFLOAT16_FEATURES = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})

NARROW = 128  # products of less are over too soon to be told apart
BFLOAT16_WORTH_IT = 1.25  # how much faster its products have to be to pay for the casts around them


def tensorflow() -> Any:
    """The tensorflow module, loaded quietly. Raises MachineError where it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors come as exceptions too
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # by itself only on CPUs with AVX512-VNNI or AMX
    try:
        with _quiet_start():
            import tensorflow as tf

            tf.config.list_physical_devices()  # looks for a GPU driver, and complains where there is none
    except ImportError as error:
        raise MachineError(
            "TensorFlow is not installed here; install it with: pip install 'textmill[train]'."
        ) from error
    return tf


def jax() -> Any:
    """The jax module, told how many cores this process may use. Raises MachineError where it is not installed."""
    os.environ.setdefault("PJRT_NPROC", str(available_cores()))  # it would count the machine's
    logging.getLogger("jax._src.xla_bridge").setLevel(
        logging.WARNING
    )  # tells of each kind of device that is not there
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it would set 1, for TensorFlow too
    try:
        import jax
    except ImportError as error:
        raise MachineError(
            "JAX is not installed here; install it with: pip install 'textmill[train]'."
        ) from error
    return jax


# What Linux shows of NVIDIA's, AMD's and Google's devices, and of a GPU under Windows.
ACCELERATORS = ("nvidia[0-9]*", "kfd", "accel*", "vfio", "dxg")


def jax_platform(folder: Path = Path("/dev")) -> str:
    """Where JAX computes: "cpu", "gpu" or "tpu". JAX takes a second to load: only where the system shows a device."""
    if not any(next(folder.glob(name), None) for name in ACCELERATORS):
        return "cpu"
    return str(jax().default_backend())


def sees_accelerator(folder: Path = Path("/dev")) -> bool:
    """Whether JAX computes on a GPU or TPU here."""
    return jax_platform(folder) != "cpu"


def choose_backend(wanted: str, there: Collection[str], model: str) -> str:
    """What `model` trains with, of the backends that have an engine for it: with "auto" JAX where it sees a GPU or TPU,
    else TensorFlow. Raises SettingsError for one that has none."""
    if wanted not in BACKENDS:
        raise SettingsError(unknown_name("backend", wanted, BACKENDS))
    if wanted == "auto":
        return "jax" if "jax" in there and sees_accelerator() else "tensorflow"
    if wanted not in there:
        raise SettingsError(f"setting 'backend' is {wanted}; {model} trains with {' or '.join(there)}.")
    return wanted


def leave_gpus_to_jax() -> None:
    """Keep TensorFlow, which writes checkpoints and would take a GPU's whole memory for that, on the CPU."""
    try:
        tensorflow().config.set_visible_devices([], "GPU")
    except RuntimeError:
        log.debug("TensorFlow is already running; it keeps the GPUs it has")


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes to stderr while it is loaded (no log level reaches that); show it
    if the import fails."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@functools.cache
def cpu_features() -> frozenset[str]:
    """The CPU's feature flags as Linux names them; empty where they cannot be read."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


@functools.cache
def cpu_name() -> str:
    """The CPU's model name, or the architecture where it is not told."""
    for line in _cpuinfo():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def available_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores this process may use: its affinity, and a container's CPU limit rounded up."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return cores


def configure_threads(streams: int, threads: int, side_by_side: int = 1) -> bool:
    """Have `streams` operations run side by side with threads/streams threads each; True if it took effect.

    `side_by_side` is the least number of operations that may run at one time, also where they share threads.

    Does nothing, and says so at debug level, when TensorFlow is already running in this process.
    """
    tf = tensorflow()
    within = max(1, threads // streams)
    wanted = (within, max(streams, side_by_side))
    set_now = (
        tf.config.threading.get_intra_op_parallelism_threads(),
        tf.config.threading.get_inter_op_parallelism_threads(),
    )
    if set_now == wanted:
        return True
    try:
        tf.config.threading.set_intra_op_parallelism_threads(within)
        tf.config.threading.set_inter_op_parallelism_threads(wanted[1])
    except RuntimeError:
        log.debug("TensorFlow is already running with threads %s; %s was wanted", set_now, wanted)
        return False
    return True


def choose_precision(wanted: str, rows: int, width: int) -> str:
    """Resolve "auto" to float32 or bfloat16 for products of [rows, width] x [width, width].

    float32 where the CPU has no bfloat16 instructions; elsewhere what a test of a few tenths of a second finds faster.
    A run that is to be resumed bit for bit should be given the precision that this returned at its start.
    """
    if wanted not in PRECISIONS:
        raise SettingsError(unknown_name("precision", wanted, PRECISIONS))
    if wanted != "auto":
        return wanted
    if not cpu_features() & BFLOAT16_FEATURES or width < NARROW:
        return "float32"
    return "bfloat16" if _bfloat16_gain(rows, width) >= BFLOAT16_WORTH_IT else "float32"


@functools.cache
def _bfloat16_gain(rows: int, width: int) -> float:
    """How many times faster a product is in bfloat16, casts of one operand included; best of a few rounds."""
    tf = tensorflow()

    @tf.function
    def product(left: Any, right: Any) -> Any:
        return tf.cast(tf.matmul(tf.cast(left, right.dtype), right), tf.float32)

    left, right = tf.ones([rows, width]), tf.ones([width, width])
    best = {dtype: _best_seconds(product, left, tf.cast(right, dtype)) for dtype in ("float32", "bfloat16")}
    return best["float32"] / best["bfloat16"]


def _best_seconds(function: Any, *arguments: Any, rounds: int = 10) -> float:
    function(*arguments)
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        function(*arguments).numpy()
        best = min(best, time.perf_counter() - start)
    return best
