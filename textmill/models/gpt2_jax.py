"""GPT-2's fast path on GPUs: a program that XLA compiles through JAX for training and scoring, equal to `gpt2.forward`.

The engine of gpt2_tensorflow with the same interface, the same names of slots and the same formulas, so a training may
go on in the other. Differences are how the machine is used:

- All devices of this machine learn from one batch, its rows divided among them; each holds all weights (data
  parallel), and gradients are summed over the devices once a step. This goes through jax.sharding and
  jax.shard_map, not keras.distribution: that one places Keras variables, and here weights are plain dicts of arrays, a
  mesh of one axis says all there is to say.
- Attention is jax.nn.dot_product_attention: cuDNN's flash attention on a GPU that has it, XLA's elsewhere.
- Only LOSS_ROWS rows have logits at one time; their gradient is made at once, so none are kept for the way back.
- Weights and slots are donated to the step: there are never two copies.

Products are made in `precision`; the residual stream, norms, losses, sums of gradients, weights and slots are float32.
XLA is told to be deterministic: the same steps give the same bits on one kind of device with the same number of them.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from textmill import devices
from textmill.errors import SettingsError
from textmill.models import optimizers_jax
from textmill.models.arrays import check_arrays
from textmill.models.gpt2 import LAYER_NORM_EPSILON, GPT2Config, init, init_adapters
from textmill.settings import unknown_name

jax = devices.jax()
jnp, lax = jax.numpy, jax.lax
PartitionSpec = jax.sharding.PartitionSpec

log = logging.getLogger("textmill.models.gpt2_jax")

Array = Any
Arrays = dict[str, np.ndarray]
Tensors = dict[str, Any]

TRAINED = ("all", "transformer_layers")
PADDING = 128  # the vocabulary is filled up to a multiple of this, as a GPU's matrix units like it
LOSS_ROWS = 2048  # rows of one device whose logits exist at one time
EVALUATED_TOKENS = 16384  # tokens of one device in one block of evaluate
NARROW = 256  # narrower models are exact unless asked otherwise
LORA_SCALE = 2.0  # alpha over rank, where no alpha is given
NEVER = -1e30  # a logit
AXIS = "rows"  # of the mesh of devices

# Without it XLA picks algorithms by timing them, and adds up in any order where that is faster.
COMPILER_OPTIONS = {"xla_gpu_deterministic_ops": True}


class GPT2Engine:
    """Trains and scores one GPT-2 on this machine's devices; holds its weights and optimizer slots."""

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
        accumulate: int = 1,
        weight_decay: float = 0.0,
        trained: str = "all",
        lora_rank: int = 0,
        lora_alpha: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """Fresh weights from `seed` and zero slots; the settings are those of gpt2_tensorflow.GPT2Engine.

        `precision` "auto" is bfloat16 on a GPU or TPU and float32 on a CPU, where XLA gains nothing from it. The rows
        of a batch must divide among the devices. Raises SettingsError for unknown names and what does not go together.
        """
        if trained not in TRAINED:
            raise SettingsError(unknown_name("trained", trained, TRAINED))
        if precision not in devices.PRECISIONS:
            raise SettingsError(unknown_name("precision", precision, devices.PRECISIONS))
        if weight_decay and optimizer != "adamw":
            raise SettingsError(
                f"setting 'weight_decay' is {weight_decay:g}: only optimizer adamw decays weights."
            )
        if num_steps > config.context:
            raise SettingsError(
                f"setting 'num_steps' is {num_steps}; the model's context is {config.context}."
            )
        devices.leave_gpus_to_jax()
        self.devices = jax.local_devices()
        if batch_size % len(self.devices):
            raise SettingsError(
                f"setting 'batch_size' is {batch_size}; this machine has {len(self.devices)} devices, and each takes "
                f"the same number of rows: choose a multiple of {len(self.devices)}, or show the training fewer "
                "devices (CUDA_VISIBLE_DEVICES)."
            )
        self.config, self.batch_size, self.num_steps = config, batch_size, num_steps
        self.max_grad_norm, self.seed, self.accumulate = max_grad_norm, seed, accumulate
        self.checkpointing, self.lora_rank, self.weight_decay = checkpointing, lora_rank, weight_decay
        self.lora_scale = lora_alpha / lora_rank if lora_rank and lora_alpha else LORA_SCALE
        self.precision = _choose_precision(precision, config)
        self.dtype = jnp.dtype(self.precision)
        self.padded = -(-config.vocabulary_size // PADDING) * PADDING
        mesh = jax.sharding.Mesh(np.array(self.devices), (AXIS,))
        self.mesh, self.everywhere = mesh, jax.sharding.NamedSharding(mesh, PartitionSpec())
        weights, adapters = init(config, seed), init_adapters(config, lora_rank, seed)
        self._names = {"weights": list(weights), "adapters": list(adapters)}
        learned = adapters or {
            name: value for name, value in weights.items() if trained == "all" or name.startswith("h")
        }
        shapes = {name: np.shape(self._padded(name, value)) for name, value in learned.items()}
        slots = optimizers_jax.zero_slots(optimizer, shapes)
        everything = self._placed({**weights, **adapters})
        self.trained = {name: everything.pop(name) for name in learned}
        self.frozen = everything
        self.slots = self._placed(slots)
        self.updates = 0.0  # slot "adam/step", as the host knows it
        shape = (batch_size, num_steps, config.num_heads, config.head_size)
        self.attention = choose_attention(self.dtype, shape, mesh)
        self._score_functions: dict[tuple[int, ...], Any] = {}

    def _padded(self, name: str, value: np.ndarray) -> np.ndarray:
        """The vocabulary's rows filled up with zeros, which stay zero: nothing ever counts them."""
        if name.rpartition("/")[2] != "wte" or len(value) == self.padded:
            return value
        return np.pad(value, [(0, self.padded - len(value)), (0, 0)])

    def _stripped(self, name: str, value: Any) -> Any:
        return value[: self.config.vocabulary_size] if name.rpartition("/")[2] == "wte" else value

    def _placed(self, values: Mapping[str, np.ndarray]) -> Tensors:
        """Copies on every device."""
        return {
            name: jax.device_put(np.array(self._padded(name, value), np.float32), self.everywhere)
            for name, value in values.items()
        }

    # --- what is kept between runs ---

    def export(self) -> tuple[Arrays, Arrays, Arrays]:
        """Copies of weights and of optimizer slots (with LoRA's matrices), float32, by name; nothing is carried."""
        weights, slots = (
            {name: np.array(self._stripped(name, np.asarray(value))) for name, value in group.items()}
            for group in (self._weights(), self._all_slots())
        )
        return weights, slots, {}

    def _weights(self) -> Tensors:
        everything = {**self.frozen, **self.trained}
        return {name: everything[name] for name in self._names["weights"]}

    def _all_slots(self) -> Tensors:
        adapters = self.trained if self._names["adapters"] else {}
        return {**adapters, **self.slots}

    def merged(self) -> Arrays:
        """The weights with LoRA's products added in: what a checkpoint's model keeps."""
        weights, slots, _ = self.export()
        for name in self._names["adapters"]:
            if name.endswith("/a"):
                product = slots[name] @ slots[f"{name[:-1]}b"]
                weights[f"{name.removeprefix('lora/')[:-1]}w"] += np.float32(self.lora_scale) * product
        return weights

    def restore(
        self,
        weights: Mapping[str, np.ndarray],
        slots: Mapping[str, np.ndarray] | None = None,
        carried: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Take over what `export` gave; None leaves the slots as they are.

        Raises InputError, and changes nothing, when names or shapes are not this model's.
        """
        groups = (("weights", self._weights(), weights), ("optimizer slots", self._all_slots(), slots))
        for what, present, values in (*groups, ("state", {}, carried)):
            shapes = {name: self._stripped(name, value).shape for name, value in present.items()}
            check_arrays(what, shapes, values)
        for _, _, values in groups:
            for name, value in self._placed(values or {}).items():
                group = next(g for g in (self.trained, self.slots, self.frozen) if name in g)
                group[name] = value
        if optimizers_jax.STEP in self.slots:
            self.updates = float(self.slots[optimizers_jax.STEP])

    def zero_state(self, rows: int) -> Arrays:
        """Nothing: a transformer carries nothing from batch to batch."""
        return {}

    def reset_state(self) -> None:
        """Nothing to forget."""

    def roll_state(self, rows: int = -1) -> None:
        """Nothing to roll."""

    def describe(self) -> dict[str, Any]:
        """What does the work, for the log and the manifest."""
        first = self.devices[0]
        name = devices.cpu_name() if first.platform == "cpu" else first.device_kind
        return {
            "backend": f"jax {jax.__version__}",
            "device": f"{first.platform} ({name})",
            "devices": len(self.devices),
            "precision": self.precision,
            "attention": self.attention,
        }

    # --- work ---

    def train_step(
        self, x: np.ndarray, y: np.ndarray, *, step: int, learning_rate: float
    ) -> tuple[float, float]:
        """Learn from x, y [accumulate * B, T] int32; a y of -1 is not counted. `step` changes nothing: no dropout.

        Returns the loss, mean nats per counted token of all micro-batches, and the accuracy, before the update.
        """
        counted = max(int((np.asarray(y) >= 0).sum()), 1)
        divided = (self.accumulate, self.batch_size, self.num_steps)
        x, y = (np.asarray(a, np.int32).reshape(divided) for a in (x, y))
        self.updates += 1.0
        self.trained, self.slots, loss, right = self._train(
            self.trained,
            self.slots,
            self.frozen,
            x,
            y,
            np.float32(1.0 / counted),
            np.float32(learning_rate),
            optimizers_jax.corrections(self.updates),
        )
        return float(loss) / counted, int(right) / counted

    def evaluate(
        self, x: np.ndarray, y: np.ndarray, state: Mapping[str, np.ndarray] | None = None
    ) -> tuple[float, int, Arrays]:
        """Score x, y [R, T] of any number of rows, T at most the context; a y of -1 is not counted.

        Returns the sum of the losses in nats, the number of right predictions, and an empty state.
        """
        block = max(1, EVALUATED_TOKENS // x.shape[1]) * len(self.devices)
        loss, correct = 0.0, 0
        for first in range(0, len(x), block):
            part = [np.asarray(a[first : first + block], np.int32) for a in (x, y)]
            missing = -len(part[0]) % len(self.devices)
            part = [
                np.pad(a, [(0, missing), (0, 0)], constant_values=v)
                for a, v in zip(part, (0, -1), strict=True)
            ]
            lost, right = self._score(part[0].shape)({**self.frozen, **self.trained}, *part)
            loss += float(lost)
            correct += int(right)
        return loss, correct, {}

    # --- programs ---

    @functools.cached_property
    def _train(self) -> Any:
        return jax.jit(
            self._train_program,
            donate_argnums=(0, 1),
            out_shardings=self.everywhere,
            compiler_options=COMPILER_OPTIONS,
        )

    def _train_program(
        self,
        trained: Tensors,
        slots: Tensors,
        frozen: Tensors,
        x: Array,
        y: Array,
        scale: Array,
        rate: Array,
        powers: Array,
    ) -> tuple[Tensors, Tensors, Array, Array]:
        """x, y [accumulate, B, T] -> what is trained and its slots after the update, losses' sum, right predictions."""
        loss, right, gradients = self._on_all_devices(self._gradients, 2)(trained, frozen, x, y, scale)
        trained, slots = optimizers_jax.update(
            trained,
            slots,
            gradients,
            rate=rate,
            scale=optimizers_jax.clip_scale(gradients, self.max_grad_norm),
            powers=powers,
            weight_decay=self.weight_decay,
        )
        return trained, slots, loss, right

    def _score(self, shape: tuple[int, ...]) -> Any:
        """The compiled `_losses`, made once for each shape."""
        if shape not in self._score_functions:
            self._score_functions[shape] = jax.jit(
                self._on_all_devices(self._losses, 1), compiler_options=COMPILER_OPTIONS
            )
        return self._score_functions[shape]

    def _on_all_devices(self, function: Callable[..., Any], groups: int) -> Callable[..., Any]:
        """The function of `groups` dicts of weights, x, y, and perhaps more, each device with its rows; its results
        are summed over the devices."""
        everywhere = PartitionSpec()
        rows = PartitionSpec(AXIS) if groups == 1 else PartitionSpec(None, AXIS)

        def summed(*arguments: Any) -> Any:
            # products of float32 operands in float32, not in a GPU's shorter TF32
            with jax.default_matmul_precision("highest" if self.precision == "float32" else "default"):
                return lax.psum(function(*arguments), AXIS)

        def call(*arguments: Any) -> Any:
            specs = (everywhere,) * groups + (rows, rows) + (everywhere,) * (len(arguments) - groups - 2)
            return jax.shard_map(
                summed, mesh=self.mesh, in_specs=specs, out_specs=everywhere, check_vma=False
            )(*arguments)

        return call

    def _gradients(
        self, trained: Tensors, frozen: Tensors, x: Array, y: Array, scale: Array
    ) -> tuple[Any, ...]:
        """One device's x, y [accumulate, rows, T] -> losses' sum, right predictions, gradients of losses * scale."""

        def batch(x: Array, y: Array) -> tuple[Any, ...]:
            rows, back = jax.vjp(lambda some: self._forward({**frozen, **some}, x), trained)
            table = {**frozen, **trained}["wte"].astype(self.dtype)
            loss, right, d_rows, d_table = self._loss(
                rows, table, y.reshape(-1), scale, with_table="wte" in trained
            )
            (found,) = back(d_rows)
            if d_table is not None:
                found["wte"] = found["wte"] + d_table
            return loss, right, found

        if self.accumulate == 1:
            return batch(x[0], y[0])

        def add(sums: tuple[Any, ...], some: tuple[Array, Array]) -> tuple[tuple[Any, ...], None]:
            return jax.tree.map(jnp.add, sums, batch(*some)), None

        zero = (jnp.float32(0), jnp.int32(0), jax.tree.map(jnp.zeros_like, trained))
        return lax.scan(add, zero, (x, y))[0]

    def _losses(self, weights: Tensors, x: Array, y: Array) -> tuple[Array, Array]:
        """One device's x, y [rows, T] -> losses' sum, right predictions."""
        rows = self._forward(weights, x)
        table = weights["wte"].astype(self.dtype)
        return self._loss(rows, table, y.reshape(-1))[:2]

    # --- the model ---

    def _forward(self, weights: Tensors, tokens: Array) -> Array:
        """Tokens [B, T] -> rows behind the last norm [B*T, E]."""
        x = weights["wte"][tokens] + weights["wpe"][: tokens.shape[1]]
        run = jax.checkpoint(self._block) if self.checkpointing else self._block
        for i in range(self.config.num_layers):
            prefixes = {f"h{i}/": "", f"lora/h{i}/": "lora/"}
            block = {
                short + name.removeprefix(long): value
                for long, short in prefixes.items()
                for name, value in weights.items()
                if name.startswith(long)
            }
            x = run(block, x)
        rows = _normalized(x, weights["ln_f/g"], weights["ln_f/b"], self.dtype)
        return rows.reshape(-1, self.config.width)

    def _block(self, block: Tensors, x: Array) -> Array:
        """x [B, T, E] float32 -> the same behind the block."""
        shape = (*x.shape[:2], 3, self.config.num_heads, self.config.head_size)
        normed = _normalized(x, block["ln_1/g"], block["ln_1/b"], self.dtype)
        qkv = self._product(block, "attn/c_attn", normed).astype(jnp.float32) + block["attn/c_attn/b"]
        q, k, v = jnp.moveaxis(qkv.astype(self.dtype).reshape(shape), 2, 0)
        joined = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation=self.attention)
        y = self._product(block, "attn/c_proj", joined.reshape(x.shape))
        x = x + y.astype(jnp.float32) + block["attn/c_proj/b"]
        normed = _normalized(x, block["ln_2/g"], block["ln_2/b"], self.dtype)
        hidden = _gelu(self._product(block, "mlp/c_fc", normed), block["mlp/c_fc/b"])
        y = self._product(block, "mlp/c_proj", hidden)
        return x + y.astype(jnp.float32) + block["mlp/c_proj/b"]

    def _product(self, block: Tensors, name: str, x: Array) -> Array:
        """x [..., in] times a matrix, and times LoRA's two where there are any."""
        y = x @ block[f"{name}/w"].astype(self.dtype)
        if f"lora/{name}/a" in block:
            a, b = (block[f"lora/{name}/{part}"].astype(self.dtype) for part in "ab")
            y = y + ((x @ a) @ b) * self.dtype.type(self.lora_scale)
        return y

    def _loss(
        self,
        rows: Array,
        table: Array,
        labels: Array,
        scale: Array | None = None,
        *,
        with_table: bool = False,
    ) -> tuple[Array, Array, Array, Array]:
        """Rows [R, E], table [V, E], labels [R] -> losses' sum, right predictions; with `scale` also the gradients of
        losses * scale: of the rows, and with `with_table` of the table, float32. LOSS_ROWS at a time."""
        count, width = rows.shape
        chunk = min(LOSS_ROWS, count)
        missing = -count % chunk
        rows = jnp.pad(rows, [(0, missing), (0, 0)]).reshape(-1, chunk, width)
        labels = jnp.pad(labels, (0, missing), constant_values=-1).reshape(-1, chunk)
        column = jnp.arange(self.padded)

        def some(sums: tuple[Any, ...], part: tuple[Array, Array]) -> tuple[tuple[Any, ...], Array | None]:
            loss, right, d_table = sums
            rows, labels = part
            logits = lax.dot_general(
                rows, table, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
            )
            logits = jnp.where(column < self.config.vocabulary_size, logits, NEVER)
            counted = labels >= 0
            own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0]
            total = jax.nn.logsumexp(logits, axis=1)
            loss = loss + jnp.sum(jnp.where(counted, total - own, 0.0))
            right = right + jnp.sum(counted & (jnp.argmax(logits, axis=1) == labels), dtype=jnp.int32)
            if scale is None:
                return (loss, right, d_table), None
            label = column == labels[:, None]
            d_logits = (jnp.exp(logits - total[:, None]) - label) * jnp.where(counted, scale, 0.0)[:, None]
            d_logits = d_logits.astype(self.dtype)
            if with_table:
                d_table = d_table + lax.dot_general(
                    d_logits, rows, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
                )
            return (loss, right, d_table), d_logits @ table

        zero = jnp.zeros(table.shape, jnp.float32) if with_table else None
        (loss, right, d_table), d_rows = lax.scan(some, (jnp.float32(0), jnp.int32(0), zero), (rows, labels))
        if d_rows is not None:
            d_rows = d_rows.reshape(-1, width)[:count]
        return loss, right, d_rows, d_table


