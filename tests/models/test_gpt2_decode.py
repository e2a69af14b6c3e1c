"""GPT-2's decoders, the CPU's and the GPU's (here on a CPU): equal to the plain model, and a text's bits do not depend
on what is beside it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from textmill.errors import SettingsError
from textmill.models.gpt2 import GPT2Config, forward, init
from textmill.models.sample import Controls, uniforms

pytest.importorskip("jax")

from textmill.models import gpt2_decode_cpu, gpt2_decode_jax, gpt2_kernels
from textmill.models.decoding import LARGEST
from textmill.models.gpt2_decode import class_for
from textmill.models.gpt2_decode_cpu import CHUNK, CPUDecoder
from textmill.models.gpt2_decode_jax import BLOCK, JaxDecoder

assert CHUNK == gpt2_decode_jax.CHUNK

CONFIG = GPT2Config(vocabulary_size=97, context=150, width=48, num_heads=3, num_layers=2)
PEAKED = {name: 5 * value if value.ndim == 2 else value for name, value in init(CONFIG, 1).items()}
IDS = np.random.default_rng(0).integers(1, 97, CONFIG.context).astype(np.int32)


@pytest.fixture(scope="module", params=[CPUDecoder, JaxDecoder])
def decoders(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of each precision, so that functions are compiled once; weights large enough for peaked distributions."""
    return {p: request.param(CONFIG, PEAKED, precision=p, banned=(0,)) for p in ("float32", "bfloat16")}


@pytest.fixture(scope="module")
def of_jax() -> dict[str, Any]:
    return {p: JaxDecoder(CONFIG, PEAKED, precision=p, banned=(0,)) for p in ("float32", "bfloat16")}


def compiled(decoder: Any) -> Any:
    """What a decoder has compiled so far, to be compared."""
    if isinstance(decoder, CPUDecoder):
        return list(gpt2_kernels.forward.signatures)
    return {key: function._cache_size() for key, function in decoder._functions.items()}


def plain(ids: np.ndarray, weights: Any = PEAKED) -> np.ndarray:
    """Log probabilities [T, V] after each of ids, by the plain model."""
    logits = forward(CONFIG, weights, ids[None])[0].astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def scores_of(ids: np.ndarray) -> np.ndarray:
    """Log probability of each of ids[1:], by the plain model."""
    return plain(ids[:-1])[np.arange(len(ids) - 1), ids[1:]]


