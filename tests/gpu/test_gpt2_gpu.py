"""GPT-2 on a GPU, through JAX: `pytest -m gpu tests/gpu` on a machine that has one. Each test is a process of its own,
as what other tests run hides GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu

BEGINNING = """
import json, sys
import numpy as np
from textmill import devices
from textmill.models.gpt2 import GPT2Config, init, forward
assert devices.jax_platform() == "gpu", "JAX sees no GPU here"
config = GPT2Config.of(vocabulary_size=500, context=128, width=256, num_heads=4, num_layers=2)

def batch(i, rows):
    drawn = np.random.default_rng(i).integers(0, 90, (rows, 129)).astype(np.int32)
    return drawn[:, :-1], drawn[:, 1:]
"""


def run(program: str, *arguments: str) -> Any:
    """What the program says last, on a GPU."""
    hidden = ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", BEGINNING + program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_bfloat16_is_chosen_and_learns_as_float32_does() -> None:
    """Attention goes through cuDNN; curves of 60 steps stay within 0.05 nats, as on a CPU."""
    said = run("""
from textmill.models import get_model
engines = {p: get_model("gpt2").engine()(config, batch_size=8, num_steps=128, precision=p) for p in ("auto", "float32")}
losses = {p: [e.train_step(*batch(i % 4, 8), step=i, learning_rate=1e-3)[0] for i in range(60)]
          for p, e in engines.items()}
print(json.dumps({"losses": losses, "about": engines["auto"].describe()}))
""")
    assert said["about"]["precision"] == "bfloat16"
    assert said["about"]["attention"] == "cudnn"
    near, exact = said["losses"]["auto"], said["losses"]["float32"]
    assert exact[-1] < exact[0] - 1.0
    for first in range(0, 60, 20):
        assert sum(near[first : first + 20]) / 20 == pytest.approx(
            sum(exact[first : first + 20]) / 20, abs=0.05
        )


def test_float32_is_the_plain_model() -> None:
    loss, expected = run("""
from textmill.models.gpt2_jax import GPT2Engine
engine = GPT2Engine(config, batch_size=2, num_steps=128, precision="float32")
x, y = batch(0, 2)
logits = forward(config, init(config), x).astype(np.float64)
logits -= logits.max(-1, keepdims=True)
logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
print(json.dumps([engine.evaluate(x, y)[0], -float(np.take_along_axis(logs, y[..., None], -1).sum())]))
""")
    assert loss == pytest.approx(expected, rel=1e-5)


RESUMED = """
import hashlib
from textmill.models.gpt2_jax import GPT2Engine
engine = GPT2Engine(config, batch_size=4, num_steps=128, accumulate=2, optimizer="adamw", weight_decay=0.1,
                    max_grad_norm=1.0, precision="bfloat16")

def learn(first, last):
    return [engine.train_step(*batch(i, 8), step=i, learning_rate=1e-3)[0] for i in range(first, last)]

file = sys.argv[1]
if sys.argv[2] == "whole":
    learn(0, 5)
    np.savez(file, **{f"{g}:{n}": v for g, group in enumerate(engine.export()) for n, v in group.items()})
else:
    stored = np.load(file)
    engine.restore(*({k[2:]: stored[k] for k in stored.files if k[0] == str(g)} for g in range(3)))
losses = learn(5, 10)
found = hashlib.sha256()
for group in engine.export():
    for name in sorted(group):
        found.update(group[name].tobytes())
print(json.dumps([losses, found.hexdigest()]))
"""


def test_another_process_goes_on_bit_equal(tmp_path: Path) -> None:
    """Fresh processes compile anew: what XLA picks must be the same too."""
    file = str(tmp_path / "state.npz")
    whole = run(RESUMED, file, "whole")
    assert run(RESUMED, file, "resumed") == whole


def test_texts_are_those_of_the_cpu_and_of_any_batch() -> None:
    """Greedy texts of lively weights, float32; and the same seed's texts alone and beside others."""
    said = run("""
import itertools, jax
from textmill.writing.settings import GenerateSettings
from textmill.writing.generator import Generator
from textmill.tokenizers.bpe import LETTERS, BPETokenizer
draw = np.random.default_rng(0)
weights = {n: v + draw.normal(scale=0.1, size=v.shape).astype(np.float32) for n, v in init(config).items()}
merges = itertools.islice(itertools.product(LETTERS, repeat=2), config.vocabulary_size - len(LETTERS) - 1)
tokenizer = BPETokenizer.of(merges)

def texts(number, batch, **more):
    generator = Generator(config, weights, tokenizer, precision="float32")
    settings = GenerateSettings.of(number=number, batch_size=batch, length=40, stop_at_end=False, seed=3, **more)
    return [text.text for text in generator.generate(["ab"], settings)]

found = {"one": texts(4, 2), "all": texts(4, 4), "gpu": texts(1, 2, temperature=0.0)}
with jax.default_device(jax.devices("cpu")[0]):
    found["cpu"] = texts(1, 2, temperature=0.0)
print(json.dumps(found))
""")
    assert said["one"] == said["all"]
    assert len(set(said["all"])) == 4
    assert said["gpu"] == said["cpu"]


def test_a_training_takes_the_gpu_by_itself_and_goes_on_on_it(char_dataset: Path, tmp_path: Path) -> None:
    said = run(
        """
from pathlib import Path
from textmill.train import train
from textmill.training.settings import TrainSettings
overrides = {"batch_size": 4, "steps": 8, "sample_num": 0, "width": 64, "context": 32, "num_steps": 32}
def go(folder, **more):
    return train(Path(sys.argv[1]), Path(sys.argv[2]) / folder,
                 TrainSettings.of(model="gpt2", preset="tiny", overrides=overrides, **more))
go("whole")
go("parts", max_steps=4)
go("parts")
files = [Path(sys.argv[2]) / folder / "metrics.jsonl" for folder in ("whole", "parts")]
metrics = [[json.loads(line)["loss"] for line in open(file)] for file in files]
engine = json.loads((Path(sys.argv[2]) / "whole" / "config.json").read_text())["engine"]
print(json.dumps({"losses": metrics, "engine": engine}))
""",
        str(char_dataset),
        str(tmp_path),
    )
    assert said["engine"]["backend"].startswith("jax ")
    assert said["engine"]["device"].startswith("gpu (")
    assert said["losses"][0][-1] == said["losses"][1][-1]
