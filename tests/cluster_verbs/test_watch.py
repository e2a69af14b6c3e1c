"""A watch starts a run when the source's content changed, once for each change, one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from textmill.cli import main
from textmill.cluster.submit import interval
from textmill.cluster.watch import FAILED, RUNNING, SUCCEEDED, Watch, WatchSettings
from textmill.errors import FolderError, InputError, MachineError, SettingsError
from textmill.holding import only_one
from textmill.pipeline_file import read_pipeline


class Runs:
    """A place where runs happen: numbers them, and lets the test say how they stand."""

    def __init__(self, state: str = SUCCEEDED) -> None:
        self.states: list[str] = []
        self.next = state

    def start(self) -> str:
        self.states.append(self.next)
        return str(len(self.states) - 1)

    def state(self, identity: str) -> str:
        return self.states[int(identity)]


@pytest.fixture
def plays(tmp_path: Path) -> Path:
    folder = tmp_path / "plays"
    folder.mkdir()
    (folder / "one.txt").write_text("The wheel turns, and the river is low.\n")
    (folder / "two.txt").write_text("A letter came, and nobody had written it.\n")
    return folder


def watch_of(plays: Path, runner: Runs, **arguments: object) -> Watch:
    pipeline = read_pipeline("quickstart")
    given = pipeline.arguments({"source": str(plays), **arguments})
    return Watch(pipeline, given, plays.parent / "watch", runner)


def test_a_new_source_starts_a_run_and_an_unchanged_one_does_not(plays: Path) -> None:
    runs = Runs()
    assert watch_of(plays, runs).look() == "started"
    assert watch_of(plays, runs).look() == "unchanged"
    assert len(runs.states) == 1


def test_touching_a_file_is_no_change_and_writing_to_it_is(plays: Path) -> None:
    runs = Runs()
    watch = watch_of(plays, runs)
    watch.look()
    text = (plays / "one.txt").read_text()
    (plays / "one.txt").unlink()
    (plays / "one.txt").write_text(text)
    assert watch.look() == "unchanged"
    (plays / "one.txt").write_text(text.replace("low", "high"))
    assert watch.look() == "started"
    (plays / "two.txt").unlink()
    assert watch.look() == "started"
    assert len(runs.states) == 3


def test_a_second_run_waits_for_the_first(plays: Path) -> None:
    runs = Runs(RUNNING)
    watch = watch_of(plays, runs)
    watch.look()
    (plays / "three.txt").write_text("A third one.\n")
    assert watch.look() == "running"
    runs.states[0] = SUCCEEDED
    assert watch.look() == "started"
    assert len(runs.states) == 2


def test_a_failed_run_is_not_started_again_until_something_changes(plays: Path) -> None:
    runs = Runs(FAILED)
    watch = watch_of(plays, runs)
    watch.look()
    assert watch.look() == "unchanged"
    (plays / "one.txt").write_text("Mended.\n")
    assert watch.look() == "started"


def test_other_parameters_are_a_change(plays: Path) -> None:
    runs = Runs()
    watch_of(plays, runs).look()
    assert watch_of(plays, runs, number=7).look() == "started"


def test_how_it_ended_is_written_down(plays: Path) -> None:
    runs = Runs(RUNNING)
    watch = watch_of(plays, runs)
    watch.look()
    runs.states[0] = FAILED
    watch.look()
    state = json.loads((plays.parent / "watch" / "watch.json").read_text())
    assert [run["state"] for run in state["runs"]] == [FAILED]
    assert state["runs"][0]["ended"] >= state["runs"][0]["started"]


def test_a_source_that_is_away_is_looked_at_again(plays: Path) -> None:
    runs = Runs()
    watch = watch_of(plays, runs)
    hidden = plays.rename(plays.parent / "elsewhere")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            hidden.rename(plays)
        if len(naps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch.follow(WatchSettings.of(every="90s"), sleep=nap)
    assert naps == [90, 90, 90]
    assert len(runs.states) == 1


def test_once_says_an_error_instead_of_looking_again(plays: Path) -> None:
    watch = watch_of(plays / "nowhere", Runs())
    with pytest.raises((InputError, MachineError), match="nowhere"):
        watch.follow(WatchSettings.of(once=True))


def test_once_with_wait_follows_the_run_to_its_end(plays: Path) -> None:
    runs = Runs(RUNNING)

    def nap(_: float) -> None:
        runs.states[0] = SUCCEEDED

    watch_of(plays, runs).follow(WatchSettings.of(once=True, wait=True), sleep=nap)
    assert runs.states == [SUCCEEDED]


def test_two_watches_do_not_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom textmill.holding import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1]), 'watch', '--state folder'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another watch"), only_one(tmp_path, "watch", "--state folder"):
            pass
        other.communicate()
    with only_one(tmp_path, "watch", "--state folder"):
        pass


def test_a_folder_of_another_pipeline_is_refused(plays: Path) -> None:
    watch_of(plays, Runs()).look()
    other = read_pipeline("play_char_gru")
    watch = Watch(other, other.arguments({"source": str(plays)}), plays.parent / "watch", Runs())
    with pytest.raises(FolderError, match="belongs to a watch of quickstart"):
        watch.look()


def test_a_pipeline_without_a_source_cannot_be_watched(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["watch", "script_generate", "--state", str(tmp_path / "w"), "--local"])
    assert found.exit_code == 2
    assert "textmill:" in found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("30m", 1800), ("6h", 21600), ("0 0 4 * * *", 0)])
def test_lengths(said: str, seconds: int) -> None:
    assert interval(said) == seconds


@pytest.mark.parametrize("said", ["", "5", "h", "0m", "5 minutes", "* * * * *"])
def test_what_is_no_length_is_refused(said: str) -> None:
    with pytest.raises(SettingsError, match="every"):
        interval(said)
