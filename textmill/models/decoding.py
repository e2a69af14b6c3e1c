"""What the decoders of all families share."""

from __future__ import annotations

from textmill import devices
from textmill.devices import BFLOAT16_FEATURES, INT8, PRECISIONS, cpu_features
from textmill.errors import SettingsError
from textmill.settings import unknown_name

LARGEST = 32  # slots of a pool; above, the products are no more efficient


def choose_precision(wanted: str, *, quantizes: bool = False) -> str:
    """Resolve "auto": bfloat16 products on a GPU and on a CPU that has instructions for them, float32 elsewhere.

    By what the processor has and not by a timing, so that the same seed gives the same text again. "int8" is for
    decoders that can quantize their matrices. Raises SettingsError.
    """
    if wanted == INT8:
        if quantizes:
            return wanted
        raise SettingsError("setting 'precision' is 'int8', which is for GPT-2 on a CPU; choose auto.")
    if wanted not in PRECISIONS:
        raise SettingsError(unknown_name("precision", wanted, PRECISIONS))
    if wanted != "auto":
        return wanted
    has = devices.jax_platform() != "cpu" or cpu_features() & BFLOAT16_FEATURES
    return "bfloat16" if has else "float32"
