"""Drawing on a CPU: the tokens that sample.py draws, and its scores."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("jax")

import jax

from textmill.models import sample
from textmill.models.draw_kernels import draw, drawing
from textmill.models.sample import Controls, uniforms

ROWS, VOCABULARY = 60, 1500


def logits(kind: str) -> np.ndarray:
    drawn = np.random.default_rng(3).standard_normal((ROWS, VOCABULARY)) * 3
    return np.round(drawn if kind == "tied" else drawn * 2**20 / 2**20, 0 if kind == "tied" else 9).astype(
        np.float32
    )


def by_sample(
    x: np.ndarray, u: np.ndarray, controls: Controls, allowed: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    settings = (controls.temperature, controls.top_k, controls.top_p, controls.penalty)
    banned = np.where(allowed, 0, -np.inf).astype(np.float32)
    with jax.enable_x64(True):
        return np.asarray(
            sample.next_token(x + banned, u, settings, seen.astype(np.float32), controls.variant)
        )


def drawn(
    x: np.ndarray, u: np.ndarray, controls: Controls, allowed: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    asked = drawing(np.full((1, ROWS), -1), u[None], controls, allowed, seen, 1)
    assert [draw(x[row], asked, 0, row, row, 0) for row in range(ROWS)] == asked.tokens[0].tolist()
    return asked.tokens[0]


@pytest.mark.parametrize("kind", ["smooth", "tied"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 0},
        {"top_k": 1},
        {"top_k": 40},
        {"top_k": VOCABULARY},
        {"top_p": 0.9},
        {"top_p": 0.0},
        {"penalty": 1.8},
        {"temperature": 1.3, "top_k": 100, "top_p": 0.5, "penalty": 0.7},
    ],
)
def test_the_tokens_are_those_of_sample(kind: str, given: dict[str, float]) -> None:
    controls = Controls.neutral(ROWS)
    for row in range(ROWS):
        controls.set(row, **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "penalty": 1.0, **given})
    allowed = np.random.default_rng(4).random(VOCABULARY) < 0.9
    seen = np.random.default_rng(5).random((ROWS, VOCABULARY)) < 0.3
    u = uniforms(1, np.arange(ROWS), 0)
    found = drawn(logits(kind), u, controls, allowed, seen)
    assert (found == by_sample(logits(kind), u, controls, allowed, seen)).all()
    assert allowed[found].all()


@pytest.mark.parametrize("kind", ["smooth", "tied"])
def test_the_likeliest_are_those_of_sample_whatever_is_drawn(kind: str) -> None:
    allowed = np.random.default_rng(4).random(VOCABULARY) < 0.9
    controls = Controls.neutral(ROWS)
    controls.likeliest[:], controls.temperature[::2], controls.penalty[:] = np.arange(ROWS) % 6, 0.3, 2
    asked = drawing(
        np.full((1, ROWS), -1),
        uniforms(1, np.arange(ROWS), 0)[None],
        controls,
        allowed,
        np.ones((ROWS, VOCABULARY), bool),
        1,
    )
    x = logits(kind)
    for row in range(ROWS):
        draw(x[row], asked, 0, row, row, 0)
    with jax.enable_x64(True):
        ids, scores = sample.likeliest(x, np.where(allowed, 0, -np.inf).astype(np.float32))
    for row, count in enumerate(controls.likeliest):
        assert (asked.best[0, row, :count] == ids[row, :count]).all()
        assert (asked.best[0, row, count:] == -1).all()
        assert asked.best_scores[0, row, :count] == pytest.approx(np.asarray(scores)[row, :count], abs=1e-5)
        come = np.flatnonzero(asked.best[0, row, :count] == asked.tokens[0, row])
        assert (asked.best_scores[0, row, come] == asked.scores[0, row]).all()


def test_where_fewer_may_come_fewer_are_told() -> None:
    x, allowed = np.array([[1, 5, 3]], np.float32), np.array([True, False, True])
    controls = Controls.neutral(1)
    controls.likeliest[:] = 5
    asked = drawing(np.full((1, 1), 1), np.zeros((1, 1)), controls, allowed, np.zeros((1, 3), bool), 1)
    draw(x[0], asked, 0, 0, 0, 0)
    assert asked.best.tolist() == [[[2, 0, -1, -1, -1]]]
    with jax.enable_x64(True):
        ids, _ = sample.likeliest(x, np.where(allowed, 0, -np.inf).astype(np.float32))
    assert ids.tolist() == [[2, 0, -1]]


def test_each_row_has_its_own_controls() -> None:
    controls, allowed = Controls.neutral(ROWS), np.ones(VOCABULARY, np.bool_)
    for row in range(ROWS):
        controls.set(
            row, temperature=0.25 * (row % 8), top_k=row % 5, top_p=1 - 0.1 * (row % 3), penalty=1 + row % 2
        )
    seen = np.random.default_rng(5).random((ROWS, VOCABULARY)) < 0.3
    u = uniforms(1, np.arange(ROWS), 0)
    x = logits("smooth")
    assert (drawn(x, u, controls, allowed, seen) == by_sample(x, u, controls, allowed, seen)).all()


def test_the_ends_of_the_range() -> None:
    x, allowed, seen = (
        np.zeros((ROWS, VOCABULARY), np.float32),
        np.ones(VOCABULARY, np.bool_),
        np.zeros((ROWS, VOCABULARY)),
    )
    allowed[:10], allowed[-10:] = False, False
    for u, expected in ((0.0, 10), (1 - 2.0**-24, VOCABULARY - 11)):
        found = drawn(x, np.full(ROWS, u, np.float32), Controls.neutral(ROWS), allowed, seen.astype(np.bool_))
        assert set(found.tolist()) == {expected}


def test_forced_tokens_are_taken_and_scores_are_the_models() -> None:
    x = logits("smooth")
    forced = np.random.default_rng(6).integers(0, VOCABULARY, (1, ROWS))
    asked = drawing(
        forced,
        np.zeros((1, ROWS), np.float32),
        Controls.neutral(ROWS),
        np.zeros(VOCABULARY, np.bool_),
        np.zeros((ROWS, VOCABULARY), np.bool_),
        1,
    )
    for row in range(ROWS):
        draw(x[row], asked, 0, row, row, 0)
    assert (asked.tokens == forced).all(), "allowed or not"
    exact = x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64), axis=-1, keepdims=True)
    np.testing.assert_allclose(asked.scores[0], exact[np.arange(ROWS), forced[0]], rtol=1e-6, atol=1e-5)
