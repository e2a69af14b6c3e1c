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
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from textmill import devices, optimizers
from textmill.errors import InputError
from textmill.models.rnn import RNNConfig, init, initial_state, state_names

tf = devices.tensorflow()

Tensor = Any
Arrays = dict[str, np.ndarray]
Product = Callable[..., Tensor]

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
        self.product = product_in(self.precision)
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
            _check_arrays(what, variables, values)
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
        """Loss, accuracy, gradients by name and the state after x; in graph code, before any update."""
        sizes = [len(part) for part in np.array_split(np.arange(self.batch_size), self.streams)]
        weights = {name: variable.read_value() for name, variable in self.weights.items()}
        xs, ys = (tf.split(tf.transpose(a), sizes, axis=1) for a in (x, y))
        masks = self.dropout_masks(step)
        states = {name: tf.split(variable, sizes) for name, variable in self.state.items()}
        table_name = "embedding" if self.config.embedding == "learned" else "layer0/input_kernel"
        table = weights.pop(table_name)
        losses, correct, rows, after = [], [], [], []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(weights.values()))
            for stream in range(self.streams):
                part_masks = None if masks is None else [tf.split(m, sizes, axis=1)[stream] for m in masks]
                state = {name: parts[stream] for name, parts in states.items()}
                looked_up = tf.gather(table, tf.reshape(xs[stream], [-1]))
                tape.watch(looked_up)
                h, state = self._run_layers(weights, looked_up, state, part_masks, self.num_steps)
                loss, right = softmax_loss(
                    self.product,
                    h,
                    weights["output/kernel"],
                    weights["output/bias"],
                    tf.reshape(ys[stream], [-1]),
                )
                losses.append(loss)
                correct.append(right)
                rows.append(looked_up)
                after.append(state)
            loss = tf.add_n([tf.reduce_sum(part) for part in losses])
            target = loss * self.gradient_scale
        found, row_gradients = tape.gradient(target, (weights, rows))
        ids = tf.concat([tf.reshape(part, [-1]) for part in xs], axis=0)
        found[table_name] = self._table_gradient(ids, tf.concat(row_gradients, axis=0))
        state = {name: tf.concat([part[name] for part in after], axis=0) for name in self.state}
        tokens = self.batch_size * self.num_steps
        accuracy = tf.add_n([tf.reduce_sum(tf.cast(part, tf.float32)) for part in correct]) / tokens
        return loss / tokens, accuracy, {name: found[name] for name in self.weights}, state

    def _table_gradient(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Gradient of a table of which `rows` were looked up at `ids`: repeated rows summed, so that norms are right."""
        if self.config.embedding == "one_hot":
            return tf.math.unsorted_segment_sum(rows, ids, self.config.vocabulary_size)
        used, place = tf.unique(ids)
        return tf.IndexedSlices(tf.math.unsorted_segment_sum(rows, place, tf.size(used)), used)

    def _run_layers(
        self,
        weights: Mapping[str, Tensor],
        looked_up: Tensor,
        state: Mapping[str, Tensor],
        masks: list[Tensor] | None,
        steps: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Looked-up rows [T*B, width] through all layers -> outputs [T*B, H] and the state behind them."""
        x, after = looked_up, {}
        for layer in range(self.config.num_layers):
            if masks is not None:
                x = x * tf.reshape(masks[layer], [-1, masks[layer].shape[-1]])
            if layer > 0 or self.config.embedding == "learned":
                x = self.product(x, weights[f"layer{layer}/input_kernel"])
            x, ended = self._run_layer(layer, weights, x, state, steps)
            after.update(ended)
        if masks is not None:
            x = x * tf.reshape(masks[-1], [-1, self.config.hidden_size])
        return x, after

    def _run_layer(
        self,
        layer: int,
        weights: Mapping[str, Tensor],
        projected: Tensor,
        state: Mapping[str, Tensor],
        steps: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        kernel, bias = weights[f"layer{layer}/recurrent_kernel"], weights[f"layer{layer}/bias"]
        h = state[f"layer{layer}/h"]
        if self.config.cell == "gru":
            outputs, h = gru_layer(self.product, steps, projected + bias, h, kernel)
            return outputs, {f"layer{layer}/h": h}
        c = state[f"layer{layer}/c"]
        forget = np.zeros(4 * self.config.hidden_size, np.float32)
        forget[2 * self.config.hidden_size : 3 * self.config.hidden_size] = self.config.forget_bias
        outputs, c, h = lstm_layer(self.product, steps, projected + (bias + forget), c, h, kernel)
        return outputs, {f"layer{layer}/c": c, f"layer{layer}/h": h}

    def _score_graph(self, x: Tensor, y: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        """x, y [R, T] and the state's arrays -> predictions and losses [R, T], and the state behind them."""
        steps = x.shape[1]
        state = dict(zip(state_names(self.config), values, strict=True))
        weights = {name: variable.read_value() for name, variable in self.weights.items()}
        table = weights["embedding" if self.config.embedding == "learned" else "layer0/input_kernel"]
        looked_up = tf.gather(table, tf.reshape(tf.transpose(x), [-1]))
        h, state = self._run_layers(weights, looked_up, state, None, steps)
        logits = self.product(h, weights["output/kernel"]) + weights["output/bias"]
        labels = tf.reshape(tf.transpose(y), [-1])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predictions = tf.argmax(logits, axis=-1, output_type=tf.int32)
        shape = [steps, tf.shape(x)[0]]
        found = [tf.transpose(tf.reshape(flat, shape)) for flat in (predictions, losses)]
        return (*found, *(state[name] for name in state_names(self.config)))


def count_streams(config: RNNConfig, batch_size: int, threads: int) -> int:
    """How many parts of the batch run side by side: a rule of sizes, so that every run takes the same."""
    return 2 if threads >= 2 and batch_size >= 2 and config.hidden_size < WIDEST_SPLIT else 1


def product_in(precision: str) -> Product:
    """tf.matmul with operands in this precision; results and everything else stay float32."""
    if precision == "float32":
        return tf.matmul

    def product(left: Tensor, right: Tensor, **transpositions: bool) -> Tensor:
        low = tf.matmul(tf.cast(left, tf.bfloat16), tf.cast(right, tf.bfloat16), **transpositions)
        return tf.cast(low, tf.float32)

    return product


def softmax_loss(
    product: Product, h: Tensor, kernel: Tensor, bias: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """h [N, H], labels [N] -> exact softmax losses [N] in nats and whether the label was the likeliest [N].

    One [N, V] array, exp(logits - their maximum), serves loss and gradient: the division by its sum is done to the
    narrow factors of the gradient's products.
    """

    @tf.custom_gradient
    def run(h: Tensor, kernel: Tensor, bias: Tensor) -> Any:
        logits = product(h, kernel) + bias
        peak = tf.reduce_max(logits, axis=1)
        chosen = tf.gather(logits, labels, axis=1, batch_dims=1)
        powers = tf.exp(logits - peak[:, None])
        total = tf.reduce_sum(powers, axis=1)

        def gradient(upstream: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            places = tf.stack([tf.range(tf.size(labels)), labels], axis=1)
            difference = tf.tensor_scatter_nd_sub(powers, places, total)  # (softmax - one_hot) * total
            weight = (upstream / total)[:, None]
            d_h = weight * product(difference, kernel, transpose_b=True)
            d_kernel = product(h * weight, difference, transpose_a=True)
            d_bias = tf.matmul(weight, difference, transpose_a=True)[0]
            return d_h, d_kernel, d_bias

        return (tf.math.log(total) + peak - chosen, chosen >= peak), gradient

    losses, correct = run(h, kernel, bias)
    return losses, correct


def gru_layer(
    product: Product, steps: int, projected: Tensor, h: Tensor, kernel: Tensor
) -> tuple[Tensor, Tensor]:
    """All steps of a GRU: projected [T*B, 3H] (x W + b), h [B, H], kernel [H, 3H] -> outputs [T*B, H], last h.

    The state that comes in and the one that goes out carry no gradient (truncated back-propagation).
    """

    @tf.custom_gradient
    def run(projected: Tensor, kernel: Tensor) -> Any:
        width = kernel.shape[0]
        gate_kernel, candidate_kernel = kernel[:, : 2 * width], kernel[:, 2 * width :]
        gate_inputs = tf.split(projected[:, : 2 * width], steps)
        candidate_inputs = tf.split(projected[:, 2 * width :], steps)
        before, resets, updates, gated, candidates = [h], [], [], [], []
        for t in range(steps):
            r, u = tf.split(tf.sigmoid(gate_inputs[t] + product(before[t], gate_kernel)), 2, axis=1)
            gated.append(r * before[t])
            candidates.append(tf.tanh(candidate_inputs[t] + product(gated[t], candidate_kernel)))
            resets.append(r)
            updates.append(u)
            before.append(candidates[t] + u * (before[t] - candidates[t]))
        outputs = tf.concat(before[1:], axis=0)

        def gradient(d_outputs: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            d_steps = tf.split(d_outputs, steps)
            d_gates, d_candidates = [None] * steps, [None] * steps
            d_h = None
            for t in reversed(range(steps)):
                d_h = d_steps[t] if d_h is None else d_steps[t] + d_h
                r, u, candidate, h_before = resets[t], updates[t], candidates[t], before[t]
                d_update = d_h * (h_before - candidate)
                d_kept = d_h * u
                d_candidates[t] = tf.raw_ops.TanhGrad(y=candidate, dy=d_h - d_kept)
                d_gated = product(d_candidates[t], candidate_kernel, transpose_b=True)
                d_ru = tf.concat([d_gated * h_before, d_update], axis=1)
                d_gates[t] = tf.raw_ops.SigmoidGrad(y=tf.concat([r, u], axis=1), dy=d_ru)
                d_h = d_kept + d_gated * r + product(d_gates[t], gate_kernel, transpose_b=True)
            all_gates, all_candidates = tf.concat(d_gates, axis=0), tf.concat(d_candidates, axis=0)
            d_gate_kernel = product(tf.concat(before[:-1], axis=0), all_gates, transpose_a=True)
            d_candidate_kernel = product(tf.concat(gated, axis=0), all_candidates, transpose_a=True)
            return (
                tf.concat([all_gates, all_candidates], axis=1),
                tf.concat([d_gate_kernel, d_candidate_kernel], axis=1),
            )

        return (outputs, before[-1]), gradient

    outputs, last = run(projected, kernel)
    return outputs, last


def lstm_layer(
    product: Product, steps: int, projected: Tensor, c: Tensor, h: Tensor, kernel: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of an LSTM: projected [T*B, 4H] (x W + b, forget bias in b), kernel [H, 4H] -> outputs, last c, last h.

    Truncated as in `gru_layer`.
    """

    @tf.custom_gradient
    def run(projected: Tensor, kernel: Tensor) -> Any:
        inputs = tf.split(projected, steps)
        hs, cs, gates = [h], [c], []
        for t in range(steps):
            i, j, f, o = tf.split(inputs[t] + product(hs[t], kernel), 4, axis=1)
            i, j, f, o = tf.sigmoid(i), tf.tanh(j), tf.sigmoid(f), tf.sigmoid(o)
            cs.append(cs[t] * f + i * j)
            squashed = tf.tanh(cs[t + 1])
            hs.append(squashed * o)
            gates.append((i, j, f, o, squashed))
        outputs = tf.concat(hs[1:], axis=0)

        def gradient(d_outputs: Tensor, _c: Tensor, _h: Tensor) -> tuple[Tensor, Tensor]:
            d_steps = tf.split(d_outputs, steps)
            d_inputs = [None] * steps
            d_h = d_c = None
            for t in reversed(range(steps)):
                i, j, f, o, squashed = gates[t]
                d_h = d_steps[t] if d_h is None else d_steps[t] + d_h
                through = tf.raw_ops.TanhGrad(y=squashed, dy=d_h * o)
                d_c = through if d_c is None else d_c + through
                d_inputs[t] = tf.concat(
                    [
                        tf.raw_ops.SigmoidGrad(y=i, dy=d_c * j),
                        tf.raw_ops.TanhGrad(y=j, dy=d_c * i),
                        tf.raw_ops.SigmoidGrad(y=f, dy=d_c * cs[t]),
                        tf.raw_ops.SigmoidGrad(y=o, dy=d_h * squashed),
                    ],
                    axis=1,
                )
                d_c = d_c * f
                d_h = product(d_inputs[t], kernel, transpose_b=True)
            d_projected = tf.concat(d_inputs, axis=0)
            d_kernel = product(tf.concat(hs[:-1], axis=0), d_projected, transpose_a=True)
            return d_projected, d_kernel

        return (outputs, cs[-1], hs[-1]), gradient

    outputs, last_c, last_h = run(projected, kernel)
    return outputs, last_c, last_h


def _check_arrays(what: str, variables: Mapping[str, Any], values: Mapping[str, np.ndarray] | None) -> None:
    if values is None:
        return
    if set(values) != set(variables):
        odd = sorted(set(values) ^ set(variables))
        raise InputError(f"these {what} are not of this model: {', '.join(odd[:5])} missing or unknown.")
    for name, value in values.items():
        if tuple(value.shape) != tuple(variables[name].shape):
            raise InputError(
                f"these {what} are not of this model: {name} has shape {tuple(value.shape)}, "
                f"not {tuple(variables[name].shape)}."
            )
