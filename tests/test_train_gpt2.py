"""Training GPT-2: what a run writes and says, where it starts from, and the exact resume."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.killing import assert_same_run, losses, run_killed
from textmill.checkpoints import checkpoint as layout
from textmill.checkpoints import openai_checkpoint
from textmill.datasets.dataset import read_dataset
from textmill.errors import FolderError, InputError, SettingsError
from textmill.models import get_model
from textmill.models.gpt2 import init
from textmill.normalize import NormalizeSettings, normalize
from textmill.train import train
from textmill.training.settings import TrainSettings


def tiny(**more: Any) -> dict[str, Any]:
    overrides = {"steps": 12, "num_steps": 16, "sample_num": 0, "print_every": 1, "validate_every": 6}
    overrides |= more.pop("overrides", {})
    return {"model": "gpt2", "preset": "tiny", "overrides": overrides, **more}


def run(dataset: Path, checkpoint: Path, base: Path | None = None, **more: Any) -> dict[str, Any]:
    return train(dataset, checkpoint, TrainSettings.of(**tiny(**more)), base)


@pytest.fixture(scope="module")
def bpe_dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte pairs of its own: one scene to validate, one to test."""
    folder = tmp_path_factory.mktemp("datasets") / "bpe"
    settings = NormalizeSettings.of(
        tokenizer="bpe",
        vocabulary_size=300,
        split="documents",
        valid_documents="3-*",
        test_documents="4-*",
    )
    normalize(corpus, folder, settings)
    return folder


