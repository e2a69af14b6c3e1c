"""`textmill run`: parameters checked first, tasks' lines shown, their errors and stops passed on in one line."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from textmill.errors import InputError, MachineError, SettingsError, TextmillError
from textmill.local.child_log import ChildLog, Screen
from textmill.local.running import RunResult, run_pipeline
from textmill.pipeline_file import find_pipeline, read_pipeline

# Compiled once in a process of its own: kfp's decorators read the source file, without postponed annotations.
SOURCE = '''
from kfp import compiler, dsl

@dsl.component(base_image="python-none", install_kfp_package=False)
def write(words: str, length: int, texts: dsl.Output[dsl.Dataset], mode: str = "well"):
    import os, sys, time, signal, logging
    from textmill.errors import MachineError, InputError, Interrupted
    print("first line", flush=True)
    logging.getLogger("textmill.test").info("a line of the log")
    if mode == "input":
        raise InputError("the words are wrong; choose others.")
    if mode == "chained":
        try:
            open("/no/such/file")
        except OSError as error:
            raise MachineError("no such machine.") from error
    if mode == "bug":
        raise ZeroDivisionError("we divided")
    if mode == "killed":
        os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)
    if mode == "wait":
        def stop(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGINT, stop)
        try:
            print("waiting", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.3)
            saved = os.environ["TEXTMILL_STATE_ROOT"] + "-saved"
            os.makedirs(os.path.dirname(saved), exist_ok=True)
            open(saved, "w").close()
            raise Interrupted("stopped at step 3; saved.")
    os.makedirs(texts.path, exist_ok=True)
    with open(texts.path + "/texts.txt", "a") as file:
        file.write((words + "\\n") * length)
    texts.metadata["step"] = 3

@dsl.component(base_image="python-none", install_kfp_package=False)
def look(texts: dsl.Input[dsl.Dataset], report: dsl.Output[dsl.HTML], metrics: dsl.Output[dsl.Metrics]):
    with open(report.path, "w") as file:
        file.write("<p>" + open(texts.path + "/texts.txt").readline())
    metrics.log_metric("step", int(texts.metadata["step"]))

@dsl.pipeline(name="tiny")
def tiny(words: str, length: int = 3, mode: str = "well", rate: float = 0.5, on: bool = True, more: dict = {},
         train_memory: str = "4Gi"):
    """A pipeline for the tests.

    Args:
        words: What to write.
        length: How often.
    """
    first = write(words=words, length=length, mode=mode).set_cpu_limit("2").set_retry(3, backoff_duration="60s")
    look(texts=first.outputs["texts"])

import sys
compiler.Compiler().compile(tiny, sys.argv[1])
'''


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "source.py").write_text(SOURCE)
    subprocess.run([sys.executable, "source.py", "tiny.yaml"], cwd=folder, check=True)
    return folder / "tiny.yaml"


def go(tiny: Path, output: Path, verbose: bool = False, **parameters: Any) -> tuple[RunResult, str]:
    out = io.StringIO()
    result = run_pipeline(tiny, {"words": "well met", **parameters}, output, out=out, verbose=verbose)
    return result, out.getvalue()


# ---------------------------------------------------------------------- a good run


def test_a_run_shows_the_tasks_and_names_what_it_made(tiny: Path, tmp_path: Path) -> None:
    result, said = go(tiny, tmp_path / "out", length="2")
    assert re.sub(r"\d+\.\d s", "? s", said).replace(str(tmp_path), "TMP") == textwrap.dedent(
        """\
        tiny: write, look
        [1/2] write
              first line
              a line of the log
        [1/2] write: done after ? s
        [2/2] look
        [2/2] look: done after ? s

        well met
        well met

        tiny is done after ? s.
          text        TMP/out/write/texts/texts.txt
          report      TMP/out/report.html
        """
    )
    assert [(t.name, t.state) for t in result.tasks] == [("write", "done"), ("look", "done")]
    assert result.text == tmp_path / "out/write/texts/texts.txt"
    assert result.report is not None
    assert result.report.read_text() == "<p>well met\n"
    assert result.checkpoint is None


def test_what_is_asked_of_a_cluster_only_is_said_to_mean_nothing_here(tiny: Path, tmp_path: Path) -> None:
    said = go(tiny, tmp_path / "out", train_memory="8Gi")[1]
    assert "(train_memory: for a cluster; here the tasks take this machine as it is)\n[1/2]" in said
    assert "for a cluster" not in go(tiny, tmp_path / "out", length="2")[1]


def test_a_second_run_goes_on_in_the_same_folders(tiny: Path, tmp_path: Path) -> None:
    go(tiny, tmp_path, length=1)
    (tmp_path / "look" / "leftover").write_text("of the first run")
    result, _ = go(tiny, tmp_path, length=1)
    assert result.text is not None
    assert result.text.read_text() == "well met\nwell met\n"  # the stage found what the first run had left
    assert not (tmp_path / "look" / "leftover").exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["look", "write"]


def test_verbose_shows_everything(tiny: Path, tmp_path: Path) -> None:
    _, said = go(tiny, tmp_path, verbose=True)
    assert "Got executor_input" in said


def test_nothing_is_left_behind(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import tempfile

    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = (signal.getsignal(signal.SIGINT), builtins.print, sys.stdout)
    go(tiny, tmp_path / "out")
    assert (signal.getsignal(signal.SIGINT), builtins.print, sys.stdout) == before
    assert list(scratch.iterdir()) == []


# ---------------------------------------------------------------------- what is refused before anything runs


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ({"lenght": 3}, "unknown parameter 'lenght' in pipeline tiny. Did you mean 'length'?"),
        ({"length": "three"}, "parameter 'length' is 'three', which is not a whole number."),
        ({"length": "2.5"}, "parameter 'length' is '2.5', which is not a whole number."),
        ({"rate": "fast"}, "parameter 'rate' is 'fast', which is not a number."),
        ({"on": 1}, "parameter 'on' is 1, which is not true or false."),
        ({"more": "[1]"}, "parameter 'more' is '[1]', which is not a mapping."),
        ({"words": ["a"]}, "parameter 'words' is ['a'], which is not text."),
    ],
)
def test_wrong_parameters_are_one_line(
    tiny: Path, tmp_path: Path, parameters: dict[str, Any], line: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(line)) as raised:
        go(tiny, tmp_path / "out", **parameters)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_texts_become_what_the_parameter_wants(tiny: Path) -> None:
    given = {"words": "007", "length": "4", "rate": "1e-3", "on": "false", "more": "{epochs: 2}"}
    assert read_pipeline(tiny).arguments(given) == {
        "words": "007",
        "length": 4,
        "rate": 0.001,
        "on": False,
        "more": {"epochs": 2},
    }
    assert read_pipeline(tiny).arguments({"words": 7})["words"] == "7"


def test_a_missing_parameter_is_asked_for(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pipeline tiny wants a value for words: --param words=…"):
        run_pipeline(tiny, {}, tmp_path)


def test_what_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    for content in ("", "a: [", "a: 1", "\x00", "- 1"):
        (tmp_path / "x.yaml").write_text(content)
        with pytest.raises(InputError, match=r"x\.yaml is not a compiled pipeline"):
            run_pipeline(tmp_path / "x.yaml", {}, tmp_path / "out")
    with pytest.raises(InputError, match=r"there is no pipeline at y\.yaml"):
        find_pipeline("y.yaml")
    with pytest.raises(InputError, match=r"unknown recipe 'quikstart'. Did you mean 'quickstart'\?"):
        find_pipeline("quikstart")


def test_describe_lists_the_parameters(tiny: Path) -> None:
    said = read_pipeline(tiny).describe()
    assert said.startswith("tiny: write, look\nA pipeline for the tests.\n")
    assert "  words (wanted)\n      What to write." in said
    assert "  length [3]\n      How often." in said


def test_an_output_that_cannot_be_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; choose a folder for the output"):
        go(tiny, tmp_path / "file")


# ---------------------------------------------------------------------- tasks that fail


def test_a_tasks_own_error_is_passed_on_in_one_line(tiny: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    started = time.monotonic()
    with pytest.raises(InputError) as raised:
        run_pipeline(tiny, {"words": "x", "mode": "input"}, tmp_path, out=out)
    assert str(raised.value) == "write: the words are wrong; choose others."
    assert raised.value.exit_code == 2
    assert "Traceback" not in out.getvalue()
    assert "[1/2] write: failed after" in out.getvalue()
    assert "look" not in out.getvalue().split("\n", 1)[1]
    assert time.monotonic() - started < 30  # no retries: they would wait a minute


def test_a_chained_error_keeps_its_exit_code(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"^write: no such machine\.$") as raised:
        go(tiny, tmp_path, mode="chained")
    assert raised.value.exit_code == 3


def test_verbose_shows_the_tasks_traceback(tiny: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    with pytest.raises(InputError):
        run_pipeline(tiny, {"words": "x", "mode": "input"}, tmp_path, out=out, verbose=True)
    assert out.getvalue().count("Traceback (most recent call last):") == 1


def test_a_bug_shows_its_traceback_and_exits_1(tiny: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    with pytest.raises(TextmillError, match="write broke") as raised:
        run_pipeline(tiny, {"words": "x", "mode": "bug"}, tmp_path, out=out)
    assert raised.value.exit_code == 1
    assert "ZeroDivisionError: we divided" in out.getvalue()


def test_a_killed_task_is_told_from_a_broken_one(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="write was killed, most likely for want of memory"):
        go(tiny, tmp_path, mode="killed")


# ---------------------------------------------------------------------- stopping

RUNNER = """
import sys
from textmill.errors import TextmillError
from textmill.local.running import run_pipeline
try:
    given = {"given": ["a", "b", "c"]} if sys.argv[1].endswith("loop.yaml") else {"words": "x"}
    run_pipeline(sys.argv[1], {**given, "mode": "wait"}, sys.argv[2])
