"""The compiled decoder: equal to the plain model, and a row's bits do not depend on what is beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textmill.errors import SettingsError
from textmill.models.rnn import RNNConfig, init, initial_state, step
from textmill.models.rnn_decode import CHUNK, LARGEST, SMALLEST, Pool, RNNDecoder, choose_precision
from textmill.sample import Controls, Variant, uniforms

GRU = RNNConfig.of(cell="gru", vocabulary_size=35, num_layers=2, hidden_size=24)
LSTM = RNNConfig.of(
    cell="lstm",
    vocabulary_size=50,
    num_layers=2,
    hidden_size=16,
    embedding="learned",
    init_scale=0.5,
    forget_bias=1.0,
)
WIDE = RNNConfig.of(cell="gru", vocabulary_size=98, num_layers=2, hidden_size=96)


@pytest.fixture(scope="module")
def decoders() -> dict[str, RNNDecoder]:
    """One of each kind, so that loops are compiled once; weights large enough for peaked distributions."""
    weights = {name: {k: 3 * v for k, v in init(c, 1).items()} for name, c in CONFIGS.items()}
    return {
        name: RNNDecoder(config, weights[name], banned=(0,), precision="float32")
        for name, config in CONFIGS.items()
    }


CONFIGS = {"gru": GRU, "lstm": LSTM, "wide": WIDE}


def run(
    pool: Pool, first: Any, forced: Any, u: Any, controls: Controls | None = None, fresh: bool = True
) -> Any:
    slots = pool.slots
    forced = np.broadcast_to(
        np.asarray(forced, np.int32).reshape(-1, 1) if np.ndim(forced) < 2 else forced, u.shape
    )
    return pool.run(
        np.full(slots, fresh), np.full(slots, first, np.int32), forced, u, controls or Controls.neutral(slots)
    )


def drawn(
    decoder: RNNDecoder, rows: int, steps: int = 40, **controls: float
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and scores [steps, rows] of texts 0 to rows - 1, seed 9."""
    pool = decoder.pool(rows)
    wanted = Controls.neutral(pool.slots)
    for name, value in controls.items():
        getattr(wanted, name)[:] = value
    u = uniforms(9, np.arange(pool.slots)[None], np.arange(steps)[:, None])
    tokens, scores = run(pool, 3, np.full(steps, -1), u, wanted)
    return tokens[:, :rows], scores[:, :rows]


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_scores_are_those_of_the_plain_model(decoders: dict[str, RNNDecoder], name: str) -> None:
    config, decoder = CONFIGS[name], decoders[name]
    ids = np.random.default_rng(0).integers(0, config.vocabulary_size, 30)
    for rows in (1, 7):
        pool = decoder.pool(rows)
        forced = np.repeat(ids[1:, None], pool.slots, axis=1)
        tokens, scores = run(pool, ids[0], forced, np.zeros(forced.shape, np.float32))
        assert (tokens == forced).all(), "forced tokens are fed as they are, banned or not"
        state: Any = initial_state(config, 1)
        for i in range(len(ids) - 1):
            logits, state = step(config, decoder._weights, ids[i : i + 1].astype(np.int32), state)
            plain = np.asarray(logits, np.float64)[0]
            expected = plain[ids[i + 1]] - np.logaddexp.reduce(plain)
            np.testing.assert_allclose(scores[i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "batches"), [("gru", (2, 7, 30)), ("lstm", (7,)), ("wide", (30,))])
def test_a_row_has_the_same_bits_in_any_batch(
    decoders: dict[str, RNNDecoder], name: str, batches: tuple[int, ...]
) -> None:
    alone, score = drawn(decoders[name], 1)
    for rows in batches:
        tokens, scores = drawn(decoders[name], rows)
        assert (tokens[:, :1] == alone).all(), f"text 0 differs in a batch of {rows}"
        assert (scores[:, :1] == score).all(), f"bits of text 0 differ in a batch of {rows}"
    assert len({tuple(column) for column in tokens.T}) == batches[-1], "texts of other indices must differ"


