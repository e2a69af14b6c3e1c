"""GPT-2's forward pass over rows of tokens on a CPU, compiled by Numba: `forward`, which several threads run together.

A row is one token of one slot at one position. Rows may be the next tokens of many slots, or many tokens of one prompt:
each row's results have the same bits either way, for a row's sums do not depend on the rows beside it (tiles.py) and
its attention goes over its own positions alone. Between two stages the threads meet at a barrier.

Knows the arithmetic of models/gpt2.py in the layouts below.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textmill.devices import INT8
from textmill.models.draw_kernels import draw
from textmill.models.gpt2 import LAYER_NORM_EPSILON, GPT2Config
from textmill.models.team import barrier, meet, share
from textmill.models.tiles import (
    KINDS,
    WIDTH,
    aligned,
    apart,
    compiled,
    counts,
    exponential,
    kept,
    left_of,
    multiply,
    narrow,
    packed,
    pair_in,
    pair_of,
    product,
    quantized,
    summing,
    widen,
)

GROUP = 24  # most rows of one slot that attention takes at a time
_GELU = np.float32(2 * np.sqrt(2 / np.pi))  # gelu(x) = x * sigmoid(this * (x + 0.044715 x^3))


class Weights(NamedTuple):
    """All of a model; L layers, E width; matrices in panels (tiles.packed)."""

    wte: npt.NDArray[Any]  # [1, ...] of the transposed [E, V]
    wte_scale: npt.NDArray[
        np.float32
    ]  # [1, panels, WIDTH], as all scales: int8's (tiles.quantized), else [1, panels, 0]
    wpe: npt.NDArray[np.float32]  # [C, E]
    norms: npt.NDArray[np.float32]  # [2 L + 1, 2, E]: ln_1, ln_2 of each layer, ln_f; gains, biases
    attention: npt.NDArray[Any]  # [L, ...] of [E, 3 E]
    attention_scale: npt.NDArray[np.float32]
    attention_bias: npt.NDArray[np.float32]  # [L, 3 E]
    joining: npt.NDArray[Any]  # [L, ...] of [E, E]
    joining_scale: npt.NDArray[np.float32]
    joining_bias: npt.NDArray[np.float32]
    rising: npt.NDArray[Any]  # [L, ...] of [E, 4 E]
    rising_scale: npt.NDArray[np.float32]
    rising_bias: npt.NDArray[np.float32]
    falling: npt.NDArray[Any]  # [L, ...] of [4 E, E]
    falling_scale: npt.NDArray[np.float32]
    falling_bias: npt.NDArray[np.float32]


class Cache(NamedTuple):
    """Keys and values of S slots, in panels: keys are the right side of queries times keys, values of weights times
    values. P is 2 where pairs lie side by side (bfloat16), else 1."""

    keys: npt.NDArray[Any]  # [L, S, heads, C / WIDTH, head_size / P, P * WIDTH]
    values: npt.NDArray[Any]  # [L, S, heads, head_size / WIDTH, C / P, P * WIDTH]


class Rows(NamedTuple):
    """What a forward pass works on: at most R rows, in T threads."""

    token: npt.NDArray[np.int32]  # [R]
    slot: npt.NDArray[np.int32]  # [R]
    position: npt.NDArray[np.int32]  # [R]
    x: npt.NDArray[np.float32]  # [R, E] the residual stream
    normed: npt.NDArray[Any]  # [R, E] left side of a product
    query: npt.NDArray[Any]  # [R, heads, head_size] left side
    key: npt.NDArray[np.float32]  # [R, E]
    value: npt.NDArray[np.float32]  # [R, E]
    joined: npt.NDArray[Any]  # [R, E] left side
    hidden: npt.NDArray[Any]  # [R, 4 E] left side
    logits: npt.NDArray[np.float32]  # [most rows of logits, V]
    tile: npt.NDArray[np.float32]  # [T, R, WIDTH]
    scores: npt.NDArray[np.float32]  # [T, GROUP, C]
    weights: npt.NDArray[Any]  # [T, GROUP, C] left side
    barrier: npt.NDArray[np.int64]


def lay_out(config: GPT2Config, weights: Any, kind: str) -> Weights:
    """A model's parameters (models/gpt2.py) as the kernels take them."""

    def all_of(name: str) -> list[Any]:
        return [weights[f"h{i}/{name}"] for i in range(config.num_layers)]

    def panels(matrices: list[Any]) -> tuple[Any, Any]:
        if kind == INT8:
            return quantized(matrices)
        made = packed(matrices, kind)
        return made, np.zeros((*made.shape[:2], 0), np.float32)

    def products(name: str) -> tuple[Any, Any, Any]:
        return *panels(all_of(f"{name}/w")), np.stack(all_of(f"{name}/b")).astype(np.float32)

    names = [*(f"h{i}/ln_{half}" for i in range(config.num_layers) for half in (1, 2)), "ln_f"]
    norms = np.stack([np.stack([weights[f"{name}/g"], weights[f"{name}/b"]]) for name in names])
    return Weights(
        *panels([weights["wte"].T]),
        np.array(weights["wpe"], np.float32, order="C"),
        norms.astype(np.float32),
        *products("attn/c_attn"),
        *products("attn/c_proj"),
        *products("mlp/c_fc"),
        *products("mlp/c_proj"),
    )


