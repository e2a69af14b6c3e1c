"""submit and runs against a small API server: what is sent, how a run is followed, and how each ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.cluster_verbs.kfp_server import State, serve
from textmill import manifest
from textmill.cli import main
from textmill.cluster import follow as following
from textmill.cluster.runs import folders_of
from textmill.stores import open_store


@pytest.fixture
def server() -> Iterator[tuple[State, str]]:
    state = State()
    with serve(state) as address:
        yield state, address


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY", 0.01)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/config")
    for name in ("KFP_ENDPOINT", "KF_PIPELINES_ENDPOINT", "KFP_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def textmill(*words: str, **environment: str) -> Result:
    found = CliRunner().invoke(main, list(words), env=environment)
    assert "Traceback" not in found.output
    return found


def test_a_run_is_submitted_and_followed_to_its_end(server: tuple[State, str]) -> None:
    state, address = server
    found = textmill(
        "submit", "quickstart", "--endpoint", address, "-p", "source=s3://texts/plays", "-p", "number=2"
    )
    assert found.exit_code == 0, found.output
    (run,) = state.runs.values()
    assert run["runtime_config"]["parameters"] == {"source": "s3://texts/plays", "number": 2}
    assert run["pipeline_spec"]["pipelineInfo"]["name"] == "quickstart"
    assert run["display_name"].startswith("quickstart 20")
    assert [e["display_name"] for e in state.experiments.values()] == ["textmill"]
    assert "train: running" in found.output
    assert "train: done after 45 s" in found.output
    assert "executor" not in found.output
    assert "run run-0 succeeded after 10 min 0 s" in found.output


def test_a_failed_run_exits_with_1(server: tuple[State, str]) -> None:
    state, address = server
    state.ends = "FAILED"
    found = textmill("submit", "quickstart", "--endpoint", address)
    assert found.exit_code == 1
    assert "textmill: run run-0 failed after 10 min 0 s." in found.output
    assert "failed" in found.output


def test_without_following_it_only_starts(server: tuple[State, str]) -> None:
    state, address = server
    found = textmill("submit", "quickstart", "--endpoint", address, "--no-follow", "--name", "mine")
    assert (found.exit_code, found.output) == (0, "mine: run run-0\n")
    assert "GET /apis/v2beta1/runs/run-0" not in state.requests


def test_an_experiment_is_made_once(server: tuple[State, str]) -> None:
    state, address = server
    for _ in range(2):
        textmill("submit", "quickstart", "--endpoint", address, "--no-follow", "--experiment", "plays")
    assert len(state.experiments) == 1
    assert {run["experiment_id"] for run in state.runs.values()} == {"e0"}


def test_a_wrong_parameter_is_found_before_the_server_is_asked(server: tuple[State, str]) -> None:
    state, address = server
    found = textmill("submit", "quickstart", "--endpoint", address, "-p", "number=many")
    assert found.exit_code == 2
    assert "number" in found.output
    assert state.requests == []


def test_hardware_by_name_becomes_parameters_and_a_parameter_still_wins(server: tuple[State, str]) -> None:
    state, address = server
    words = ["submit", "quickstart", "--endpoint", address, "--no-follow", "--hardware", "spot-gpu-l4"]
    words += ["--nodes", "gke", "-p", "train_image=registry.example/gpu:1", "-p", "train_memory=40Gi"]
    assert textmill(*words).exit_code == 0
    (run,) = state.runs.values()
    given = run["runtime_config"]["parameters"]
    assert given["train_accelerator_count"] == "1"
    assert given["train_memory"] == "40Gi"
    assert given["train_nodes"]["cloud.google.com/gke-spot"] == "true"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in given[
        "train_tolerations"
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--hardware", "gpu-l5"], "gpu-l5"),
        (["--hardware", "spot-cpu-small"], "say whose spot nodes these are"),
        (["--hardware", "gpu-l4"], "wants the gpu image: give it with --param train_image="),
        (["--nodes", "gke"], "goes with 'hardware'"),
    ],
)
def test_hardware_that_cannot_be_is_one_line(server: tuple[State, str], words: list[str], line: str) -> None:
    state, address = server
    found = textmill("submit", "quickstart", "--endpoint", address, *words)
    assert found.exit_code == 2
    assert line in found.output
    assert state.requests == []


def test_a_pipeline_without_training_has_no_hardware_to_choose(server: tuple[State, str]) -> None:
    state, address = server
    words = ["--hardware", "cpu-large", "-p", "checkpoint=s3://made/checkpoint"]
    found = textmill("submit", "script_generate", "--endpoint", address, *words)
    assert found.exit_code == 2
    assert "script-generate has no parameter train_cpu" in found.output
    assert state.requests == []


def test_again_and_again(server: tuple[State, str]) -> None:
    state, address = server
    textmill("submit", "quickstart", "--endpoint", address, "--every", "6h")
    textmill("submit", "quickstart", "--endpoint", address, "--every", "0 0 4 * * *")
    first, second = state.recurring
    assert int(first["trigger"]["periodic_schedule"]["interval_second"]) == 6 * 3600
    assert second["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (int(first["max_concurrency"]), first["no_catchup"], first["mode"]) == (1, True, "ENABLE")


def cached(run: dict[str, Any]) -> set[str]:
    spec = run["pipeline_spec"]
    tasks = spec.get("pipeline_spec", spec)["root"]["dag"]["tasks"]
    return {name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")}


def test_a_run_that_comes_again_and_again_asks_its_source_each_time(server: tuple[State, str]) -> None:
    """KFP knows an ingest by the source's address, which stays when a text there changes."""
    state, address = server
    textmill("submit", "quickstart", "--endpoint", address, "--every", "6h")
    [run] = state.recurring
    assert cached(run) == {"normalize", "train", "generate", "report"}


