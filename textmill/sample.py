"""From logits to the next token: greedy, temperature, top-k, top-p, repetition penalty; counter-based randomness.

A row's token depends on its logits, its controls and one uniform number alone: on nothing else in the batch. Tokens
are drawn by inverting the distribution in the order of the vocabulary; cut-offs are found by counting (radix
selection), so nothing is sorted. The functions are TensorFlow operations that XLA compiles; they also run eagerly.

Knows nothing of models, tokens' meaning or text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

FEW = 1024  # up to here many thresholds are counted at once: starting operations is what costs
WEIGHT_BITS = 30  # weights are at most 1.0, whose bits are 0x3F800000


class Variant(NamedTuple):
    """Which controls any row of a batch uses. What none uses is not compiled."""

    tempered: bool = False
    penalised: bool = False
    top_k: bool = False
    top_p: bool = False


@dataclass
class Controls:
    """The controls of each row, arrays of shape [rows]."""

    temperature: Floats  # 0 is greedy
    top_k: npt.NDArray[np.int32]  # 0 keeps all
    top_p: Floats  # 1 keeps all
    penalty: Floats  # repetition penalty of CTRL (arXiv:1909.05858), 1 is none

    @classmethod
    def neutral(cls, rows: int) -> Controls:
        """Plain sampling from the model's distribution."""
        one = np.ones(rows, np.float32)
        return cls(one, np.zeros(rows, np.int32), one.copy(), one.copy())

    def set(self, row: int, *, temperature: float, top_k: int, top_p: float, penalty: float) -> None:
        """Set one row's controls."""
        self.temperature[row], self.top_k[row] = temperature, top_k
        self.top_p[row], self.penalty[row] = top_p, penalty

    @property
    def variant(self) -> Variant:
        return Variant(
            tempered=bool((self.temperature != 1).any()),
            penalised=bool((self.penalty != 1).any()),
            top_k=bool((self.top_k > 0).any()),
            top_p=bool((self.top_p < 1).any()),
        )


def uniforms(seed: int, index: int | npt.NDArray[Any], position: int | npt.NDArray[Any]) -> Floats:
    """The uniform numbers in [0, 1) of token `position` of text `index` under `seed`; arrays broadcast.

    Philox4x32-10 (Salmon et al., SC'11) of key = seed and counter = (position, index): a function, with no state.
    """
    position, index = np.broadcast_arrays(np.asarray(position, np.uint64), np.asarray(index, np.uint64))
    low = np.uint64(0xFFFFFFFF)
    counter = (position & low, position >> np.uint64(32), index & low, index >> np.uint64(32))
    word = philox4x32(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))[0]
    return ((word >> np.uint64(8)).astype(np.float32)) * np.float32(2.0**-24)


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
    import tensorflow as tf

    temperature, top_k, top_p, penalty = controls
    if variant.penalised:
        logits = repetition_penalty(logits, seen, penalty)
    greedy = temperature == 0
    if variant.tempered:
        logits = logits / tf.where(greedy, 1.0, temperature)[:, None]
    weights = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    if variant.top_k:
        weights = keep_top_k(weights, top_k)
    if variant.top_p:
        weights = keep_top_p(weights, top_p)
    if variant.tempered:
        best = tf.argmax(logits, axis=-1, output_type=tf.int32)
        weights = tf.where(greedy[:, None], tf.one_hot(best, weights.shape[-1]), weights)
    return invert(weights, u)


def repetition_penalty(logits: Any, seen: Any, penalty: Any) -> Any:
    """Divide the positive logits of tokens already seen by the penalty, multiply the negative ones."""
    import tensorflow as tf

    factor = penalty[:, None]
    return tf.where(seen > 0, tf.where(logits > 0, logits / factor, logits * factor), logits)


def keep_top_k(weights: Any, k: Any) -> Any:
    """Zero all but the k largest weights of each row (0: keep all); of equal ones the first are kept."""
    import tensorflow as tf

    wanted = tf.where(k > 0, tf.minimum(k, weights.shape[-1]), weights.shape[-1])
    bits = tf.bitcast(weights, tf.int32)

    def count(thresholds: Any) -> Any:
        return tf.reduce_sum(tf.cast(bits[:, None] >= thresholds[:, :, None], tf.int32), axis=-1)

    threshold = _largest_threshold(count, wanted, weights.shape.num_elements(), exact=True)[:, None]
    above, level = bits > threshold, bits == threshold
    missing = wanted - tf.reduce_sum(tf.cast(above, tf.int32), axis=-1)
    ties = tf.cast(level, tf.int32)
    kept = tf.cond(
        tf.reduce_any(tf.reduce_sum(ties, axis=-1) > missing),
        lambda: above | (level & (tf.cumsum(ties, axis=-1) <= missing[:, None])),
        lambda: above | level,
    )
    return tf.where(kept, weights, 0.0)


