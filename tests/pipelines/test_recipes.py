"""The recipes, compiled: what their pods ask for, and each of them executed on this machine from its YAML."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from textmill import manifest
from textmill.errors import InputError
from textmill.local.running import RunResult, run_pipeline
from textmill.pipeline_file import read_pipeline

COMPILED = Path(__file__).parents[2] / "pipelines" / "compiled"
GPT2 = ("episodes_gpt2", "large_corpus_gpt2", "tweets_gpt2")
TRAINING = (*GPT2, "play_char_gru", "quickstart", "script_train", "script_word_lstm")
RECIPES = (*TRAINING, "batch_generate", "script_generate")
TINY = {"preset": "tiny", "overrides": {"epochs": 1}}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text(encoding="utf-8")))


def executor(name: str, task: str) -> dict[str, Any]:
    container: dict[str, Any] = documents(name)[0]["deploymentSpec"]["executors"][f"exec-{task}"]["container"]
    return container


def task(name: str, label: str) -> dict[str, Any]:
    """A task of the pipeline or of its loop."""
    spec = documents(name)[0]
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    found: dict[str, Any] = next(dag["tasks"][label] for dag in dags if label in dag["tasks"])
    return found


def run(name: str, output: Path, **parameters: Any) -> tuple[RunResult, str]:
    out = io.StringIO()
    result = run_pipeline(COMPILED / f"{name}.yaml", parameters, output, out=out)
    return result, out.getvalue()


# ---------------------------------------------------------------------- the compiled YAML


def test_the_recipes_are_all_here() -> None:
    assert sorted(p.stem for p in COMPILED.glob("*.yaml")) == sorted(RECIPES)


@pytest.mark.parametrize("name", TRAINING)
def test_train_asks_for_the_accelerator_that_its_parameters_name(name: str) -> None:
    resources = executor(name, "train")["resources"]
    assert resources["accelerator"] == {
        "resourceCount": "{{$.inputs.parameters['pipelinechannel--train_accelerator_count']}}",
        "resourceType": "{{$.inputs.parameters['pipelinechannel--train_accelerator_type']}}",
    }
    parameters = read_pipeline(COMPILED / f"{name}.yaml").parameters
    assert parameters["train_accelerator_type"].default == "nvidia.com/gpu"
    # KFP's driver reads a whole number as an empty text and then asks for no accelerator at all.
    assert (parameters["train_accelerator_count"].kind, parameters["train_accelerator_count"].default) == (
        "STRING",
        "0",
    )
    for other in ("ingest", "normalize", "generate", "report"):
        if f"exec-{other}" in documents(name)[0]["deploymentSpec"]["executors"]:
            assert "accelerator" not in executor(name, other)["resources"]


@pytest.mark.parametrize("name", RECIPES)
def test_images_are_whole_references_by_digest(name: str) -> None:
    """KFP's driver puts a parameter's value in the place of the whole text, so nothing may stand beside it."""
    spec = documents(name)[0]
    parameters = read_pipeline(COMPILED / f"{name}.yaml").parameters
    for label, found in spec["deploymentSpec"]["executors"].items():
        if "container" not in found:
            continue
        place = re.fullmatch(
            r"\{\{\$\.inputs\.parameters\['pipelinechannel--(\w+)'\]\}\}", found["container"]["image"]
        )
        assert place, label
        assert re.fullmatch(r"[^@]+/textmill-python-cpu@sha256:[0-9a-f]{64}", parameters[place[1]].default)


@pytest.mark.parametrize("name", TRAINING)
def test_train_is_retried_with_patience_and_sized(name: str) -> None:
    assert task(name, "train")["retryPolicy"] == {
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3600s",
        "maxRetryCount": 3,
    }
    resources = executor(name, "train")["resources"]
    assert resources["resourceMemoryLimit"] == "{{$.inputs.parameters['pipelinechannel--train_memory']}}"
    assert resources["resourceCpuLimit"] == "{{$.inputs.parameters['pipelinechannel--train_cpu']}}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_is_explained_and_only_the_checkpoint_is_asked_for(name: str) -> None:
    parameters = read_pipeline(COMPILED / f"{name}.yaml").parameters
    assert [p.name for p in parameters.values() if not p.help] == []
    assert [p.name for p in parameters.values() if p.required] == (
        ["checkpoint"] if name in ("batch_generate", "script_generate") else []
    )


def test_defaults_are_the_old_systems() -> None:
    script = {n: p.default for n, p in read_pipeline(COMPILED / "script_word_lstm.yaml").parameters.items()}
    assert (script["preset"], script["length"], script["temperature"], script["top_k"]) == (
        "small",
        1001,
        1.0,
        0,
    )
    play = {n: p.default for n, p in read_pipeline(COMPILED / "play_char_gru.yaml").parameters.items()}
    assert (play["preset"], play["prompt"], play["top_k"], play["temperature"]) == (
        "shakespeare",
        "K",
        2,
        1.0,
    )


# ---------------------------------------------------------------------- executed


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """script_train on the four scenes."""
    output = tmp_path_factory.mktemp("script_train")
    return run("script_train", output, source=str(scenes), minimum_count=1, **TINY)[0]


def test_quickstart(scenes: Path, tmp_path: Path) -> None:
    settings = {**TINY, "length": 80, "number": 2, "prompt": "MOLL\t"}
    result, said = run("quickstart", tmp_path / "out", source=str(scenes), **settings)
    assert [t.name for t in result.tasks] == ["ingest", "normalize", "train", "generate", "report"]
    assert result.text is not None
    assert result.report is not None
    assert result.checkpoint is not None
    assert result.text.read_text().strip()
    assert "<title>char-gru, tiny · textmill report</title>" in result.report.read_text()
    assert "Got executor_input" not in said
    assert "KFP Executor" not in said

    train = executor_output(tmp_path / "out" / "train")
    metadata = train["artifacts"]["checkpoint"]["artifacts"][0]["metadata"]
    assert metadata["sha256"] == manifest.read(result.checkpoint, "checkpoint").digest
    assert metadata["dataset_sha256"] == manifest.read(tmp_path / "out/normalize/dataset", "dataset").digest
    assert {"step", "tokens_seen", "valid_loss", "tokenizer_sha256", "parent_uri", "format"} <= set(metadata)
    assert train["artifacts"]["metrics"]["artifacts"][0]["metadata"]["valid_perplexity"] > 1
    link = json.loads((tmp_path / "out/train/mlpipeline_ui_metadata").read_bytes())
    assert link["outputs"][0]["source"] == f"{result.checkpoint}/tensorboard"
    assert list((result.checkpoint / "tensorboard" / "validation").iterdir())


def executor_output(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "executor_output.json").read_bytes())
    return value


def test_script_train(trained: RunResult) -> None:
    assert [t.name for t in trained.tasks] == ["ingest", "normalize", "train", "report"]
    assert trained.text is None
    assert trained.report is not None
    assert trained.checkpoint is not None


def test_the_same_command_again_trains_nothing_twice(trained: RunResult, scenes: Path) -> None:
    assert trained.checkpoint is not None
    before = manifest.read(trained.checkpoint, "checkpoint").digest
    again, said = run("script_train", trained.output, source=str(scenes), minimum_count=1, **TINY)
    assert "4 unchanged" in said
    assert "nothing left to do" in said
    assert again.checkpoint is not None
    assert manifest.read(again.checkpoint, "checkpoint").digest == before


def test_script_generate(trained: RunResult, tmp_path: Path) -> None:
    result, _ = run("script_generate", tmp_path, checkpoint=str(trained.checkpoint), length=40, number=2)
    assert result.text is not None
    text = result.text.read_text()
    written = [json.loads(line) for line in (result.text.parent / "texts.jsonl").read_text().splitlines()]
    assert [(t["tokens"], t["finish_reason"]) for t in written] == [(40, "length")] * 2
    assert not re.search(r"<(bo|eo)name>|<(open|close)-exp>|<eos>", text)


def test_script_word_lstm(scenes: Path, tmp_path: Path) -> None:
    result, _ = run("script_word_lstm", tmp_path, source=str(scenes), minimum_count=1, length=40, **TINY)
    assert [t.name for t in result.tasks] == ["ingest", "normalize", "train", "generate", "report"]
    assert result.report is not None
    assert "word-lstm, tiny" in result.report.read_text()


def test_play_char_gru(scenes: Path, tmp_path: Path) -> None:
    for i in range(1, 3):  # S3 holds a book back only where there are more than four
        (tmp_path / "plays").mkdir(exist_ok=True)
        for scene in scenes.iterdir():
            (tmp_path / "plays" / f"{i}-{scene.name}").write_text(f"{i}\n{scene.read_text()}")
    result, _ = run("play_char_gru", tmp_path / "out", source=str(tmp_path / "plays"), length=60, **TINY)
    assert result.text is not None
    assert result.checkpoint is not None
    dataset = json.loads((tmp_path / "out/normalize/dataset/manifest.json").read_bytes())["details"]
    assert dataset["tokenizer"]["size"] == 98
    assert dataset["splits"]["valid"]["documents"] > 0
    assert result.text.read_text().lstrip().startswith("K")


def test_a_wrong_setting_ends_the_run_in_one_line(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^train: unknown .*preset.* 'tinny'"):
        run("quickstart", tmp_path, source=str(scenes), preset="tinny")


def test_a_missing_checkpoint_ends_the_run_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^generate: there is no checkpoint at .*nowhere"):
        run("script_generate", tmp_path, checkpoint=str(tmp_path / "nowhere"))
