"""Progress: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import logging

import pytest

from textmill import progress


def test_a_log_gets_a_line_now_and_then_with_the_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), progress.Progress("train", 100, "words", initial=20) as bar:
        for _ in range(8):
            bar.advance(10, "loss 2.5")
    assert [r.message for r in caplog.records] == [
        "train: 50 of 100 (50%) words, 2.5/s, about 20 s left, loss 2.5",
        "train: 80 of 100 (80%) words, 2.5/s, about 8 s left, loss 2.5",
    ]


def test_slow_work_says_how_long_one_takes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), progress.Progress("ingest") as bar:
        bar.advance(0, "1 page of mill.example")
        bar.advance(8, "b.html")
    assert [r.message for r in caplog.records] == [
        "ingest: 1 page of mill.example",
        "ingest: 8 items, one each 5.0 s, b.html",
    ]


def test_short_work_says_nothing_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress.Progress("ingest") as bar:
        bar.advance()
    assert not caplog.records


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_lines_go_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.Progress("grind", 10, "sacks") as bar:
        for _ in range(10):
            bar.advance(1, "dusty")
        bar.write("a line")
    assert "grind" in terminal.getvalue()
    assert "sacks" in terminal.getvalue()
    assert capsys.readouterr().out == "a line\n"


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (65, "1 min 5 s"), (3700, "1 h 1 min")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_the_whole_may_be_known_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textmill.progress.LOG_EVERY_SECONDS", 0.0)
    with (
        caplog.at_level("INFO", logger="textmill.progress"),
        progress.Progress("ingest", unit="items") as bar,
    ):
        bar.advance(0, "listing")
        bar.expect(4)
        bar.advance(1, "a.txt")
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "ingest: listing",
        "ingest: 1 of 4 (25%) items",
    ]