def keep_top_p(weights: Any, p: Any) -> Any:
    """Zero all but the fewest weights that hold a share p of each row (1: keep all); equal ones stay together."""
    import tensorflow as tf

    bits = tf.bitcast(weights, tf.int32)
    wanted = p * tf.reduce_sum(weights, axis=-1)

    def mass(thresholds: Any) -> Any:
        kept = bits[:, None] >= thresholds[:, :, None]
        return tf.reduce_sum(tf.where(kept, weights[:, None], 0.0), axis=-1)

    threshold = _largest_threshold(mass, wanted, weights.shape.num_elements())
    threshold = tf.where(p < 1, threshold, 0)
    return tf.where(bits >= threshold[:, None], weights, 0.0)


def _largest_threshold(measure: Any, wanted: Any, size: int, exact: bool = False) -> Any:
    """The largest bits t [B] at which measure([B, n] thresholds) still reaches `wanted`; found some bits at a time.

    Floats that are not negative are ordered as their bits are. `exact`: a threshold at which the measure equals
    `wanted` keeps the same weights as the largest one, so that the search may end there.
    """
    import tensorflow as tf

    width = 5 if size <= FEW else 3 if size <= 16 * FEW else 2
    digits = tf.range(1, 1 << width)

    def narrow(shift: Any, threshold: Any, left: Any) -> tuple[Any, Any, Any]:
        thresholds = threshold[:, None] + tf.bitwise.left_shift(digits, shift)[None]
        measured = measure(thresholds)
        reached = tf.reduce_sum(tf.cast(measured >= wanted[:, None], tf.int32), axis=-1)
        if exact:
            left = left & ~tf.reduce_any(measured == wanted[:, None], axis=-1)
        return shift - width, threshold + tf.bitwise.left_shift(reached, shift), left

    state = (tf.constant(WEIGHT_BITS - width), tf.zeros_like(wanted, tf.int32), wanted == wanted)
    return tf.while_loop(lambda shift, _, left: (shift >= 0) & tf.reduce_any(left), narrow, state)[1]


def invert(weights: Any, u: Any) -> Any:
    """The first token at which the running sum of the weights passes u times their total: [B, V], [B] -> [B].

    In two levels, blocks and then within the block: running sums of about sqrt(V) numbers instead of V. A token of
    weight 0 is never taken, whatever the rounding.
    """
    import tensorflow as tf

    rows, vocabulary = weights.shape[0], weights.shape[-1]
    size = math.isqrt(vocabulary - 1) + 1
    blocks = -(-vocabulary // size)
    grid = tf.reshape(tf.pad(weights, [[0, 0], [0, blocks * size - vocabulary]]), [rows, blocks, size])
    sums = tf.reduce_sum(grid, axis=-1)
    running = tf.cumsum(sums, axis=-1)
    target = u * running[:, -1]
    block = _first_above(running, target, sums)
    before = tf.reduce_sum(tf.where(tf.range(blocks)[None] == block[:, None] - 1, running, 0.0), axis=-1)
    inside = tf.gather(grid, block, batch_dims=1)
    return block * size + _first_above(tf.cumsum(inside, axis=-1), target - before, inside)


def _first_above(running: Any, target: Any, weights: Any) -> Any:
    """First place where the running sum is above the target; the last place with a weight if rounding left none."""
    import tensorflow as tf

    places = tf.range(weights.shape[-1])[None]
    passed = tf.reduce_sum(tf.cast(running <= target[:, None], tf.int32), axis=-1)
    positive = weights > 0
    last = tf.reduce_max(tf.where(positive, places, 0), axis=-1)
    first = tf.reduce_min(tf.where(positive, places, weights.shape[-1] - 1), axis=-1)
    return tf.clip_by_value(passed, first, last)


def log_probability(logits: Any, token: Any) -> Any:
    """Log of the model's probability of each row's token: [B, V], [B] -> [B], nats."""
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    return tf.gather(shifted, token, batch_dims=1) - tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=-1))
