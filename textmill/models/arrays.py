"""Arrays by name, as engines export and restore them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from textmill.errors import InputError


def check_arrays(
    what: str, shapes: Mapping[str, Sequence[int]], values: Mapping[str, np.ndarray] | None
) -> None:
    """Raises InputError when names or shapes of `values` are others than `shapes` (None: nothing to check)."""
    if values is None:
        return
    if set(values) != set(shapes):
        odd = sorted(set(values) ^ set(shapes))
        raise InputError(f"these {what} are not of this model: {', '.join(odd[:5])} missing or unknown.")
    for name, value in values.items():
        if tuple(value.shape) != tuple(shapes[name]):
            raise InputError(
                f"these {what} are not of this model: {name} has shape {tuple(value.shape)}, "
                f"not {tuple(shapes[name])}."
            )
