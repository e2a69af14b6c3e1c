"""Batches as a pure function of the step."""

from __future__ import annotations

import numpy as np
import pytest

from textmill.errors import InputError
from textmill.training.data import Streams, evaluation_rows, largest_batch, tokens_needed


def test_epoch_streams_are_those_of_the_ptb_reader() -> None:
    streams = Streams(np.arange(23, dtype=np.uint16), batch_size=2, num_steps=3, carry="epoch")
    assert streams.steps_per_epoch == (23 // 2 - 1) // 3 == 3
    x, y = streams.batch(1)
    assert x.tolist() == [[3, 4, 5], [14, 15, 16]]
    assert y.tolist() == [[4, 5, 6], [15, 16, 17]]
    assert streams.batch(4)[0].tolist() == x.tolist(), "each epoch is the same text in the same rows"


def test_each_row_goes_on_where_it_ended_within_an_epoch() -> None:
    for carry in ("epoch", "roll"):
        streams = Streams(np.arange(101, dtype=np.uint16), 5, 4, carry)
        for step in range(streams.steps_per_epoch - 1):
            assert np.array_equal(streams.batch(step)[1][:, -1], streams.batch(step + 1)[0][:, 0])


@pytest.mark.parametrize("tokens", [101, 119])  # all of the text, or all but an end that fills no step
def test_rolled_streams_go_on_across_epochs_but_for_one_row(tokens: int) -> None:
    streams = Streams(np.arange(tokens, dtype=np.uint16), batch_size=5, num_steps=4, carry="roll")
    assert streams.steps_per_epoch == 100 // (5 * 4)
    last = streams.batch(streams.steps_per_epoch - 1)[1][:, -1]
    following = streams.batch(streams.steps_per_epoch)[0][:, 0]
    # the state is rolled with the rows: row i of the new epoch carries what row i+1 read
    assert following.tolist() == [20, 40, 60, 80, 0]
    assert np.array_equal(np.roll(last, 0)[:-1], following[:-1])
    assert last[-1] != following[-1]


def test_too_little_text_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InputError, match=r"has 10 tokens; batch_size 4 x num_steps 5 needs at least 24"):
        Streams(np.arange(10, dtype=np.uint16), 4, 5, "epoch")
    for carry in ("epoch", "roll"):
        for batch, steps in ((4, 5), (1, 1)):
            need = tokens_needed(batch, steps, carry)
            assert Streams(np.arange(need, dtype=np.uint16), batch, steps, carry).steps_per_epoch == 1
            for tokens in (need - 1, 0):
                with pytest.raises(InputError):
                    Streams(np.arange(tokens, dtype=np.uint16), batch, steps, carry)


@pytest.mark.parametrize("tokens", [2, 3, 10, 50, 101, 500, 10_000])
@pytest.mark.parametrize("carry", ["epoch", "roll"])
def test_a_preset_shrinks_to_any_text_of_two_tokens(tokens: int, carry: str) -> None:
    batch, steps = largest_batch(tokens, 100, 30, carry)
    assert Streams(np.zeros(tokens, np.uint16), batch, steps, carry).steps_per_epoch >= 1
    if tokens == 10_000:
        assert (batch, steps) == (100, 30)


@pytest.mark.parametrize("carry", ["epoch", "roll"])
@pytest.mark.parametrize("tokens", [11, 20, 35, 64, 101, 500, 3000])
def test_a_preset_shrunk_to_a_tiny_text_has_ten_steps_an_epoch(tokens: int, carry: str) -> None:
    batch, steps = largest_batch(tokens, 100, 30, carry)
    assert Streams(np.zeros(tokens, np.uint16), batch, steps, carry).steps_per_epoch >= 10


def test_a_tiny_texts_batch_is_no_smaller_than_it_has_to_be() -> None:
    assert largest_batch(21, 100, 30, "roll") == (1, 2)
    assert largest_batch(331, 100, 30, "roll") == (1, 30)
    assert [largest_batch(tokens, 100, 30, "roll") for tokens in (620, 621)] == [(1, 30), (2, 30)]
    assert largest_batch(3000, 100, 30, "epoch") == (9, 30)


@pytest.mark.parametrize("carry", ["epoch", "roll"])
def test_a_preset_is_kept_from_twice_the_text_on_that_it_needs(carry: str) -> None:
    enough = 2 * tokens_needed(4, 5, carry)
    assert largest_batch(enough, 4, 5, carry) == (4, 5)
    assert largest_batch(enough - 1, 4, 5, carry) != (4, 5)


@pytest.mark.parametrize("row_length", [1, 7, 30, 100, 1000])
def test_evaluation_predicts_every_token_but_the_first_once(row_length: int) -> None:
    tokens = np.arange(101, dtype=np.uint16)
    targets = np.concatenate([b[:, 1:].ravel() for b in evaluation_rows(tokens, row_length, most_rows=3)])
    assert targets.tolist() == list(range(1, 101))


@pytest.mark.parametrize(
    ("tokens", "shapes"),
    [
        (0, []),
        (1, []),
        (2, [(1, 2)]),
        (31, [(3, 11)]),
        (32, [(3, 11), (1, 2)]),
        (42, [(3, 11), (1, 11), (1, 2)]),
    ],
)
def test_evaluation_has_the_whole_rows_together_and_the_rest_by_itself(
    tokens: int, shapes: list[tuple[int, int]]
) -> None:
    found = [block.shape for block in evaluation_rows(np.zeros(tokens, np.uint16), 10, most_rows=3)]
    assert found == shapes


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_text_without_a_second_token_has_nothing_to_evaluate(tokens: int) -> None:
    assert list(evaluation_rows(np.zeros(tokens, np.uint16), 1)) == []


def test_a_batch_is_copied_out_of_the_text() -> None:
    tokens = np.arange(50, dtype=np.uint16)
    x, _ = Streams(tokens, 2, 3, "roll").batch(0)
    assert x.dtype == np.int32
    assert x.flags.c_contiguous
    x[:] = 0
    assert tokens[1] == 1
