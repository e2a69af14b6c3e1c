"""The benchmark's clients: what they see is what a service did."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from benchmarks.serve import checks, letter_groups, markdown, prompts
from benchmarks.serving_load import Seen, Target, load, percentile, summary
from tests.serving.running import Running


def test_clients_see_every_piece_of_a_stream(service: Running) -> None:
    body = {"max_tokens": 600, "stream": True, "stop_at_end": False}
    seen, seconds = asyncio.run(load(Target(service.port, "/v1/completions", body), prompts(7), 3, 200))
    assert len(seen) == 7
    for one in seen:
        assert one.whole
        assert len(one.between) > 3
        assert 0 < one.first < one.total <= seconds
        assert one.first + sum(one.between) <= one.total


def test_an_answer_in_one_part_is_its_own_first_piece(service: Running) -> None:
    [one], _ = asyncio.run(load(Target(service.port, "/?callback=show&sample=", None), ["a b"], 1, 200))
    assert (one.first, one.between) == (one.total, [])


def test_an_error_is_an_error(service: Running) -> None:
    with pytest.raises(RuntimeError, match="400"):
        asyncio.run(load(Target(service.port, "/v1/completions", {"n": 0}), ["a"], 1, 200))


def test_what_is_not_over_in_time_counts_with_the_time_it_waited(service: Running) -> None:
    body = {"max_tokens": 4096, "stream": True, "n": 32}
    seen, seconds = asyncio.run(load(Target(service.port, "/v1/completions", body), ["a"] * 4, 2, 0.2))
    assert {one.whole for one in seen} == {False}
    assert all(0.1 < one.total <= seconds for one in seen)


def test_percentiles_and_the_bars() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile(list(range(1, 101)), 0.95) == 95
    assert math.isnan(percentile([], 0.5))
    ours = summary([Seen(0.1, [0.1, 0.3], 1.0)] * 10, 10.0, 40)
    theirs = summary([Seen(0.2, [0.1], 3.0)] * 9 + [Seen(9.0, [], 9.0, whole=False)], 10.0, 4)
    assert ours["tokens_per_second"] == 40
    assert theirs["whole"] == 9
    results = {"textmill": {"10": ours}, "S5": {"10": theirs}}
    found = {check["what"]: (check["value"], check["met"]) for check in checks(results)}
    assert found["throughput at 10 clients, x S5"] == (pytest.approx(40 / 3.6), True)
    assert found["p95 first at 10 clients, S5 / textmill"] == (pytest.approx(90.0), True)
    assert found["p95 between at 10 clients, S5 / textmill"] == (pytest.approx(1 / 3), False)
    assert "| S5 | 3.6 | 9 of 10 | 0.200 / 9.000 / 9.000 | 0.100 / 0.100 / 0.100 |" in markdown(results)
    in_one = {"textmill": {"10": ours}, "S5": {"10": summary([Seen(3.0, [], 3.0)], 10.0, 40)}}
    assert not [check for check in checks(in_one) if "between" in check["what"]]
    assert "| 3.000 / 3.000 / 3.000 | – / – / – |" in markdown(in_one)


def test_the_benchmarks_tokens_are_text_and_differ() -> None:
    groups = list(itertools.islice(letter_groups(), 50_000))
    assert len(set(map("".join, groups))) == 50_000
    known = set(map(chr, range(33, 127)))
    for first, second in groups:
        assert {first, second} <= known
        known.add(first + second)
