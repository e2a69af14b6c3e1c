"""The recurrent family's steps on a CPU, compiled by Numba: `gru_steps`, `lstm_steps`, which threads run together.

Every slot feeds its token, steps and draws; then the next step. A slot's bits do not depend on the slots beside it
(tiles.py). The threads meet at a barrier wherever a product needs what all of them made.

Knows the arithmetic of models/rnn.py in the layouts below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textmill.models.draw_kernels import draw
from textmill.models.rnn import RNNConfig
from textmill.models.team import barrier, meet, share
from textmill.models.tiles import (
    KINDS,
    WIDTH,
    aligned,
    apart,
    compiled,
    exponential,
    kept,
    multiply,
    narrow,
    packed,
    pair_in,
    pair_of,
)

_UNITS = WIDTH // 4  # of an LSTM in a panel: its columns are their four gates


class Weights(NamedTuple):
    """All of a model; L layers, H units, K the rows of input and state together, each padded to pairs."""

    looked_up: npt.NDArray[
        np.float32
    ]  # [V, G H] a one-hot layer's input rows with its bias, or [V, H] an embedding
    gates: npt.NDArray[
        Any
    ]  # [L, ...] panels of [K, 2 H] for a GRU, [K, 4 H] for an LSTM in the order of its panels
    candidate: npt.NDArray[Any]  # [L, ...] panels of [K, H]; none for an LSTM
    bias: npt.NDArray[np.float32]  # [L, columns] in the order of gates' columns, then the candidate's
    output: npt.NDArray[Any]  # [1, ...] panels of [H, V]
    output_bias: npt.NDArray[np.float32]  # [V]
    forget_bias: np.float32


class Slots(NamedTuple):
    """The state of S slots and room to work in, for T threads."""

    token: npt.NDArray[np.int32]  # [S], fed next
    left: npt.NDArray[Any]  # [2, L, S, K] input and state as a left side; an LSTM takes them in turn
    reset: npt.NDArray[Any]  # [L, S, K] the same with r * h for a GRU's candidate
    h: npt.NDArray[np.float32]  # [L, S, H]
    c: npt.NDArray[np.float32]  # [L, S, H]
    update: npt.NDArray[np.float32]  # [S, H] a GRU's gate u
    top: npt.NDArray[Any]  # [S, H] left side of the output
    logits: npt.NDArray[np.float32]  # [S, V]
    tile: npt.NDArray[np.float32]  # [T, S, WIDTH]
    barrier: npt.NDArray[np.int64]


def lay_out(config: RNNConfig, weights: Mapping[str, npt.NDArray[np.float32]], kind: str) -> Weights:
    """A model's parameters (models/rnn.py) as the kernels take them."""
    hidden, one_hot = config.hidden_size, config.embedding == "one_hot"
    padded = _padded(hidden, kind)
    order = np.arange(config.gates * hidden) if config.cell == "gru" else _lstm_columns(hidden)
    split = 2 * hidden if config.cell == "gru" else len(order)
    matrices, biases = [], []
    for i in range(config.num_layers):
        # with one column more, of zeros, for the units that fill the last panel
        whole = np.zeros((2 * padded, config.gates * hidden + 1), np.float32)
        if i or not one_hot:
            whole[:hidden, :-1] = weights[f"layer{i}/input_kernel"]
        whole[padded : padded + hidden, :-1] = weights[f"layer{i}/recurrent_kernel"]
        matrices.append(whole[:, order])
        biases.append(np.append(weights[f"layer{i}/bias"], np.float32(0))[order])
    if one_hot:
        rows = weights["layer0/input_kernel"] + weights["layer0/bias"]
        looked_up = np.pad(rows, [(0, 0), (0, 1)])[:, order]
    else:
        looked_up = weights["embedding"]
    return Weights(
        np.array(looked_up, np.float32, order="C"),
        packed([matrix[:, :split] for matrix in matrices], kind),
        packed([matrix[:, split:] for matrix in matrices], kind),
        np.array(biases, np.float32),
        packed([weights["output/kernel"]], kind),
        np.array(weights["output/bias"], np.float32),
        np.float32(config.forget_bias),
    )