@pytest.fixture(scope="module")
def trained(bpe_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "c"
    run(bpe_dataset, folder, save_every_steps=5, overrides={"sample_num": 2, "sample_length": 20})
    return folder


# ---------------------------------------------------------------------- what a run writes and says


def test_the_model_lies_in_openais_format_and_loads(trained: Path, bpe_dataset: Path) -> None:
    names = {path.name for path in trained.iterdir() if path.is_file()}
    best = layout.read_details(trained)["best"]["step"]
    assert {"hparams.json", "encoder.json", "vocab.bpe", "checkpoint", f"model-{best}.index"} <= names
    assert len([name for name in names if name.endswith(".index")]) == 1, "old weights are removed"
    model = layout.load_model(trained)
    config, weights, step = openai_checkpoint.read_model(trained)
    assert (model.name, model.config, model.details["step"]) == ("gpt2", config, step)
    assert all(np.array_equal(model.weights[name], weights[name]) for name in weights)
    assert model.tokenizer.size == config.vocabulary_size == read_dataset(bpe_dataset).tokenizer.size
    assert (trained / "encoder.json").read_bytes() == (trained / "tokenizer" / "encoder.json").read_bytes()


def test_it_learns_and_keeps_the_best_of_its_validations(trained: Path) -> None:
    train_losses = [loss for kind, _, loss, _ in losses(trained) if kind == "train"]
    assert len(train_losses) == 12
    assert train_losses[-1] < train_losses[0]
    valid = {step: loss for kind, step, loss, _ in losses(trained) if kind == "valid"}
    assert sorted(valid) == [6, 12]
    details = layout.read_details(trained)
    assert details["best"]["loss"] == min(valid.values())
    assert details["test"]["loss"] > 0


def test_tensorboard_has_gpt_2_simples_tag_too(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard" / "training")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["batch_accuracy", "batch_loss", "loss"]
    recorded = [loss for kind, _, loss, _ in losses(trained) if kind == "train"]
    assert [s.value for s in events.Scalars("loss")] == pytest.approx(recorded)


def test_its_lines_are_gpt_2_simples(
    bpe_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"overrides": {"steps": 4, "print_every": 2, "sample_every": 3, "sample_num": 2}}
    run(bpe_dataset, tmp_path / "c", **settings)
    said = re.sub(r"(?m)^[ \r]+", "", capsys.readouterr().out)  # a bar may have stood before a line
    tokens = len(read_dataset(bpe_dataset).tokens("train"))
    assert re.search(rf"^ *dataset has {tokens} tokens", said.replace(",", ""), re.MULTILINE)
    found = re.findall(r"^\[(\d+) \| \d+\.\d\d\] loss=(\d+\.\d\d) avg=(\d+\.\d\d) ", said, re.MULTILINE)
    assert [int(step) for step, _, _ in found] == [2, 4]
    assert (
        len(re.findall(r"^\[\d+ \| [\d.]+\] validation loss=.* \(counting tokens alone: ", said, re.M)) == 1
    )
    assert re.findall(r"^======== SAMPLE (\d) ========$", said, re.MULTILINE) == ["1", "2", "1", "2"]
    samples = sorted(path.name for path in (tmp_path / "c" / "samples").iterdir())
    assert samples == ["step-00000003.txt", "step-00000004.txt"]
    records = [r for r in layout.read_metrics(tmp_path / "c") if r["kind"] == "train"]
    assert len(records) == 2


# ---------------------------------------------------------------------- exact resume

ALL_IT_HAS = {
    "accumulate_gradients": 3,
    "batch_size": 2,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "warmup_steps": 4,
    "decay": "cosine",
}
RUNS: dict[str, dict[str, Any]] = {
    "accumulated": {"overrides": ALL_IT_HAS},
    "bfloat16": {"precision": "bfloat16", "overrides": {"accumulate_gradients": 2, "packing": "documents"}},
    "lora": {"overrides": {"lora_rank": 2, "gradient_checkpointing": True}},
}

KILLED_AT = {
    "accumulated": ("step", "fsync", "replace"),
    "bfloat16": ("replace", "step"),
    "lora": ("fsync",),
}


@pytest.mark.parametrize("kind", RUNS)
def test_killed_at_any_moment_it_ends_bit_equal(kind: str, bpe_dataset: Path, tmp_path: Path) -> None:
    settings = tiny(save_every_steps=3, **RUNS[kind])
    run_killed(bpe_dataset, tmp_path / "one", settings, [])
    draw = random.Random(kind)
    moments = {"step": draw.randint(1, 11), "fsync": draw.randint(3, 40), "replace": draw.randint(3, 30)}
    kills = [(place, moments[place]) for place in KILLED_AT[kind]]
    run_killed(bpe_dataset, tmp_path / "other", settings, kills)
    assert_same_run(tmp_path / "one", tmp_path / "other")
    one, other = (openai_checkpoint.read_model(tmp_path / name) for name in ("one", "other"))
    assert all(np.array_equal(one[1][name], other[1][name]) for name in one[1])
    assert not [p for p in (tmp_path / "other").rglob(".*") if p.suffix in (".part", ".old")]


def test_a_kill_in_the_middle_of_a_save_leaves_a_model_that_loads(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever rename it fails at: the manifest's model is whole, and gpt-2-simple's reader finds a whole one."""
    model = layout.load_model(trained)
    said = json.loads((trained / "config.json").read_bytes())
    real, left = os.replace, 0

    class Killed(Exception):
        pass

    def replace(*paths: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        real(*paths)

    for count in range(20):
        folder = tmp_path / str(count)
        shutil.copytree(trained, folder)
        left = count
        monkeypatch.setattr(os, "replace", replace)
        try:
            new = init(model.config, seed=7)
            layout.save_model(folder, new, said, {"step": 99}, model.tokenizer, {})
            break
        except Killed:
            pass
        finally:
            monkeypatch.setattr(os, "replace", real)
        assert layout.load_model(folder).details["step"] == model.details["step"]
        openai_checkpoint.check(folder)
    assert count >= 5
    assert layout.load_model(folder).details["step"] == 99
    assert len(list(folder.glob("model-*.index"))) == 1


def test_the_length_may_change_where_the_learning_rate_does_not_depend_on_it(
    trained: Path, bpe_dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "c")
    assert run(bpe_dataset, tmp_path / "c", overrides={"steps": 14})["step"] == 14
    with pytest.raises(InputError, match=r"other settings \(.*decay: constant there, linear here"):
        run(bpe_dataset, tmp_path / "c", overrides={"steps": 14, "decay": "linear"})


# ---------------------------------------------------------------------- a base to start from


def test_it_starts_from_a_checkpoint_and_says_from_which(
    trained: Path, bpe_dataset: Path, tmp_path: Path
) -> None:
    """With a learning rate of nothing the weights stay the base's."""
    run(bpe_dataset, tmp_path / "c", trained, overrides={"learning_rate": 0.0, "steps": 2})
    base, made = layout.load_model(trained), layout.load_model(tmp_path / "c")
    assert all(np.array_equal(base.weights[name], made.weights[name]) for name in base.weights)
    found = layout.manifest.read(tmp_path / "c", "checkpoint")
    assert found.parents["base"] == base.digest
    assert (
        run(bpe_dataset, tmp_path / "c", trained, overrides={"learning_rate": 0.0, "steps": 3})["step"] == 3
    )
    with pytest.raises(InputError, match="another base"):
        run(bpe_dataset, tmp_path / "c", overrides={"learning_rate": 0.0, "steps": 3})


@pytest.mark.parametrize("kind", ["openai", "huggingface"])
def test_it_starts_from_other_programs_models(
    kind: str, trained: Path, bpe_dataset: Path, tmp_path: Path
) -> None:
    from textmill.checkpoints import huggingface

    base, model = tmp_path / "base", layout.load_model(trained)
    if kind == "openai":
        openai_checkpoint.write_model(base, 5, model.config, model.weights, trained / "tokenizer")
    else:
        huggingface.write_model(base, model.config, model.weights, trained / "tokenizer")
    settings = {"base": str(base), "overrides": {"learning_rate": 0.0, "steps": 1, "lora_rank": 2}}
    run(bpe_dataset, tmp_path / "c", **settings)
    made = layout.load_model(tmp_path / "c")
    assert all(np.array_equal(model.weights[name], made.weights[name]) for name in made.weights)


def test_lora_trains_and_what_is_kept_holds_it(trained: Path, bpe_dataset: Path, tmp_path: Path) -> None:
    run(bpe_dataset, tmp_path / "c", trained, overrides={"lora_rank": 2, "learning_rate": 0.05})
    base, made = layout.load_model(trained), layout.load_model(tmp_path / "c")
    changed = {n for n in base.weights if not np.array_equal(base.weights[n], made.weights[n])}
    assert changed
    assert all(re.fullmatch(r"h\d/.*/w", name) for name in changed)
    state = layout.latest_state(tmp_path / "c")
    assert state is not None
    assert all(np.array_equal(base.weights[n], state.weights[n]) for n in base.weights)
    if (
        made.details["step"] == 12
    ):  # the test text was scored with the kept weights, not with LoRA on top again
        again = run(
            bpe_dataset, tmp_path / "again", tmp_path / "c", overrides={"learning_rate": 0.0, "steps": 1}
        )
        assert again["test_loss"] == pytest.approx(made.details["test"]["loss"], rel=1e-4)


def test_only_transformer_layers_can_be_trained(trained: Path, bpe_dataset: Path, tmp_path: Path) -> None:
    run(bpe_dataset, tmp_path / "c", trained, overrides={"only_train_transformer_layers": True, "steps": 2})
    base, made = layout.load_model(trained), layout.load_model(tmp_path / "c")
    same = {n for n in base.weights if np.array_equal(base.weights[n], made.weights[n])}
    assert same == {"wte", "wpe", "ln_f/g", "ln_f/b"}


def test_a_base_of_another_tokenizer_is_refused_with_the_way_out(
    trained: Path, char_dataset: Path, corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"another tokenizer.*normalize CORPUS --base") as caught:
        run(char_dataset, tmp_path / "c", trained)
    assert "\n" not in str(caught.value)
    normalize(corpus, tmp_path / "d", NormalizeSettings.of(special_tokens="literal"), base=trained)
    assert run(tmp_path / "d", tmp_path / "c", trained, overrides={"steps": 1})["step"] == 1
    assert not (tmp_path / "c" / "state" / "step-00000012").exists()


def test_sizes_are_the_bases(
    trained: Path, bpe_dataset: Path, char_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SettingsError, match=r"'width' in overrides is 32; the base .* has 16"):
        run(bpe_dataset, tmp_path / "c", trained, overrides={"width": 32})
    with caplog.at_level("INFO", "textmill.train"):
        settings = {**tiny(overrides={"steps": 1}), "preset": "124M"}
        train(bpe_dataset, tmp_path / "c", TrainSettings.of(**settings), trained)
    assert "training as preset tiny does" in caplog.text
    assert layout.read_details(tmp_path / "c")["train"]["learning_rate"] == 3e-3
    with pytest.raises(InputError, match=r"the base .* is a gpt2, the model to train a char-gru"):
        train(char_dataset, tmp_path / "d", TrainSettings.of(preset="tiny"), trained)


def test_what_is_no_model_is_no_base(bpe_dataset: Path, tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "is no model to start from"), (tmp_path / "none", "no such folder")):
        with pytest.raises(FolderError, match=message):
            run(bpe_dataset, tmp_path / "c", folder)


def test_a_recurrent_model_starts_from_a_checkpoint_too(char_dataset: Path, tmp_path: Path) -> None:
    settings = TrainSettings.of(preset="tiny", max_steps=2)
    train(char_dataset, tmp_path / "one", settings)
    still = TrainSettings.of(preset="tiny", max_steps=1, overrides={"learning_rate": 0.0, "keep_prob": 0.9})
    train(char_dataset, tmp_path / "other", still, tmp_path / "one")
    one, other = (layout.load_model(tmp_path / name).weights for name in ("one", "other"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_other_engine_gets_the_same_arguments(
    bpe_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textmill.training import gpt2_simple

    asked: list[Any] = []

    def other(dataset: Path, checkpoint: Path, settings: TrainSettings, base: Path | None) -> dict[str, Any]:
        asked.append((dataset, checkpoint, settings.engine, base))
        checkpoint.mkdir(parents=True)
        return {"step": 7}

    monkeypatch.setattr(gpt2_simple, "train_with_gpt2_simple", other)
    assert run(bpe_dataset, tmp_path / "c", engine="gpt-2-simple") == {"step": 7}
    monkeypatch.setenv("TEXTMILL_STATE_ROOT", str(tmp_path / "work"))
    run(bpe_dataset, tmp_path / "d", engine="gpt-2-simple")
    work = next((tmp_path / "work").iterdir())
    assert asked == [(bpe_dataset, folder, "gpt-2-simple", None) for folder in (tmp_path / "c", work)]
    assert (tmp_path / "d").is_dir()


# ---------------------------------------------------------------------- data


@pytest.mark.parametrize("packing", ["packed", "documents"])
@pytest.mark.parametrize("text", ["ab", "a mill", "line of a text\n" * 3])
def test_tiny_texts_train(packing: str, text: str, tmp_path: Path) -> None:
    from textmill.ingest import ingest

    (tmp_path / "a.txt").write_text(text)
    ingest(str(tmp_path / "a.txt"), tmp_path / "corpus")
    normalize(tmp_path / "corpus", tmp_path / "dataset", NormalizeSettings.of(near_duplicates=0))
    settings = {"packing": packing, "num_steps": 32, "steps": 2, "sample_num": 1, "sample_length": 5}
    assert run(tmp_path / "dataset", tmp_path / "c", overrides=settings)["step"] == 2
    tokens = len(read_dataset(tmp_path / "dataset").tokens("train"))
    assert layout.read_details(tmp_path / "c")["train"]["num_steps"] == min(
        32, tokens - (packing == "packed")
    )


def test_too_little_or_too_long_is_one_line(bpe_dataset: Path, tmp_path: Path) -> None:
    class OneToken:
        def tokens(self, split: str) -> np.ndarray:
            return np.zeros(1, np.uint16)

    family = get_model("gpt2")
    with pytest.raises(InputError, match="has 1 tokens; there must be at least 2"):
        family.training().fit(family.schedule("tiny"), {}, family.config("tiny", 50), OneToken())
    with pytest.raises(SettingsError, match="'num_steps' is 64; the model's context is 32"):
        run(bpe_dataset, tmp_path / "c", overrides={"num_steps": 64})


def test_documents_are_rows_as_long_as_the_longest(bpe_dataset: Path, tmp_path: Path) -> None:
    longest = int(read_dataset(bpe_dataset).spans("train")[:, 1].max())
    figures = run(
        bpe_dataset,
        tmp_path / "c",
        overrides={"packing": "documents", "context": 1024, "num_steps": 1024, "steps": 0, "epochs": 2},
    )
    assert layout.read_details(tmp_path / "c")["train"]["num_steps"] == longest
    tokens = len(read_dataset(bpe_dataset).tokens("train"))
    assert figures["tokens_seen"] >= 2 * tokens


def test_the_average_is_gpt_2_simples() -> None:
    from textmill.training.family import Progressed

    now = Progressed()
    for loss in (4.0, 2.0):
        now.count(loss)
    assert now.average == pytest.approx((4.0 * 0.99 + 2.0) / (0.99 + 1.0))


def test_released_presets_are_gpt_2_simples() -> None:
    family = get_model("gpt2")
    for name in ("124M", "355M", "774M", "1558M"):
        schedule = family.schedule(name)
        assert (schedule.batch_size, schedule.accumulate_gradients, schedule.num_steps) == (1, 5, 1024)
        assert (schedule.optimizer, schedule.learning_rate, schedule.decay) == ("adam", 1e-4, "constant")
        assert (schedule.sample_every, schedule.sample_length, schedule.sample_num) == (100, 1023, 1)
    counts = [family.parameter_count(family.config(n, 50257)) for n in ("124M", "355M", "774M", "1558M")]
    assert counts == [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]