def new_cache(config: GPT2Config, slots: int, positions: int, kind: str) -> Cache:
    """An empty cache of at least so many positions."""
    kind = left_of(kind)
    pair, size = pair_of(kind), config.head_size
    first = config.num_layers, slots, config.num_heads
    length = -(-positions // WIDTH)
    return Cache(
        aligned((*first, length, -(-size // pair), pair * WIDTH), KINDS[kind]),
        aligned((*first, -(-size // WIDTH), length * WIDTH // pair, pair * WIDTH), KINDS[kind]),
    )


def positions_of(cache: Cache) -> int:
    """How many positions of each slot it holds."""
    return cache.keys.shape[3] * WIDTH


def copy_cache(cache: Cache, into: Cache) -> None:
    """Into one of more positions."""
    into.keys[:, :, :, : cache.keys.shape[3]] = cache.keys
    into.values[:, :, :, :, : cache.values.shape[4]] = cache.values


def new_rows(config: GPT2Config, most: int, logits: int, threads: int, kind: str) -> Rows:
    """Room for `most` rows, and logits of so many at a time."""
    kind = left_of(kind)
    pair, width, size = pair_of(kind), config.width, config.head_size
    length = -(-config.context // WIDTH) * WIDTH

    def left(*shape: int) -> Any:
        return aligned((*shape[:-1], -(-shape[-1] // pair) * pair), KINDS[kind])

    def floats(*shape: int) -> Any:
        return aligned(shape, np.float32)

    return Rows(
        *(np.zeros(most, np.int32) for _ in range(3)),
        floats(most, width),
        left(most, width),
        left(most, config.num_heads, size),
        floats(most, width),
        floats(most, width),
        left(most, width),
        left(most, 4 * width),
        floats(logits, config.vocabulary_size),
        floats(threads, most, WIDTH),
        floats(threads, GROUP, length),
        left(threads, GROUP, length),
        barrier(),
    )


# ---------------------------------------------------------------------- stages


@summing
def _norm(x: Any, norm: Any, into: Any) -> None:
    """Layer norm of x [E] into a left side [E]."""
    apart()
    width = len(x)
    total = np.float32(0)
    for i in range(width):
        total += x[i]
    mean = total / np.float32(width)
    squares = np.float32(0)
    for i in range(width):
        centred = x[i] - mean
        squares += centred * centred
    scale = np.float32(1) / np.sqrt(squares / np.float32(width) + np.float32(LAYER_NORM_EPSILON))
    for i in range(width):
        into[i] = narrow((x[i] - mean) * scale * norm[0, i] + norm[1, i], into[i])


@summing
def _weigh(scores: Any, count: int, weights: Any, until: int) -> float:
    """Scores [count] into weights that add up to the number returned; zeros from `count` to `until`."""
    best = scores[0]
    for i in range(count):
        best = max(best, scores[i])
    total = np.float32(0)
    for i in range(count):
        weight = exponential(scores[i] - best)
        total += weight
        weights[i] = narrow(weight, weights[i])
    for i in range(count, until):
        weights[i] = narrow(np.float32(0), weights[i])
    return total


@compiled(inline="always")
def _gelu(x: float) -> float:
    inner = _GELU * (x + np.float32(0.044715) * x * x * x)
    small = exponential(-abs(inner))
    return x * (np.float32(1) if inner >= 0 else small) / (np.float32(1) + small)


@compiled
def embed(weights: Any, rows: Any, row: int) -> None:
    token, position = rows.token[row], rows.position[row]
    panel, lane = weights.wte[0, token // WIDTH], token % WIDTH
    pair, scale = pair_in(panel[0, 0]), np.float32(1)
    if counts(panel[0, 0]):
        scale = weights.wte_scale[0, token // WIDTH, lane]
    x, place = rows.x[row], weights.wpe[position]
    for i in range(len(x)):
        x[i] = widen(panel[i // pair, pair * lane + i % pair]) * scale + place[i]


@compiled
def keep(cache: Any, rows: Any, row: int, layer: int, size: int) -> None:
    """The row's keys and values into the cache."""
    slot, position = rows.slot[row], rows.position[row]
    block, lane, pair = position // WIDTH, position % WIDTH, pair_in(rows.normed[0, 0])
    for head in range(cache.keys.shape[2]):
        keys, values = cache.keys[layer, slot, head, block], cache.values[layer, slot, head]
        key, value = rows.key[row, head * size :], rows.value[row, head * size :]
        for i in range(size):
            keys[i // pair, pair * lane + i % pair] = narrow(key[i], keys[0, 0])
        for i in range(size):
            place = pair * (i % WIDTH) + position % pair
            values[i // WIDTH, position // pair, place] = narrow(value[i], values[0, 0, 0])


@compiled
def attend(
    cache: Any, rows: Any, thread: int, layer: int, head: int, start: int, end: int, size: int
) -> None:
    """Rows `start` to `end`, of one slot and in the order of their positions."""
    apart()
    count = end - start
    slot, last = rows.slot[start], rows.position[end - 1]
    keys, values = cache.keys[layer, slot, head], cache.values[layer, slot, head]
    scores, weights, tile = rows.scores[thread], rows.weights[thread], rows.tile[thread]
    query = rows.query[start:end, head]
    for block in range(last // WIDTH + 1):
        multiply(query, count, keys[block], scores[:, block * WIDTH : (block + 1) * WIDTH])
    pair = pair_in(weights[0, 0])
    until = (last // pair + 1) * pair
    for row in range(count):
        seen = rows.position[start + row] + 1
        total = _weigh(scores[row], seen, weights[row], until)
        scores[row, 0] = total  # kept where no score is needed now
    for panel in range(values.shape[0]):
        multiply(weights[:, :until], count, values[panel], tile)
        first = panel * WIDTH
        columns = min(WIDTH, size - first)
        for row in range(count):
            scale = np.float32(1) / scores[row, 0]
            joined = rows.joined[start + row, head * size + first :]
            for i in range(columns):
                joined[i] = narrow(tile[row, i] * scale, joined[0])


@compiled
def attention_product(
    weights: Any, rows: Any, count: int, layer: int, thread: int, threads: int, size: int
) -> None:
    """Queries, keys and values of all rows."""
    apart()
    tile, bias, width = rows.tile[thread], weights.attention_bias[layer], rows.x.shape[1]
    scale = np.float32(1) / np.sqrt(np.float32(size))
    start, end = share(weights.attention.shape[1], thread, threads)
    for panel in range(start, end):
        product(
            rows.normed, count, weights.attention[layer, panel], weights.attention_scale[layer, panel], tile
        )
        first = panel * WIDTH
        columns = min(WIDTH, 3 * width - first)
        for row in range(count):
            place = 0
            while place < columns:  # to the end of a head at a time
                column = first + place
                within = column % size
                stop = min(columns, place + size - within)
                if column < width:
                    query = rows.query[row, column // size, within:]
                    for i in range(place, stop):
                        query[i - place] = narrow((tile[row, i] + bias[first + i]) * scale, query[0])
                else:
                    into = rows.key if column < 2 * width else rows.value
                    plain = into[row, column % width :]
                    for i in range(place, stop):
                        plain[i - place] = tile[row, i] + bias[first + i]
                place = stop


@compiled
def residual_product(
    left: Any, panels: Any, scales: Any, bias: Any, rows: Any, count: int, thread: int, threads: int
) -> None:
    """Added to the residual stream."""
    apart()
    tile = rows.tile[thread]
    start, end = share(panels.shape[0], thread, threads)
    for panel in range(start, end):
        product(left, count, panels[panel], scales[panel], tile)
        first = panel * WIDTH
        columns = min(WIDTH, len(bias) - first)
        for row in range(count):
            x = rows.x[row, first:]
            for i in range(columns):
                x[i] += tile[row, i] + bias[first + i]


@compiled
def rising_product(
    panels: Any, scales: Any, bias: Any, rows: Any, count: int, thread: int, threads: int
) -> None:
    apart()
    tile = rows.tile[thread]
    start, end = share(panels.shape[0], thread, threads)
    for panel in range(start, end):
        product(rows.normed, count, panels[panel], scales[panel], tile)
        first = panel * WIDTH
        columns = min(WIDTH, len(bias) - first)
        for row in range(count):
            hidden = rows.hidden[row, first:]
            for i in range(columns):
                hidden[i] = narrow(_gelu(tile[row, i] + bias[first + i]), hidden[0])


@compiled
def output_product(weights: Any, rows: Any, first_row: int, last_row: int, thread: int, threads: int) -> None:
    apart()
    tile, count, vocabulary = rows.tile[thread], last_row - first_row, rows.logits.shape[1]
    start, end = share(weights.wte.shape[1], thread, threads)
    for panel in range(start, end):
        product(rows.normed[first_row:], count, weights.wte[0, panel], weights.wte_scale[0, panel], tile)
        first = panel * WIDTH
        columns = min(WIDTH, vocabulary - first)
        for row in range(count):
            rows.logits[row, first : first + columns] = tile[row, :columns]


@compiled
def through_blocks(
    thread: int, threads: int, weights: Any, cache: Any, rows: Any, count: int, group: int
) -> None:
    apart()
    layers, heads = weights.attention.shape[0], cache.keys.shape[2]
    size = rows.x.shape[1] // heads
    groups = (count + group - 1) // group
    for row in range(thread, count, threads):
        embed(weights, rows, row)
        _norm(rows.x[row], weights.norms[0], rows.normed[row])
    meet(rows.barrier, threads)
    for layer in range(layers):
        attention_product(weights, rows, count, layer, thread, threads, size)
        meet(rows.barrier, threads)
        for row in range(thread, count, threads):
            keep(cache, rows, row, layer, size)
        meet(rows.barrier, threads)
        for task in range(thread, groups * heads, threads):
            start = task // heads * group
            attend(cache, rows, thread, layer, task % heads, start, min(start + group, count), size)
        meet(rows.barrier, threads)
        panels, scales, bias = (
            weights.joining[layer],
            weights.joining_scale[layer],
            weights.joining_bias[layer],
        )
        residual_product(rows.joined, panels, scales, bias, rows, count, thread, threads)
        meet(rows.barrier, threads)
        for row in range(thread, count, threads):
            _norm(rows.x[row], weights.norms[2 * layer + 1], rows.normed[row])
        meet(rows.barrier, threads)
        panels, scales, bias = weights.rising[layer], weights.rising_scale[layer], weights.rising_bias[layer]
        rising_product(panels, scales, bias, rows, count, thread, threads)
        meet(rows.barrier, threads)
        panels, scales, bias = (
            weights.falling[layer],
            weights.falling_scale[layer],
            weights.falling_bias[layer],
        )
        residual_product(rows.hidden, panels, scales, bias, rows, count, thread, threads)
        meet(rows.barrier, threads)
        for row in range(thread, count, threads):
            _norm(rows.x[row], weights.norms[2 * layer + 2], rows.normed[row])
        meet(rows.barrier, threads)


@kept
def forward(
    thread: int,
    threads: int,
    weights: Any,
    cache: Any,
    rows: Any,
    drawing: Any,
    count: int,
    group: int,
    steps: int,
    drawn: bool,
) -> None:
    """Rows 0 to `count` through the blocks; then, where `drawn`, each one's next token is drawn or taken and scored.

    That is fed in the next of the `steps`. Rows that lie `group` by `group` beside each other are of one slot. To be
    called by `threads` threads at once, `thread` is 0, 1, ...
    """
    most, last_place = rows.logits.shape[0], len(weights.wpe) - 1
    for step in range(steps):
        for row in range(thread, count, threads):
            drawing.in_text[rows.slot[row], rows.token[row]] = True
        through_blocks(thread, threads, weights, cache, rows, count, group)
        for first in range(0, count if drawn else 0, most):
            last = min(first + most, count)
            output_product(weights, rows, first, last, thread, threads)
            meet(rows.barrier, threads)
            for row in range(first + thread, last, threads):
                rows.token[row] = draw(rows.logits[row - first], drawing, step, row, rows.slot[row], thread)
                rows.position[row] = min(rows.position[row] + 1, last_place)
            meet(rows.barrier, threads)
