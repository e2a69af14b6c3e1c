"""From logits to the next token: greedy, temperature, top-k, top-p, repetition penalty; counter-based randomness.

A row's token depends on its logits, its controls and one uniform number alone: on nothing else in the batch. Tokens
are drawn by inverting the distribution in the order of the vocabulary; cut-offs are found by counting (radix
selection), so nothing is sorted. Probabilities are whole numbers here, weights of nearly 2^30 for the likeliest token:
their sums in float64 are exact in whatever order a compiler takes them, and that order differs with a batch's shape.

The functions that draw are JAX operations for a caller's compiled loop; they also run eagerly. Callers enable 64 bits
(jax.enable_x64): the sums need them.

Knows nothing of models, tokens' meaning or text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textmill import devices

jax = devices.jax()
jnp, lax = jax.numpy, jax.lax

Floats = npt.NDArray[np.float32]

FEW = 1024  # up to here many thresholds are counted at once: starting operations is what costs
WEIGHT_BITS = 30
ONE = float(2**WEIGHT_BITS - 64)  # the likeliest token's weight: the largest float32 below 2^30
UNIFORM_BITS = 24  # as many as a float32 holds, so that 1.0 is never drawn
MOST_LIKELIEST = 5  # of the likeliest tokens that are told beside the one that came


class Variant(NamedTuple):
    """Which controls any row of a batch uses. What none uses is not compiled."""

    tempered: bool = False
    penalised: bool = False
    top_k: bool = False
    top_p: bool = False
    likeliest: bool = False


@dataclass
class Controls:
    """The controls of each row, arrays of shape [rows]."""

    temperature: Floats  # 0 is greedy
    top_k: npt.NDArray[np.int32]  # 0 keeps all
    top_p: Floats  # 1 keeps all
    penalty: Floats  # repetition penalty of CTRL (arXiv:1909.05858), 1 is none
    likeliest: npt.NDArray[np.int32]  # so many of the likeliest tokens are told, up to MOST_LIKELIEST

    @classmethod
    def neutral(cls, rows: int) -> Controls:
        """Plain sampling from the model's distribution."""
        one, none = np.ones(rows, np.float32), np.zeros(rows, np.int32)
        return cls(one, none, one.copy(), one.copy(), none.copy())

    def set(
        self, row: int, *, temperature: float, top_k: int, top_p: float, penalty: float, likeliest: int = 0
    ) -> None:
        """Set one row's controls."""
        self.temperature[row], self.top_k[row] = temperature, top_k
        self.top_p[row], self.penalty[row], self.likeliest[row] = top_p, penalty, likeliest

    def of(self, rows: npt.NDArray[np.integer]) -> Controls:
        """Those of these rows."""
        return Controls(
            self.temperature[rows],
            self.top_k[rows],
            self.top_p[rows],
            self.penalty[rows],
            self.likeliest[rows],
        )

    @property
    def variant(self) -> Variant:
        return Variant(
            tempered=bool((self.temperature != 1).any()),
            penalised=bool((self.penalty != 1).any()),
            top_k=bool((self.top_k > 0).any()),
            top_p=bool((self.top_p < 1).any()),
            likeliest=bool(self.likeliest.any()),
        )


class Likeliest(NamedTuple):
    """The likeliest tokens that could have come, best first, and their log probabilities under the model, nats.

    Of each step and slot [N, S, K], or of each token [N, K]. Only those that a slot asked for mean anything; an id of
    -1: no more tokens can come.
    """

    ids: npt.NDArray[np.int32]
    scores: Floats

    def of(self, *where: Any) -> Likeliest:
        """Those of some steps, or of some slots."""
        return Likeliest(self.ids[where], self.scores[where])


