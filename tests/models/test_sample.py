"""Drawing tokens: the distribution that is asked for, and randomness that is a function of (seed, index, position)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from textmill.models.sample import (
    ONE,
    Controls,
    Variant,
    invert,
    keep_top_k,
    keep_top_p,
    log_probability,
    next_token,
    philox4x32,
    uniforms,
)


@pytest.fixture(autouse=True)
def _sixty_four_bits() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


LOGITS = np.log(np.array([0.05, 0.4, 0.1, 0.3, 0.15], np.float32))


def draw(
    logits: np.ndarray, count: int = 4000, seen: np.ndarray | None = None, **controls: float
) -> np.ndarray:
    """`count` tokens from one row of logits, each with its own uniform number."""
    rows = Controls.neutral(count)
    wanted = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "penalty": 1.0} | controls
    for name, value in wanted.items():
        getattr(rows, name)[:] = value
    settings = (rows.temperature, rows.top_k, rows.top_p, rows.penalty)
    many = np.broadcast_to(logits, (count, len(logits)))
    seen = np.broadcast_to(np.zeros(1, np.float32) if seen is None else seen, many.shape)
    u = uniforms(5, 0, np.arange(count))
    return np.asarray(
        next_token(jnp.asarray(many), jnp.asarray(u), settings, jnp.asarray(seen), rows.variant)
    )


def chi_square(tokens: np.ndarray, probabilities: np.ndarray) -> float:
    expected = probabilities * len(tokens)
    counts = np.bincount(tokens, minlength=len(probabilities))
    assert not counts[expected == 0].any()
    return float((((counts - expected) ** 2)[expected > 0] / expected[expected > 0]).sum())


# --- randomness


def test_philox_gives_the_numbers_of_its_authors() -> None:
    # known answers of the Random123 distribution, kat_vectors, philox4x32 10
    zero, ones = (np.full((), word, np.uint64) for word in (0, 0xFFFFFFFF))
    assert [f"{int(w):08x}" for w in philox4x32([zero] * 4, (0, 0))] == [
        "6627e8d5",
        "e169c58d",
        "bc57ac4c",
        "9b00dbd8",
    ]
    assert [f"{int(w):08x}" for w in philox4x32([ones] * 4, (0xFFFFFFFF, 0xFFFFFFFF))] == (
        ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
    )


def test_uniforms_are_pinned() -> None:
    assert uniforms(7, 0, np.arange(3)).tolist() == [
        0.9545971155166626,
        0.4069603681564331,
        0.006075084209442139,
    ]


def test_uniforms_are_a_function_of_seed_index_and_position() -> None:
    whole = uniforms(3, np.arange(4)[None], np.arange(100)[:, None])
    assert whole.shape == (100, 4)
    assert whole[17, 2] == uniforms(3, 2, 17)
    assert len(np.unique(whole)) > 395
    assert uniforms(3, 2, 17) != uniforms(4, 2, 17)
    assert uniforms(2**40 + 3, 2, 17) != uniforms(3, 2, 17), "the seed's high bits must count"


def test_uniforms_are_uniform_and_below_one() -> None:
    u = uniforms(11, np.arange(20)[:, None], np.arange(5000))
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    assert u.min() >= 0
    assert u.max() < 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 148.2, "chi-square of 99 degrees of freedom, 0.1 %"


# --- distributions


def test_plain_sampling_follows_the_distribution() -> None:
    assert chi_square(draw(LOGITS), np.exp(LOGITS)) < 18.5, "4 degrees of freedom, 0.1 %"


def test_a_vocabulary_that_is_not_a_square_follows_the_distribution() -> None:
    logits = np.random.default_rng(0).normal(0, 1, 98).astype(np.float32)
    probabilities = np.exp(logits - logits.max(), dtype=np.float64)
    statistic = chi_square(draw(logits, 20_000), probabilities / probabilities.sum())
    assert statistic < 148.0, "97 degrees of freedom, 0.1 %"


def test_temperature_sharpens() -> None:
    sharp = np.exp(LOGITS / 0.5)
    assert chi_square(draw(LOGITS, temperature=0.5), sharp / sharp.sum()) < 18.5


def test_temperature_zero_and_top_k_one_are_greedy() -> None:
    assert set(draw(LOGITS, 100, temperature=0)) == {1}
    assert set(draw(LOGITS, 100, top_k=1)) == {1}


@pytest.mark.parametrize("k", [1, 2, 3, 5, 40])
def test_top_k_keeps_the_k_likeliest_and_their_ratios(k: int) -> None:
    kept = np.where(np.argsort(np.argsort(-LOGITS)) < k, np.exp(LOGITS), 0)
    tokens = draw(LOGITS, top_k=k)
    assert len(set(tokens.tolist())) == min(k, 5)
    assert chi_square(tokens, kept / kept.sum()) < 18.5


@pytest.mark.parametrize("size", [98, 1500])
@pytest.mark.parametrize("k", [1, 10, 97])
def test_top_k_support_is_exactly_k_even_among_equals(size: int, k: int) -> None:
    flat = np.ones((3, size), np.int32)
    assert (np.count_nonzero(keep_top_k(jnp.asarray(flat), jnp.asarray([k] * 3)), axis=1) == k).all()
    mixed = np.random.default_rng(1).integers(1, 5, (3, size)).astype(np.int32)
    kept = keep_top_k(jnp.asarray(mixed), jnp.asarray([k, 0, 2]))
    assert np.count_nonzero(kept, axis=1).tolist() == [k, size, 2]
    assert kept[0].sum() == np.sort(mixed[0])[-k:].sum()


@pytest.mark.parametrize("size", [98, 1500])
def test_top_k_of_random_weights_is_that_of_a_sort(size: int) -> None:
    weights = np.random.default_rng(2).integers(0, 2**30, (40, size)).astype(np.int32)
    k = np.random.default_rng(3).integers(1, size + 1, 40).astype(np.int32)
    kept = keep_top_k(jnp.asarray(weights), jnp.asarray(k))
    for row, wanted, count in zip(kept, weights, k, strict=True):
        assert set(np.flatnonzero(row)) == set(np.argsort(-wanted)[:count])


@pytest.mark.parametrize(
    ("p", "support"), [(0.3, {1}), (0.399, {1}), (0.41, {1, 3}), (0.8, {1, 3, 4}), (1.0, {0, 1, 2, 3, 4})]
)
def test_top_p_keeps_the_fewest_that_reach_p(p: float, support: set[int]) -> None:
    assert set(draw(LOGITS, top_p=p).tolist()) == support


def test_top_p_of_random_weights_is_that_of_a_sort() -> None:
    weights = (2**30 * np.random.default_rng(4).random((20, 1500)) ** 4).astype(np.int32)
    kept = keep_top_p(jnp.asarray(weights), jnp.asarray(np.full(20, 0.7, np.float32)))
    for row, wanted in zip(kept, weights, strict=True):
        ordered = np.sort(wanted)[::-1].cumsum(dtype=np.int64)
        assert np.count_nonzero(row) == np.searchsorted(ordered, int(np.float32(0.7) * 1.0 * ordered[-1])) + 1


def test_top_p_comes_after_top_k() -> None:
    assert set(draw(LOGITS, top_k=3, top_p=0.8).tolist()) == {1, 3}, (
        "0.4 and 0.3 of the 0.85 that top-k leaves"
    )


def test_repetition_penalty_makes_seen_tokens_less_likely_whatever_their_sign() -> None:
    logits = np.array([2.0, -1.0, 0.5], np.float32)
    seen = np.array([1.0, 1.0, 0.0], np.float32)
    penalised = np.exp(np.array([1.0, -2.0, 0.5]))
    tokens = draw(logits, 8000, seen=seen, penalty=2.0)
    assert chi_square(tokens, penalised / penalised.sum()) < 13.8, "2 degrees of freedom, 0.1 %"


def test_rows_have_their_own_controls() -> None:
    controls = Controls.neutral(3)
    controls.set(0, temperature=0, top_k=0, top_p=1, penalty=1)
    controls.set(1, temperature=1, top_k=1, top_p=1, penalty=1)
    assert controls.variant == Variant(tempered=True, top_k=True)
    settings = (controls.temperature, controls.top_k, controls.top_p, controls.penalty)
    u = jnp.asarray(np.full(3, 0.999, np.float32))
    logits = jnp.asarray(np.broadcast_to(LOGITS, (3, 5)))
    assert next_token(logits, u, settings, None, controls.variant).tolist() == [1, 1, 4]


# --- the inverse of the distribution


@pytest.mark.parametrize("u", [0.0, 0.5, float(np.float32(1 - 2**-24))])
def test_a_token_of_weight_zero_is_never_drawn(u: float) -> None:
    for size in (2, 5, 98, 1000):
        for only in {0, size // 2, size - 1}:
            weights = np.zeros((1, size), np.int32)
            weights[0, only] = 1
            assert invert(jnp.asarray(weights), jnp.asarray([u], jnp.float32)).tolist() == [only]


def test_the_inverse_is_the_first_place_where_the_sum_passes() -> None:
    weights = np.random.default_rng(5).integers(0, 4, (200, 98)).astype(np.int32)
    u = uniforms(1, 0, np.arange(200))
    expected = [
        np.searchsorted(row.cumsum(), int(x * row.sum()), side="right")
        for row, x in zip(weights, u, strict=True)
    ]
    assert invert(jnp.asarray(weights), jnp.asarray(u)).tolist() == expected


def test_sums_are_exact_at_the_largest_total() -> None:
    weights = np.full((2, 100_000), int(ONE), np.int32)
    u = np.array([0.5, 1 - 2**-24], np.float32)
    assert invert(jnp.asarray(weights), jnp.asarray(u)).tolist() == [50_000, 99_999]


# --- scores and bits


def test_log_probability_is_that_of_a_softmax() -> None:
    logits = np.random.default_rng(6).normal(0, 4, (50, 3000)).astype(np.float32)
    tokens = np.random.default_rng(7).integers(0, 3000, 50).astype(np.int32)
    exact = logits.astype(np.float64)
    expected = exact[np.arange(50), tokens] - np.logaddexp.reduce(exact, axis=1)
    found = log_probability(jnp.asarray(logits), jnp.asarray(tokens))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_a_compiled_row_has_the_same_bits_in_any_batch() -> None:
    logits = np.random.default_rng(8).normal(0, 3, (30, 17_555)).astype(np.float32)
    u = uniforms(1, 0, np.arange(30))
    controls = Controls.neutral(30)
    for row in range(30):
        controls.set(
            row, temperature=0.8 + row % 3 / 10, top_k=row % 4 * 300, top_p=1 - row % 2 / 10, penalty=1
        )
    settings = (controls.temperature, controls.top_k, controls.top_p, controls.penalty)

    @jax.jit
    def draw_and_score(logits: Any, u: Any, *settings: Any) -> Any:
        token = next_token(logits, u, settings, None, controls.variant)
        return token, log_probability(logits, token)

    whole = [np.asarray(part) for part in draw_and_score(logits, u, *settings)]
    for rows in (1, 2):
        few = draw_and_score(logits[:rows], u[:rows], *(part[:rows] for part in settings))
        assert all((np.asarray(a) == b[:rows]).all() for a, b in zip(few, whole, strict=True))