# Both keep their operand alone for the way back and compute the rest again, which costs less than reading it.


@functools.partial(jax.checkpoint, static_argnums=3)
def _normalized(x: Array, gain: Array, shift: Array, dtype: Any) -> Array:
    """Layer norm of [..., E] float32, in the products' precision."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return (centred * lax.rsqrt(variance + LAYER_NORM_EPSILON) * gain + shift).astype(dtype)


@jax.checkpoint
def _gelu(x: Array, bias: Array) -> Array:
    """GELU (tanh approximation) of x + bias."""
    return jax.nn.gelu(x.astype(jnp.float32) + bias, approximate=True).astype(x.dtype)


def _choose_precision(wanted: str, config: GPT2Config) -> str:
    if wanted != "auto":
        return wanted
    return "bfloat16" if devices.jax_platform() != "cpu" and config.width >= NARROW else "float32"


def choose_attention(dtype: Any, shape: tuple[int, ...], mesh: Any) -> str:
    """How jax.nn.dot_product_attention computes [B, T, heads, head_size], B divided among the mesh's devices: "cudnn"
    where a GPU's cuDNN compiles it for these sizes (it takes bfloat16 alone), else "xla"."""
    if devices.jax_platform() != "gpu" or dtype != jnp.bfloat16:
        return "xla"

    def total(q: Array) -> Array:
        joined = jax.nn.dot_product_attention(q, q, q, is_causal=True, implementation="cudnn")
        return jnp.sum(joined, dtype=jnp.float32)

    rows = PartitionSpec(AXIS)
    program = jax.shard_map(jax.grad(total), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
    try:
        q = jax.ShapeDtypeStruct(shape, dtype)
        jax.jit(program, compiler_options=COMPILER_OPTIONS).lower(q).compile()
    except Exception as error:  # what it cannot do is told by many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.info("attention without cuDNN: %s", reason[:160])
        return "xla"
    return "cudnn"