def go(
    pool: Any, forced: np.ndarray, u: np.ndarray, controls: Controls | None = None, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """forced, u [N, S], N of any size; `first`: all slots start anew with it."""
    found = []
    for at in range(0, len(forced), CHUNK):
        fresh = np.full(pool.slots, first is not None and at == 0)
        starts = np.full(pool.slots, first or 0, np.int32)
        part = slice(at, at + CHUNK)
        found.append(
            pool.run(
                fresh,
                starts,
                forced[part].astype(np.int32),
                u[part],
                controls or Controls.neutral(pool.slots),
            )
        )
    tokens, scores = zip(*found, strict=True)
    return np.concatenate(tokens), np.concatenate(scores)


def feed(pool: Any, ids: np.ndarray) -> np.ndarray:
    """Step all slots through ids; scores [len(ids)-1, S]."""
    forced = np.repeat(ids[1:, None], pool.slots, axis=1)
    tokens, scores = go(pool, forced, np.zeros(forced.shape, np.float32), first=int(ids[0]))
    assert (tokens == forced).all(), "forced tokens are fed as they are, banned or not"
    return scores


def draw(
    pool: Any, steps: int, indices: np.ndarray, controls: Controls | None = None, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`steps` tokens of the texts of these indices, seed 9."""
    u = uniforms(9, indices[None], np.arange(steps)[:, None])
    return go(pool, np.full(u.shape, -1), u, controls, first)


@pytest.mark.parametrize("rows", [1, 7])
def test_scores_are_those_of_the_plain_model(decoders: dict[str, Any], rows: int) -> None:
    scores = feed(decoders["float32"].pool(rows), IDS)
    for column in scores.T:
        np.testing.assert_allclose(column, scores_of(IDS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, BLOCK, BLOCK + 1, BLOCK + 2, CONFIG.context])
def test_a_prompt_read_as_a_block_has_the_scores_of_the_plain_model(
    decoders: dict[str, Any], count: int
) -> None:
    found = decoders["float32"].pool(2).read(1, IDS[:count])
    assert found.shape == (count - 1,)
    if count > 1:
        np.testing.assert_allclose(found, scores_of(IDS[:count]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scored", [True, False])
def test_reading_and_stepping_through_a_prompt_go_on_alike(decoders: dict[str, Any], scored: bool) -> None:
    ids, forced = IDS[:70], np.full((40, 2), -1)
    u = np.repeat(uniforms(9, 0, np.arange(40))[:, None], 2, axis=1)
    stepped, read = decoders["float32"].pool(2), decoders["float32"].pool(2)
    feed(stepped, ids)
    for slot in (0, 1):
        read.read(slot, ids, scored=scored)
    (tokens, scores), (others, other_scores) = go(stepped, forced, u), go(read, forced, u)
    assert (tokens == others).all()
    np.testing.assert_allclose(scores, other_scores, rtol=1e-4, atol=1e-4)


def test_greedy_text_is_that_of_the_plain_model(decoders: dict[str, Any]) -> None:
    pool = decoders["float32"].pool(1)
    controls = Controls.neutral(pool.slots)
    controls.temperature[:] = 0
    ids = list(IDS[:20])
    for slot in range(pool.slots):
        pool.read(slot, IDS[:20])
    tokens, _ = draw(pool, 40, np.zeros(pool.slots, int), controls)
    for token in tokens[:, 0]:
        logits = plain(np.array(ids))[-1]
        logits[0] = -np.inf  # banned
        assert token == logits.argmax()
        ids.append(token)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_text_has_the_same_bits_in_any_pool(decoders: dict[str, Any], precision: str) -> None:
    alone = decoders[precision].pool(1)
    alone.read(0, IDS[:10])
    expected = [part[:, 0] for part in draw(alone, 80, np.arange(alone.slots))]
    for rows in (2, 7, 30):
        pool = decoders[precision].pool(rows)
        slot = rows // 2
        for other in range(pool.slots):  # neighbours are shorter, longer and in other blocks
            pool.read(other, IDS[: 1 + 29 * other % 60] if other != slot else IDS[:10])
        indices = np.arange(pool.slots) + 100
        indices[slot] = 0
        found = draw(pool, 80, indices)
        for part, wanted in zip(found, expected, strict=True):
            assert (part[:, slot] == wanted).all(), f"text 0 differs in a pool of {rows}"


def test_chunks_and_late_starts_do_not_change_a_text(decoders: dict[str, Any]) -> None:
    whole, scores = draw(decoders["bfloat16"].pool(2), 40, np.arange(2), first=3)
    pool, u = decoders["bfloat16"].pool(2), uniforms(9, np.arange(2)[None], np.arange(60)[:, None])
    feed(pool, IDS[:20])
    u[20:, 1] = u[:40, 1]
    parts = []
    for a, b in ((0, 1), (1, 20), (20, 21), (21, 50), (50, 60)):
        fresh = np.array([a == 0, a == 20])
        forced = np.full((b - a, 2), -1, np.int32)
        parts.append(pool.run(fresh, np.full(2, 3, np.int32), forced, u[a:b], Controls.neutral(2)))
    tokens, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert (tokens[:40, 0] == whole[:, 0]).all()
    assert (tokens[20:, 1] == whole[:, 1]).all()
    assert (values[20:, 1] == scores[:, 1]).all()


def test_a_slot_keeps_nothing_of_the_text_before(decoders: dict[str, Any]) -> None:
    used, new = decoders["bfloat16"].pool(2), decoders["bfloat16"].pool(2)
    feed(used, IDS)
    for pool in (used, new):
        pool.read(0, IDS[5:12])
        pool.read(1, IDS[7:8])
    for mine, other in zip(draw(used, 90, np.arange(2)), draw(new, 90, np.arange(2)), strict=True):
        assert (mine == other).all()


def test_room_ends_with_the_context_and_a_window_makes_new_room(decoders: dict[str, Any]) -> None:
    pool = decoders["float32"].pool(2)
    pool.read(0, IDS[: CONFIG.context - 2])
    assert [pool.room(0), pool.room(1)] == [3, CONFIG.context]
    tokens, _ = draw(pool, 3, np.arange(2))
    assert [pool.room(0), pool.room(1)] == [0, CONFIG.context - 3]
    text = np.append(IDS[: CONFIG.context - 2], tokens[:, 0])
    window = text[-(CONFIG.context // 2) :]
    pool.read(0, window)
    assert pool.room(0) == CONFIG.context - len(window) + 1
    forced = np.array([[5, -1]])
    _, scores = go(pool, forced, np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(scores[0, 0], plain(window)[-1, 5], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [CPUDecoder, JaxDecoder])
def test_banned_tokens_are_never_drawn(kind: Any) -> None:
    weights = {**PEAKED, "wte": np.zeros_like(PEAKED["wte"])}  # every token is as likely as any
    pool = kind(CONFIG, weights, precision="float32", banned=tuple(range(90))).pool(30)
    tokens, scores = draw(pool, 20, np.arange(pool.slots), first=1)
    assert set(np.unique(tokens)) == set(range(90, 97))
    np.testing.assert_allclose(scores, -np.log(97), rtol=1e-6, err_msg="scores are the model's own")


@pytest.mark.parametrize("begun", [1, 60])
def test_penalty_counts_what_was_read_and_what_was_fed(decoders: dict[str, Any], begun: int) -> None:
    pool = decoders["float32"].pool(1)
    controls = Controls.neutral(pool.slots)
    controls.penalty[:], controls.temperature[:] = 3.0, 0
    for ids in (IDS[:70], np.full(62, 7, np.int32)):  # the second one is to forget the first
        for slot in range(pool.slots):
            pool.read(slot, ids[:begun])
        forced = np.repeat(np.append(ids[begun:], -1)[:, None], pool.slots, axis=1)
        tokens, _ = go(pool, forced, np.zeros(forced.shape, np.float32), controls)
        logits = forward(CONFIG, PEAKED, ids[None])[0, -1]
        penalised = np.where(logits > 0, logits / 3, logits * 3)
        penalised = np.where(np.isin(np.arange(97), ids), penalised, logits)
        penalised[0] = -np.inf  # banned
        if len(ids) == 70:
            assert penalised.argmax() != logits[1:].argmax() + 1, "the penalty must matter here"
        assert tokens[-1, 0] == penalised.argmax()


def test_new_weights_need_no_new_compilation(decoders: dict[str, Any]) -> None:
    decoder = decoders["float32"]
    before = feed(decoder.pool(1), IDS[:5])
    before_loading = compiled(decoder)
    decoder.load({name: 0 * value for name, value in PEAKED.items()})
    np.testing.assert_allclose(feed(decoder.pool(1), IDS[:5]), -np.log(97), rtol=1e-6)
    decoder.load(PEAKED)
    assert (feed(decoder.pool(1), IDS[:5]) == before).all()
    assert compiled(decoder) == before_loading


def test_each_shape_is_compiled_once(of_jax: dict[str, Any]) -> None:
    decoder = of_jax["bfloat16"]
    for length in (3, 70, 120):
        pool = decoder.pool(2)
        pool.read(0, IDS[:length])
        for steps in (1, 5, CHUNK):
            draw(pool, min(steps, pool.room(0)), np.arange(2))
    assert set(compiled(decoder).values()) == {1}, compiled(decoder)


def test_memory_does_not_grow_with_calls(decoders: dict[str, Any]) -> None:
    import jax

    pool = decoders["bfloat16"].pool(2)

    def work() -> int:
        pool.read(0, IDS[:30])
        draw(pool, 10, np.arange(2), first=2)
        return sum(array.nbytes for array in jax.live_arrays())

    work()
    assert len({work() for _ in range(4)}) == 1


@pytest.mark.parametrize("kind", [CPUDecoder, JaxDecoder])
def test_warm_up_leaves_nothing_to_compile(kind: Any) -> None:
    config = GPT2Config(vocabulary_size=30, context=100, width=16, num_heads=2, num_layers=1)
    decoder = kind(config, init(config, 0), precision="float32")
    decoder.warm_up(2)
    ready = compiled(decoder)
    assert ready
    pool = decoder.pool(2)
    for length in (2, 64, 100):
        pool.read(0, np.ones(length, np.int32), scored=False)
    draw(pool, 1, np.arange(pool.slots))
    assert compiled(decoder) == ready


def test_pools_are_bounded(decoders: dict[str, Any]) -> None:
    assert decoders["bfloat16"].pool(500).slots <= LARGEST


def test_slots_that_would_change_bits_are_not_used(
    of_jax: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = of_jax["float32"]
    monkeypatch.setattr(decoder, "_safe", {})
    monkeypatch.setattr(decoder, "_equal", lambda slots: slots <= 8)
    assert [decoder._slots_for(n) for n in (7, 9, 30)] == [7, 8, 8]


def test_bfloat16_is_near_float32(decoders: dict[str, Any]) -> None:
    exact, near = (decoders[p].pool(2).read(0, IDS) for p in ("float32", "bfloat16"))
    assert (exact != near).any()
    assert near.mean() == pytest.approx(exact.mean(), abs=0.02)
    assert np.abs(near - exact).max() < 0.3


# --- the CPU's


def test_the_decoder_goes_by_the_platform() -> None:
    assert class_for("cpu") is CPUDecoder
    assert class_for("gpu") is JaxDecoder


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 33, "num_heads": 3},  # odd everywhere: padded to pairs and whole panels
        {"width": 140, "num_heads": 1},  # a head wider than a panel
        {
            "vocabulary_size": 65,
            "context": 64,
            "width": 64,
            "num_heads": 4,
        },  # whole panels, and one more column
    ],
)
def test_models_of_any_size(sizes: dict[str, int], precision: str) -> None:
    config = GPT2Config.of(**{"vocabulary_size": 97, "context": 107, "num_layers": 2, **sizes})
    weights = {name: 4 * value if value.ndim == 2 else value for name, value in init(config, 2).items()}
    ids = IDS[: config.context] % config.vocabulary_size
    known = rounded(weights) if precision == "int8" else weights
    logits = forward(config, known, ids[None, :-1])[0].astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    expected = logits[np.arange(len(ids) - 1), ids[1:]]
    pool = CPUDecoder(config, weights, precision=precision).pool(3)
    found = pool.read(2, ids)
    np.testing.assert_allclose(found, expected, atol=1e-4 if precision == "float32" else 0.1)
    assert (feed(pool, ids) == found[:, None]).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_reading_stepping_and_the_number_of_threads_do_not_change_a_bit(precision: str) -> None:
    read = [
        CPUDecoder(CONFIG, PEAKED, precision=precision, threads=threads).pool(2).read(1, IDS)
        for threads in (1, 2, 3)
    ]
    stepped = feed(CPUDecoder(CONFIG, PEAKED, precision=precision, threads=2).pool(5), IDS)
    for other in (*read[1:], *stepped.T):
        assert (other == read[0]).all()


def test_slots_that_rest_change_nothing_of_the_others() -> None:
    decoder = CPUDecoder(CONFIG, PEAKED, precision="bfloat16")
    pool, everyone = decoder.pool(3), decoder.pool(3)
    controls = Controls.neutral(3)
    for slot in range(3):
        controls.set(slot, temperature=1 + slot / 4, top_k=0, top_p=1.0, penalty=1.0 + slot)
        for each in (pool, everyone):
            each.read(slot, IDS[: 10 + slot])
    expected = draw(everyone, 50, np.arange(3), controls)
    pool.rest(1)
    for found, wanted in zip(draw(pool, 50, np.arange(3), controls), expected, strict=True):
        assert (found[:, [0, 2]] == wanted[:, [0, 2]]).all()
    assert pool.room(1) == CONFIG.context - 10, "it was not stepped"
    pool.rest(0)
    pool.read(1, IDS[:11])
    for found, wanted in zip(draw(pool, 50, np.arange(3), controls), expected, strict=True):
        assert (found[:, 1] == wanted[:, 1]).all()
    for slot in range(3):
        pool.rest(slot)
    draw(pool, 2, np.arange(3))


def test_slots_that_rest_stay_at_the_beginning_of_their_context(of_jax: dict[str, Any]) -> None:
    """A step of a GPU's pool goes over the longest context in it."""
    pool, controls = of_jax["float32"].pool(2), Controls.neutral(2)
    pool.read(0, IDS[:50])
    pool.rest(0)
    pool.read(1, IDS[:3])
    draw(pool, 9, np.arange(2), controls)
    assert pool.room(0) == CONFIG.context
    assert pool.room(1) == CONFIG.context - 11
    pool.read(0, IDS[:50])
    assert pool.room(0) == CONFIG.context - 49


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pool_grows_with_its_texts(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    decoder = CPUDecoder(CONFIG, PEAKED, precision=precision)
    expected = decoder.pool(2).read(1, IDS)
    monkeypatch.setattr(gpt2_decode_cpu, "POSITIONS", 20)
    pool = decoder.pool(2)
    sizes = [pool._cache.keys.nbytes]
    for read in (30, 100):
        pool.read(0, IDS[:read])
        pool.read(1, IDS[: read // 2])
        sizes.append(pool._cache.keys.nbytes)
    u = np.zeros((len(IDS) - 50, 2), np.float32)
    forced = np.repeat(IDS[50:, None], 2, axis=1)
    _, scores = go(pool, forced, u)
    assert (scores[:, 1] == expected[49:]).all()
    sizes.append(pool._cache.keys.nbytes)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_pools_of_one_decoder_may_run_at_the_same_time() -> None:
    decoder = CPUDecoder(CONFIG, PEAKED, precision="bfloat16", threads=3)
    expected = feed(decoder.pool(2), IDS)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: feed(decoder.pool(2), IDS), range(8)):
            assert (found == expected).all()


def test_kernels_are_compiled_once_for_all_pools() -> None:
    decoder = CPUDecoder(CONFIG, PEAKED, precision="bfloat16", threads=2)
    decoder.warm_up(1)
    ready = compiled(decoder)
    for slots in (1, 2, 30):
        pool = decoder.pool(slots)
        pool.read(0, IDS[:40])
        draw(pool, 2, np.arange(slots))
    assert compiled(decoder) == ready


@pytest.mark.parametrize("kind", [CPUDecoder, JaxDecoder])
def test_penalty_goes_on_over_a_text_that_is_read_again(kind: Any) -> None:
    pool = kind(CONFIG, PEAKED, precision="float32").pool(1)
    controls = Controls.neutral(pool.slots)
    controls.penalty[:], controls.temperature[:] = 1e6, 0
    said = set()
    for ids, continued in ((IDS[:100], False), (IDS[90:100], True)):
        for slot in range(pool.slots):
            pool.read(slot, ids, continued=continued)
        tokens, _ = draw(pool, 1, np.arange(pool.slots), controls)
        said.add(int(tokens[0, 0]))
        assert not said & set(IDS[:100].tolist())
    for slot in range(pool.slots):
        pool.read(slot, IDS[90:100])
    tokens, _ = draw(pool, 20, np.arange(pool.slots), controls)
    assert set(tokens[:, 0].tolist()) & set(IDS[:90].tolist()), "a new text has not said them"


@pytest.mark.parametrize("kind", [CPUDecoder, JaxDecoder])
def test_the_likeliest_tokens_are_those_of_the_plain_model(kind: Any) -> None:
    pool = kind(CONFIG, PEAKED, precision="float32", banned=(0,)).pool(2)
    expected = plain(IDS[:-1])
    expected[:, 0] = -np.inf
    best = np.sort(expected, axis=-1)[:, ::-1]
    pool.read(0, IDS, likeliest=3)
    assert pool.likeliest is not None
    assert np.allclose(pool.likeliest.scores[:, :3], best[:, :3], atol=2e-4)
    assert (pool.likeliest.ids[:, 0] == expected.argmax(axis=-1)).all()
    controls = Controls.neutral(pool.slots)
    controls.likeliest[1] = 2
    pool.rest(0)
    fresh, first = np.arange(pool.slots) == 1, np.full(pool.slots, IDS[0])
    forced = np.repeat(IDS[1 : CHUNK + 1, None], pool.slots, axis=1)
    pool.run(fresh, first, forced, np.zeros(forced.shape, np.float32), controls)
    found = pool.likeliest.of(slice(None), 1)
    assert np.allclose(found.scores[:, :2], best[:CHUNK, :2], atol=2e-4)
    assert (found.ids[:, 0] == expected[:CHUNK].argmax(axis=-1)).all()
    pool.run(~fresh, first, forced, np.zeros(forced.shape, np.float32), Controls.neutral(pool.slots))
    assert pool.likeliest is None


def rounded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What int8 keeps of weights: 255 steps for each column of a matrix, for each token of the embedding."""

    def of_matrix(matrix: np.ndarray) -> np.ndarray:
        step = np.abs(matrix).max(axis=0) / 127
        return np.rint(matrix / step) * step

    return {
        name: of_matrix(value.T).T if name == "wte" else of_matrix(value) if name.endswith("/w") else value
        for name, value in weights.items()
    }


@pytest.fixture(scope="module")
def in_int8() -> CPUDecoder:
    return CPUDecoder(CONFIG, PEAKED, precision="int8", banned=(0,))


def test_int8_is_the_model_with_rounded_weights(in_int8: CPUDecoder, decoders: dict[str, Any]) -> None:
    found = in_int8.pool(2).read(1, IDS)
    exact = decoders["float32"].pool(2).read(1, IDS)
    logits = forward(CONFIG, rounded(PEAKED), IDS[None, :-1])[0].astype(np.float64)
    logits -= np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, logits[np.arange(len(IDS) - 1), IDS[1:]], atol=0.3)
    assert (found != exact).any()
    assert found.mean() == pytest.approx(exact.mean(), abs=0.05)


def test_a_text_in_int8_has_the_same_bits_in_any_pool(in_int8: CPUDecoder) -> None:
    alone = in_int8.pool(1)
    alone.read(0, IDS[:10])
    expected = draw(alone, 60, np.arange(1))
    pool = in_int8.pool(13)
    for slot in range(13):
        pool.read(slot, IDS[:10] if slot == 5 else IDS[: 1 + 7 * slot])
    indices = np.arange(13) + 100
    indices[5] = 0
    for part, wanted in zip(draw(pool, 60, indices), expected, strict=True):
        assert (part[:, 5] == wanted[:, 0]).all()


def test_int8_is_for_this_decoder_alone() -> None:
    with pytest.raises(SettingsError, match="for GPT-2 on a CPU; choose auto"):
        JaxDecoder(CONFIG, PEAKED, precision="int8")
