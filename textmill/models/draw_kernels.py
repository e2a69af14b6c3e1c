"""From logits to the next token on a CPU, compiled by Numba: sample.py's meaning, one row at a time.

For decoders whose steps are Numba's too (tiles.py), so that many steps are one call. Weights are whole numbers, as in
sample.py, and their sums integers; exp is this package's own, so that in one draw out of some millions a token may
differ from XLA's at the edge between two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textmill.models.sample import ONE, WEIGHT_BITS, Controls, Likeliest
from textmill.models.tiles import apart, compiled, exponential, summing

_BLOCK = 256  # weights that are summed before the one that is drawn is looked for
_DIGIT = 10  # bits of a weight that one pass of a selection looks at
_ONE = np.float32(ONE)
_BITS = WEIGHT_BITS


class Drawing(NamedTuple):
    """What is drawn with, S rows over a vocabulary of V; `scratch` and those after it are room to work in."""

    forced: npt.NDArray[np.int32]  # [N, S]: the token to come at each step, or -1
    u: npt.NDArray[np.float32]  # [N, S]
    temperature: npt.NDArray[np.float32]  # [S] each; see sample.Controls
    top_k: npt.NDArray[np.int32]
    top_p: npt.NDArray[np.float32]
    penalty: npt.NDArray[np.float32]
    likeliest: npt.NDArray[np.int32]
    allowed: npt.NDArray[np.bool_]  # [V]
    in_text: npt.NDArray[np.bool_]  # [slots, V]: tokens fed in the text so far
    tokens: npt.NDArray[np.int32]  # [N, S], what came
    scores: npt.NDArray[np.float32]  # [N, S], nats
    best: npt.NDArray[np.int32]  # [N, S, K], the likeliest tokens, as many as any row wants
    best_scores: npt.NDArray[np.float32]  # [N, S, K], nats
    scratch: npt.NDArray[np.float32]  # [T, V]
    weights: npt.NDArray[np.int32]  # [T, V]
    counted: npt.NDArray[np.int64]  # [T, 2 ** _DIGIT]


def drawing(
    forced: npt.NDArray[np.int32],
    u: npt.NDArray[np.float32],
    controls: Controls,
    allowed: npt.NDArray[np.bool_],
    in_text: npt.NDArray[np.bool_],
    threads: int,
) -> Drawing:
    """With room for what comes. Copies: an array that may not be written is another type, and compiled for anew."""
    noted = (*forced.shape, int(controls.likeliest.max(initial=0)))
    return Drawing(
        np.array(forced, np.int32, order="C"),
        np.array(u, np.float32, order="C"),
        np.array(controls.temperature, np.float32),
        np.array(controls.top_k, np.int32),
        np.array(controls.top_p, np.float32),
        np.array(controls.penalty, np.float32),
        np.array(controls.likeliest, np.int32),
        allowed,
        in_text,
        np.empty(forced.shape, np.int32),
        np.empty(forced.shape, np.float32),
        np.full(noted, -1, np.int32),
        np.zeros(noted, np.float32),
        np.empty((threads, len(allowed)), np.float32),
        np.empty((threads, len(allowed)), np.int32),
        np.empty((threads, 1 << _DIGIT), np.int64),
    )


def of_slots(drawn: Drawing, rows: npt.NDArray[np.integer], slots: int) -> Likeliest | None:
    """The likeliest tokens, where any were asked for, of so many slots; `rows` [S] says whose slot a row was."""
    if not drawn.best.shape[2]:
        return None
    shape = len(drawn.best), slots, drawn.best.shape[2]
    ids, scores = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    ids[:, rows], scores[:, rows] = drawn.best, drawn.best_scores
    return Likeliest(ids, scores)


@compiled
def draw(logits: Any, drawing: Drawing, step: int, row: int, slot: int, thread: int) -> int:
    """Take or draw the row's token after logits [V], in this slot's text; note it and its log probability."""
    apart()
    token = drawing.forced[step, row]
    if token < 0:
        token = _drawn(logits, drawing, row, drawing.in_text[slot], thread, drawing.u[step, row])
    drawing.tokens[step, row] = token
    best, total = _normalizer(logits)
    drawing.scores[step, row] = (logits[token] - best) - total
    if drawing.likeliest[row] > 0:
        ids, scores = drawing.best[step, row], drawing.best_scores[step, row]
        _note_likeliest(logits, drawing.allowed, drawing.likeliest[row], best, total, ids, scores)
    return token


@compiled
def _drawn(logits: Any, drawing: Drawing, row: int, in_text: Any, thread: int, u: float) -> int:
    """Order: penalty, temperature, top-k, top-p."""
    x, weights, counted = drawing.scratch[thread], drawing.weights[thread], drawing.counted[thread]
    temperature, top_k, top_p = drawing.temperature[row], drawing.top_k[row], drawing.top_p[row]
    _adjust(logits, drawing.allowed, in_text, drawing.penalty[row], temperature, x)
    if temperature == 0:
        return np.argmax(x)
    total = _to_weights(x, _largest(x), weights)
    if 0 < top_k < len(x):
        total = _keep_top_k(weights, top_k, counted)
    if top_p < 1:
        wanted = max(np.float64(top_p) * np.float64(total), 1.0)  # one token at least
        total = _keep_top_p(weights, wanted, counted)
    return _invert(weights, np.float64(u) * np.float64(total))


@compiled
def _adjust(logits: Any, allowed: Any, in_text: Any, penalty: float, temperature: float, x: Any) -> None:
    """Logits, -inf where a token is not allowed, after penalty and temperature."""
    lowest = np.float32(-np.inf)
    if penalty == 1:
        for i in range(len(x)):
            x[i] = logits[i] if allowed[i] else lowest
    else:
        for i in range(len(x)):
            value = logits[i]
            changed = value / penalty if value > 0 else value * penalty
            value = changed if in_text[i] else value
            x[i] = value if allowed[i] else lowest
    if temperature != 0 and temperature != 1:
        for i in range(len(x)):
            x[i] = x[i] / temperature


@summing
def _largest(x: Any) -> float:
    best = x[0]
    for i in range(len(x)):
        best = max(best, x[i])
    return best


@compiled
def _to_weights(x: Any, best: float, weights: Any) -> int:
    """Whole numbers in proportion to the probabilities, and their sum."""
    for i in range(len(x)):
        weights[i] = np.int32(np.rint(exponential(x[i] - best) * _ONE))
    return _sum(weights)


@compiled
def _sum(weights: Any) -> int:
    total = np.int64(0)
    for i in range(len(weights)):
        total += np.int64(weights[i])
    return total


@compiled
def _normalizer(logits: Any) -> Any:
    """The largest logit, and the log of the sum of all of them, relative to it."""
    best, total = _largest(logits), np.int64(0)
    for i in range(len(logits)):
        total += np.int64(np.int32(np.rint(exponential(logits[i] - best) * _ONE)))
    return best, np.float32(np.log(np.float64(total) / np.float64(_ONE)))


@compiled
def _note_likeliest(
    logits: Any, allowed: Any, wanted: int, best: float, total: float, ids: Any, scores: Any
) -> None:
    """The tokens of the `wanted` largest logits among those allowed, best first, and their log probabilities; of equal
    ones the first."""
    apart()
    count = 0
    for token in range(len(logits)):
        if not allowed[token]:
            continue
        if count == wanted:
            if logits[token] <= logits[ids[count - 1]]:
                continue
        else:
            count += 1
        place = count - 1
        while place > 0 and logits[token] > logits[ids[place - 1]]:
            ids[place] = ids[place - 1]
            place -= 1
        ids[place] = token
    for place in range(count):
        scores[place] = (logits[ids[place]] - best) - total


@compiled
def _keep_top_k(weights: Any, k: int, counted: Any) -> int:
    """Zero all but the k largest weights; of equal ones the first are kept. Returns the sum of the rest."""
    threshold, shift, missing = np.int32(0), _BITS, np.int64(k)
    while shift > 0:
        shift -= _DIGIT
        counted[:] = 0
        for i in range(len(weights)):
            if (weights[i] >> (shift + _DIGIT)) == (threshold >> (shift + _DIGIT)):
                counted[(weights[i] >> shift) & ((1 << _DIGIT) - 1)] += 1
        digit = len(counted) - 1
        while digit > 0 and counted[digit] < missing:
            missing -= counted[digit]
            digit -= 1
        threshold |= np.int32(digit) << np.int32(shift)
    for i in range(len(weights)):
        if weights[i] == threshold and missing > 0:
            missing -= 1
        elif weights[i] <= threshold:
            weights[i] = 0
    return _sum(weights)


@compiled
def _keep_top_p(weights: Any, wanted: float, counted: Any) -> int:
    """Zero all but the fewest weights whose sum is at least `wanted`; equal ones stay together. Returns their sum."""
    threshold, shift, above = np.int32(0), _BITS, np.int64(0)
    while shift > 0:
        shift -= _DIGIT
        counted[:] = 0
        for i in range(len(weights)):
            if (weights[i] >> (shift + _DIGIT)) == (threshold >> (shift + _DIGIT)):
                counted[(weights[i] >> shift) & ((1 << _DIGIT) - 1)] += weights[i]
        digit = len(counted) - 1
        while digit > 0 and np.float64(above + counted[digit]) < wanted:
            above += counted[digit]
            digit -= 1
        threshold |= np.int32(digit) << np.int32(shift)
    for i in range(len(weights)):
        if weights[i] < threshold:
            weights[i] = 0
    return _sum(weights)


@compiled
def _invert(weights: Any, target: float) -> int:
    """The first token at which the running sum of the weights passes the target."""
    running, start = np.int64(0), 0
    while start + _BLOCK < len(weights):
        block = _sum(weights[start : start + _BLOCK])
        if np.float64(running + block) > target:
            break
        running += block
        start += _BLOCK
    last = start
    for i in range(start, len(weights)):
        running += weights[i]
        if np.float64(running) > target:
            return i
        last = i if weights[i] > 0 else last
    return last
