"""The recurrent models' fast path on a CPU: a TensorFlow graph for training and scoring, equal to `rnn.forward`.

What makes it fast (figures in benchmarks/README.md): the input products of all time steps are one product; the steps
are unrolled; a layer's backward pass is written by hand, so that weight gradients are one large product at the end and
nothing is accumulated step by step; the exact softmax, its loss and its gradient share one array; and the batch is
split in streams that run side by side, one core each.

Inside, arrays are time-major and flat: [T*B, width], all rows of step 0 first. Every operation that is used gives the
same bits in every run, so a training that is exported, restored and continued cannot be told from one that never
stopped.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from textmill import devices
from textmill.models import optimizers
from textmill.models import rnn_layers as layers
from textmill.models.arrays import check_arrays
from textmill.models.rnn import RNNConfig, init, initial_state, state_names

tf = devices.tensorflow()

Tensor = Any
Arrays = dict[str, np.ndarray]


WIDEST_SPLIT = 1000  # hidden units from which one product keeps all cores busy, and streams only compete
EVALUATED_LOGITS = 1 << 24  # logits of one block of rows in evaluate


class RNNEngine:
    """Trains and scores one recurrent model on this machine; holds its weights, optimizer slots and hidden state."""

    def __init__(
        self,
        config: RNNConfig,
        *,
        batch_size: int,
        num_steps: int,
        optimizer: str = "adam",
        max_grad_norm: float = 0.0,
        seed: int = 0,
        precision: str = "auto",
        threads: int = 0,
    ) -> None:
        """Fresh weights from `seed`, zero slots and state.

        `optimizer` "adam" works on the mean loss per token (S3), "sgd" on the loss summed over time and averaged over
        the batch (S1). `max_grad_norm` 0 does not clip. `threads` 0 is every core this process may use. Raises
        SettingsError for an unknown optimizer or precision.
        """
        self.config, self.batch_size, self.num_steps = config, batch_size, num_steps
        self.max_grad_norm, self.seed = max_grad_norm, seed
        self.threads = threads or devices.available_cores()
        self.streams = count_streams(config, batch_size, self.threads)
        optimizer_class = optimizers.get_optimizer(optimizer)
        devices.configure_threads(self.streams, self.threads)
        self.precision = devices.choose_precision(precision, batch_size // self.streams, config.hidden_size)
        self.product = layers.product_in(self.precision)
        self.gradient_scale = 1.0 / (batch_size * num_steps if optimizer == "adam" else batch_size)
        self.weights = {name: tf.Variable(value) for name, value in init(config, seed).items()}
        self.state = {name: tf.Variable(value) for name, value in initial_state(config, batch_size).items()}
        self.optimizer = optimizer_class(self.weights)
        self._score_functions: dict[tuple[int, ...], Any] = {}

    # --- what is kept between runs ---

    def export(self) -> tuple[Arrays, Arrays, Arrays]:
        """Copies of weights, optimizer slots and hidden state, float32, by name."""
        weights, slots, state = (
            {name: np.array(variable.numpy()) for name, variable in group.items()}
            for group in (self.weights, self.optimizer.slots, self.state)
        )
        return weights, slots, state

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        slots: Mapping[str, np.ndarray] | None = None,
        state: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Take over what `export` gave; None leaves slots or state as they are.

        Raises InputError, and changes nothing, when names or shapes are not this model's.
        """
        groups = (
            ("weights", self.weights, weights),
            ("optimizer slots", self.optimizer.slots, slots),
            ("state", self.state, state),
        )
        for what, variables, values in groups:
            shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
            check_arrays(what, shapes, values)
        for _, variables, values in groups:
            for name, value in (values or {}).items():
                variables[name].assign(value)

    def zero_state(self, rows: int) -> Arrays:
        """Zero hidden state for `rows` rows."""
        return initial_state(self.config, rows)

    def reset_state(self) -> None:
        """Forget what was read: the training state becomes zero."""
        for variable in self.state.values():
            variable.assign(tf.zeros_like(variable))

    def roll_state(self, rows: int = -1) -> None:
        """Roll the training state by `rows` batch rows, as np.roll does; S3 carries it over epochs so."""
        for variable in self.state.values():
            variable.assign(tf.roll(variable, rows, axis=0))

    def describe(self) -> dict[str, Any]:
        """What does the work, for the log and the manifest."""
        return {
            "backend": f"tensorflow {tf.__version__}",
            "device": f"cpu ({devices.cpu_name()})",
            "precision": self.precision,
            "threads": self.threads,
            "streams": self.streams,
        }

    # --- work ---

    def train_step(
        self, x: np.ndarray, y: np.ndarray, *, step: int, learning_rate: float
    ) -> tuple[float, float]:
        """Learn from x, y [B, T] int32, starting from the hidden state and leaving it behind the last column.

        Dropout is a function of (seed, step). Returns the loss, mean nats per token, and the accuracy, before the
        update.
        """
        batch = (tf.constant(a, tf.int32) for a in (x, y))
        loss, accuracy = self._train(
            *batch, tf.constant(step, tf.int64), tf.constant(learning_rate, tf.float32)
        )
        return float(loss), float(accuracy)

    def predict(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Most likely tokens [B, T] int32 and each row's mean loss [B], from the current state; changes nothing."""
        state = {name: variable.read_value() for name, variable in self.state.items()}
        predictions, losses, _ = self._score_in_pieces(x, y, state)
        return predictions, losses.mean(axis=1, dtype=np.float32)

    def evaluate(
        self, x: np.ndarray, y: np.ndarray, state: Mapping[str, np.ndarray] | None = None
    ) -> tuple[float, int, Arrays]:
        """Score x, y [R, T] of any size, without dropout, from `state` (None: zero).

        Returns the sum of the losses in nats, the number of right predictions and the state behind the last column:
        pieces that are scored one after the other with it are one long sequence.
        """
        state = self.zero_state(len(x)) if state is None else dict(state)
        rows = max(1, EVALUATED_LOGITS // (min(self.num_steps, x.shape[1]) * self.config.vocabulary_size))
        loss, correct, after = 0.0, 0, []
        for first in range(0, len(x), rows):
            block = slice(first, first + rows)
            part = {name: value[block] for name, value in state.items()}
            predictions, losses, part = self._score_in_pieces(x[block], y[block], part)
            loss += float(losses.sum(dtype=np.float64))
            correct += int((predictions == y[block]).sum())
            after.append(part)
        joined = {name: np.concatenate([part[name] for part in after]) for name in state_names(self.config)}
        return loss, correct, joined

    def _score_in_pieces(
        self, x: np.ndarray, y: np.ndarray, state: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """Predictions and losses [R, T], num_steps columns at a time, so that few graphs are ever traced."""
        predictions, losses, now = [], [], dict(state)
        for first in range(0, x.shape[1], self.num_steps):
            columns = slice(first, first + self.num_steps)
            xs, ys = (np.ascontiguousarray(a[:, columns], dtype=np.int32) for a in (x, y))
            predicted, lost, now = self._score(xs, ys, now)
            predictions.append(predicted.numpy())
            losses.append(lost.numpy())
        after = {name: np.asarray(value) for name, value in now.items()}
        return np.concatenate(predictions, axis=1), np.concatenate(losses, axis=1), after

    @functools.cached_property
    def _train(self) -> Any:
        batch = tf.TensorSpec([self.batch_size, self.num_steps], tf.int32)
        return tf.function(self._train_graph, autograph=False).get_concrete_function(
            batch, batch, tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)
        )

    def _score(
        self, x: np.ndarray, y: np.ndarray, state: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """`_score_graph`, traced once for each shape."""
        if x.shape not in self._score_functions:
            batch = tf.TensorSpec(x.shape, tf.int32)
            width = tf.TensorSpec([len(x), self.config.hidden_size], tf.float32)
            self._score_functions[x.shape] = tf.function(
                self._score_graph, autograph=False
            ).get_concrete_function(batch, batch, *(width for _ in state_names(self.config)))
        values = [tf.convert_to_tensor(state[name]) for name in state_names(self.config)]
        predictions, losses, *after = self._score_functions[x.shape](tf.constant(x), tf.constant(y), *values)
        return predictions, losses, dict(zip(state_names(self.config), after, strict=True))

    # --- graphs ---

    def dropout_masks(self, step: Tensor) -> list[Tensor] | None:
        """Masks [T, B, H] (first [T, B, 1] for one-hot), 0 or 1/keep_prob: a function of (seed, step, place)."""
        keep = self.config.keep_prob
        if keep >= 1.0:
            return None
        masks = []
        for place in range(self.config.num_layers + 1):
            one_hot = place == 0 and self.config.embedding == "one_hot"
            shape = [self.num_steps, self.batch_size, 1 if one_hot else self.config.hidden_size]
            key = tf.stack(
                [tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64) * 64 + place]
            )  # at most 16 layers
            kept = tf.random.stateless_uniform(shape, key) < keep
            masks.append(tf.cast(kept, tf.float32) / keep)
        return masks

    def _train_graph(
        self, x: Tensor, y: Tensor, step: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, Tensor]:
        loss, accuracy, gradients, state = self.gradients(x, y, step)
        scale = optimizers.clip_scale(gradients, self.max_grad_norm)
        self.optimizer.apply(gradients, learning_rate, scale)
        for name, value in state.items():
            self.state[name].assign(value)
        return loss, accuracy

    def gradients(
        self, x: Tensor, y: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Loss, accuracy, gradients by name and the state behind x; graph code, before any update."""
        weights = {name: variable.read_value() for name, variable in self.weights.items()}
        state = {name: variable.read_value() for name, variable in self.state.items()}
        xs, ys = tf.transpose(x), tf.transpose(y)
        masks = self.dropout_masks(step)
        losses, correct, after = [], [], []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(weights.values()))
            for part in self._parts(self.batch_size):
                ids, labels = (tf.reshape(a[:, part], [-1]) for a in (xs, ys))
                part_state = {name: value[part] for name, value in state.items()}
                part_masks = None if masks is None else [mask[:, part] for mask in masks]
                h, ended = self._run_layers(weights, ids, part_state, part_masks, self.num_steps)
                lost, right = layers.softmax_loss(
                    self.product, h, weights["output/kernel"], weights["output/bias"], labels
                )
                losses.append(lost)
                correct.append(right)
                after.append(ended)
            target = tf.add_n([tf.reduce_sum(part) for part in losses]) * self.gradient_scale
        found = tape.gradient(target, weights)
        if "embedding" in found:
            found["embedding"] = _sum_repeated_rows(found["embedding"])
        state = {name: tf.concat([part[name] for part in after], axis=0) for name in state}
        accuracy = tf.reduce_mean(tf.cast(tf.concat(correct, axis=0), tf.float32))
        return tf.reduce_mean(tf.concat(losses, axis=0)), accuracy, found, state

    def _parts(self, rows: int) -> list[slice]:
        """The rows of each stream."""
        parts = np.array_split(np.arange(rows), min(self.streams, rows))
        return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]

    def _run_layers(
        self,
        weights: Mapping[str, Tensor],
        ids: Tensor,
        state: Mapping[str, Tensor],
        masks: list[Tensor] | None,
        steps: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Ids [T*B] through all layers -> outputs [T*B, H] and the state behind them."""
        one_hot = self.config.embedding == "one_hot"
        flat = None if masks is None else [tf.reshape(mask, [-1, mask.shape[-1]]) for mask in masks]
        x = ids if one_hot else tf.gather(weights["embedding"], ids)
        after: dict[str, Tensor] = {}
        for layer in range(self.config.num_layers):
            mask = None if flat is None else flat[layer]
            if mask is not None and not (one_hot and layer == 0):
                x = x * mask
            names = [name for name in state if name.startswith(f"layer{layer}/")]
            kernels = (weights[f"layer{layer}/{part}"] for part in ("input_kernel", "recurrent_kernel"))
            bias = weights[f"layer{layer}/bias"] + self._forget_bias()
            x, ended = layers.recurrent_layer(
                self.config.cell, self.product, steps, x, [state[n] for n in names], (*kernels, bias), mask
            )
            after.update(zip(names, ended, strict=True))
        return x if flat is None else x * flat[-1], after

    def _forget_bias(self) -> np.ndarray:
        """What is added to a layer's bias: an LSTM's forget bias, third of its gates."""
        bias = np.zeros([self.config.gates, self.config.hidden_size], np.float32)
        if self.config.cell == "lstm":
            bias[2] = self.config.forget_bias
        return bias.reshape(-1)

    def _score_graph(self, x: Tensor, y: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        """x, y [R, T] and the state's arrays -> predictions and losses [R, T], and the state behind them."""
        weights = {name: variable.read_value() for name, variable in self.weights.items()}
        found = []
        for part in self._parts(x.shape[0]):
            state = {name: value[part] for name, value in zip(state_names(self.config), values, strict=True)}
            found.append(self._score_part(weights, x[part], y[part], state))
        return tuple(tf.concat(pieces, axis=0) for pieces in zip(*found, strict=True))

    def _score_part(
        self, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, state: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        rows, steps = x.shape
        ids, labels = (tf.reshape(tf.transpose(a), [-1]) for a in (x, y))
        h, after = self._run_layers(weights, ids, state, None, steps)
        logits = self.product(h, weights["output/kernel"]) + weights["output/bias"]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predictions = tf.argmax(logits, axis=-1, output_type=tf.int32)
        flat = [tf.transpose(tf.reshape(a, [steps, rows])) for a in (predictions, losses)]
        return (*flat, *(after[name] for name in state_names(self.config)))


def count_streams(config: RNNConfig, batch_size: int, threads: int) -> int:
    """How many parts of the batch run side by side: a rule of sizes, so that every run takes the same."""
    return 2 if threads >= 2 and batch_size >= 2 and config.hidden_size < WIDEST_SPLIT else 1


def _sum_repeated_rows(gradient: Tensor) -> Tensor:
    """IndexedSlices in which every index stands once, so that its norm is the gradient's."""
    used, place = tf.unique(gradient.indices)
    return tf.IndexedSlices(tf.math.unsorted_segment_sum(gradient.values, place, tf.size(used)), used)
