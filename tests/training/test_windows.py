"""Rows for a transformer: every token once an epoch, a pure function of (seed, step), for any text."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from textmill.training.windows import (
    NOTHING,
    DocumentRows,
    LineRows,
    RingRows,
    Windows,
    permuted,
    scoring_blocks,
)


def targets(windows: Windows, first: int, last: int) -> list[int]:
    found = np.concatenate([windows.batch(step)[1].ravel() for step in range(first, last)])
    return found[found != NOTHING].tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 100, 1000])
def test_a_key_permutes_any_range(size: int) -> None:
    orders = {tuple(permuted(i, size, key) for i in range(size)) for key in range(20)}
    assert all(sorted(order) == list(range(size)) for order in orders)
    if size >= 16:
        assert len(orders) == 20, "another key gives another order"


def test_a_permutation_is_the_same_in_every_version_of_this_program() -> None:
    """Literals: an interrupted run must go on with the rows that it has not met."""
    assert [permuted(i, 3, 8) for i in range(3)] == [1, 2, 0]
    assert [permuted(i, 5, 7) for i in range(5)] == [0, 1, 4, 2, 3]
    order = [10, 4, 11, 5, 9, 3, 8, 13, 6, 16, 0, 15, 12, 1, 14, 7, 2]
    assert [permuted(i, 17, 7) for i in range(17)] == order


@pytest.mark.parametrize(("tokens", "num_steps"), [(100, 7), (100, 10), (23, 22), (2, 1), (10, 3)])
def test_a_ring_predicts_every_token_once_an_epoch_from_the_token_before(tokens: int, num_steps: int) -> None:
    rows = RingRows(np.arange(tokens, dtype=np.uint16), num_steps, seed=3)
    for epoch in range(4):
        pairs = [rows.row(index, epoch) for index in range(rows.count)]
        x, y = (np.concatenate([pair[part] for pair in pairs]) for part in (0, 1))
        assert sorted(y[y != NOTHING]) == list(range(tokens))
        assert ((x + 1) % tokens)[y != NOTHING].tolist() == y[y != NOTHING].tolist()
    assert len({rows.start(0, epoch) for epoch in range(20)}) > 1, "each epoch is cut at other places"


def test_steps_go_over_epochs_without_a_gap() -> None:
    windows = Windows(RingRows(np.arange(50, dtype=np.uint16), 5, seed=1), rows_per_step=4, seed=1)
    assert windows.steps_per_epoch == 3  # 10 rows
    seen = Counter(targets(windows, 0, 15))  # 60 rows: 6 epochs
    assert set(seen.values()) == {6}
    assert windows.tokens_at(15) == 300
    assert [windows.tokens_at(step) for step in (0, 1)] == [0, 20]
    assert [windows.starts(step).tolist() for step in (2, 3)] == [[35, 15, 12, 42], [2, 27, 17, 22]], (
        "the first epoch ends within step 2; the next one is cut at other places and has another order"
    )


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    text = np.arange(997, dtype=np.uint16)
    one, same, other = (Windows(RingRows(text, 16, seed), 4, seed) for seed in (5, 5, 6))
    for step in (40, 0, 17):
        assert all(np.array_equal(a, b) for a, b in zip(one.batch(step), same.batch(step), strict=True))
        assert one.batch(step)[0][:, 0].tolist() == one.starts(step).tolist()
    assert one.starts(0).tolist() != other.starts(0).tolist()
    # literals: an interrupted run must meet the same rows in every version of this program
    assert one.starts(0).tolist() == [623, 703, 735, 975]


def test_a_batch_is_copied_out_of_the_text() -> None:
    text = np.arange(40, dtype=np.uint16)
    x, y = Windows(RingRows(text, 8, 0), 2, 0).batch(0)
    assert x.dtype == y.dtype == np.int32
    x[:], y[:] = 0, 0
    assert text.tolist() == list(range(40))


SPANS = np.array([[0, 5], [5, 1], [6, 12], [18, 0]])


@pytest.mark.parametrize("num_steps", [1, 4, 5, 11, 12, 100])
def test_documents_keep_to_themselves_and_are_learned_whole(num_steps: int) -> None:
    rows = DocumentRows(np.arange(18, dtype=np.uint16), SPANS, num_steps, opening=99)
    pairs = [rows.row(index, 0) for index in range(rows.count)]
    y = np.concatenate([pair[1] for pair in pairs])
    assert y[y != NOTHING].tolist() == list(range(18))
    assert rows.targets == 18
    for xs, ys in pairs:
        for before, after in zip(xs[ys != NOTHING], ys[ys != NOTHING], strict=True):
            assert before == (99 if after in (0, 5, 6) else after - 1)


def test_documents_without_an_opening_are_learned_from_their_second_token() -> None:
    rows = DocumentRows(np.arange(18, dtype=np.uint16), SPANS, 4, opening=None)
    y = np.concatenate([rows.row(index, 0)[1] for index in range(rows.count)])
    assert y[y != NOTHING].tolist() == [1, 2, 3, 4, *range(7, 18)]
    assert rows.targets == 15
    assert [rows.start(index, 0) for index in range(rows.count)] == [0, 6, 10, 14]


@pytest.mark.parametrize("tokens", [0, 1, 2, 9, 50])
@pytest.mark.parametrize("block", [1, 4])
def test_scoring_predicts_every_token_but_the_first_once_in_blocks_of_one_shape(
    tokens: int, block: int
) -> None:
    blocks = list(scoring_blocks(LineRows(np.arange(tokens, dtype=np.uint16), 8), block))
    assert {x.shape for x, _ in blocks} <= {(block, 8)}
    found = [t for x, y in blocks for t in y.ravel() if t != NOTHING]
    assert found == list(range(1, tokens))
    assert all((y[y != NOTHING] == x[y != NOTHING] + 1).all() for x, y in blocks)


def test_a_few_blocks_are_spread_over_the_text() -> None:
    rows = LineRows(np.arange(1001, dtype=np.uint16), 10)
    starts = [int(x[r, 0]) for x, _ in scoring_blocks(rows, 2, most=5) for r in range(2)]
    assert starts == list(range(0, 1000, 100))


def test_a_large_text_is_neither_read_nor_listed(tmp_path: Path) -> None:
    path = tmp_path / "tokens.bin"
    with open(path, "wb") as file:
        file.truncate(4 << 30)  # 2 billion tokens, a sparse file
    text = np.memmap(path, dtype="<u2", mode="r")
    tracemalloc.start()
    windows = Windows(RingRows(text, 1024, 0), 8, 0)
    for step in (0, 1, windows.steps_per_epoch // 2, windows.steps_per_epoch + 1):
        assert windows.batch(step)[0].shape == (8, 1024)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
