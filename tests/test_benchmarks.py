"""The benchmarks' own arithmetic and the talk between a benchmark and its sides; nothing is measured here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import ROOT, Report, Side, measure, quartiles, rows
from benchmarks.peers.workload import WORKLOADS, batches

SIDE = "import sys; sys.path.insert(0, {root!r}); from benchmarks.common import serve; import time\n"


def side(name: str, work: str) -> Side:
    return Side(
        name, [sys.executable, "-c", SIDE.format(root=str(ROOT)) + f"serve({work}, {{'about': '{name}'}})"]
    )


def test_sides_alternate_and_say_what_they_need() -> None:
    both = [side("slow", "lambda: time.sleep(0.02) or 1"), side("fast", "lambda: time.sleep(0.02) or 10")]
    done = measure(both, rounds=3, seconds=0.05)
    slow, fast = rows(done, "slow")
    assert slow.ratio == 1.0
    assert fast.ratio == pytest.approx(10.0, rel=0.5)
    assert fast.about["about"] == "fast"
    assert fast.peak_memory_mb > 1
    assert all(len(one.windows) == 3 for one in done)


def test_a_side_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    done = measure(
        [side("good", "lambda: time.sleep(0.01) or 1"), side("bad", "1/0")], rounds=1, seconds=0.01
    )
    assert [one.name for one in done] == ["good"]
    assert "left out: bad ended early with status 1" in capsys.readouterr().err


def test_quartiles() -> None:
    assert quartiles([1.0]) == (1.0, 1.0, 1.0)
    assert quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)


def test_a_report_says_what_was_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("Title")
    assert report.check("speed", 1.5, 1.1)
    assert not report.check("difference", 0.5, 0.1, at_least=False)
    report.write(tmp_path / "new" / "report.json")
    said = capsys.readouterr().out
    assert "- speed: 1.5 >= 1.1: **met**" in said
    assert "- difference: 0.5 <= 0.1: **MISSED**" in said
    assert '"title": "Title"' in (tmp_path / "new" / "report.json").read_text()


@pytest.mark.parametrize("name", ["char-small", "word-small"])
def test_batches_continue_each_other_and_are_the_same_for_every_side(name: str) -> None:
    load = WORKLOADS[name]
    first, again = batches(load), batches(load)
    (x0, y0), (x1, _) = next(first), next(first)
    assert x0.shape == (load.batch_size, load.num_steps)
    assert x0.dtype == np.int32
    np.testing.assert_array_equal(x0[:, 1:], y0[:, :-1])
    np.testing.assert_array_equal(x1[:, 0], y0[:, -1])
    np.testing.assert_array_equal(next(again)[0], x0)
    assert max(x0.max(), y0.max()) < load.vocabulary_size
