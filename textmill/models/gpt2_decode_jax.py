"""Fast decoding of GPT-2 on a GPU: a prompt is read as one block, then compiled steps feed and sample all slots.

A `Pool` holds the keys and values of its slots. `read` empties a slot and reads a prompt into it; `run` goes on in all
slots at once: tokens to feed (forced) or uniform numbers to draw with, and back come the tokens with the model's log
probability of each. Compiled by XLA through JAX; weights are arguments, so that new weights need no new compilation,
and caches are updated in place. It also runs on a CPU, where gpt2_decode_cpu.py is faster.

A text's bits depend on its own tokens alone. A product's rows are summed alike for any number of rows from two on
where `_equal` found it so, with the real weights; attention goes over the cache in blocks of BLOCK positions, in
order, and a block in which a slot has nothing yet changes nothing of that slot's running sums: the weights there are
exact zeros. A prompt read as a block and the same tokens stepped one by one agree up to rounding; callers that always
read prompts in the same way get the same bits.

Knows nothing of tokenizers and text.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textmill import devices
from textmill.models import decoding_jax
from textmill.models.decoding_jax import SMALLEST, Arrays
from textmill.models.gpt2 import LAYER_NORM_EPSILON, GPT2Config
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
jnp, lax = jax.numpy, jax.lax

log = logging.getLogger("textmill.models.gpt2_decode_jax")

Ids = npt.NDArray[np.int32]

CHUNK = 32  # most steps of one call
BLOCK = 64  # positions of the cache that attention takes at a time; prompts are padded to powers of two of it


# How keys and values are kept. bfloat16 as its bits: a CPU would do each write to it on a float32 copy of all.
CACHED = {"float32": "float32", "bfloat16": "uint16"}


class JaxDecoder(decoding_jax.JaxDecoder):
    """A GPT-2's."""

    config: GPT2Config

    def load(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take other weights of the same configuration; nothing is compiled again."""
        self._arrays = {name: self._laid_out(name, value) for name, value in weights.items()}

    def pool(self, rows: int) -> Pool:
        """A pool of `rows` slots, within the bounds; fewer where more would change a text's bits."""
        return Pool(self, self._slots_for(rows))

    def warm_up(self, slots: int, variants: Sequence[Variant] = (Variant(),)) -> None:
        """Compile what a pool of `slots` needs for these controls, and for prompts of any length."""
        pool = self.pool(slots)
        length = BLOCK
        while True:
            pool.read(0, np.zeros(min(length, self.config.context), np.int32), scored=False)
            if length >= self.config.context:
                break
            length *= 2
        for variant in variants:
            controls = Controls.neutral(pool.slots)
            controls.temperature[:] = 0.5 if variant.tempered else 1
            controls.penalty[:] = 2 if variant.penalised else 1
            controls.top_k[:] = variant.top_k
            controls.top_p[:] = 0.5 if variant.top_p else 1
            nothing = np.zeros(pool.slots, np.bool_), np.zeros(pool.slots, np.int32)
            pool.run(
                *nothing,
                np.full((1, pool.slots), -1, np.int32),
                np.zeros((1, pool.slots), np.float32),
                controls,
            )

    def _laid_out(self, name: str, value: npt.NDArray[np.float32]) -> Any:
        """Matrices in the precision of the products, everything else in float32."""
        if name == "wte":
            return jnp.asarray(value).astype(self.precision)
        if name.endswith("/w"):
            laid = np.ascontiguousarray(value.T) if self._by_column else value
            return jnp.asarray(laid).astype(self.precision)
        return jnp.asarray(value)

    # ------------------------------------------------------------------ the model

    def _multiply(self, arrays: Arrays, x: Any, name: str) -> Any:
        """x [R, K] times a weight matrix [K, N], summed in float32 -> [R, N]."""
        by_column = self._by_column or name == "wte"
        return self._dot(x, arrays[name], (((1,), (int(by_column),)), ((), ())))

    def _dot(self, left: Any, right: Any, dimensions: Any) -> Any:
        return _exact_dot(left.astype(self.precision), right.astype(self.precision), dimensions)

    def _embed(self, arrays: Arrays, token: Any, position: Any) -> Any:
        return arrays["wte"][token].astype(jnp.float32) + arrays["wpe"][position]

    def _body(self, arrays: Arrays, x: Any, attend: Any) -> Any:
        """x [R, E] through all blocks; attend(layer, q, k, v [R, heads, head_size]) -> [R, heads, head_size]."""
        config = self.config
        for i in range(config.num_layers):
            h = f"h{i}"
            normed = _norm(x, arrays, f"{h}/ln_1")
            qkv = self._multiply(arrays, normed, f"{h}/attn/c_attn/w") + arrays[f"{h}/attn/c_attn/b"]
            qkv = qkv.reshape(len(x), 3, config.num_heads, config.head_size)
            scaled = qkv[:, 0] * np.float32(config.head_size**-0.5)
            joined = attend(i, scaled, qkv[:, 1], qkv[:, 2]).reshape(x.shape)
            x = x + self._multiply(arrays, joined, f"{h}/attn/c_proj/w") + arrays[f"{h}/attn/c_proj/b"]
            normed = _norm(x, arrays, f"{h}/ln_2")
            hidden = self._multiply(arrays, normed, f"{h}/mlp/c_fc/w") + arrays[f"{h}/mlp/c_fc/b"]
            hidden = jax.nn.gelu(hidden, approximate=True)
            x = x + self._multiply(arrays, hidden, f"{h}/mlp/c_proj/w") + arrays[f"{h}/mlp/c_proj/b"]
        return _norm(x, arrays, "ln_f")

    # ------------------------------------------------------------------ steps

    def _steps(self, slots: int, variant: Variant) -> Any:
        """The compiled loop for this number of slots and these controls."""
        run = functools.partial(self._run, variant)
        return self._compiled(("run", slots, variant), run, donate_argnums=1)

    def _run(
        self,
        variant: Variant,
        arrays: Arrays,
        cache: Any,
        steps: Any,
        token: Any,
        position: Any,
        forced: Any,
        u: Any,
        controls: Any,
        seen: Any,
    ) -> Any:
        """`steps` of at most CHUNK steps; forced [CHUNK, S] holds ids to feed, or -1 where one is drawn."""
        slots, allowed = len(token), self._allowed()

        def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            i, token, position, tokens, scores, best, seen, cache = carry
            if variant.penalised:
                seen = seen.at[jnp.arange(slots), token].set(1.0)
            logits, cache = self._step(arrays, cache, token, position)
            drawn = next_token(logits + allowed, u[i], controls, seen, variant)
            token = jnp.where(forced[i] >= 0, forced[i], drawn).astype(jnp.int32)
            tokens, scores = tokens.at[i].set(token), scores.at[i].set(log_probability(logits, token))
            position = jnp.minimum(position + 1, np.int32(self.config.context - 1))
            if variant.likeliest:
                found = likeliest(logits, allowed)
                best = tuple(kept.at[i].set(new) for kept, new in zip(best, found, strict=True))
            return i + 1, token, position, tokens, scores, best, seen, cache

        most = min(MOST_LIKELIEST, self.config.vocabulary_size) if variant.likeliest else 0
        noted = jnp.zeros([CHUNK, slots, most], jnp.int32), jnp.zeros([CHUNK, slots, most], jnp.float32)
        written = jnp.zeros([CHUNK, slots], jnp.int32), jnp.zeros([CHUNK, slots], jnp.float32), noted
        start = (jnp.int32(0), token, position, *written, seen, cache)
        _, _, _, tokens, scores, best, _, cache = lax.while_loop(lambda carry: carry[0] < steps, body, start)
        return tokens, scores, best, cache

    def _step(self, arrays: Arrays, cache: Any, token: Any, position: Any) -> tuple[Any, Any]:
        """token, position [S] -> logits [S, V] and the cache with this step's keys and values."""
        after = list(cache)

        def attend(i: int, q: Any, k: Any, v: Any) -> Any:
            keys, values = (_write(old, new, position) for old, new in zip(cache[i], (k, v), strict=True))
            after[i] = keys, values
            return self._attend(q, keys, values, position)

        x = self._body(arrays, self._embed(arrays, token, position), attend)
        return self._multiply(arrays, x, "wte"), tuple(after)

    def _attend(self, q: Any, keys: Any, values: Any, position: Any) -> Any:
        """q [S, heads, head_size] over each slot's positions up to its own, a block at a time: a running softmax."""

        def block(b: Any, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            best, total, joined = carry
            scores = _exact_dot(q, _restored(keys[b]), (((2,), (3,)), ((0, 1), (0, 1))))  # [S, heads, BLOCK]
            visible = (b * BLOCK + jnp.arange(BLOCK)) <= position[:, None]
            scores = jnp.where(visible[:, None], scores, -jnp.inf)
            now = jnp.maximum(best, jnp.max(scores, axis=-1))
            weights, keep = jnp.exp(scores - now[..., None]), jnp.exp(best - now)
            total = total * keep + jnp.sum(weights, axis=-1)
            added = _exact_dot(weights, _restored(values[b]), (((2,), (2,)), ((0, 1), (0, 1))))
            return now, total, joined * keep[..., None] + added

        empty = jnp.full(q.shape[:2], -jnp.inf, jnp.float32)
        start = (empty, jnp.zeros(q.shape[:2], jnp.float32), jnp.zeros(q.shape, jnp.float32))
        _, total, joined = lax.fori_loop(0, jnp.max(position) // BLOCK + 1, block, start)
        return joined / total[..., None]

    # ------------------------------------------------------------------ prompts

    def _reader(self, slots: int, length: int, scored: bool, noting: bool) -> Any:
        """The compiled reader of prompts padded to `length`, for a pool of so many slots."""
        read = functools.partial(self._read, scored, noting)
        return self._compiled(("read", slots, length, scored, noting), read, donate_argnums=1)

    def _read(
        self, scored: bool, noting: bool, arrays: Arrays, cache: Any, slot: Any, ids: Any, following: Any
    ) -> Any:
        """ids [length] into the slot's cache; the log probabilities of `following` [length] where `scored`, and the
        likeliest in their places [length, K] where `noting`."""
        config, length, after = self.config, len(ids), list(cache)
        visible = jnp.tri(length, dtype=bool)

        def attend(i: int, q: Any, k: Any, v: Any) -> Any:
            blocks = length // BLOCK, BLOCK, config.num_heads, config.head_size
            after[i] = tuple(
                lax.dynamic_update_slice(
                    old,
                    _stored(new.reshape(blocks).swapaxes(1, 2)[:, None], old.dtype),
                    [np.int32(0), slot, *[np.int32(0)] * 3],
                )
                for old, new in zip(cache[i], (k, v), strict=True)
            )
            scores = jnp.where(visible, self._dot(q, k, (((2,), (2,)), ((1,), (1,)))), -jnp.inf)
            weights = jax.nn.softmax(scores, axis=-1)
            return self._dot(weights, v, (((2,), (0,)), ((0,), (1,)))).swapaxes(0, 1)

        place = jnp.minimum(jnp.arange(length), config.context - 1)
        x = self._body(arrays, self._embed(arrays, ids, place), attend)
        if not scored:
            return tuple(after), None, None

        def score(part: Any) -> Any:
            logits = self._multiply(arrays, part[0], "wte")
            return log_probability(logits, part[1]), likeliest(logits, self._allowed()) if noting else ()

        parts = x.reshape(-1, BLOCK, config.width), following.reshape(-1, BLOCK)  # few logits at a time
        scores, best = lax.map(score, parts)
        return tuple(after), scores.reshape(-1), tuple(kept.reshape(length, -1) for kept in best)

    # ------------------------------------------------------------------ which numbers of slots are safe

    def _inputs(self) -> dict[str, int]:
        width = self.config.width
        within = {"attn/c_attn": width, "attn/c_proj": width, "mlp/c_fc": width, "mlp/c_proj": 4 * width}
        return {"wte": width, **{f"h0/{name}/w": size for name, size in within.items()}}

    def _equal(self, slots: int) -> bool:
        """Products, and whole steps."""
        return super()._equal(slots) and bool((self._trial(slots) == self._trial(SMALLEST)[:, :1]).all())

    def _trial(self, slots: int) -> Floats:
        """Scores [N, S] of the same tokens fed to all slots of a pool, some more than a block of the cache."""
        pool, controls = Pool(self, slots), Controls.neutral(slots)
        count = min(self.config.context, BLOCK + CHUNK) // CHUNK * CHUNK or self.config.context
        ids = np.random.default_rng(0).integers(0, self.config.vocabulary_size, count + 1).astype(np.int32)
        fresh, scores = np.ones(slots, np.bool_), []
        for first in range(0, count, CHUNK):
            forced = np.repeat(ids[first + 1 : first + 1 + CHUNK, None], slots, axis=1)
            u = np.zeros(forced.shape, np.float32)
            scores.append(pool.run(fresh, np.full(slots, ids[0]), forced, u, controls)[1])
            fresh = np.zeros(slots, np.bool_)
        return np.concatenate(scores)


class Pool:
    """The keys and values of a fixed number of slots, and the tokens that they come from."""

    def __init__(self, decoder: JaxDecoder, slots: int) -> None:
        self.decoder, self.slots = decoder, slots
        config = decoder.config
        shape = (-(-config.context // BLOCK), slots, config.num_heads, BLOCK, config.head_size)
        self._cache = tuple(
            tuple(jnp.zeros(shape, CACHED[decoder.precision]) for _ in "kv") for _ in range(config.num_layers)
        )
        self._in_text = np.zeros((slots, config.vocabulary_size), np.bool_)  # fed, in the text so far
        self._position = np.zeros(slots, np.int32)  # tokens fed so far
        self._next = np.zeros(slots, np.int32)
        self._resting = np.zeros(slots, np.bool_)
        self._forced = np.full((CHUNK, slots), -1, np.int32)
        self._u = np.zeros((CHUNK, slots), np.float32)
        self.likeliest: Likeliest | None = None  # of the last call, where they were asked for

    def rest(self, slot: int) -> None:
        """What comes back for the slot means nothing until it is read again or fresh. It is stepped with the others,
        at the beginning of its context: a step goes over the longest one."""
        self._resting[slot], self._position[slot] = True, 0

    def room(self, slot: int) -> int:
        """Steps that still fit into the slot's context."""
        return int(self.decoder.config.context - self._position[slot])

    def read(
        self,
        slot: int,
        ids: npt.NDArray[np.integer],
        *,
        scored: bool = True,
        continued: bool = False,
        likeliest: int = 0,
    ) -> Floats:
        """Empty the slot and read `ids`, at most the context -> the log probabilities [len(ids)-1] of ids[1:], nats.

        The slot's next step feeds ids[-1]. Not `scored`: faster, and nothing is returned. `continued`: they are the
        end of the slot's own text, whose earlier tokens the repetition penalty goes on counting. `likeliest`: where
        scored, so many tokens that were the likeliest for each of ids[1:] are in the attribute of that name.
        """
        ids = np.asarray(ids, np.int32)
        count = len(ids) - 1
        assert 0 <= count < self.decoder.config.context, count
        self._position[slot], self._next[slot], self._resting[slot] = count, ids[-1], False
        if not continued:
            self._in_text[slot] = False
        self._in_text[slot, ids[:-1]] = True
        self.likeliest = None
        if not count:
            return np.zeros(0, np.float32)
        padded = np.zeros((2, _padded(count, self.decoder.config.context)), np.int32)
        padded[:, :count] = ids[:-1], ids[1:]
        reader = self.decoder._reader(self.slots, padded.shape[1], scored, bool(likeliest))
        with jax.enable_x64(True):  # the sums of log_probability
            self._cache, found, best = reader(self.decoder._arrays, self._cache, np.int32(slot), *padded)
        if likeliest:
            self.likeliest = Likeliest(*(np.asarray(kept)[:count] for kept in best))
        return np.asarray(found)[:count] if scored else np.zeros(0, np.float32)

    def run(
        self, fresh: npt.NDArray[np.bool_], first: Ids, forced: Ids, u: Floats, controls: Controls
    ) -> tuple[Ids, Floats]:
        """Go on by len(forced) <= CHUNK steps.

        fresh [S]: slots that start a new text, from nothing, by feeding `first` [S]; the others feed the token they
        ended with. forced [N, S]: the token to come, or -1 to draw it with u [N, S].
        Returns the tokens [N, S] and the model's log probability of each, nats [N, S]; those of a slot whose room
        has run out mean nothing. Where the controls ask for the likeliest tokens, they are in `likeliest`.
        """
        steps, variant = len(forced), controls.variant
        assert steps <= CHUNK, steps
        self._position[fresh], self._in_text[fresh], self._resting[fresh] = 0, False, False
        self._next = np.where(fresh, first, self._next).astype(np.int32)
        self._forced[:steps], self._u[:steps] = forced, u
        settings = (controls.temperature, controls.top_k, controls.top_p, controls.penalty)
        known, started = len(self.decoder._functions), time.perf_counter()
        with jax.enable_x64(True):  # the sampler's sums
            tokens, scores, best, self._cache = self.decoder._steps(self.slots, variant)(
                self.decoder._arrays,
                self._cache,
                np.int32(steps),
                self._next,
                np.minimum(self._position, self.decoder.config.context - 1),
                self._forced,
                self._u,
                settings,
                self._seen(variant),
            )
        tokens = np.asarray(tokens)[:steps]
        if len(self.decoder._functions) > known:
            log.info("compiled for %d slots in %.1f s", self.slots, time.perf_counter() - started)
        self._remember(tokens)
        self.likeliest = (
            Likeliest(*(np.asarray(kept)[:steps] for kept in best)) if variant.likeliest else None
        )
        return tokens, np.asarray(scores)[:steps]

    def _remember(self, tokens: Ids) -> None:
        """Take note of what was fed: the token before, and all new ones but the last."""
        fed = np.concatenate([self._next[None], tokens[:-1]])
        self._in_text[np.arange(self.slots)[None], fed] = True
        further = np.minimum(self._position + len(tokens), self.decoder.config.context)
        self._position = np.where(self._resting, 0, further).astype(np.int32)
        self._next = tokens[-1].copy()

    def _seen(self, variant: Variant) -> npt.NDArray[np.float32]:
        """Which tokens each slot's text holds; given only while some slot is penalised."""
        if not variant.penalised:
            return np.zeros((self.slots, 1), np.float32)
        return self._in_text.astype(np.float32)


def _exact_dot(left: Any, right: Any, dimensions: Any) -> Any:
    return lax.dot_general(
        left,
        right.astype(left.dtype),
        dimensions,
        precision=lax.Precision.HIGHEST,  # a GPU would compute float32 in fewer bits
        preferred_element_type=jnp.float32,
    )


def _stored(values: Any, kind: Any) -> Any:
    """float32 as it is kept in the cache."""
    if kind == jnp.uint16:
        return lax.bitcast_convert_type(values.astype(jnp.bfloat16), jnp.uint16)
    return values.astype(kind)


def _restored(kept: Any) -> Any:
    """float32 of what the cache keeps."""
    if kept.dtype == jnp.uint16:
        kept = lax.bitcast_convert_type(kept, jnp.bfloat16)
    return kept.astype(jnp.float32)


def _write(cache: Any, new: Any, position: Any) -> Any:
    """The cache [blocks, S, heads, BLOCK, head_size] with new [S, heads, head_size] at each slot's position."""
    new = _stored(new, cache.dtype)[None, :, :, None]

    def one(slot: Any, cache: Any) -> Any:
        place, zero = position[slot], jnp.int32(0)
        value = lax.dynamic_slice_in_dim(new, slot, 1, axis=1)
        return lax.dynamic_update_slice(cache, value, (place // BLOCK, slot, zero, place % BLOCK, zero))

    return lax.fori_loop(jnp.int32(0), jnp.int32(new.shape[1]), one, cache)


def _norm(x: Any, arrays: Arrays, name: str) -> Any:
    """Layer norm of the last axis."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * lax.rsqrt(variance + LAYER_NORM_EPSILON) * arrays[f"{name}/g"] + arrays[f"{name}/b"]


def _padded(count: int, context: int) -> int:
    """The length to which a prompt is padded: few different ones, so that few are compiled."""
    length = BLOCK
    while length < count:
        length *= 2
    return min(length, -(-context // BLOCK) * BLOCK)
