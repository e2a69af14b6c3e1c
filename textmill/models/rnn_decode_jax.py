"""Fast decoding of the recurrent family on a GPU: one compiled loop that feeds, steps and samples all slots.

A `Pool` holds the state of its slots. `run` takes the next tokens to feed in each slot (forced, as in a prompt) and a
uniform number for each token to be drawn, and returns what was fed or drawn with the model's log probability of it.
Slots are independent: each can start, read its prompt and draw at its own time (continuous batching).

The loop is compiled by XLA through JAX, once for each number of slots and each set of controls in use; weights are its
arguments, so that new weights need no new compilation. It also runs on a CPU, where rnn_decode_cpu.py is faster.

A text's bits do not depend on the slots beside it: decoding_jax.py says how.

Knows nothing of tokenizers and text.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from textmill import devices
from textmill.models import decoding_jax
from textmill.models.decoding_jax import Arrays
from textmill.models.rnn import RNNConfig, state_names
from textmill.models.sample import (
    MOST_LIKELIEST,
    Controls,
    Floats,
    Likeliest,
    Variant,
    likeliest,
    log_probability,
    next_token,
)

jax = devices.jax()
jnp, lax, sigmoid = jax.numpy, jax.lax, jax.nn.sigmoid

log = logging.getLogger("textmill.models.rnn_decode_jax")

Ids = npt.NDArray[np.int32]

CHUNK = 64  # most steps of one call: long enough to hide its cost, short enough to show progress
VECTOR = 16  # floats; a product's columns are padded to whole vectors of any CPU
LONGEST_SUM = 1024  # inputs of one product: libraries cut longer sums in parts


class JaxDecoder(decoding_jax.JaxDecoder):
    """A recurrent model's."""

    config: RNNConfig

    def load(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take other weights of the same configuration; nothing is compiled again."""
        self._arrays = {name: jnp.asarray(value) for name, value in self._vectors(weights).items()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for name, matrix in _matrices(self.config, weights).items():
            self._shapes[name] = matrix.shape
            matrix = np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % VECTOR)])
            laid = matrix.T if self._by_column else matrix
            self._arrays[name] = jnp.asarray(np.ascontiguousarray(laid)).astype(self.precision)

    def _vectors(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        """What is added or looked up, kept in float32."""
        config = self.config
        one_hot = config.embedding == "one_hot"
        small = {f"layer{i}/bias": weights[f"layer{i}/bias"] for i in range(one_hot, config.num_layers)}
        small["output/bias"] = weights["output/bias"]
        if one_hot:  # its input rows carry the layer's bias
            return small | {"rows": weights["layer0/input_kernel"] + weights["layer0/bias"]}
        return small | {"embedding": weights["embedding"]}

    def pool(self, rows: int) -> Pool:
        """A pool of `rows` slots, within the bounds; fewer where more would change a text's bits."""
        return Pool(self, self._slots_for(rows))

    def _multiply(self, arrays: Arrays, x: Any, name: str) -> Any:
        """x [S, K] times a weight matrix [K, N], summed in float32 -> [S, N]."""
        matrix = arrays[name]
        sides = (((1,), (int(self._by_column),)), ((), ()))
        product = lax.dot_general(x.astype(matrix.dtype), matrix, sides, preferred_element_type=jnp.float32)
        return product[:, : self._shapes[name][1]]

    def _inputs(self) -> dict[str, int]:
        names = {shape: name for name, shape in self._shapes.items()}
        return {name: shape[0] for shape, name in names.items()}

    # ------------------------------------------------------------------ the model

    def _step(self, arrays: Arrays, token: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """token [S], state in the order of `state_names` -> logits [S, V], state after it. Equations: models/rnn.py."""
        config = self.config
        before = dict(zip(state_names(config), state, strict=True))
        after: dict[str, Any] = {}
        x = arrays["embedding"][token] if config.embedding == "learned" else None
        for i in range(config.num_layers):
            bias = arrays[f"layer{i}/bias"] if x is not None else arrays["rows"][token]
            h = before[f"layer{i}/h"]
            if config.cell == "gru":
                x = self._gru(arrays, i, x, h, bias)
            else:
                after[f"layer{i}/c"], x = self._lstm(arrays, i, x, before[f"layer{i}/c"], h, bias)
            after[f"layer{i}/h"] = x
        logits = self._multiply(arrays, x, "output") + arrays["output/bias"]
        return logits, tuple(after[name] for name in state_names(config))

    def _gru(self, arrays: Arrays, i: int, x: Any, h: Any, bias: Any) -> Any:
        width = 2 * self.config.hidden_size
        r, u = jnp.split(sigmoid(self._layer(arrays, x, h, f"gates{i}") + bias[..., :width]), 2, axis=-1)
        candidate = jnp.tanh(self._layer(arrays, x, r * h, f"candidate{i}") + bias[..., width:])
        return u * h + (1.0 - u) * candidate

    def _lstm(self, arrays: Arrays, i: int, x: Any, c: Any, h: Any, bias: Any) -> tuple[Any, Any]:
        i_, j, f, o = jnp.split(self._layer(arrays, x, h, f"gates{i}") + bias, 4, axis=-1)
        c = c * sigmoid(f + self.config.forget_bias) + sigmoid(i_) * jnp.tanh(j)
        return c, jnp.tanh(c) * sigmoid(o)

    def _layer(self, arrays: Arrays, x: Any, h: Any, name: str) -> Any:
        """The input x (None: looked up) and the state h [S, H] times their weights."""
        if x is None:
            return self._multiply(arrays, h, name)
        if name in arrays:
            return self._multiply(arrays, jnp.concatenate([x, h], axis=-1), name)
        return self._multiply(arrays, x, f"{name}/input") + self._multiply(arrays, h, f"{name}/state")

    # ------------------------------------------------------------------ the loop

    def _loop(self, slots: int, variant: Variant) -> Any:
        """The compiled loop for this number of slots and these controls."""
        return self._compiled((slots, variant), functools.partial(self._run, slots, variant))

    def _run(
        self,
        slots: int,
        variant: Variant,
        arrays: Arrays,
        steps: Any,
        fresh: Any,
        token: Any,
        forced: Any,
        u: Any,
        controls: Any,
        seen: Any,
        state: Any,
    ) -> Any:
        """`steps` of at most CHUNK steps; forced [CHUNK, S] holds ids to feed, or -1 where one is drawn."""
        allowed = self._allowed()
        keep = jnp.where(fresh, jnp.float32(0), jnp.float32(1))[:, None]

        def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            i, token, tokens, scores, best, seen, state = carry
            if variant.penalised:
                seen = seen.at[jnp.arange(slots), token].set(1.0)
            logits, state = self._step(arrays, token, state)
            drawn = next_token(logits + allowed, u[i], controls, seen, variant)
            token = jnp.where(forced[i] >= 0, forced[i], drawn).astype(jnp.int32)
            score = log_probability(logits, token)
            if variant.likeliest:
                found = likeliest(logits, allowed)
                best = tuple(kept.at[i].set(new) for kept, new in zip(best, found, strict=True))
            return i + 1, token, tokens.at[i].set(token), scores.at[i].set(score), best, seen, state

        most = min(MOST_LIKELIEST, self.config.vocabulary_size) if variant.likeliest else 0
        noted = jnp.zeros([CHUNK, slots, most], jnp.int32), jnp.zeros([CHUNK, slots, most], jnp.float32)
        written = jnp.zeros([CHUNK, slots], jnp.int32), jnp.zeros([CHUNK, slots], jnp.float32), noted
        start = (jnp.int32(0), token, *written, keep * seen, tuple(keep * part for part in state))
        return lax.while_loop(lambda carry: carry[0] < steps, body, start)[2:]


class Pool:
    """The state of a fixed number of slots."""

    def __init__(self, decoder: JaxDecoder, slots: int) -> None:
        self.decoder, self.slots = decoder, slots
        self._next = np.zeros(slots, np.int32)
        self._state: tuple[Any, ...] = tuple(
            jnp.zeros((slots, decoder.config.hidden_size), jnp.float32) for _ in state_names(decoder.config)
        )
        self._seen: Any = jnp.zeros((slots, 1), jnp.float32)
        self._forced = np.empty((CHUNK, slots), np.int32)
        self._u = np.empty((CHUNK, slots), np.float32)
        self.likeliest: Likeliest | None = None  # of the last call, where they were asked for

    def rest(self, slot: int) -> None:
        """What comes back for the slot means nothing until it starts anew. Nothing is saved: all slots are stepped."""

    def run(
        self, fresh: npt.NDArray[np.bool_], first: Ids, forced: Ids, u: Floats, controls: Controls
    ) -> tuple[Ids, Floats]:
        """Go on by len(forced) <= CHUNK steps.

        fresh [S]: slots that start a new text, from a zero state, by feeding `first` [S]; the others feed the token
        they ended with. forced [N, S]: the token to come, or -1 to draw it with u [N, S].
        Returns the tokens [N, S] and the model's log probability of each, nats [N, S]. Where the controls ask for the
        likeliest tokens, they are in `likeliest`.
        """
        steps = len(forced)
        assert steps <= CHUNK, steps
        variant = controls.variant
        token = np.where(fresh, first, self._next).astype(np.int32)
        self._forced[:steps], self._u[:steps] = forced, u
        known, started = len(self.decoder._functions), time.perf_counter()
        settings = (controls.temperature, controls.top_k, controls.top_p, controls.penalty)
        with jax.enable_x64(True):  # the sampler's sums
            tokens, scores, best, self._seen, self._state = self.decoder._loop(self.slots, variant)(
                self.decoder._arrays,
                np.int32(steps),
                np.asarray(fresh, np.bool_),
                token,
                self._forced,
                self._u,
                settings,
                self._seen_for(variant),
                self._state,
            )
        tokens = np.asarray(tokens)[:steps]
        if len(self.decoder._functions) > known:
            log.info("compiled for %d slots in %.1f s", self.slots, time.perf_counter() - started)
        self.likeliest = (
            Likeliest(*(np.asarray(kept)[:steps] for kept in best)) if variant.likeliest else None
        )
        self._next = tokens[-1].copy()
        return tokens, np.asarray(scores)[:steps]

    def _seen_for(self, variant: Variant) -> Any:
        """Which tokens each slot's text holds; counted only while some slot is penalised."""
        width = self.decoder.config.vocabulary_size if variant.penalised else 1
        if self._seen.shape[1] != width:
            self._seen = jnp.zeros((self.slots, width), jnp.float32)
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