def uniforms(seed: int, index: int | npt.NDArray[Any], position: int | npt.NDArray[Any]) -> Floats:
    """The uniform numbers in [0, 1) of token `position` of text `index` under `seed`; arrays broadcast.

    Philox4x32-10 (Salmon et al., SC'11) of key = seed and counter = (position, index): a function, with no state.
    """
    position, index = np.broadcast_arrays(np.asarray(position, np.uint64), np.asarray(index, np.uint64))
    low = np.uint64(0xFFFFFFFF)
    counter = (position & low, position >> np.uint64(32), index & low, index >> np.uint64(32))
    word = philox4x32(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))[0]
    return (word >> np.uint64(32 - UNIFORM_BITS)).astype(np.float32) * np.float32(2.0**-UNIFORM_BITS)


def philox4x32(
    counter: Sequence[npt.NDArray[np.uint64]], key: tuple[int, int]
) -> tuple[npt.NDArray[np.uint64], ...]:
    """Ten rounds of Philox4x32: four 32-bit words (in uint64 arrays) from a counter of four and a key of two."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (product1 >> half) ^ c1 ^ np.uint64(k0),
            product1 & low,
            (product0 >> half) ^ c3 ^ np.uint64(k1),
            product0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def next_token(logits: Any, u: Any, controls: tuple[Any, Any, Any, Any], seen: Any, variant: Variant) -> Any:
    """Draw a token for each row: logits [B, V] (-inf: never), u [B] in [0, 1) -> ids [B].

    `controls` are temperature, top_k, top_p, penalty, [B] each; `seen` [B, V] is 1 where a token stands in the text
    so far, read only by a penalised variant. Order: penalty, temperature, top-k, top-p.
    """
    temperature, top_k, top_p, penalty = controls
    if variant.penalised:
        logits = repetition_penalty(logits, seen, penalty)
    greedy = temperature == 0
    if variant.tempered:
        logits = logits / jnp.where(greedy, 1.0, temperature)[:, None]
    weights = to_weights(logits)
    if variant.top_k:
        weights = keep_top_k(weights, top_k)
    if variant.top_p:
        weights = keep_top_p(weights, top_p)
    if variant.tempered:
        best = jnp.argmax(logits, axis=-1)
        weights = jnp.where(
            greedy[:, None], (jnp.arange(weights.shape[-1]) == best[:, None]).astype(jnp.int32), weights
        )
    return invert(weights, u)


def to_weights(logits: Any) -> Any:
    """Whole numbers in proportion to the probabilities, int32 [B, V]; the likeliest token's is ONE."""
    shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
    return (jnp.round(jnp.exp(shifted) * ONE)).astype(jnp.int32)


def repetition_penalty(logits: Any, seen: Any, penalty: Any) -> Any:
    """Divide the positive logits of tokens already seen by the penalty, multiply the negative ones."""
    factor = penalty[:, None]
    return jnp.where(seen > 0, jnp.where(logits > 0, logits / factor, logits * factor), logits)


def keep_top_k(weights: Any, k: Any) -> Any:
    """Zero all but the k largest weights of each row (0: keep all); of equal ones the first are kept."""
    wanted = jnp.where(k > 0, jnp.minimum(k, weights.shape[-1]), weights.shape[-1])

    def count(thresholds: Any) -> Any:
        return _count(weights[:, None] >= thresholds[:, :, None])

    threshold = _largest_threshold(count, wanted, weights.size, exact=True)[:, None]
    above, level = weights > threshold, weights == threshold
    missing = wanted - _count(above)
    ties = level.astype(jnp.int32)
    kept = lax.cond(
        jnp.any(_count(level) > missing),
        lambda: above | (level & (jnp.cumsum(ties, axis=-1) <= missing[:, None])),
        lambda: above | level,
    )
    return jnp.where(kept, weights, 0)


def keep_top_p(weights: Any, p: Any) -> Any:
    """Zero all but the fewest weights that hold a share p of each row (1: keep all); equal ones stay together."""
    wanted = jnp.maximum(p.astype(jnp.float64) * _total(weights), 1.0)  # one token at least

    def mass(thresholds: Any) -> Any:
        return _total(jnp.where(weights[:, None] >= thresholds[:, :, None], weights[:, None], 0))

    threshold = _largest_threshold(mass, wanted, weights.size)
    threshold = jnp.where(p < 1, threshold, 0)
    return jnp.where(weights >= threshold[:, None], weights, 0)


