"""The compiled decoders, the CPU's and the GPU's (here on a CPU): equal to the plain model, and a row's bits do not
depend on what is beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from textmill.errors import SettingsError
from textmill.models import rnn_decode_jax
from textmill.models.decoding import LARGEST, choose_precision
from textmill.models.decoding_jax import SMALLEST
from textmill.models.rnn import RNNConfig, init, initial_state, step
from textmill.models.rnn_decode import class_for
from textmill.models.rnn_decode_cpu import CHUNK, CPUDecoder
from textmill.models.rnn_decode_jax import JaxDecoder
from textmill.models.sample import Controls, uniforms

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
assert CHUNK == rnn_decode_jax.CHUNK

WIDE = RNNConfig.of(cell="gru", vocabulary_size=98, num_layers=2, hidden_size=96)


ODD = RNNConfig.of(cell="lstm", vocabulary_size=67, num_layers=3, hidden_size=21)
CONFIGS = {"gru": GRU, "lstm": LSTM, "wide": WIDE, "odd": ODD}
WEIGHTS = {name: {k: 3 * v for k, v in init(c, 1).items()} for name, c in CONFIGS.items()}


@pytest.fixture(scope="module", params=[CPUDecoder, JaxDecoder])
def decoders(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of each model, so that loops are compiled once; weights large enough for peaked distributions."""
    return {
        name: request.param(config, WEIGHTS[name], banned=(0,), precision="float32")
        for name, config in CONFIGS.items()
    }


def run(
    pool: Any, first: Any, forced: Any, u: Any, controls: Controls | None = None, fresh: bool = True
) -> Any:
    slots = pool.slots
    forced = np.broadcast_to(
        np.asarray(forced, np.int32).reshape(-1, 1) if np.ndim(forced) < 2 else forced, u.shape
    )
    return pool.run(
        np.full(slots, fresh), np.full(slots, first, np.int32), forced, u, controls or Controls.neutral(slots)
    )


