"""GPT-2's fast path on a CPU: a TensorFlow graph for training and scoring, equal to `gpt2.forward`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from textmill import devices
from textmill.errors import SettingsError
from textmill.models import gpt2_layers as layers
from textmill.models import optimizers
from textmill.models.arrays import check_arrays
from textmill.models.gpt2 import GPT2Config, init
from textmill.settings import unknown_name

tf = devices.tensorflow()

Tensor = Any
Arrays = dict[str, np.ndarray]

TRAINED = ("all", "transformer_layers")
LOSS_ROWS = 1024  # rows whose logits exist at one time
EVALUATED_TOKENS = 2048  # tokens of one block of rows in evaluate
NARROW = 256  # narrower models are exact unless asked otherwise: their time does not go into products
TESTED_ROWS, TESTED_WIDTH = 1024, 768  # of the product by which "auto" decides: so large that chance does not
LORA_SCALE = 2.0  # alpha over rank, where no alpha is given


class GPT2Engine:
    """Trains and scores one GPT-2 on this machine; holds its weights and optimizer slots."""

    def __init__(
        self,
        config: GPT2Config,
        *,
        batch_size: int,
        num_steps: int,
        optimizer: str = "adam",
        max_grad_norm: float = 0.0,
        seed: int = 0,
        precision: str = "auto",
        threads: int = 0,
        accumulate: int = 1,
        weight_decay: float = 0.0,
        trained: str = "all",
        lora_rank: int = 0,
        lora_alpha: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """Fresh weights from `seed` and zero slots.

        A step learns from `accumulate` micro-batches of `batch_size` rows of `num_steps` tokens. `max_grad_norm` 0
        does not clip. `weight_decay` (adamw) is for matrices alone. `trained` "transformer_layers" leaves embeddings
        and last norm as they are. `lora_rank` > 0 freezes all weights and trains two narrow matrices beside each of a
        block's four, whose product counts `lora_alpha` / rank times (alpha 0: twice the rank). `checkpointing` keeps
        only the blocks' inputs and computes the rest again on the way back. `threads` 0 is every core this process
        may use. Raises SettingsError for unknown names and for what does not go together.
        """
        optimizer_class = optimizers.get_optimizer(optimizer)
        if trained not in TRAINED:
            raise SettingsError(unknown_name("trained", trained, TRAINED))
        if weight_decay and optimizer != "adamw":
            raise SettingsError(
                f"setting 'weight_decay' is {weight_decay:g}: only optimizer adamw decays weights."
            )
        if num_steps > config.context:
            raise SettingsError(
                f"setting 'num_steps' is {num_steps}; the model's context is {config.context}."
            )
        self.config, self.batch_size, self.num_steps = config, batch_size, num_steps
        self.max_grad_norm, self.seed, self.accumulate = max_grad_norm, seed, accumulate
        self.checkpointing, self.lora_rank = checkpointing, lora_rank
        self.lora_scale = lora_alpha / lora_rank if lora_rank and lora_alpha else LORA_SCALE
        self.threads = threads or devices.available_cores()
        self.streams = count_streams(batch_size, self.threads)
        devices.configure_threads(self.streams, self.threads, side_by_side=min(2, self.threads))
        if precision == "auto" and config.width < NARROW:
            precision = "float32"
        self.precision = devices.choose_precision(precision, TESTED_ROWS, max(config.width, TESTED_WIDTH))
        self.dtype = tf.as_dtype(self.precision)
        self.padded = -(-config.vocabulary_size // layers.PADDING) * layers.PADDING
        self.weights = {
            name: tf.Variable(self._padded(name, value), trainable=False)
            for name, value in init(config, seed).items()
        }
        self.adapters = {
            name: tf.Variable(value, trainable=False) for name, value in self._fresh_adapters().items()
        }
        if lora_rank:
            self.trained = self.adapters
        else:
            inner = trained == "transformer_layers"
            self.trained = {n: v for n, v in self.weights.items() if not inner or n.startswith("h")}
        self.optimizer = optimizer_class(
            self.trained, **({"weight_decay": weight_decay} if weight_decay else {})
        )
        self.matrices = self._make_matrices()
        self.sums = (
            {name: tf.Variable(tf.zeros_like(v), trainable=False) for name, v in self.trained.items()}
            if accumulate > 1
            else {}
        )
        self._score_functions: dict[tuple[int, ...], Any] = {}

    def _padded(self, name: str, value: np.ndarray) -> np.ndarray:
        """The vocabulary's rows filled up with zeros, which stay zero: nothing ever counts them."""
        if name.rpartition("/")[2] != "wte":
            return value
        return np.pad(value, [(0, self.padded - len(value)), (0, 0)])

    def _stripped(self, name: str, value: np.ndarray) -> np.ndarray:
        return value[: self.config.vocabulary_size] if name.rpartition("/")[2] == "wte" else value

    def _fresh_adapters(self) -> Arrays:
        """LoRA's matrices a [in, rank], normal, and b [rank, out], zero, of each product of each block."""
        made = {}
        for index, name in enumerate(n for n in self.weights if self.lora_rank and n.endswith("/w")):
            inputs, outputs = self.weights[name].shape
            draw = np.random.default_rng([self.seed, 1 << 20, index])
            a = draw.standard_normal((inputs, self.lora_rank), dtype=np.float32) / np.sqrt(np.float32(inputs))
            made[f"lora/{name[:-2]}/a"] = a.astype(np.float32)
            made[f"lora/{name[:-2]}/b"] = np.zeros((self.lora_rank, outputs), np.float32)
        return made

    # --- what is kept between runs ---

    def export(self) -> tuple[Arrays, Arrays, Arrays]:
        """Copies of weights and of optimizer slots (with LoRA's matrices), float32, by name; nothing is carried."""
        weights, slots = (
            {name: np.array(self._stripped(name, variable.numpy())) for name, variable in group.items()}
            for group in (self.weights, self._slots())
        )
        return weights, slots, {}

    def _slots(self) -> dict[str, Any]:
        return {**self.adapters, **self.optimizer.slots}

    def merged(self) -> Arrays:
        """The weights with LoRA's products added in: what a checkpoint's model keeps."""
        if not self.lora_rank:
            return self.export()[0]
        return {name: np.array(self._stripped(name, self._effective(name).numpy())) for name in self.weights}

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        slots: Mapping[str, np.ndarray] | None = None,
        carried: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Take over what `export` gave; None leaves the slots as they are.

        Raises InputError, and changes nothing, when names or shapes are not this model's.
        """
        groups = (("weights", self.weights, weights), ("optimizer slots", self._slots(), slots))
        for what, variables, values in (*groups, ("state", {}, carried)):
            shapes = {name: self._stripped(name, v).shape for name, v in variables.items()}
            check_arrays(what, shapes, values)
        for _, variables, values in groups:
            for name, value in (values or {}).items():
                variables[name].assign(self._padded(name, value))
        self._refresh()

    def zero_state(self, rows: int) -> Arrays:
        """Nothing: a transformer carries nothing from batch to batch."""
        return {}

    def reset_state(self) -> None:
        """Nothing to forget."""

    def roll_state(self, rows: int = -1) -> None:
        """Nothing to roll."""

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
        """Learn from x, y [accumulate * B, T] int32; a y of -1 is not counted. `step` changes nothing: no dropout.

        Returns the loss, mean nats per counted token of all micro-batches, and the accuracy, before the update.
        """
        counted = max(int((np.asarray(y) >= 0).sum()), 1)
        scale, rate = tf.constant(1.0 / counted, tf.float32), tf.constant(learning_rate, tf.float32)
        batches = [
            [tf.constant(a[first : first + self.batch_size], tf.int32) for a in (x, y)]
            for first in range(0, len(x), self.batch_size)
        ]
        if self.accumulate == 1:
            found = [self._train(*batches[0], scale, rate)]
        else:
            self._clear()
            found = [self._add(*batch, scale) for batch in batches]
            self._apply(rate)
        return (
            sum(float(loss) for loss, _ in found) / counted,
            sum(int(right) for _, right in found) / counted,
        )

    def evaluate(
        self, x: np.ndarray, y: np.ndarray, state: Mapping[str, np.ndarray] | None = None
    ) -> tuple[float, int, Arrays]:
        """Score x, y [R, T] of any number of rows, T at most the context; a y of -1 is not counted.

        Returns the sum of the losses in nats, the number of right predictions, and an empty state.
        """
        rows = max(1, EVALUATED_TOKENS // x.shape[1])
        loss, correct = 0.0, 0
        for first in range(0, len(x), rows):
            block = [np.ascontiguousarray(a[first : first + rows], np.int32) for a in (x, y)]
            lost, right = self._score(*block)
            loss += float(lost)
            correct += int(right)
        return loss, correct, {}

    def _signature(self) -> list[Any]:
        batch = tf.TensorSpec([self.batch_size, self.num_steps], tf.int32)
        return [batch, batch, tf.TensorSpec([], tf.float32)]

    @functools.cached_property
    def _train(self) -> Any:
        return tf.function(self._train_graph, autograph=False).get_concrete_function(
            *self._signature(), tf.TensorSpec([], tf.float32)
        )

    @functools.cached_property
    def _add(self) -> Any:
        return tf.function(self._add_graph, autograph=False).get_concrete_function(*self._signature())

    @functools.cached_property
    def _clear(self) -> Any:
        return tf.function(self._clear_graph, autograph=False).get_concrete_function()

    @functools.cached_property
    def _apply(self) -> Any:
        return tf.function(self._apply_graph, autograph=False).get_concrete_function(
            tf.TensorSpec([], tf.float32)
        )

    def _score(self, x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
        """`_score_graph`, traced once for each shape."""
        if x.shape not in self._score_functions:
            batch = tf.TensorSpec(x.shape, tf.int32)
            self._score_functions[x.shape] = tf.function(
                self._score_graph, autograph=False
            ).get_concrete_function(batch, batch)
        return self._score_functions[x.shape](tf.constant(x), tf.constant(y))

    # --- weights as the products read them ---

    def _effective(self, name: str) -> Tensor:
        """A weight, with LoRA's product added."""
        weight = self.weights[name].read_value()
        key = f"lora/{name[:-2]}"
        if not name.endswith("/w") or f"{key}/a" not in self.adapters:
            return weight
        return weight + self.lora_scale * tf.matmul(self.adapters[f"{key}/a"], self.adapters[f"{key}/b"])

    def _make_matrices(self) -> dict[str, Any]:
        """Copies of the matrices of the products, where these read others than the weights: bfloat16, or LoRA."""
        if self.precision == "float32" and not self.lora_rank:
            return {}
        names = [name for name in self.weights if name == "wte" or name.endswith("/w")]
        return {
            name: tf.Variable(tf.cast(self._effective(name), self.dtype), trainable=False) for name in names
        }

    def _refresh(self, changed: Mapping[str, Any] | None = None) -> None:
        """Make the copies anew, of the given weights or of all."""
        for name, variable in self.matrices.items():
            if changed is None or name in changed:
                variable.assign(tf.cast(self._effective(name), self.dtype))

    def _read(self) -> dict[str, Tensor]:
        """All weights, the matrices as the products read them."""
        return {
            name: self.matrices.get(name, variable).read_value() for name, variable in self.weights.items()
        }

    # --- graphs ---

    def _train_graph(self, x: Tensor, y: Tensor, scale: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        loss, right, gradients = self.gradients(x, y, scale)
        self._update(gradients, rate)
        return loss, right

    def _clear_graph(self) -> None:
        for variable in self.sums.values():
            variable.assign(tf.zeros_like(variable))

    def _add_graph(self, x: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Adds in place, each gradient as soon as it is there, so that never all of them exist beside their sums."""
        loss, right, gradients = self.gradients(x, y, scale)
        for name, gradient in gradients.items():
            self.sums[name].assign_add(gradient)
        return loss, right

    def _apply_graph(self, rate: Tensor) -> None:
        self._update({name: variable.read_value() for name, variable in self.sums.items()}, rate)

    def _update(self, gradients: Mapping[str, Tensor], rate: Tensor) -> None:
        scale = optimizers.clip_scale(gradients, self.max_grad_norm)
        self.optimizer.apply(gradients, rate, scale)
        self._refresh(None if self.lora_rank else self.trained)

    def gradients(self, x: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The losses' sum, how many predictions are right, and the gradients of scale * the sum by name, float32."""
        weights = self._read()
        losses, right, gradients = zip(
            *(self._part_gradients(weights, x[part], y[part], scale) for part in self._parts(x.shape[0])),
            strict=True,
        )
        summed = {name: layers.total([found[name] for found in gradients]) for name in self.trained}
        return tf.add_n(losses), tf.add_n(right), summed

    def _parts(self, rows: int) -> list[slice]:
        """The rows of each stream."""
        parts = np.array_split(np.arange(rows), min(self.streams, rows))
        return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]

    def _part_gradients(
        self, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One stream's part of `gradients`, these in any precision."""
        found: dict[str, Tensor] = {}
        blocks, normed, norm = self._forward(weights, x, keep=True)
        loss, right, d_normed = self._loss_gradients(weights, normed, tf.reshape(y, [-1]), scale, found)
        d_x, d_low, d_gain, _ = layers.normalize_backward(
            d_normed, None, *norm, weights["ln_f/g"], weights["ln_f/b"]
        )
        self._learn_norm(found, "", "ln_f", d_gain, d_normed)
        for i in reversed(range(self.config.num_layers)):
            block = self._block(weights, i)
            saved: Any = blocks[i]
            if self.checkpointing:
                saved = self._again(block, saved, d_low)
            d_x, d_low = layers.block_backward(
                block,
                saved,
                d_x,
                d_low,
                functools.partial(self._learn_product, found, f"h{i}/"),
                functools.partial(self._learn_norm, found, f"h{i}/"),
            )
        self._learn_embeddings(found, x, d_x)
        return loss, right, found

    def _block(self, weights: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
        prefix = f"h{i}/"
        return {name.removeprefix(prefix): v for name, v in weights.items() if name.startswith(prefix)}

    def _forward(self, weights: Mapping[str, Tensor], tokens: Tensor, *, keep: bool) -> Any:
        """Tokens [B, T] -> what each block keeps, the normed rows [B*T, E], and the last norm's other outcomes."""
        rows, length = tokens.shape
        embedded = tf.gather(self.weights["wte"].read_value(), tokens) + weights["wpe"][:length]
        x, kept = tf.reshape(embedded, [rows * length, -1]), []
        y, bias = None, None
        for i in range(self.config.num_layers):
            block = self._block(weights, i)
            x, *norm = self._add_norm(x, y, bias, block["ln_1/g"], block["ln_1/b"])
            entered = x
            x, y, saved = layers.block_forward(block, x, norm, rows, self.config.num_heads)
            bias = block["mlp/c_proj/b"]
            if keep:
                kept.append((entered, rows) if self.checkpointing else saved)
        x, *norm = self._add_norm(x, y, bias, weights["ln_f/g"], weights["ln_f/b"])
        return kept, norm[2], norm[:2]

    def _add_norm(self, x: Tensor, y: Tensor, bias: Tensor, gain: Tensor, shift: Tensor) -> Any:
        if y is None:
            return x, *layers.normalize(x, gain, shift, self.dtype)
        return layers.add_and_normalize(x, y, bias, gain, shift, self.dtype)

    def _again(self, block: Mapping[str, Tensor], kept: tuple[Tensor, int], after: Tensor) -> Any:
        """A block's forward pass once more, not before `after` is there: the copy keeps TensorFlow from seeing that the
        results exist already."""
        entered, rows = kept
        with tf.control_dependencies([after]):
            x = tf.raw_ops.DeepCopy(x=entered)
        norm = layers.normalize(x, block["ln_1/g"], block["ln_1/b"], self.dtype)
        return layers.block_forward(block, x, norm, rows, self.config.num_heads)[2]

    def _loss_gradients(
        self,
        weights: Mapping[str, Tensor],
        normed: Tensor,
        labels: Tensor,
        scale: Tensor,
        found: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normed rows [R, E] -> loss, right predictions, gradient of the rows; the output matrix' is put into `found`.

        Only LOSS_ROWS rows have logits at one time.
        """
        losses, right, d_labels, d_matrix = [], [], [], None
        d_rows: list[Tensor] = []
        for part, rows, loss in self._losses(weights, normed, labels, d_rows):
            losses.append(tf.reduce_sum(loss.losses))
            right.append(tf.reduce_sum(tf.cast(loss.right, tf.int32)))
            weight = tf.where(labels[part] >= 0, scale, 0.0)[:, None]
            label_rows = tf.gather(weights["wte"], tf.maximum(labels[part], 0))
            towards = tf.matmul(loss.others, weights["wte"])
            d_rows.append(layers.loss_gradient(towards, label_rows, loss.rest, weight))
            if "wte" in self.trained:
                weighed, d_label = layers.weigh(rows, loss.rest, weight)
                d_labels.append(d_label)
                d_part = tf.matmul(loss.others, weighed, transpose_a=True)
                d_matrix = layers.total([d_part] if d_matrix is None else [d_matrix, d_part])
        if d_matrix is not None:
            found["wte"] = layers.add_rows(d_matrix, tf.maximum(labels, 0), tf.concat(d_labels, axis=0))
        return tf.add_n(losses), tf.add_n(right), tf.concat(d_rows, axis=0)

    def _losses(
        self, weights: Mapping[str, Tensor], normed: Tensor, labels: Tensor, done: list[Tensor]
    ) -> Iterator[tuple[slice, Tensor, layers.Loss]]:
        """Some rows at a time: their place, themselves and their loss. What the caller puts last into `done` is waited
        for before the next rows' logits are made."""
        for first in range(0, normed.shape[0], LOSS_ROWS):
            part = slice(first, first + LOSS_ROWS)
            with tf.control_dependencies(done[-1:]):
                rows = tf.identity(normed[part])
            logits = layers.output_logits(rows, weights["wte"], self.config.vocabulary_size)
            yield part, rows, layers.softmax_loss(logits, labels[part])

    def _learn_product(
        self, found: dict[str, Tensor], prefix: str, name: str, left: Tensor, right: Tensor
    ) -> None:
        """Gradients of a product's matrix and bias, or of LoRA's two matrices."""
        name = prefix + name
        if self.lora_rank:
            a, b = (tf.cast(self.adapters[f"lora/{name}/{part}"], self.dtype) for part in "ab")
            right = tf.cast(tf.cast(right, tf.float32) * self.lora_scale, self.dtype)
            narrow = tf.matmul(right, b, transpose_b=True)
            found[f"lora/{name}/a"] = tf.matmul(left, narrow, transpose_a=True)
            found[f"lora/{name}/b"] = tf.matmul(tf.matmul(left, a), right, transpose_a=True)
        elif f"{name}/w" in self.trained:
            found[f"{name}/w"] = tf.matmul(left, right, transpose_a=True)
            found[f"{name}/b"] = layers.sum_rows(right)

    def _learn_norm(
        self, found: dict[str, Tensor], prefix: str, name: str, for_gain: Tensor, for_shift: Tensor
    ) -> None:
        """Gradients of a norm's gain and shift."""
        if f"{prefix}{name}/g" in self.trained:
            found[f"{prefix}{name}/g"] = layers.sum_rows(for_gain)
            found[f"{prefix}{name}/b"] = layers.sum_rows(for_shift)

    def _learn_embeddings(self, found: dict[str, Tensor], tokens: Tensor, d_x: Tensor) -> None:
        if "wte" not in self.trained:
            return
        rows, length = tokens.shape
        found["wte"] = layers.add_rows(found["wte"], tf.reshape(tokens, [-1]), d_x)
        d_places = tf.reduce_sum(tf.reshape(d_x, [rows, length, -1]), axis=0)
        found["wpe"] = tf.pad(d_places, [[0, self.config.context - length], [0, 0]])

    def _score_graph(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """x, y [R, T] -> the losses' sum and the number of right predictions."""
        weights = self._read()
        losses, right = [], []
        for part in self._parts(x.shape[0]):
            _, normed, _ = self._forward(weights, x[part], keep=False)
            found: list[Tensor] = []
            for _, _, loss in self._losses(weights, normed, tf.reshape(y[part], [-1]), found):
                found.append(tf.reduce_sum(loss.losses))
                right.append(tf.reduce_sum(tf.cast(loss.right, tf.int32)))
            losses += found
        return tf.add_n(losses), tf.add_n(right)


def count_streams(batch_size: int, threads: int) -> int:
    """How many parts of a micro-batch run side by side: a rule of sizes, so that every run takes the same."""
    return 2 if threads >= 2 and batch_size >= 2 else 1