def _largest_threshold(measure: Any, wanted: Any, size: int, exact: bool = False) -> Any:
    """The largest weight t [B] at which measure([B, n] thresholds) still reaches `wanted`; found some bits at a time.

    `exact`: a threshold at which the measure equals `wanted` keeps the same weights as the largest one, so that the
    search may end there.
    """
    width = 5 if size <= FEW else 3 if size <= 16 * FEW else 1
    digits = jnp.arange(1, 1 << width, dtype=jnp.int32)

    def narrow(shift: Any, threshold: Any, left: Any) -> tuple[Any, Any, Any]:
        thresholds = threshold[:, None] + jnp.left_shift(digits, shift)[None]
        measured = measure(thresholds)
        reached = _count(measured >= wanted[:, None])
        if exact:
            left = left & ~jnp.any(measured == wanted[:, None], axis=-1)
        return shift - width, threshold + jnp.left_shift(reached, shift), left

    state = (jnp.int32(WEIGHT_BITS - width), jnp.zeros(wanted.shape, jnp.int32), wanted >= 0)
    return lax.while_loop(lambda s: (s[0] >= 0) & jnp.any(s[2]), lambda s: narrow(*s), state)[1]


def invert(weights: Any, u: Any) -> Any:
    """The first token at which the running sum of the weights passes u times their total: [B, V], [B] -> [B].

    In two levels, blocks and then within the block: running sums of about sqrt(V) numbers instead of V. A token of
    weight 0 is never taken.
    """
    rows, vocabulary = weights.shape[0], weights.shape[-1]
    size = math.isqrt(vocabulary - 1) + 1
    blocks = -(-vocabulary // size)
    grid = jnp.reshape(jnp.pad(weights, [[0, 0], [0, blocks * size - vocabulary]]), [rows, blocks, size])
    sums = _total(grid)
    running = jnp.cumsum(sums, axis=-1)
    target = u.astype(jnp.float64) * running[:, -1]
    block = _first_above(running, target)
    before = _pick(running - sums, block)
    inside = _pick(grid, block).astype(jnp.float64)
    return block * size + _first_above(jnp.cumsum(inside, axis=-1), target - before)


def _count(which: Any) -> Any:
    """How many are true along the last axis, int32."""
    return jnp.sum(which, axis=-1, dtype=jnp.int32)


def _total(weights: Any) -> Any:
    """Sum over the last axis, float64: exact up to 2^53."""
    return jnp.sum(weights.astype(jnp.float64), axis=-1)


def _first_above(running: Any, target: Any) -> Any:
    """First place where the running sum [B, n] is above the target [B]."""
    return _count(running <= target[:, None])


def _pick(values: Any, places: Any) -> Any:
    """values [B, N, ...] at each row's place [B] -> [B, ...]."""
    return values[jnp.arange(len(places)), places]


def log_probability(logits: Any, token: Any) -> Any:
    """Log of the model's probability of each row's token: [B, V], [B] -> [B], nats."""
    shifted = _pick(logits, token) - jnp.max(logits, axis=-1)
    total = _total(to_weights(logits))
    return shifted - jnp.log(total.astype(jnp.float32) / ONE)


def likeliest(logits: Any, allowed: Any) -> tuple[Any, Any]:
    """The likeliest tokens of each row that may come, best first, the first of equal ones, and the log probability of
    each: logits [B, V], `allowed` [V] 0 or -inf -> [B, K], [B, K] nats, K of MOST_LIKELIEST or V. An id of -1: no more
    may come."""
    best, ids = lax.top_k(logits + allowed, min(MOST_LIKELIEST, logits.shape[-1]))
    total = _total(to_weights(logits)).astype(jnp.float32)
    shifted = jnp.take_along_axis(logits, ids, axis=-1) - jnp.max(logits, axis=-1, keepdims=True)
    return jnp.where(best == -jnp.inf, -1, ids), shifted - jnp.log(total / ONE)[:, None]
