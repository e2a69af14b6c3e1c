"""Fast decoding of the recurrent family: one compiled loop that feeds, steps and samples a fixed number of slots.

A `Pool` holds the state of its slots. `run` takes the next tokens to feed in each slot (forced, as in a prompt) and a
uniform number for each token to be drawn, and returns what was fed or drawn with the model's log probability of it.
Slots are independent: each can start, read its prompt and draw at its own time (continuous batching).

The loop is compiled by XLA, once for each number of slots and each set of controls in use; weights are variables, so
that new weights need no new compilation.

A text must not depend on how many others are written beside it, but libraries sum a product's row in another order for
another number of rows. Measured with TensorFlow 2.21 on an x86 CPU: XLA's own code for one row goes through the inputs
in order; so does its library call for several rows when the matrix is stored transposed, its columns are whole vectors
and the inputs are not many more than a thousand. Stored as it is, the library cuts the sum at places of its choice.
Hence the two layouts, the padding, and LONGEST_SUM below. Nothing rests on this being so elsewhere: `_equal` compares
the bits of every slot, with the real weights, before a number of slots is used.

Knows nothing of tokenizers and text.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from textmill.devices import BFLOAT16_FEATURES, PRECISIONS, cpu_features, tensorflow
from textmill.errors import SettingsError
from textmill.models.rnn import RNNConfig, state_names
from textmill.sample import Controls, Floats, Variant, log_probability, next_token
from textmill.settings import unknown_name

log = logging.getLogger("textmill.models.rnn_decode")

Ids = npt.NDArray[np.int32]

CHUNK = 64  # most steps of one call: long enough to hide its cost, short enough to show progress
LARGEST = 32  # slots; above it the products are no more efficient
DEVICE = "/CPU:0"
VECTOR = 16  # floats; a product's columns are padded to whole vectors of any CPU
LONGEST_SUM = 1024  # inputs of one product: libraries cut longer sums in parts


def choose_precision(wanted: str) -> str:
    """Resolve "auto": bfloat16 products where the CPU has instructions for them, float32 elsewhere.

    By the CPU's features and not by a timing, so that the same seed gives the same text again.
    """
    if wanted not in PRECISIONS:
        raise SettingsError(unknown_name("precision", wanted, PRECISIONS))
    if wanted != "auto":
        return wanted
    return "bfloat16" if cpu_features() & BFLOAT16_FEATURES else "float32"


class RNNDecoder:
    """A model's weights, laid out for decoding, and its compiled loops.

    `banned` token ids are never drawn (they may be fed).
    """

    def __init__(
        self,
        config: RNNConfig,
        weights: Mapping[str, npt.NDArray[np.float32]],
        *,
        precision: str = "auto",
        banned: tuple[int, ...] = (),
    ) -> None:
        self.config = config
        self.precision = choose_precision(precision)
        self.banned = banned
        self._weights = weights
        self._variables: dict[str, Any] = {}
        self._matrices = _matrices(config, weights)
        self._loops: dict[tuple[int, Variant], Any] = {}
        self._safe: dict[int, int] = {}
        self._smallest = 1
        if not self._equal(LARGEST):
            self._smallest = 2
        log.debug("texts are independent of the batch from %d slots on", self._smallest)

    def load(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take other weights of the same configuration; nothing is compiled again."""
        self._weights, self._matrices = weights, _matrices(self.config, weights)
        for name, variable in self._variables.items():
            variable.assign(self._value(name))

    def pool(self, rows: int) -> Pool:
        """A pool of `rows` slots, or fewer: at most LARGEST, and where more would change a text's bits."""
        return Pool(self, self._slots_for(max(self._smallest, min(rows, LARGEST))))

    def describe(self) -> dict[str, Any]:
        """What computes, for the log line and the manifest."""
        return {"backend": "tensorflow-xla", "precision": self.precision, "device": "cpu"}

    # ------------------------------------------------------------------ weights

    def _read(self, name: str) -> Any:
        """The value of a variable, which is made when it is first asked for. A name ending in .T is transposed."""
        if name not in self._variables:
            tf = tensorflow()
            with tf.init_scope(), tf.device(DEVICE):
                self._variables[name] = tf.Variable(self._value(name), trainable=False)
        return self._variables[name].value()

    def _value(self, name: str) -> Any:
        if name == "rows":  # a one-hot layer's input rows carry its bias
            return self._weights["layer0/input_kernel"] + self._weights["layer0/bias"]
        matrix = self._matrices.get(name.removesuffix(".T"))
        if matrix is None:
            return self._weights[name]
        matrix = np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % VECTOR)])
        laid = np.ascontiguousarray(matrix.T if name.endswith(".T") else matrix)
        return laid if self.precision == "float32" else tensorflow().cast(laid, "bfloat16")

    def _names(self, slots: int) -> list[str]:
        """The variables that a step of so many slots reads."""
        config = self.config
        one_hot = config.embedding == "one_hot"
        biases = [f"layer{i}/bias" for i in range(one_hot, config.num_layers)]
        matrices = [f"{name}.T" if slots > 1 else name for name in self._matrices]
        return ["rows" if one_hot else "embedding", *biases, *matrices, "output/bias"]

    def _multiply(self, x: Any, name: str) -> Any:
        """x [S, K] times a weight matrix [K, N], summed in float32 -> [S, N]."""
        tf = tensorflow()
        several = x.shape[0] > 1
        matrix = self._read(f"{name}.T" if several else name)
        product = tf.matmul(tf.cast(x, matrix.dtype), matrix, transpose_b=several)
        return tf.cast(product, tf.float32)[:, : self._matrices[name].shape[1]]

    # ------------------------------------------------------------------ the model

    def _step(self, token: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """token [S], state in the order of `state_names` -> logits [S, V], state after it. Equations: models/rnn.py."""
        tf = tensorflow()
        config = self.config
        before = dict(zip(state_names(config), state, strict=True))
        after: dict[str, Any] = {}
        x = tf.gather(self._read("embedding"), token) if config.embedding == "learned" else None
        for i in range(config.num_layers):
            bias = self._read(f"layer{i}/bias") if x is not None else tf.gather(self._read("rows"), token)
            h = before[f"layer{i}/h"]
            if config.cell == "gru":
                x = self._gru(i, x, h, bias)
            else:
                after[f"layer{i}/c"], x = self._lstm(i, x, before[f"layer{i}/c"], h, bias)
            after[f"layer{i}/h"] = x
        logits = self._multiply(x, "output") + self._read("output/bias")
        return logits, tuple(after[name] for name in state_names(config))

    def _gru(self, i: int, x: Any, h: Any, bias: Any) -> Any:
        tf = tensorflow()
        width = 2 * self.config.hidden_size
        r, u = tf.split(tf.sigmoid(self._layer(x, h, f"gates{i}") + bias[..., :width]), 2, axis=-1)
        candidate = tf.tanh(self._layer(x, r * h, f"candidate{i}") + bias[..., width:])
        return u * h + (1.0 - u) * candidate

    def _lstm(self, i: int, x: Any, c: Any, h: Any, bias: Any) -> tuple[Any, Any]:
        tf = tensorflow()
        i_, j, f, o = tf.split(self._layer(x, h, f"gates{i}") + bias, 4, axis=-1)
        c = c * tf.sigmoid(f + self.config.forget_bias) + tf.sigmoid(i_) * tf.tanh(j)
        return c, tf.tanh(c) * tf.sigmoid(o)

    def _layer(self, x: Any, h: Any, name: str) -> Any:
        """The input x (None: looked up) and the state h [S, H] times their weights."""
        if x is None:
            return self._multiply(h, name)
        if name in self._matrices:
            return self._multiply(tensorflow().concat([x, h], axis=-1), name)
        return self._multiply(x, f"{name}/input") + self._multiply(h, f"{name}/state")

    # ------------------------------------------------------------------ the loop

    def _loop(self, slots: int, variant: Variant) -> Any:
        """The compiled loop for this number of slots and these controls."""
        if (slots, variant) not in self._loops:
            self._loops[slots, variant] = self._build(slots, variant)
        return self._loops[slots, variant]

    def _build(self, slots: int, variant: Variant) -> Any:
        tf = tensorflow()
        for name in self._names(slots):  # variables made while tracing would be traced for twice
            self._read(name)
        allowed = np.zeros(self.config.vocabulary_size, np.float32)
        allowed[list(self.banned)] = -np.inf

        def run(
            steps: Any, fresh: Any, token: Any, forced: Any, u: Any, controls: Any, seen: Any, state: Any
        ) -> Any:
            """`steps` of at most CHUNK steps; forced [CHUNK, S] holds ids to feed, or -1 where one is drawn."""
            keep = tf.where(fresh, 0.0, 1.0)[:, None]
            state = tuple(keep * part for part in state)
            seen = keep * seen

            def body(i: Any, token: Any, tokens: Any, scores: Any, seen: Any, state: Any) -> Any:
                if variant.penalised:
                    seen = tf.maximum(seen, tf.one_hot(token, self.config.vocabulary_size))
                logits, state = self._step(token, state)
                drawn = next_token(logits + allowed, u[i], controls, seen, variant)
                token = tf.where(forced[i] >= 0, forced[i], drawn)
                score = log_probability(logits, token)
                tokens = tf.tensor_scatter_nd_update(tokens, [[i]], token[None])
                scores = tf.tensor_scatter_nd_update(scores, [[i]], score[None])
                return i + 1, token, tokens, scores, seen, state

            start = (0, token, tf.zeros([CHUNK, slots], tf.int32), tf.zeros([CHUNK, slots]), seen, state)
            _, _, tokens, scores, seen, state = tf.while_loop(lambda i, *_: i < steps, body, start)
            return tokens, scores, seen, state

        return tf.function(run, jit_compile=True, autograph=False)

    # ------------------------------------------------------------------ which numbers of slots are safe

    def _slots_for(self, slots: int) -> int:
        """The largest number of slots up to `slots` at which a text has the same bits as in the smallest pool."""
        if slots not in self._safe:
            self._safe[slots] = next(size for size in _candidates(slots, self._smallest) if self._equal(size))
            if self._safe[slots] < slots:
                log.info("%d slots would change a text's bits here; using %d", slots, self._safe[slots])
        return self._safe[slots]

    def _equal(self, slots: int) -> bool:
        """Whether every slot of every product gives the bits that the smallest number of slots gives."""
        if slots == self._smallest:
            return True
        tf = tensorflow()
        names = list({matrix.shape: name for name, matrix in self._matrices.items()}.values())
        draw = np.random.default_rng(0)
        one = [draw.uniform(-1, 1, (1, len(self._matrices[name]))).astype(np.float32) for name in names]

        def products(*left: Any) -> Any:
            return [self._multiply(x, name) for x, name in zip(left, names, strict=True)]

        def compute(rows: int) -> list[Any]:
            left = [tf.constant(np.repeat(x, rows, axis=0)) for x in one]
            with tf.device(DEVICE):
                compiled = tf.function(products, jit_compile=True, autograph=False)
                return [out.numpy() for out in compiled.get_concrete_function(*left)(*left)]

        few, many = compute(self._smallest), compute(slots)
        return all((b == a[:1]).all() for a, b in zip(few, many, strict=True))


class Pool:
    """The state of a fixed number of slots."""

    def __init__(self, decoder: RNNDecoder, slots: int) -> None:
        self.decoder, self.slots = decoder, slots
        self._next = np.zeros(slots, np.int32)
        self._state: tuple[Any, ...] = tuple(
            np.zeros((slots, decoder.config.hidden_size), np.float32) for _ in state_names(decoder.config)
        )
        self._seen: Any = np.zeros((slots, 1), np.float32)
        self._forced = np.empty((CHUNK, slots), np.int32)
        self._u = np.empty((CHUNK, slots), np.float32)

    def run(
        self, fresh: npt.NDArray[np.bool_], first: Ids, forced: Ids, u: Floats, controls: Controls
    ) -> tuple[Ids, Floats]:
        """Go on by len(forced) <= CHUNK steps.

        fresh [S]: slots that start a new text, from a zero state, by feeding `first` [S]; the others feed the token
        they ended with. forced [N, S]: the token to come, or -1 to draw it with u [N, S].
        Returns the tokens [N, S] and the model's log probability of each, nats [N, S].
        """
        steps = len(forced)
        assert steps <= CHUNK, steps
        variant = controls.variant
        token = np.where(fresh, first, self._next).astype(np.int32)
        self._forced[:steps], self._u[:steps] = forced, u
        started = time.perf_counter()
        known = len(self.decoder._loops)
        settings = (controls.temperature, controls.top_k, controls.top_p, controls.penalty)
        with tensorflow().device(DEVICE):
            tokens, scores, self._seen, self._state = self.decoder._loop(self.slots, variant)(
                tensorflow().constant(steps),
                np.asarray(fresh, np.bool_),
                token,
                self._forced,
                self._u,
                settings,
                self._seen_for(variant),
                self._state,
            )
        if len(self.decoder._loops) > known:
            log.info("compiled for %d slots in %.1f s", self.slots, time.perf_counter() - started)
        tokens = tokens.numpy()[:steps]
        self._next = tokens[-1].copy()
        return tokens, scores.numpy()[:steps]

    def _seen_for(self, variant: Variant) -> Any:
        """Which tokens each slot's text holds; counted only while some slot is penalised."""
        width = self.decoder.config.vocabulary_size if variant.penalised else 1
        if self._seen.shape[1] != width:
            self._seen = np.zeros((self.slots, width), np.float32)
        return self._seen


def _matrices(
    config: RNNConfig, weights: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, npt.NDArray[np.float32]]:
    """The matrices [K, N] of the products: input and state of a layer as one where the sum is not too long."""
    made = {"output": weights["output/kernel"]}
    width = 2 * config.hidden_size
    for i in range(config.num_layers):
        kernel, recurrent = weights[f"layer{i}/input_kernel"], weights[f"layer{i}/recurrent_kernel"]
        parts = {f"gates{i}": slice(None)}
        if config.cell == "gru":
            parts = {f"gates{i}": slice(width), f"candidate{i}": slice(width, None)}
        for name, columns in parts.items():
            if i == 0 and config.embedding == "one_hot":
                made[name] = recurrent[:, columns]
            elif len(kernel) + len(recurrent) <= LONGEST_SUM:
                made[name] = np.concatenate([kernel[:, columns], recurrent[:, columns]])
            else:
                made[f"{name}/input"], made[f"{name}/state"] = kernel[:, columns], recurrent[:, columns]
    return made


def _candidates(slots: int, smallest: int) -> Iterator[int]:
    """Numbers of slots to try, best first."""
    yield slots
    size = LARGEST
    while size > smallest:
        if size < slots:
            yield size
        size //= 2
    yield smallest
