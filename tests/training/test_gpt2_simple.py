"""The engine gpt-2-simple: the real package, in a child, on a tiny model; the folder it leaves is one of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.test_normalize import make_corpus
from textmill import manifest
from textmill.checkpoints.checkpoint import load_model, read_metrics
from textmill.checkpoints.openai_checkpoint import write_model
from textmill.errors import InputError, Interrupted, MachineError, SettingsError
from textmill.models.gpt2 import GPT2Config, init
from textmill.normalize import NormalizeSettings, normalize
from textmill.tokenizers.bpe import BPETokenizer
from textmill.training import gpt2_simple
from textmill.training.gpt2_simple import train_with_gpt2_simple
from textmill.training.settings import TrainSettings

CONFIG = GPT2Config.of(vocabulary_size=257, context=1024, width=8, num_heads=2, num_layers=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    BPETokenizer.train([]).save(folder / "tokenizer")
    write_model(folder / "model", 0, CONFIG, init(CONFIG, 9), folder / "tokenizer")
    return folder / "model"


@pytest.fixture(scope="module")
def dataset(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    texts = {
        f"{i}.txt": f"the wheel turned {i} times, and then the moon turned it again\n" * 3 for i in range(12)
    }
    make_corpus(folder / "corpus", texts)
    settings = NormalizeSettings.of(tokenizer="bpe", valid_fraction=0.2, test_fraction=0, near_duplicates=0)
    normalize(folder / "corpus", folder / "dataset", settings, base)
    return folder / "dataset"


def told(**overrides: Any) -> TrainSettings:
    loop = {
        "steps": 2,
        "batch_size": 1,
        "accumulate_gradients": 1,
        "print_every": 1,
        "learning_rate": 0.01,
        "sample_every": 1,
        "sample_length": 6,
        **overrides,
    }
    return TrainSettings.of(model="gpt2", preset="124M", overrides=loop, engine="gpt-2-simple")


def test_it_trains_and_leaves_one_of_our_checkpoints(
    dataset: Path, base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    figures = train_with_gpt2_simple(dataset, tmp_path / "c", told(), base)
    said = capfd.readouterr().out
    assert "dataset has" in said
    assert "Training..." in said
    assert said.count("loss=") == 2
    model = load_model(tmp_path / "c")
    assert model.details["step"] == figures["step"] == 2
    assert model.name == "gpt2"
    assert model.config == CONFIG
    start = init(CONFIG, 9)
    assert all(not np.array_equal(model.weights[name], start[name]) for name in start), "all was trained"
    assert model.tokenizer.name == "bpe"
    records = read_metrics(tmp_path / "c")
    assert [r["step"] for r in records] == [1, 2]
    assert all(f"loss={r['loss']:2.2f}" in said for r in records)
    assert abs(records[0]["loss"] - np.log(257)) < 0.2
    assert records[1]["tokens_seen"] == 2048 == figures["tokens_seen"]
    assert [p.name for p in (tmp_path / "c" / "samples").iterdir()] == ["step-00000001.txt"]
    assert (
        (tmp_path / "c" / "samples" / "step-00000001.txt")
        .read_text()
        .startswith("======== SAMPLE 1 ========")
    )
    assert list((tmp_path / "c" / "tensorboard" / "training").glob("events*"))
    found = manifest.read(tmp_path / "c", "checkpoint", verify=True)
    assert set(found.parents) == {"dataset", "base"}
    assert (
        json.loads((tmp_path / "c" / "config.json").read_text())["engine"]["backend"] == "gpt-2-simple 0.8.1"
    )

    assert not list((tmp_path / "c" / "state" / "gpt-2-simple" / "models").rglob("*.data*")), "no third copy"

    # the same command finds it done; more steps go on
    assert train_with_gpt2_simple(dataset, tmp_path / "c", told(), base)["step"] == 2
    more = TrainSettings.of(**{**told().as_dict(), "max_steps": 3})
    assert train_with_gpt2_simple(dataset, tmp_path / "c", more, base)["step"] == 3
    assert [r["step"] for r in read_metrics(tmp_path / "c")] == [1, 2, 3]
    with pytest.raises(InputError, match="another dataset, base or settings"):
        train_with_gpt2_simple(dataset, tmp_path / "c", told(learning_rate=0.02), base)


def test_the_same_seed_draws_the_same_rows_and_no_base_is_fresh_weights(
    dataset: Path, tmp_path: Path
) -> None:
    sizes = {"num_layers": 1, "width": 8, "num_heads": 1}
    for name in "ab":
        train_with_gpt2_simple(dataset, tmp_path / name, told(steps=1, sample_num=0, **sizes))
    a, b = (load_model(tmp_path / name).weights for name in "ab")
    assert all(np.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert not (tmp_path / "a" / "samples").exists()


def test_ctrl_c_saves_and_the_same_command_goes_on(dataset: Path, base: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from textmill.training.gpt2_simple import train_with_gpt2_simple\n"
        "from textmill.training.settings import TrainSettings; from textmill.errors import TextmillError\n"
        "import json\n"
        "settings = TrainSettings.of(**json.loads(sys.argv[4]))\n"
        "try: train_with_gpt2_simple(*map(Path, sys.argv[1:3]), settings, Path(sys.argv[3]))\n"
        "except TextmillError as error: print(error, file=sys.stderr); sys.exit(error.exit_code)\n"
    )
    endless = told(steps=100_000, sample_num=0)
    command = [sys.executable, "-c", code, str(dataset), str(tmp_path / "c"), str(base)]
    child = subprocess.Popen(
        [*command, json.dumps(endless.as_dict())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert child.stdout is not None
    assert child.stderr is not None
    for line in child.stdout:
        if line.startswith("[3 |"):
            break
    child.send_signal(signal.SIGTERM)
    rest = child.stdout.read()
    errors = child.stderr.read()
    assert child.wait() == Interrupted.exit_code, errors
    assert "interrupted" in rest
    step = load_model(tmp_path / "c").details["step"]
    assert step >= 2, "it may have been stopped before it counted the step whose line it printed"
    assert f"stopped at step {step:,} of 100,000; saved in" in errors
    last = TrainSettings.of(**{**endless.as_dict(), "max_steps": step + 1})
    assert train_with_gpt2_simple(dataset, tmp_path / "c", last, base)["step"] == step + 1
    assert [r["step"] for r in read_metrics(tmp_path / "c")] == list(range(1, step + 2))


def test_a_child_that_trains_on_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    child: Any = SimpleNamespace(send_signal=sent.append)
    now = 100.0
    monkeypatch.setattr(gpt2_simple, "time", SimpleNamespace(monotonic=lambda: now))
    asked: list[float] = []
    gpt2_simple._ask_again(child, asked)
    assert sent == [], "nobody asked it to stop"
    asked.append(now)
    for now, times in ((104.0, 0), (106.0, 1), (110.0, 1), (112.0, 2)):
        gpt2_simple._ask_again(child, asked)
        assert sent == [signal.SIGINT] * times, now


def test_a_child_that_hangs_when_asked_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now, killed = 100.0, []
    child: Any = SimpleNamespace(poll=lambda: None, kill=lambda: killed.append(now))

    def sleep(seconds: float) -> None:
        nonlocal now
        now += 10

    monkeypatch.setattr(gpt2_simple, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    gpt2_simple._end(child, [100.0])
    assert killed == [100.0 + gpt2_simple.PATIENCE + 10], "not while it may be saving"
    gpt2_simple._end(SimpleNamespace(poll=lambda: 0), [100.0])  # type: ignore[arg-type]  # ended by itself


def test_the_child_does_not_outlive_its_parent(dataset: Path, base: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from textmill.training.gpt2_simple import train_with_gpt2_simple\n"
        "from textmill.training.settings import TrainSettings; import json\n"
        "train_with_gpt2_simple(*map(Path, sys.argv[1:3]), TrainSettings.of(**json.loads(sys.argv[4])), "
        "Path(sys.argv[3]))\n"
    )
    settings = json.dumps(told(steps=100_000, sample_num=0).as_dict())
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(dataset), str(tmp_path / "c"), str(base), settings],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    for line in parent.stdout:
        if line.startswith("[1 |"):
            break
    parent.kill()
    ended = threading.Event()

    def drain() -> None:  # the pipe ends when the child, which holds it too, is gone
        parent.stdout.read()  # type: ignore[union-attr]
        ended.set()

    threading.Thread(target=drain, daemon=True).start()
    parent.wait()
    metrics = tmp_path / "c" / "metrics.jsonl"
    for _ in range(100):
        before = metrics.stat().st_size
        alive = _running_in(tmp_path / "c" / "state" / "gpt-2-simple")
        if not alive:
            break
        time.sleep(0.1)
    assert not alive
    assert metrics.stat().st_size == before


def _running_in(folder: Path) -> list[int]:
    """Processes whose working folder is `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"num_steps": 512}, "'num_steps' is 512, which gpt-2-simple does not have"),
        ({"optimizer": "adamw"}, "'optimizer' is 'adamw'"),
        ({"lora_rank": 4}, "'lora_rank' is 4"),
        ({"warmup_steps": 4}, "'warmup_steps' is 4"),
        ({"batch_size": 0}, "'batch_size' is 0"),
    ],
)
def test_what_it_does_not_have_is_refused(
    overrides: dict[str, Any], line: str, dataset: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=line):
        train_with_gpt2_simple(dataset, tmp_path / "c", told(**overrides), base)
    assert not (tmp_path / "c").exists()


def test_other_models_contexts_and_tokens_are_refused(
    dataset: Path, char_dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="trains model gpt2, not char-gru"):
        train_with_gpt2_simple(dataset, tmp_path / "c", TrainSettings.of(model="char-gru", preset="tiny"))
    with pytest.raises(SettingsError, match="the model's context is 64; gpt-2-simple's is always 1024"):
        train_with_gpt2_simple(dataset, tmp_path / "c", told(context=64, num_layers=1))
    with pytest.raises(InputError, match="has char tokens; gpt-2-simple knows byte pairs alone"):
        train_with_gpt2_simple(char_dataset, tmp_path / "c", told(num_layers=1))


def test_too_little_text_is_one_line(base: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus", {f"{i}.txt": f"short {i}" for i in range(4)})
    normalize(tmp_path / "corpus", tmp_path / "dataset", NormalizeSettings.of(tokenizer="bpe"), base)
    with pytest.raises(
        InputError, match=r"the training text has \d+ tokens; gpt-2-simple needs more than 1,024"
    ):
        train_with_gpt2_simple(tmp_path / "dataset", tmp_path / "c", told(), base)


def test_an_end_of_its_own_is_one_line(
    dataset: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "gpt_2_simple.py").write_text("raise MemoryError('out of memory on device')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(
        MachineError, match="gpt-2-simple ended by itself: MemoryError: out of memory on device"
    ):
        train_with_gpt2_simple(dataset, tmp_path / "c", told(), base)
