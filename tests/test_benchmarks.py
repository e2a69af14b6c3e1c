"""The benchmarks' own arithmetic and the talk between a benchmark and its sides; nothing is measured here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import plots
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
    within = [mine / other for mine, other in zip(done[1].rates, done[0].rates, strict=True)]
    assert fast.ratio == quartiles(within)[1]
    assert all(window["units"] % 10 == 0 for window in done[1].windows)
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


RESULT = {
    "title": "Writing text",
    "machine": {"cpu": "CPU X", "cores": 2, "memory_gb": 24.0, "python": "3.11.7", "date": "2026-11-21"}
    | {"commit": "abc1234", "load_average": 0.1},
    "command": "python -m benchmarks.writing --rounds 2",
    "tables": [
        {
            "title": "batch 1",
            "unit": "tokens/s",
            "baseline": "peer",
            "rows": [
                {"name": name, "rate": rate, "low": rate, "high": rate, "ratio": rate / 50}
                | {"ratio_low": rate / 50, "ratio_high": rate / 50, "peak_memory_mb": 900}
                for name, rate in (("textmill", 125.0), ("peer", 50.0))
            ],
        }
    ],
    "series": [
        {
            "title": "growth",
            "x": "MB",
            "unit": "seconds",
            "lines": {"textmill": [[1, 0.5], [4, 2]], "peer": [[1, 3]]},
        }
    ],
    "checks": [
        {"what": "batch 1", "value": 2.5, "bar": 1.5, "met": True},
        {"what": "memory", "value": 1.2, "bar": 1.0, "at_least": False, "met": False},
    ],
}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of benchmarks of its own: one result, and a page with words around its block."""
    from benchmarks import page

    for name in ("RESULTS", "PLOTS"):
        monkeypatch.setattr(page, name, tmp_path / name.lower())
    monkeypatch.setattr(page, "PAGE", tmp_path / "README.md")
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "writing.json").write_text(json.dumps(RESULT))
    words = "Before.\n\n<!-- result writing -->\nold\n<!-- end -->\n\nAfter.\n\n<!-- result summary -->\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(words)
    return tmp_path


def test_the_page_says_what_the_results_say(results: Path) -> None:
    from benchmarks import page

    page.write()
    said = (results / "README.md").read_text()
    assert said.startswith(
        "Before.\n\n<!-- result writing -->\n`python -m benchmarks.writing --rounds 2`: CPU X, 2 cores"
    )
    assert "| textmill | 125 (125–125) | 2.50 (2.50–2.50) | 900 MB |" in said
    assert "| seconds | 1 | 4 MB |" in said
    assert "| peer | 3 |  |" in said
    assert "- memory: 1.2 <= 1: **missed**" in said
    assert "| Writing text | CPU X, 2 cores, 2026-11-21 | 1 of 2 | memory: 1.2 (bar 1) |" in said
    assert "\nAfter.\n" in said
    assert "old" not in said
    assert "![Writing text: bars](plots/writing.svg)" in said
    assert 'class="own"' in (results / "plots" / "writing.svg").read_text()
    assert ">growth<" in (results / "plots" / "writing_0.svg").read_text()


def test_a_page_that_is_not_current_is_seen(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import page

    monkeypatch.setattr(sys, "argv", ["page", "--check"])
    assert page.main() == 1
    assert "benchmarks/README.md is not what the results say" in capsys.readouterr().err
    page.write()
    assert page.main() == 0
    (results / "plots" / "writing.svg").write_text("<svg/>")
    (results / "plots" / "gone.svg").write_text("<svg/>")
    assert page.main() == 1
    said = capsys.readouterr().err
    assert "plots/writing.svg" in said
    assert "plots/gone.svg" in said


def test_a_block_without_a_result_is_named(results: Path) -> None:
    from benchmarks import page

    with pytest.raises(KeyError, match="nothing"):
        page.rendered("<!-- result nothing -->\n<!-- end -->")


def test_curves_of_one_point_and_of_equal_points_are_drawn() -> None:
    assert "nan" not in plots.curves("t", "x", "y", {"textmill": [(4, 2.0)], "peer": [(4, 2.0)]})


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.__main__ import main

    assert main(["writing", "serve"]) == 2
    assert "unknown: writing. There are: rnn_training, " in capsys.readouterr().err