def drawn(decoder: Any, rows: int, steps: int = 40, **controls: float) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and scores [steps, rows] of texts 0 to rows - 1, seed 9."""
    pool = decoder.pool(rows)
    wanted = Controls.neutral(pool.slots)
    for name, value in controls.items():
        getattr(wanted, name)[:] = value
    u = uniforms(9, np.arange(pool.slots)[None], np.arange(steps)[:, None])
    tokens, scores = run(pool, 3, np.full(steps, -1), u, wanted)
    return tokens[:, :rows], scores[:, :rows]


@pytest.mark.parametrize("name", ["gru", "lstm", "odd"])
def test_scores_are_those_of_the_plain_model(decoders: dict[str, Any], name: str) -> None:
    config, decoder = CONFIGS[name], decoders[name]
    ids = np.random.default_rng(0).integers(0, config.vocabulary_size, 30)
    for rows in (1, 7):
        pool = decoder.pool(rows)
        forced = np.repeat(ids[1:, None], pool.slots, axis=1)
        tokens, scores = run(pool, ids[0], forced, np.zeros(forced.shape, np.float32))
        assert (tokens == forced).all(), "forced tokens are fed as they are, banned or not"
        state: Any = initial_state(config, 1)
        for i in range(len(ids) - 1):
            logits, state = step(config, WEIGHTS[name], ids[i : i + 1].astype(np.int32), state)
            plain = np.asarray(logits, np.float64)[0]
            expected = plain[ids[i + 1]] - np.logaddexp.reduce(plain)
            np.testing.assert_allclose(scores[i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "batches"), [("gru", (2, 7, 30)), ("lstm", (7,)), ("wide", (30,))])
def test_a_row_has_the_same_bits_in_any_batch(
    decoders: dict[str, Any], name: str, batches: tuple[int, ...]
) -> None:
    alone, score = drawn(decoders[name], 1)
    for rows in batches:
        tokens, scores = drawn(decoders[name], rows)
        assert (tokens[:, :1] == alone).all(), f"text 0 differs in a batch of {rows}"
        assert (scores[:, :1] == score).all(), f"bits of text 0 differ in a batch of {rows}"
    assert len({tuple(column) for column in tokens.T}) == batches[-1], "texts of other indices must differ"


def test_chunks_do_not_change_a_text(decoders: dict[str, Any]) -> None:
    whole, _ = drawn(decoders["gru"], 2, steps=40)
    pool = decoders["gru"].pool(2)
    u = uniforms(9, np.arange(2)[None], np.arange(40)[:, None])
    parts = [run(pool, 3, np.full(b - a, -1), u[a:b], fresh=a == 0)[0] for a, b in ((0, 1), (1, 8), (8, 40))]
    assert (np.concatenate(parts) == whole).all()


def test_slots_start_at_their_own_time(decoders: dict[str, Any]) -> None:
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


def test_banned_tokens_are_never_drawn(decoders: dict[str, Any]) -> None:
    tokens, _ = drawn(decoders["gru"], 30)
    assert (tokens != 0).all()
    assert len(np.unique(tokens)) > 20


def test_penalty_counts_the_tokens_of_the_prompt_too(decoders: dict[str, Any]) -> None:
    pool = decoders["gru"].pool(1)
    prompt = np.arange(1, 35)
    controls = Controls.neutral(pool.slots)
    controls.penalty[:], controls.temperature[:] = 1e6, 0
    forced = np.concatenate([prompt[1:-1], [-1]])
    tokens, _ = run(pool, prompt[0], forced, np.zeros((len(forced), pool.slots), np.float32), controls)
    assert tokens[-1, 0] == 34, "the one token that was not seen is all that is left"


def compiled(decoder: Any) -> Any:
    """What a decoder has compiled so far, to be compared."""
    if isinstance(decoder, CPUDecoder):
        return list(decoder._steps.signatures)
    return {key: loop._cache_size() for key, loop in decoder._functions.items()}


def test_new_weights_need_no_new_compilation(decoders: dict[str, Any]) -> None:
    decoder, old = decoders["gru"], WEIGHTS["gru"]
    before = drawn(decoder, 1)[1]
    ready = compiled(decoder)
    decoder.load({name: 0 * value for name, value in old.items()})
    scores = drawn(decoder, 1)[1]
    np.testing.assert_allclose(scores, -np.log(35), rtol=1e-6)
    decoder.load(old)
    assert (drawn(decoder, 1)[1] == before).all()
    assert compiled(decoder) == ready


def test_a_pool_size_is_compiled_once(decoders: dict[str, Any]) -> None:
    drawn(decoders["lstm"], 1, steps=CHUNK)
    ready = compiled(decoders["lstm"])
    for _ in range(3):
        drawn(decoders["lstm"], 1, steps=CHUNK)
        drawn(decoders["lstm"], 1, steps=3)
    assert compiled(decoders["lstm"]) == ready


def test_pools_are_bounded(decoders: dict[str, Any]) -> None:
    assert decoders["gru"].pool(500).slots <= LARGEST


def test_slots_that_would_change_bits_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = JaxDecoder(WIDE, WEIGHTS["wide"], precision="float32")
    monkeypatch.setattr(decoder, "_safe", {})
    monkeypatch.setattr(decoder, "_equal", lambda slots: slots <= 8)
    assert [decoder._slots_for(n) for n in (7, 9, 30)] == [7, 8, 8]
    monkeypatch.setattr(decoder, "_equal", lambda slots: slots == SMALLEST)
    assert decoder._slots_for(20) == SMALLEST


@pytest.mark.parametrize("name", ["gru", "odd"])
def test_bfloat16_is_near_float32(decoders: dict[str, Any], name: str) -> None:
    exact = decoders[name]
    narrow = type(exact)(CONFIGS[name], WEIGHTS[name], precision="bfloat16")
    ids, scores = np.arange(1, 31), []
    for decoder in (exact, narrow):
        pool = decoder.pool(1)
        scores.append(run(pool, ids[0], ids[1:], np.zeros((29, pool.slots), np.float32))[1].mean())
    assert scores[0] != scores[1]
    assert scores[1] == pytest.approx(scores[0], abs=0.02)


def test_precision_goes_by_the_processor() -> None:
    assert choose_precision("float32") == "float32"
    assert choose_precision("auto") in ("float32", "bfloat16")
    with pytest.raises(SettingsError, match="Did you mean 'float32'"):
        choose_precision("float23")


# --- the CPU's


def test_the_decoder_goes_by_the_platform() -> None:
    assert class_for("cpu") is CPUDecoder
    assert class_for("gpu") is JaxDecoder


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["gru", "lstm", "odd"])
def test_the_number_of_threads_and_slots_does_not_change_a_bit(name: str, precision: str) -> None:
    found = [
        drawn(CPUDecoder(CONFIGS[name], WEIGHTS[name], precision=precision, threads=threads), rows, steps=31)
        for threads, rows in ((1, 1), (2, 1), (3, 5), (2, 30))
    ]
    for tokens, scores in found[1:]:
        assert (tokens[:, 0] == found[0][0][:, 0]).all()
        assert (scores[:, 0] == found[0][1][:, 0]).all()


@pytest.mark.parametrize("name", ["gru", "odd"])
def test_a_slot_keeps_nothing_of_the_text_before(name: str) -> None:
    decoder = CPUDecoder(CONFIGS[name], WEIGHTS[name], precision="bfloat16")
    pool, u = decoder.pool(2), uniforms(9, np.arange(2)[None], np.arange(31)[:, None])
    first = run(pool, 3, np.full(31, -1), u)
    for found, wanted in zip(run(pool, 3, np.full(31, -1), u), first, strict=True):
        assert (found == wanted).all()


@pytest.mark.parametrize("name", ["gru", "lstm", "odd"])
def test_slots_that_rest_change_nothing_of_the_others(name: str) -> None:
    """Slots rest and start again at any time; each text is the one that it is where nobody rests."""
    decoder = CPUDecoder(CONFIGS[name], WEIGHTS[name], precision="bfloat16", threads=2)
    slots, draw = 5, np.random.default_rng(2)
    controls = Controls.neutral(slots)
    controls.penalty[:], controls.temperature[:] = [1, 2, 1, 3, 1], [1, 0.5, 0, 1, 2]
    pool, steps = decoder.pool(slots), 7
    alone = [decoder.pool(1) for _ in range(slots)]
    awake: set[int] = set()
    for slot in range(slots):
        pool.rest(slot)
    for _ in range(30):
        for slot in list(awake):
            if draw.random() < 0.3:
                pool.rest(slot)
                awake.discard(slot)
        fresh = draw.random(slots) < 0.4
        awake |= set(np.flatnonzero(fresh).tolist())
        u = draw.random((steps, slots), np.float32)
        tokens, scores = pool.run(
            fresh, np.arange(slots, dtype=np.int32), np.full((steps, slots), -1, np.int32), u, controls
        )
        assert pool._stepped == len(awake)
        assert np.isfinite(scores).all()
        for slot in awake:
            drawn_here, one = np.full((steps, 1), -1, np.int32), np.array([slot])
            wanted, _ = alone[slot].run(fresh[one], one, drawn_here, u[:, one], controls.of(one))
            assert (tokens[:, one] == wanted).all()


def test_the_likeliest_tokens_are_those_of_the_plain_model(decoders: dict[str, Any]) -> None:
    pool = decoders["gru"].pool(2)
    controls, state = Controls.neutral(pool.slots), initial_state(GRU, 1)
    controls.likeliest[1] = 4
    ids = np.random.default_rng(5).integers(1, GRU.vocabulary_size, 20).astype(np.int32)
    run(pool, 3, ids, np.zeros((20, pool.slots), np.float32), controls)
    assert pool.likeliest is not None
    for step_ids, step_scores, token in zip(*pool.likeliest.of(slice(None), 1), [3, *ids[:-1]], strict=True):
        logits, state = step(GRU, WEIGHTS["gru"], np.array([token]), state)
        known = np.asarray(logits, np.float64)[0]
        known -= np.logaddexp.reduce(known)
        known[0] = -np.inf
        assert step_ids[0] == known.argmax()
        assert np.allclose(step_scores[:4], np.sort(known)[::-1][:4], atol=1e-4)
