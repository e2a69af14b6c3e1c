"""What the decoders of all families share."""

from __future__ import annotations

from textmill import devices
from textmill.devices import BFLOAT16_FEATURES, PRECISIONS, cpu_features
from textmill.errors import SettingsError
from textmill.settings import unknown_name


def choose_precision(wanted: str) -> str:
    """Resolve "auto": bfloat16 products on a GPU and on a CPU that has instructions for them, float32 elsewhere.

    By what the processor has and not by a timing, so that the same seed gives the same text again.
    """
    if wanted not in PRECISIONS:
        raise SettingsError(unknown_name("precision", wanted, PRECISIONS))
    if wanted != "auto":
        return wanted
    has = devices.jax_platform() != "cpu" or cpu_features() & BFLOAT16_FEATURES
    return "bfloat16" if has else "float32"