except TextmillError as error:
    print("ENDED", type(error).__name__, error, flush=True)
    sys.exit(error.exit_code)
"""


def start(tiny: Path, output: Path) -> subprocess.Popen[str]:
    """A runner whose task waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tiny), str(output)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    waiting = 0
    for line in process.stdout:
        waiting += line.strip().endswith("waiting")
        if waiting == (2 if tiny.name == "loop.yaml" else 1):
            return process
    raise AssertionError("the task did not start")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_the_task_save(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tiny, tmp_path / "out")
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert "stopping write; once more stops at once" in said
    assert "ENDED Interrupted write: stopped at step 3; saved." in said
    assert process.returncode == 130
    assert (tmp_path / "out" / ".state-saved").exists()
    assert '"state": "stopped"' in (tmp_path / "out" / "run.json").read_text()


def test_the_second_stop_is_at_once(tiny: Path, tmp_path: Path) -> None:
    process = start(tiny, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert "ENDED Interrupted write: stopped." in said
    assert not (tmp_path / "out" / ".state-saved").exists()


def test_two_runs_do_not_share_an_output(tiny: Path, tmp_path: Path) -> None:
    process = start(tiny, tmp_path)
    try:
        with pytest.raises(InputError, match="another run is at work in"):
            go(tiny, tmp_path)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_an_orphaned_task_holds_the_output(tiny: Path, tmp_path: Path) -> None:
    process = start(tiny, tmp_path)
    group = int(
        subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    )
    process.kill()
    process.communicate(timeout=30)
    try:
        with pytest.raises(InputError, match="another run is at work in"):
            go(tiny, tmp_path)
    finally:
        os.killpg(group, signal.SIGKILL)


# ---------------------------------------------------------------------- listening


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*pieces: str, terminal: bool = False) -> str:
    out = Terminal() if terminal else io.StringIO()
    child = ChildLog(Screen(out))
    for piece in pieces:
        child.feed(piece.encode())
    child.close()
    return out.getvalue()


