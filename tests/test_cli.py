"""The command line: help that reads well, one line for an error, the right exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from textmill.cli import main

VERBS = ["ingest", "normalize", "train", "generate", "play", "score", "report", "run", "serve"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_help_lists_the_verbs_in_the_order_of_the_way() -> None:
    text = call("--help").output
    commands = text[text.index("Commands:") :]
    places = [commands.index(f"\n  {verb} ") for verb in VERBS]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_each_option(verb: str) -> None:
    result = call(verb, "--help")
    assert result.exit_code == 0
    options = result.output[result.output.index("Options:") :].splitlines()[1:]
    for line in options:
        if line.startswith("  -"):
            following = options[options.index(line) + 1 :][:1]
            explained = len(line.split("  ")) > 2 or (following and following[0].startswith("      "))
            assert explained, f"{verb}: {line.strip()} has no help"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["normalize", "nowhere"], "textmill: there is no corpus at nowhere: no such folder.\n"),
        (["ingest", "nowhere.txt"], "textmill: "),
        (
            ["train", "nowhere", "--preset", "small"],
            "textmill: there is no dataset at nowhere: no such folder.\n",
        ),
        (["train", "x", "--seed", "-1"], "textmill: setting 'seed' is -1; it must be at least 0.\n"),
        (["train", "x", "--set", "epochs"], "textmill: 'epochs' is not of the form NAME=VALUE.\n"),
        (["generate", "nowhere"], "textmill: there is no checkpoint at nowhere: no such folder.\n"),
        (["score", "nowhere", "a"], "textmill: there is no checkpoint at nowhere: no such folder.\n"),
        (["score", "x"], "textmill: there is nothing to score: give a text, or --file FILE.\n"),
        (["score", "x", "--file", "y"], "textmill: cannot read the file y: No such file or directory.\n"),
        (["run", "nowhere.yaml"], "textmill: there is no pipeline at nowhere.yaml: no such file.\n"),
        (
            ["run", "quickstart", "-p", "sead=1"],
            "textmill: unknown parameter 'sead' in pipeline quickstart. Did you",
        ),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_settings_come_from_a_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mill.yaml"
    file.write_text("ingest: {strikt: true}\n")
    result = call("ingest", "x", "--config", str(file))
    assert "unknown setting 'strikt'" in result.stderr
    monkeypatch.setenv("TEXTMILL_TRAIN_SEED", "many")
    assert "environment variable TEXTMILL_TRAIN_SEED" in call("train", "x").stderr


def test_the_stages_follow_each_other_from_the_command_line(scenes: Path, tmp_path: Path) -> None:
    at = {name: str(tmp_path / name) for name in ("corpus", "dataset", "checkpoint", "texts")}
    split = ["--split", "documents", "--valid-documents", "4-*"]
    for arguments in (
        ["ingest", str(scenes), "-o", at["corpus"]],
        ["normalize", at["corpus"], "-o", at["dataset"], *split],
        ["train", at["dataset"], "-o", at["checkpoint"], "--preset", "tiny", "--max-steps", "6"],
        ["generate", at["checkpoint"], "-o", at["texts"], "--dataset", at["dataset"], "--length", "40"],
        ["score", at["checkpoint"], "Is the wheel turning?", "xq", "--file", str(scenes / "1-the-mill.txt"), "--lines"],
        ["report", "--dataset", at["dataset"], "--checkpoint", at["checkpoint"], "--texts", at["texts"],
         "-o", str(tmp_path / "report.html")],
    ):  # fmt: skip
        result = call(*arguments)
        assert result.exit_code == 0, f"{arguments}: {result.stderr}"
        if arguments[0] == "score":
            lines = result.output.splitlines()
            assert re.fullmatch(
                r"[\d,.]+  \(21 tokens, -\d\.\d{3} nats each\)  Is the wheel turning\?", lines[0]
            )
            assert len(lines) == 2 + sum(
                bool(line.strip()) for line in scenes.joinpath("1-the-mill.txt").open()
            )
    assert "<html" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.md").read_text().startswith("#")


def test_a_dry_run_of_ingest_says_what_would_be_read_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one")
    (tmp_path / "texts" / "b.pdf").write_text("two")
    command = ["ingest", str(tmp_path / "texts"), "-o", str(tmp_path / "corpus"), "--dry-run"]
    ended = CliRunner().invoke(main, command)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "a.txt: new",
        "b.pdf: of unknown kind (.pdf)",
        "1 new, 1 of unknown kind (.pdf)",
    ]
    assert not (tmp_path / "corpus").exists()
    assert CliRunner().invoke(main, command[:-1]).exit_code == 0
    (tmp_path / "texts" / "a.txt").unlink()
    (tmp_path / "texts" / "c.txt").write_text("three")
    ended = CliRunner().invoke(main, command)
    assert ended.stdout.splitlines()[:3] == ["a.txt: gone", "b.pdf: of unknown kind (.pdf)", "c.txt: new"]