def test_chunks_do_not_change_a_text(decoders: dict[str, RNNDecoder]) -> None:
    whole, _ = drawn(decoders["gru"], 2, steps=40)
    pool = decoders["gru"].pool(2)
    u = uniforms(9, np.arange(2)[None], np.arange(40)[:, None])
    parts = [run(pool, 3, np.full(b - a, -1), u[a:b], fresh=a == 0)[0] for a, b in ((0, 1), (1, 8), (8, 40))]
    assert (np.concatenate(parts) == whole).all()


def test_slots_start_at_their_own_time(decoders: dict[str, RNNDecoder]) -> None:
    alone, _ = drawn(decoders["gru"], 2, steps=20)
    pool = decoders["gru"].pool(2)
    u = np.zeros((20, 2), np.float32)
    u[:, 0] = uniforms(9, 5, np.arange(20))
    run(pool, 3, np.full(20, -1), u)
    u[:, 1] = uniforms(9, 1, np.arange(20))
    tokens, _ = pool.run(
        np.array([False, True]),
        np.full(2, 3, np.int32),
        np.full((20, 2), -1, np.int32),
        u,
        Controls.neutral(2),
    )
    assert (tokens[:, 1] == alone[:, 1]).all(), "a text that joins later is the same text"


def test_banned_tokens_are_never_drawn(decoders: dict[str, RNNDecoder]) -> None:
    tokens, _ = drawn(decoders["gru"], 30)
    assert (tokens != 0).all()
    assert len(np.unique(tokens)) > 20


def test_penalty_counts_the_tokens_of_the_prompt_too(decoders: dict[str, RNNDecoder]) -> None:
    pool = decoders["gru"].pool(1)
    prompt = np.arange(1, 35)
    controls = Controls.neutral(pool.slots)
    controls.penalty[:], controls.temperature[:] = 1e6, 0
    forced = np.concatenate([prompt[1:-1], [-1]])
    tokens, _ = run(pool, prompt[0], forced, np.zeros((len(forced), pool.slots), np.float32), controls)
    assert tokens[-1, 0] == 34, "the one token that was not seen is all that is left"


def test_new_weights_need_no_new_compilation(decoders: dict[str, RNNDecoder]) -> None:
    decoder, old = decoders["gru"], decoders["gru"]._weights
    before = drawn(decoder, 1)[1]
    loops = dict(decoder._loops)
    decoder.load({name: 0 * value for name, value in old.items()})
    scores = drawn(decoder, 1)[1]
    np.testing.assert_allclose(scores, -np.log(35), rtol=1e-6)
    decoder.load(old)
    assert (drawn(decoder, 1)[1] == before).all()
    assert decoder._loops == loops


def test_a_pool_size_is_compiled_once(decoders: dict[str, RNNDecoder]) -> None:
    for _ in range(3):
        drawn(decoders["lstm"], 1, steps=CHUNK)
        drawn(decoders["lstm"], 1, steps=3)
    assert decoders["lstm"]._loop(SMALLEST, Variant())._cache_size() == 1


def test_pools_are_bounded(decoders: dict[str, RNNDecoder]) -> None:
    assert decoders["gru"].pool(500).slots <= LARGEST


def test_slots_that_would_change_bits_are_not_used(
    decoders: dict[str, RNNDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoders["wide"]
    monkeypatch.setattr(decoder, "_safe", {})
    monkeypatch.setattr(decoder, "_equal", lambda slots: slots <= 8)
    assert [decoder._slots_for(n) for n in (7, 9, 30)] == [7, 8, 8]
    monkeypatch.setattr(decoder, "_equal", lambda slots: slots == SMALLEST)
    assert decoder._slots_for(20) == SMALLEST


def test_bfloat16_is_near_float32(decoders: dict[str, RNNDecoder]) -> None:
    narrow = RNNDecoder(GRU, decoders["gru"]._weights, precision="bfloat16")
    ids, scores = np.arange(1, 31), []
    for decoder in (decoders["gru"], narrow):
        pool = decoder.pool(1)
        scores.append(run(pool, ids[0], ids[1:], np.zeros((29, pool.slots), np.float32))[1].mean())
    assert scores[0] != scores[1]
    assert scores[1] == pytest.approx(scores[0], abs=0.02)


def test_precision_goes_by_the_processor() -> None:
    assert choose_precision("float32") == "float32"
    assert choose_precision("auto") in ("float32", "bfloat16")
    with pytest.raises(SettingsError, match="Did you mean 'float32'"):
        choose_precision("float23")