def test_kfp_lines_are_left_out() -> None:
    said = shown(
        "[KFP Executor 2026-11-21 06:00:00,000 INFO]: Looking for component `x`\n",
        '[KFP Executor 2026-11-21 06:00:00,000 INFO]: Got executor_input:\n{\n    "inputs": {\n    }\n}\n',
        "[KFP Executor 2026-11-21 06:00:00,000 INFO]: 6 docu",
        "ments read\nplain\n[KFP Executor 2026-11-21 06:00:00,000 INFO]: Wrote executor output file to /x\nend",
    )
    assert said == "      6 documents read\n      plain\n      end\n"


def test_a_traceback_that_is_not_the_end_is_shown() -> None:
    said = shown("Traceback (most recent call last):\n", '  File "x"\n', "ValueError: x\n", "going on\n")
    assert said.split("\n")[:4] == [
        "      Traceback (most recent call last):",
        '        File "x"',
        "      ValueError: x",
        "      going on",
    ]


def test_bars_are_drawn_below_the_lines_on_a_terminal() -> None:
    said = shown("\rtrain: 10%", "\rtrain: 20%", "a line\n", "\r          \r", terminal=True)
    assert said == (
        "\r\x1b[K      train: 10%\r\x1b[K      train: 20%\r\x1b[K      a line\n      train: 20%\r\x1b[K\r\x1b[K"
    )
    assert shown("\rtrain: 10%", "\rtrain: 20%\n") == "      train: 20%\n"


def test_a_message_with_what_it_came_from() -> None:
    child = ChildLog(Screen(io.StringIO()))
    child.feed(
        b"Traceback (most recent call last):\n  File x\nOSError: no\n\nThe above exception was the direct cause of the "
        b"following exception:\n\nTraceback (most recent call last):\n  File y\ntextmill.errors.InputError: a: b.\n"
    )
    assert child.exception() == ("textmill.errors.InputError", "a: b.")