def test_a_watch_starts_a_run_that_reads_what_changed(server: tuple[State, str], tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("The wheel turns, and the river is low.\n")
    state, address = server
    source = f"source={tmp_path / 'texts'}"
    options = ["--endpoint", address, "--param", source, "--state", str(tmp_path / "state"), "--once"]
    textmill("watch", "quickstart", *options)
    [run] = state.runs.values()
    assert cached(run) == {"normalize", "train", "generate", "report"}


def test_no_caching_where_none_is_wanted(server: tuple[State, str]) -> None:
    state, address = server
    textmill("submit", "quickstart", "--endpoint", address, "--no-follow")
    textmill("submit", "quickstart", "--endpoint", address, "--no-follow", "--caching", "no")
    assert [bool(cached(run)) for run in state.runs.values()] == [True, False]


def test_a_token_is_taken_from_the_environment(server: tuple[State, str]) -> None:
    state, address = server
    state.token = "s3cr3t-token"
    refused = textmill("submit", "quickstart", "--endpoint", address, "--no-follow")
    assert refused.exit_code == 2
    assert "KFP_TOKEN" in refused.output
    found = textmill("submit", "quickstart", "--endpoint", address, "--no-follow", KFP_TOKEN="s3cr3t-token")
    assert found.exit_code == 0
    assert "s3cr3t" not in refused.output + found.output


def test_a_server_that_is_away_for_a_while_is_waited_for(server: tuple[State, str]) -> None:
    state, address = server
    textmill("submit", "quickstart", "--endpoint", address, "--no-follow")
    state.down = 0
    client = following_client(address)
    state.down = 3
    ended = following.follow(client, "run-0", say=lambda line: None)
    assert ended.state == "SUCCEEDED"


def test_a_server_that_stays_away_ends_the_following(
    server: tuple[State, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, address = server
    textmill("submit", "quickstart", "--endpoint", address, "--no-follow")
    client = following_client(address)
    monkeypatch.setattr(following, "PATIENCE", 0.05)
    state.down = 10**9
    with pytest.raises(following.MachineError, match="503"):
        following.follow(client, "run-0", say=lambda line: None)


def following_client(address: str) -> Any:
    from textmill.cluster.connection import ConnectionSettings, connect

    return connect(ConnectionSettings.of(endpoint=address))


def test_runs_are_listed_newest_first(server: tuple[State, str]) -> None:
    _, address = server
    for name in ("first", "second", "third"):
        textmill(
            "submit",
            "quickstart",
            "--endpoint",
            address,
            "--no-follow",
            "--name",
            name,
            "-p",
            f"source={name}/",
        )
    lines = textmill("runs", "--endpoint", address).output.splitlines()
    assert lines[0].split() == ["run", "name", "state", "started", "time", "source"]
    assert [line.split()[1] for line in lines[1:]] == ["third", "second", "first"]
    assert lines[1].endswith("third/")
    two = textmill("runs", "--endpoint", address, "--count", "2", "--json").output.splitlines()
    assert [json.loads(line)["identity"] for line in two] == ["run-2", "run-1"]


def test_an_unknown_run_is_one_line(server: tuple[State, str]) -> None:
    found = textmill("runs", "nothing", "--endpoint", server[1])
    assert found.exit_code == 2
    assert "404" in found.output


def test_one_run_with_its_tasks_and_folders(server: tuple[State, str], tmp_path: Path) -> None:
    _, address = server
    textmill("submit", "quickstart", "--endpoint", address, "--root", str(tmp_path / "root"))
    made = tmp_path / "root" / "quickstart" / "run-0" / "ingest" / "6f1f" / "corpus"
    made.mkdir(parents=True)
    (made / "a.txt").write_text("a")
    wrote = manifest.write(made, "corpus", parents={"source": "0" * 64})
    found = textmill("runs", "run-0", "--endpoint", address)
    assert found.exit_code == 0
    assert f"ingest/corpus  {wrote.digest}  source {'0' * 64}" in found.output
    told = json.loads(textmill("runs", "run-0", "--endpoint", address, "--json").output)
    assert told["folders"][0]["kind"] == "corpus"
    assert {task["state"] for task in told["tasks"]} == {"done"}


def test_other_files_in_the_store_are_no_folders(tmp_path: Path) -> None:
    for name in ("manifest.json", "t/u/manifest.json", "t/u/o/manifest.json", "t/u/o/other.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{not json")
    assert folders_of(open_store(str(tmp_path))) == []
