"""The optimizers of textmill.models.optimizers over dicts of JAX arrays: the same formulas, the same names of slots.

Everything here is traced into a compiled step; only `corrections` computes on the host, in float64, what TensorFlow's
engine computes in float64 on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from textmill import devices
from textmill.models.optimizers import Adam, get_optimizer

jax = devices.jax()
jnp = jax.numpy

Tensors = dict[str, Any]

STEP = "adam/step"  # the slot that counts updates


def zero_slots(optimizer: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The optimizer's slots of the named parameters, float32. Raises SettingsError for an unknown optimizer."""
    if not issubclass(get_optimizer(optimizer), Adam):
        return {}
    slots = {STEP: np.zeros((), np.float32)}
    for moment in ("m", "v"):
        slots |= {f"adam/{moment}/{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return slots


def corrections(updates: float) -> np.ndarray:
    """[2]: beta1 and beta2 to the power of the number of updates, this one counted."""
    return np.array([np.float64(beta) ** updates for beta in (Adam.beta1, Adam.beta2)], np.float32)


def clip_scale(gradients: Mapping[str, Any], max_norm: float) -> Any:
    """What to multiply every gradient with, so that their global norm is at most `max_norm` (0: no clipping)."""
    if not max_norm:
        return jnp.float32(1.0)
    norm = jnp.sqrt(sum(jnp.sum(gradient * gradient) for gradient in gradients.values()))
    return max_norm / jnp.maximum(norm, max_norm)


def update(
    parameters: Tensors,
    slots: Tensors,
    gradients: Mapping[str, Any],
    *,
    rate: Any,
    scale: Any,
    powers: Any,
    weight_decay: float,
) -> tuple[Tensors, Tensors]:
    """One update with gradient * scale: new parameters and slots. `powers` are `corrections`; without slots it is plain
    gradient descent. Matrices alone decay, by rate * weight_decay."""
    if not slots:
        return {name: value - rate * scale * gradients[name] for name, value in parameters.items()}, {}
    after, found = {}, {STEP: slots[STEP] + 1.0}
    corrected = rate * jnp.sqrt(1.0 - powers[1]) / (1.0 - powers[0])
    for name, value in parameters.items():
        gradient = gradients[name] * scale
        m, v = slots[f"adam/m/{name}"], slots[f"adam/v/{name}"]
        m = m + (gradient - m) * (1.0 - Adam.beta1)
        v = v + (gradient * gradient - v) * (1.0 - Adam.beta2)
        if weight_decay and value.ndim > 1:
            value = value - rate * weight_decay * value
        after[name] = value - corrected * m / (jnp.sqrt(v) + Adam.epsilon)
        found[f"adam/m/{name}"], found[f"adam/v/{name}"] = m, v
    return after, found
