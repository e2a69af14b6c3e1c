"""GPT-2's layers as TensorFlow graph code, forward and backward, both written by hand.

Matrix products are TensorFlow's own (oneDNN reaches 90 % of the CPU's peak with them); everything between two products
is one kernel that XLA compiles, which reads its operands once. Activations are [R, width], R = rows * tokens, in
the products' precision (`dtype`); the residual stream and its gradient are float32.

Attention goes by blocks of queries, which see no key behind them, so half of the scores are never computed. Nothing
here knows a variable, an optimizer or a configuration; weights come as a dict of one block's tensors ("ln_1/g" ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from textmill import devices
from textmill.models.gpt2 import LAYER_NORM_EPSILON

tf = devices.tensorflow()

Tensor = Any

QUERY_BLOCK = 256  # queries of one attention block
PADDING = 64  # the vocabulary is filled up to a multiple of this
GELU_SCALE = float(np.sqrt(2 / np.pi))
GELU_CUBE = 0.044715
NEVER = -1e30  # a logit
SMALLEST = 1e-37  # probability whose loss is told apart, 85 nats


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """One loop over the operands, compiled by XLA once for each shape and shared by all layers and engines."""
    return tf.function(function, jit_compile=True, autograph=False)


# --- layer norm, with the residual addition before it ---


@kernel
def normalize(x: Tensor, gain: Tensor, shift: Tensor, dtype: Any) -> tuple[Tensor, ...]:
    """x [R, E] float32 -> rows of mean 0 and variance 1, their inverse deviation [R, 1], and scaled and shifted."""
    return _normalize(x, gain, shift, dtype)


@kernel
def add_and_normalize(
    x: Tensor, y: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, dtype: Any
) -> tuple[Tensor, ...]:
    """x + y + bias, float32, and what `normalize` gives of it."""
    x = x + tf.cast(y, tf.float32) + bias
    return x, *_normalize(x, gain, shift, dtype)


def _normalize(x: Tensor, gain: Tensor, shift: Tensor, dtype: Any) -> tuple[Tensor, ...]:
    centred = x - _row_mean(x)
    inverse = tf.math.rsqrt(_row_mean(centred * centred) + LAYER_NORM_EPSILON)
    unit = centred * inverse
    return tf.cast(unit, dtype), inverse, tf.cast(unit * gain + shift, dtype)


@kernel
def normalize_backward(
    d_normed: Tensor, d_x: Tensor | None, unit: Tensor, inverse: Tensor, gain: Tensor, shift: Tensor
) -> tuple[Tensor, ...]:
    """Gradient of the normed rows, and d_x of those that went past them (None: none did).

    Gives the gradient of x, in float32 and in the products' precision, the gradient's part for the gain [R, E] and the
    normed rows, which the forward pass did not keep.
    """
    dtype = unit.dtype
    d_normed, unit = tf.cast(d_normed, tf.float32), tf.cast(unit, tf.float32)
    d_gain = d_normed * unit
    d_unit = d_normed * gain
    found = inverse * (d_unit - _row_mean(d_unit) - unit * _row_mean(d_unit * unit))
    if d_x is not None:
        found = found + d_x
    return found, tf.cast(found, dtype), tf.cast(d_gain, dtype), tf.cast(unit * gain + shift, dtype)


def _row_mean(x: Tensor) -> Tensor:
    """[R, E] -> [R, 1]; as a product, which XLA makes faster than a reduction."""
    width = x.shape[1]
    return tf.matmul(x, tf.fill([width, 1], tf.constant(1.0 / width, x.dtype)))


def sum_rows(x: Tensor) -> Tensor:
    """[R, E] -> [E], summed in float32 inside; a product, because TensorFlow's reduction takes five times as long."""
    return tf.matmul(tf.ones([1, x.shape[0]], x.dtype), x)[0]


# --- GELU ---


@kernel
def gelu(x: Tensor, bias: Tensor) -> Tensor:
    """GELU (tanh approximation) of x + bias."""
    wide = tf.cast(x, tf.float32) + bias
    return tf.cast(0.5 * wide * (1.0 + _gelu_tanh(wide)), x.dtype)