def test_an_ascii_terminal_does_not_break_the_run() -> None:
    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, encoding="ascii"))
    screen.line("„café“ ─")
    assert raw.getvalue() == b"?caf?? ?\n"


def test_importing_the_runner_is_light() -> None:
    code = "import sys, textmill.local.running; print(sys.modules.keys() & {'kfp', 'numpy', 'tensorflow', 'jinja2'})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


# ---------------------------------------------------------------------- a loop over items

LOOP = (
    SOURCE[: SOURCE.index("@dsl.pipeline")]
    + '''
@dsl.component(base_image="python-none", install_kfp_package=False)
def names(given: list) -> list:
    return given

@dsl.pipeline(name="loop")
def loop(given: list, mode: str = "well"):
    """A chain for each item."""
    found = names(given=given)
    with dsl.ParallelFor(found.output, parallelism=2) as item:
        first = write(words=item, length=1, mode=mode).set_retry(3, backoff_duration="60s")
        look(texts=first.outputs["texts"])

import sys
compiler.Compiler().compile(loop, sys.argv[1])
'''
)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop")
    (folder / "source.py").write_text(LOOP)
    subprocess.run([sys.executable, "source.py", "loop.yaml"], cwd=folder, check=True)
    return folder / "loop.yaml"


def around(pipeline: Path, output: Path, items: list[str], **parameters: Any) -> tuple[RunResult, str]:
    out = io.StringIO()
    result = run_pipeline(pipeline, {"given": items, **parameters}, output, out=out)
    return result, out.getvalue()


def test_each_item_of_a_loop_has_its_folders(loop: Path, tmp_path: Path) -> None:
    result, said = around(loop, tmp_path, ["b one", "a/two", "é" * 100, ".hidden"])
    assert len(result.items) == 4, "a name too long for a folder is cut, and stays its own"
    assert (result.text, result.report, result.checkpoint) == (None, None, None)
    for item in ("b one", "a/two", ".hidden"):
        made = result.items[item]
        assert made.text is not None
        assert made.text.read_text() == f"{item}\n"
        assert made.report is not None
        assert made.report.read_text() == f"<p>{item}\n"
        assert [(task.name, task.state) for task in made.tasks] == [("write", "done"), ("look", "done")]
        assert f"[{item}] write\n" in said
        assert f"      {item}: first line\n" in said
        assert f"  {item}\n    text" in said
    assert len(result.tasks) == 1 + 4 * 2
    assert (tmp_path / "for-loop-1/a%2Ftwo/write/texts/texts.txt").exists()


def test_a_loop_goes_on_in_the_same_folders_when_an_item_comes_first(loop: Path, tmp_path: Path) -> None:
    around(loop, tmp_path, ["b", "c"])
    (tmp_path / "for-loop-1/b/look/leftover").write_text("of the first run")
    result, _ = around(loop, tmp_path, ["a", "b", "c"])
    texts = {item: made.text.read_text() for item, made in result.items.items() if made.text}
    assert texts == {"a": "a\n", "b": "b\nb\n", "c": "c\nc\n"}
    assert not (tmp_path / "for-loop-1/b/look/leftover").exists()


def test_the_error_of_a_loops_task_is_that_of_the_run(loop: Path, tmp_path: Path, capfd: Any) -> None:
    with pytest.raises(InputError, match=r"^write of .*: the words are wrong; choose others\.$"):
        around(loop, tmp_path, [f"item {i}" for i in range(9)], mode="input")
    record = json.loads((tmp_path / "run.json").read_bytes())
    states = [task["state"] for task in record["tasks"] if task["name"] == "write"]
    assert set(states) == {"failed"}
    assert len(states) <= 2, "those that had begun"
    assert "failed with exception" not in "".join(capfd.readouterr())


def test_no_item_is_no_error(loop: Path, tmp_path: Path) -> None:
    result, _ = around(loop, tmp_path, [])
    assert [task.name for task in result.tasks] == ["names"]
    assert result.items == {}


def test_a_stop_lets_each_task_of_a_loop_save(loop: Path, tmp_path: Path) -> None:
    process = start(loop, tmp_path / "out")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert re.search("stopping write of [ab], write of [ab]; once more stops at once", said)
    assert re.search("ENDED Interrupted write of [ab]: stopped at step 3; saved", said)
    assert process.returncode == 130
    assert {p.name for p in (tmp_path / "out" / ".state").glob("*-saved")} == {"a-saved", "b-saved"}
    states = {
        t["item"]: t["state"] for t in json.loads((tmp_path / "out/run.json").read_bytes())["tasks"][1:]
    }
    assert states == {"a": "stopped", "b": "stopped"}, "and the third was not begun"
