"""Optimizers over TensorFlow variables, with TensorFlow 1's formulas, and the learning-rate schedule of S1.

Knows variables and gradients by name; knows no model. A gradient is a tensor, or tf.IndexedSlices without repeated
indices for a table of which few rows were used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textmill.devices import tensorflow
from textmill.errors import SettingsError
from textmill.settings import unknown_name

Gradients = Mapping[str, Any]


def decayed_learning_rate(learning_rate: float, decay: float, max_epoch: int, epoch: int) -> float:
    """S1's schedule: constant for the first `max_epoch` + 1 epochs (0-based `epoch`), then times `decay` each epoch."""
    return float(learning_rate * decay ** max(epoch - max_epoch, 0))


def global_norm(gradients: Gradients) -> Any:
    """Square root of the sum of all squares."""
    tf = tensorflow()
    squares = [2.0 * tf.nn.l2_loss(_dense_values(gradient)) for gradient in gradients.values()]
    return tf.sqrt(tf.add_n(squares))


def clip_scale(gradients: Gradients, max_norm: float) -> Any:
    """What to multiply every gradient with, so that their global norm is at most `max_norm` (0: no clipping)."""
    tf = tensorflow()
    if not max_norm:
        return 1.0
    return max_norm / tf.maximum(global_norm(gradients), max_norm)


def _scaled(gradient: Any, scale: Any) -> Any:
    """gradient * scale; no copy of the gradient where `clip_scale` gave the number 1."""
    return gradient if isinstance(scale, float) and scale == 1.0 else gradient * scale


def _dense_values(gradient: Any) -> Any:
    return gradient.values if hasattr(gradient, "values") else gradient


class SGD:
    """Plain gradient descent: variable -= learning_rate * gradient. Keeps nothing."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self.variables = variables
        self.slots: dict[str, Any] = {}

    def apply(self, gradients: Gradients, learning_rate: Any, scale: Any) -> None:
        """Subtract learning_rate * scale * gradient, in place; of a table only the rows that were used."""
        rate = learning_rate * scale
        raw = tensorflow().raw_ops
        for name, gradient in gradients.items():
            handle = self.variables[name].handle
            if hasattr(gradient, "indices"):
                raw.ResourceScatterSub(
                    resource=handle, indices=gradient.indices, updates=gradient.values * rate
                )
            else:
                raw.ResourceApplyGradientDescent(var=handle, alpha=rate, delta=gradient)


class Adam:
    """Adam as TensorFlow 1 computes it (epsilon outside the corrected root).

    rate = learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t); variable -= rate * m / (sqrt(v) + epsilon).
    Slots: "adam/m/<name>", "adam/v/<name>", and "adam/step", the number of updates t so far.
    """

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, variables: Mapping[str, Any]) -> None:
        tf = tensorflow()
        self.variables = variables
        self.slots = {"adam/step": tf.Variable(0.0, trainable=False)}
        for moment in ("m", "v"):
            for name, variable in variables.items():
                self.slots[f"adam/{moment}/{name}"] = tf.Variable(tf.zeros_like(variable), trainable=False)

    def apply(self, gradients: Gradients, learning_rate: Any, scale: Any) -> None:
        """One update with gradient * scale, in place. A table's unused rows move too, as their moments decay."""
        tf = tensorflow()
        step = tf.cast(self.slots["adam/step"].assign_add(1.0), tf.float64)
        power1, power2 = (tf.cast(beta**step, tf.float32) for beta in (self.beta1, self.beta2))
        for name, gradient in gradients.items():
            if hasattr(gradient, "indices"):
                gradient = tf.scatter_nd(
                    gradient.indices[:, None], gradient.values, self.variables[name].shape
                )
            tf.raw_ops.ResourceApplyAdam(
                var=self.variables[name].handle,
                m=self.slots[f"adam/m/{name}"].handle,
                v=self.slots[f"adam/v/{name}"].handle,
                beta1_power=power1,
                beta2_power=power2,
                lr=learning_rate,
                beta1=self.beta1,
                beta2=self.beta2,
                epsilon=self.epsilon,
                grad=_scaled(gradient, scale),
            )


class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv:1711.05101): matrices shrink by learning_rate * weight_decay a step."""

    def __init__(self, variables: Mapping[str, Any], weight_decay: float = 0.0) -> None:
        super().__init__(variables)
        self.weight_decay = weight_decay

    def apply(self, gradients: Gradients, learning_rate: Any, scale: Any) -> None:
        """The decay, then Adam's update."""
        raw = tensorflow().raw_ops
        for variable in self.variables.values():
            if self.weight_decay and len(variable.shape) > 1:
                raw.ResourceApplyGradientDescent(
                    var=variable.handle, alpha=learning_rate * self.weight_decay, delta=variable.read_value()
                )
        super().apply(gradients, learning_rate, scale)


OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def get_optimizer(name: str) -> type[SGD] | type[Adam]:
    """The optimizer's class. Raises SettingsError with what exists."""
    if name not in OPTIMIZERS:
        raise SettingsError(unknown_name("optimizer", name, OPTIMIZERS))
    return OPTIMIZERS[name]