def _lstm_columns(hidden: int) -> npt.NDArray[np.int64]:
    """The order in which a panel has all four gates of its units; 4 * hidden stands for a column of zeros."""
    units = np.arange(-(-hidden // _UNITS) * _UNITS).reshape(-1, 1, _UNITS)
    columns = np.arange(4)[:, None] * hidden + units
    return np.where(units < hidden, columns, 4 * hidden).reshape(-1)


def new_slots(config: RNNConfig, slots: int, threads: int, kind: str) -> Slots:
    """Slots that have fed nothing."""
    hidden, layers = config.hidden_size, config.num_layers
    padded = _padded(hidden, kind)

    def floats(*shape: int) -> Any:
        return aligned(shape, np.float32)

    return Slots(
        np.zeros(slots, np.int32),
        aligned((2, layers, slots, 2 * padded), KINDS[kind]),
        aligned((layers, slots, 2 * padded), KINDS[kind]),
        floats(layers, slots, hidden),
        floats(layers, slots, hidden),
        floats(slots, hidden),
        aligned((slots, padded), KINDS[kind]),
        floats(slots, config.vocabulary_size),
        floats(threads, slots, WIDTH),
        barrier(),
    )


def of_rows(slots: Slots, count: int) -> Slots:
    """The same, of which only the first `count` slots are stepped."""
    return slots._replace(token=slots.token[:count])


def copy_row(slots: Slots, source: int, into: int) -> None:
    """One slot's state to another one."""
    slots.token[into] = slots.token[source]
    slots.left[:, :, into] = slots.left[:, :, source]
    slots.reset[:, into] = slots.reset[:, source]
    slots.h[:, into] = slots.h[:, source]
    slots.c[:, into] = slots.c[:, source]


def empty(slots: Slots, which: npt.NDArray[np.integer]) -> None:
    """Set the state of these slots to zero."""
    slots.left[:, :, which] = 0
    slots.reset[:, which] = 0
    slots.h[:, which] = 0
    slots.c[:, which] = 0


def _padded(hidden: int, kind: str) -> int:
    pair = pair_of(kind)
    return -(-hidden // pair) * pair


@compiled(inline="always")
def _sigmoid(x: float) -> float:
    small = exponential(-abs(x))
    return (np.float32(1) if x >= 0 else small) / (np.float32(1) + small)


@compiled(inline="always")
def _tanh(x: float) -> float:
    """Nothing is lost near 0 that float32 sums of a layer would keep: 1e-7 absolute."""
    small = exponential(np.float32(-2) * abs(x))
    value = (np.float32(1) - small) / (np.float32(1) + small)
    return value if x >= 0 else -value


@compiled
def hand_on(slots: Any, layer: int, row: int, unit: int, value: float, parity: int, following: int) -> None:
    """A unit's new state to where the next products take it from: of this step by `parity`, of the next by
    `following`."""
    layers, padded = slots.left.shape[1], slots.top.shape[1]
    slots.h[layer, row, unit] = value
    state = narrow(value, slots.top[0, 0])
    slots.left[following, layer, row, padded + unit] = state
    if layer + 1 == layers:
        slots.top[row, unit] = state
    else:
        slots.left[parity, layer + 1, row, unit] = state
        slots.reset[layer + 1, row, unit] = state


@compiled
def gates_of_gru(
    weights: Any, slots: Any, layer: int, start: int, parity: int, thread: int, threads: int
) -> None:
    apart()
    rows, hidden, padded = len(slots.token), slots.h.shape[2], slots.top.shape[1]
    tile, left, panels = slots.tile[thread], slots.left[parity, layer], weights.gates[layer]
    first_panel, last_panel = share(panels.shape[0], thread, threads)
    for panel in range(first_panel, last_panel):
        multiply(left[:, start:], rows, panels[panel, start // pair_in(left[0, 0]) :], tile)
        first = panel * WIDTH
        columns = min(WIDTH, 2 * hidden - first)
        for row in range(rows):
            bias = weights.looked_up[slots.token[row]] if start else weights.bias[layer]
            for i in range(columns):
                tile[row, i] = _sigmoid(tile[row, i] + bias[first + i])
            for i in range(columns):
                column = first + i
                if column < hidden:
                    value = tile[row, i] * slots.h[layer, row, column]
                    slots.reset[layer, row, padded + column] = narrow(value, slots.top[0, 0])
                else:
                    slots.update[row, column - hidden] = tile[row, i]


@compiled
def candidate_of_gru(
    weights: Any, slots: Any, layer: int, start: int, parity: int, thread: int, threads: int
) -> None:
    apart()
    rows, hidden = len(slots.token), slots.h.shape[2]
    tile, left, panels = slots.tile[thread], slots.reset[layer], weights.candidate[layer]
    first_panel, last_panel = share(panels.shape[0], thread, threads)
    for panel in range(first_panel, last_panel):
        multiply(left[:, start:], rows, panels[panel, start // pair_in(left[0, 0]) :], tile)
        first = panel * WIDTH
        columns = min(WIDTH, hidden - first)
        for row in range(rows):
            bias = weights.looked_up[slots.token[row]] if start else weights.bias[layer]
            for i in range(columns):
                u, unit = slots.update[row, first + i], first + i
                candidate = _tanh(tile[row, i] + bias[2 * hidden + unit])
                tile[row, i] = u * slots.h[layer, row, unit] + (np.float32(1) - u) * candidate
            for i in range(columns):
                hand_on(slots, layer, row, first + i, tile[row, i], parity, parity)


@compiled
def lstm(weights: Any, slots: Any, layer: int, start: int, parity: int, thread: int, threads: int) -> None:
    apart()
    rows, hidden = len(slots.token), slots.h.shape[2]
    tile, left, panels = slots.tile[thread], slots.left[parity, layer], weights.gates[layer]
    first_panel, last_panel = share(panels.shape[0], thread, threads)
    for panel in range(first_panel, last_panel):
        multiply(left[:, start:], rows, panels[panel, start // pair_in(left[0, 0]) :], tile)
        first = panel * WIDTH
        unit = panel * _UNITS
        units = min(_UNITS, hidden - unit)
        for row in range(rows):
            bias, gate = weights.looked_up[slots.token[row]] if start else weights.bias[layer], tile[row]
            c = slots.c[layer, row, unit:]
            for i in range(units):
                i_ = gate[i] + bias[first + i]
                j = gate[_UNITS + i] + bias[first + _UNITS + i]
                f = gate[2 * _UNITS + i] + bias[first + 2 * _UNITS + i]
                o = gate[3 * _UNITS + i] + bias[first + 3 * _UNITS + i]
                c[i] = c[i] * _sigmoid(f + weights.forget_bias) + _sigmoid(i_) * _tanh(j)
                gate[i] = _tanh(c[i]) * _sigmoid(o)
            for i in range(units):
                hand_on(slots, layer, row, unit + i, gate[i], parity, 1 - parity)


@compiled
def output(weights: Any, slots: Any, thread: int, threads: int) -> None:
    apart()
    rows, tile, panels = len(slots.token), slots.tile[thread], weights.output[0]
    first_panel, last_panel = share(panels.shape[0], thread, threads)
    for panel in range(first_panel, last_panel):
        multiply(slots.top, rows, panels[panel], tile)
        first = panel * WIDTH
        columns = min(WIDTH, slots.logits.shape[1] - first)
        for row in range(rows):
            for i in range(columns):
                slots.logits[row, first + i] = tile[row, i] + weights.output_bias[first + i]


@compiled
def _feed(
    weights: Any, slots: Any, drawing: Any, parity: int, one_hot: bool, thread: int, threads: int
) -> None:
    """Each slot's token: noted, and looked up where there is an embedding."""
    apart()
    for row in range(thread, len(slots.token), threads):
        token = slots.token[row]
        drawing.in_text[row, token] = True
        if not one_hot:
            for i in range(slots.h.shape[2]):
                value = narrow(weights.looked_up[token, i], slots.top[0, 0])
                slots.left[parity, 0, row, i] = value
                slots.reset[0, row, i] = value


@compiled
def _draw(weights: Any, slots: Any, drawing: Any, step: int, thread: int, threads: int) -> None:
    """From each slot's new state to its next token."""
    apart()
    output(weights, slots, thread, threads)
    meet(slots.barrier, threads)
    for row in range(thread, len(slots.token), threads):
        slots.token[row] = draw(slots.logits[row], drawing, step, row, row, thread)


@kept
def gru_steps(
    thread: int, threads: int, weights: Any, slots: Any, drawing: Any, count: int, parity: int, one_hot: bool
) -> None:
    """`count` steps of all slots of a GRU, from `parity` 0; to be called by `threads` threads at once."""
    for step in range(count):
        _feed(weights, slots, drawing, parity, one_hot, thread, threads)
        meet(slots.barrier, threads)
        for layer in range(slots.h.shape[0]):
            start = slots.top.shape[1] if one_hot and layer == 0 else 0
            gates_of_gru(weights, slots, layer, start, parity, thread, threads)
            meet(slots.barrier, threads)
            candidate_of_gru(weights, slots, layer, start, parity, thread, threads)
            meet(slots.barrier, threads)
        _draw(weights, slots, drawing, step, thread, threads)


@kept
def lstm_steps(
    thread: int, threads: int, weights: Any, slots: Any, drawing: Any, count: int, parity: int, one_hot: bool
) -> None:
    """The same of an LSTM; `parity` is 0 at first and changes with each step."""
    for step in range(count):
        _feed(weights, slots, drawing, parity, one_hot, thread, threads)
        meet(slots.barrier, threads)
        for layer in range(slots.h.shape[0]):
            start = slots.top.shape[1] if one_hot and layer == 0 else 0
            lstm(weights, slots, layer, start, parity, thread, threads)
            meet(slots.barrier, threads)
        _draw(weights, slots, drawing, step, thread, threads)
        parity = 1 - parity