@kernel
def gelu_backward(x: Tensor, bias: Tensor, d_y: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of x, and GELU(x + bias) again."""
    wide = tf.cast(x, tf.float32) + bias
    tanh = _gelu_tanh(wide)
    slope = 0.5 * (1.0 + tanh) + 0.5 * wide * (1.0 - tanh * tanh) * GELU_SCALE * (
        1.0 + 3 * GELU_CUBE * wide * wide
    )
    d_x = tf.cast(d_y, tf.float32) * slope
    return tf.cast(d_x, x.dtype), tf.cast(0.5 * wide * (1.0 + tanh), x.dtype)


def _gelu_tanh(x: Tensor) -> Tensor:
    return tf.tanh(GELU_SCALE * x * (1.0 + GELU_CUBE * x * x))


# --- attention ---


@kernel
def split_heads(qkv: Tensor, bias: Tensor, rows: int, heads: int) -> tuple[Tensor, ...]:
    """[R, 3E] -> queries divided by sqrt(head_size), keys and values, each [rows, heads, T, head_size]."""
    size = qkv.shape[1] // (3 * heads)
    wide = tf.reshape(tf.cast(qkv, tf.float32) + bias, [rows, -1, 3, heads, size])
    q, k, v = tf.unstack(tf.transpose(wide, [2, 0, 3, 1, 4]))
    return tuple(tf.cast(a, qkv.dtype) for a in (q * size**-0.5, k, v))


def causal_softmax(scores: Tensor, first: int) -> Tensor:
    """Scores [..., t, k] of the queries from `first` on -> weights; a query sees the keys up to its own place."""
    return tf.nn.softmax(_causal(scores, first))


@kernel
def _causal(scores: Tensor, first: int) -> Tensor:
    count, keys = scores.shape[-2:]
    seen = tf.range(keys)[None, :] <= tf.range(first, first + count)[:, None]
    return tf.where(seen, scores, tf.constant(-np.inf, scores.dtype))


@kernel
def softmax_backward(weights: Tensor, d_weights: Tensor, along: Tensor) -> Tensor:
    """Gradient of the scores [..., t, k]; `along` [..., t, 1] is each query's sum of weights * d_weights."""
    wide = tf.cast(weights, tf.float32) * (tf.cast(d_weights, tf.float32) - along)
    return tf.cast(wide, weights.dtype)


@kernel
def join_heads(parts: Sequence[Tensor]) -> Tensor:
    """Blocks of queries [rows, heads, t, head_size] -> [R, E]."""
    heads, size = parts[0].shape[1], parts[0].shape[3]
    return tf.reshape(tf.transpose(tf.concat(parts, axis=2), [0, 2, 1, 3]), [-1, heads * size])


@kernel
def split_gradient(d_joined: Tensor, joined: Tensor, rows: int, heads: int) -> tuple[Tensor, Tensor]:
    """Gradient of the joined heads [R, E] by heads, and `along` of softmax_backward [rows, heads, T, 1]."""
    size = joined.shape[1] // heads
    d, o = (tf.reshape(a, [rows, -1, heads, size]) for a in (d_joined, joined))
    along = tf.reduce_sum(tf.cast(d, tf.float32) * tf.cast(o, tf.float32), axis=-1, keepdims=True)
    return tf.transpose(d, [0, 2, 1, 3]), tf.transpose(along, [0, 2, 1, 3])


def join_gradients(d_q: Sequence[Tensor], d_k: Sequence[Tensor], d_v: Sequence[Tensor]) -> Tensor:
    """Each block's gradients of its queries and of the keys and values that it saw -> gradient of split_heads' qkv.

    Sums and transpositions apart: XLA's transposition of a sum takes three times as long as both.
    """
    parts = []
    for part in _sum_gradients(d_q, d_k, d_v):
        rows, heads, length, size = part.shape
        parts.append(tf.reshape(tf.transpose(part, [0, 2, 1, 3]), [rows * length, heads * size]))
    return tf.concat(parts, axis=1)


@kernel
def _sum_gradients(d_q: Sequence[Tensor], d_k: Sequence[Tensor], d_v: Sequence[Tensor]) -> list[Tensor]:
    dtype, size = d_q[0].dtype, d_q[0].shape[-1]
    queries = tf.cast(tf.concat(d_q, axis=2), tf.float32) * size**-0.5
    return [tf.cast(part, dtype) for part in (queries, _sum_prefixes(d_k), _sum_prefixes(d_v))]


def _sum_prefixes(parts: Sequence[Tensor]) -> Tensor:
    """Parts [.., k, size] with growing k, each from the first key on -> their sum, float32."""
    ends = [part.shape[2] for part in parts]
    pieces = []
    for begin, end in zip([0, *ends], ends, strict=False):
        seen = [tf.cast(part[:, :, begin:end], tf.float32) for part in parts if part.shape[2] >= end]
        pieces.append(sum(seen[1:], seen[0]))
    return tf.concat(pieces, axis=2)


def _query_blocks(length: int) -> list[slice]:
    return [slice(first, min(first + QUERY_BLOCK, length)) for first in range(0, length, QUERY_BLOCK)]


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Causal attention of [rows, heads, T, head_size] -> outputs [R, E], and the weights of each block of queries."""
    outputs, kept = [], []
    for part in _query_blocks(q.shape[2]):
        scores = tf.matmul(q[:, :, part], k[:, :, : part.stop], transpose_b=True)
        weights = causal_softmax(scores, part.start)
        outputs.append(tf.matmul(weights, v[:, :, : part.stop]))
        kept.append(weights)
    return join_heads(outputs), kept


def attention_backward(
    d_joined: Tensor, joined: Tensor, kept: Sequence[Tensor], q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    """Gradient of `attention`'s outputs -> gradient of split_heads' qkv [R, 3E]."""
    d_outputs, along = split_gradient(d_joined, joined, q.shape[0], q.shape[1])
    found: tuple[list[Tensor], ...] = ([], [], [])
    for part, weights in zip(_query_blocks(q.shape[2]), kept, strict=True):
        d_output = d_outputs[:, :, part]
        d_weights = tf.matmul(d_output, v[:, :, : part.stop], transpose_b=True)
        d_scores = softmax_backward(weights, d_weights, along[:, :, part])
        found[0].append(tf.matmul(d_scores, k[:, :, : part.stop]))
        found[1].append(tf.matmul(d_scores, q[:, :, part], transpose_a=True))
        found[2].append(tf.matmul(weights, d_output, transpose_a=True))
    return join_gradients(*found)


# --- the whole block ---


class Saved(NamedTuple):
    """What a block's backward pass needs of its forward pass."""

    unit_1: Tensor
    inverse_1: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    attention_weights: list[Tensor]
    joined: Tensor
    unit_2: Tensor
    inverse_2: Tensor
    hidden: Tensor


def block_forward(
    weights: Mapping[str, Tensor], x: Tensor, norm: Sequence[Tensor], rows: int, heads: int
) -> tuple[Tensor, Tensor, Saved]:
    """A block behind its first norm: residual x and what `normalize` gave of it -> residual, what is still to be added
    to it without its bias "mlp/c_proj/b", and what the way back needs."""
    unit_1, inverse_1, normed = norm
    qkv = tf.matmul(normed, weights["attn/c_attn/w"])
    q, k, v = split_heads(qkv, weights["attn/c_attn/b"], rows, heads)
    joined, kept = attention(q, k, v)
    y = tf.matmul(joined, weights["attn/c_proj/w"])
    x, unit_2, inverse_2, normed = add_and_normalize(
        x, y, weights["attn/c_proj/b"], weights["ln_2/g"], weights["ln_2/b"], y.dtype
    )
    hidden = tf.matmul(normed, weights["mlp/c_fc/w"])
    y = tf.matmul(gelu(hidden, weights["mlp/c_fc/b"]), weights["mlp/c_proj/w"])
    return x, y, Saved(unit_1, inverse_1, q, k, v, kept, joined, unit_2, inverse_2, hidden)


def block_backward(
    weights: Mapping[str, Tensor],
    saved: Saved,
    d_x: Tensor,
    d_low: Tensor,
    learn_product: Callable[[str, Tensor, Tensor], None],
    learn_norm: Callable[[str, Tensor, Tensor], None],
) -> tuple[Tensor, Tensor]:
    """Gradient of the block's output, in float32 and in the products' precision -> the same of its input.

    `learn_product(name, left, right)` is told of each product's left operand and of its result's gradient,
    `learn_norm(name, for_gain, for_bias)` of each norm's gradients before they are summed over the rows.
    """
    d_a = tf.matmul(d_low, weights["mlp/c_proj/w"], transpose_b=True)
    d_hidden, a = gelu_backward(saved.hidden, weights["mlp/c_fc/b"], d_a)
    learn_product("mlp/c_proj", a, d_low)
    d_normed = tf.matmul(d_hidden, weights["mlp/c_fc/w"], transpose_b=True)
    d_x, d_low, d_gain, normed = normalize_backward(
        d_normed, d_x, saved.unit_2, saved.inverse_2, weights["ln_2/g"], weights["ln_2/b"]
    )
    learn_product("mlp/c_fc", normed, d_hidden)
    learn_norm("ln_2", d_gain, d_normed)
    learn_product("attn/c_proj", saved.joined, d_low)
    d_joined = tf.matmul(d_low, weights["attn/c_proj/w"], transpose_b=True)
    d_qkv = attention_backward(d_joined, saved.joined, saved.attention_weights, saved.q, saved.k, saved.v)
    d_normed = tf.matmul(d_qkv, weights["attn/c_attn/w"], transpose_b=True)
    d_x, d_low, d_gain, normed = normalize_backward(
        d_normed, d_x, saved.unit_1, saved.inverse_1, weights["ln_1/g"], weights["ln_1/b"]
    )
    learn_product("attn/c_attn", normed, d_qkv)
    learn_norm("ln_1", d_gain, d_normed)
    return d_x, d_low


# --- loss ---


def output_logits(rows: Tensor, matrix: Tensor, vocabulary_size: int) -> Tensor:
    """Rows [R, E], wte [V or more, E] -> logits; those behind the vocabulary are so low that they never count.

    They are set in place: a bias on the product would make oneDNN take a kernel that is a third slower.
    """
    logits = tf.matmul(rows, matrix, transpose_b=True)
    count, width = logits.shape
    if width == vocabulary_size:
        return logits
    behind = np.arange(width - PADDING, width) >= vocabulary_size
    last = tf.where(behind, tf.constant(NEVER, logits.dtype), logits[:, -PADDING:])
    pieces = width // PADDING
    places = tf.constant(np.arange(1, count + 1, dtype=np.int32) * pieces - 1)
    changed = tf.raw_ops.InplaceUpdate(x=tf.reshape(logits, [-1, PADDING]), i=places, v=last)
    return tf.reshape(changed, [count, width])


class Loss(NamedTuple):
    """Of R rows of logits."""

    losses: Tensor  # [R] float32, 0 where not counted
    right: Tensor  # [R] bool, whether a counted label was the likeliest
    others: Tensor  # [R, V] probabilities, 0 at the label
    rest: Tensor  # [R, 1] float32, their sum: 1 - the label's probability


def softmax_loss(logits: Tensor, labels: Tensor) -> Loss:
    """Logits [R, V], labels [R] (-1: not counted) -> losses and what their gradient is made of.

    The gradient of a row's logits is `others`, and -`rest` at the label. A label's own rounded probability would tell
    little about the rest when it is nearly 1; so the loss is taken from the rest too where the label is likely.
    """
    probabilities = tf.nn.softmax(logits)
    places = tf.maximum(labels, 0)
    own = tf.gather(probabilities, places, axis=1, batch_dims=1)
    with tf.control_dependencies([own]):
        others = _clear_at(probabilities, places)
    rest = tf.cast(tf.reduce_sum(others, axis=1), tf.float32)
    peak = _largest(others)
    counted = labels >= 0
    wide = tf.maximum(tf.cast(own, tf.float32), SMALLEST)
    losses = tf.where(rest < 0.5, -tf.math.log1p(-rest), -tf.math.log(wide))
    return Loss(tf.where(counted, losses, 0.0), tf.logical_and(counted, own >= peak), others, rest[:, None])


def _clear_at(values: Tensor, columns: Tensor) -> Tensor:
    """values [R, V] with 0 at columns [R], one a row; in place, so nothing else may read `values` after it."""
    rows, width = values.shape
    flat = tf.reshape(values, [-1, 1])
    changed = tf.raw_ops.InplaceUpdate(
        x=flat, i=tf.range(rows) * width + columns, v=tf.zeros([rows, 1], values.dtype)
    )
    return tf.reshape(changed, [rows, width])


def _largest(values: Tensor) -> Tensor:
    """The largest of each row [V], none negative: such numbers have their bits' order, and integers compare faster."""
    bits = tf.int16 if values.dtype == tf.bfloat16 else tf.int32
    return tf.bitcast(tf.reduce_max(tf.bitcast(values, bits), axis=1), values.dtype)


@kernel
def loss_gradient(towards: Tensor, label_rows: Tensor, rest: Tensor, weight: Tensor) -> Tensor:
    """others @ wte, wte's rows at the labels [R, E], `rest` and weights [R, 1] -> gradient of the rows [R, E]."""
    wide = tf.cast(towards, tf.float32) - rest * tf.cast(label_rows, tf.float32)
    return tf.cast(weight * wide, towards.dtype)


@kernel
def weigh(rows: Tensor, rest: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [R, E] times their weights, and the gradient of wte's rows at the labels, float32."""
    wide = tf.cast(rows, tf.float32) * weight
    return tf.cast(wide, rows.dtype), -rest * wide


def add_rows(table: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    """table [V, E] + rows [R, E] at places [R], one after the other, so repeated places always sum in the same order.

    In place: nothing else may read `table` after it.
    """
    return tf.raw_ops.InplaceAdd(x=table, i=places, v=rows)


@kernel
def total(parts: Sequence[Tensor]) -> Tensor:
    """Their sum, float32."""
    wide = [tf.cast(part, tf.float32) for part in parts]
    return sum(wide[1:], wide[0])
