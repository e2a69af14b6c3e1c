"""OpenAI's checkpoints: written, they are read back bit for bit, and by gpt-2-simple itself; damaged, refused."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from textmill.checkpoints.openai_checkpoint import (
    check,
    files_of,
    find_model,
    is_openai,
    read_config,
    read_model,
    remove_model,
    write_model,
)
from textmill.errors import FolderError, MachineError
from textmill.models.gpt2 import Arrays, GPT2Config, forward, init
from textmill.tokenizers.bpe import BPETokenizer

# gpt-2-simple's own code: the context must be 1,024, and the vocabulary's last token <|endoftext|>
CONFIG = GPT2Config.of(vocabulary_size=257, context=1024, width=8, num_heads=2, num_layers=2)


@pytest.fixture(scope="module")
def weights() -> Arrays:
    """Not the ones at the start: no tensor is constant, so that one in another's place is seen."""
    drawn = init(CONFIG, seed=1)
    return {
        name: value + np.random.default_rng([2, i]).normal(0, 0.1, value.shape).astype(np.float32)
        for i, (name, value) in enumerate(drawn.items())
    }


@pytest.fixture(scope="module")
def written(weights: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openai") / "checkpoint"
    write_tokenizer(folder / "tokenizer")
    write_model(folder, 7, CONFIG, weights)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def write_tokenizer(folder: Path) -> None:
    """Bytes and <|endoftext|>, no merges."""
    BPETokenizer.train([], vocabulary_size=257).save(folder)


def equal(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def in_child(code: str, folder: Path, *arguments: str) -> str:
    """Run `code` with gpt_2_simple, which turns eager mode off for its whole process."""
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_what_is_written_is_read_back_bit_for_bit(written: Path, weights: Arrays) -> None:
    config, found, step = read_model(written)
    assert (config, step) == (CONFIG, 7)
    assert equal(found, weights)
    assert all(value.dtype == np.float32 for value in found.values())
    assert is_openai(written)


def test_the_files_are_openais(written: Path) -> None:
    there = {p.name for p in written.iterdir() if p.is_file()}
    assert (
        there
        == set(files_of(written, 7))
        == {
            "hparams.json",
            "encoder.json",
            "vocab.bpe",
            "checkpoint",
            "model-7.index",
            "model-7.data-00000-of-00001",
            "model-7.meta",
        }
    )
    assert json.loads((written / "hparams.json").read_text()) == {
        "n_vocab": 257,
        "n_ctx": 1024,
        "n_embd": 8,
        "n_head": 2,
        "n_layer": 2,
    }
    for name in ("encoder.json", "vocab.bpe"):
        assert (written / name).read_bytes() == (written / "tokenizer" / name).read_bytes()


def test_the_same_model_gives_the_same_bytes(written: Path, weights: Arrays, tmp_path: Path) -> None:
    names = write_model(tmp_path, 7, CONFIG, weights, tokenizer_folder=written / "tokenizer")
    assert names == files_of(written, 7)
    for name in names:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_a_later_model_is_the_newest_and_the_old_one_stays(copy: Path, weights: Arrays) -> None:
    later = {name: value + 1 for name, value in weights.items()}
    write_model(copy, 12, CONFIG, later)
    _, found, step = read_model(copy)
    assert step == 12
    assert equal(found, later)
    assert equal(read_model(copy, step=7)[1], weights)
    remove_model(copy, 7)
    assert not list(copy.glob("model-7.*"))
    assert equal(read_model(copy)[1], later)


def test_a_kill_before_the_last_rename_leaves_the_old_model(copy: Path, weights: Arrays) -> None:
    before = (copy / "checkpoint").read_bytes()
    write_model(copy, 12, CONFIG, {name: value + 1 for name, value in weights.items()})
    (copy / "checkpoint").write_bytes(before)
    assert equal(read_model(copy)[1], weights)


def test_nothing_is_left_when_writing_fails(
    copy: Path, weights: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(Exception, match="no permission to write"):
        write_model(copy, 12, CONFIG, weights)
    monkeypatch.undo()
    assert not list(copy.glob(".*"))
    assert read_model(copy)[2] == 7


def test_gpt_2_simples_model_computes_the_same_logits(written: Path, weights: Arrays, tmp_path: Path) -> None:
    tokens = np.random.default_rng(3).integers(0, CONFIG.vocabulary_size, (2, 40))
    np.save(tmp_path / "tokens.npy", tokens)
    code = """
import json, sys, numpy as np, tensorflow as tf
import gpt_2_simple as g
from gpt_2_simple.src import model
folder, run = sys.argv[1].rsplit("/", 1)
sess = g.start_tf_sess()
g.load_gpt2(sess, checkpoint_dir=folder, run_name=run)
hparams = model.default_hparams()
hparams.override_from_dict(json.load(open(sys.argv[1] + "/hparams.json")))
tokens = np.load("tokens.npy")
x = tf.compat.v1.placeholder(tf.int32, [2, None])
logits = model.model(hparams, x, reuse=True)["logits"]
np.save("logits.npy", sess.run(logits, {x: tokens}))
print(g.generate(sess, checkpoint_dir=folder, run_name=run, length=5, return_as_list=True, seed=1))
"""
    said = in_child(code, tmp_path, str(written))
    theirs = np.load(tmp_path / "logits.npy")
    ours = forward(CONFIG, weights, tokens)
    assert np.abs(ours).max() > 0.5
    assert np.abs(theirs - ours).max() < 1e-4
    assert f"Loading checkpoint {written / 'model-7'}" in said


def test_the_graph_beside_it_restores_in_tensorflow_1(written: Path, tmp_path: Path, weights: Arrays) -> None:
    code = """
import sys, numpy as np, tensorflow.compat.v1 as tf
tf.disable_eager_execution()
with tf.Session() as session:
    tf.train.import_meta_graph(sys.argv[1] + ".meta").restore(session, sys.argv[1])
    [w] = [v for v in tf.global_variables() if v.name == "model/h1/attn/c_attn/w:0"]
    np.save("w.npy", session.run(w))
"""
    in_child(code, tmp_path, str(written / "model-7"))
    assert np.load(tmp_path / "w.npy").tobytes() == weights["h1/attn/c_attn/w"].tobytes()


def test_what_gpt_2_simple_trained_and_saved_is_read(written: Path, weights: Arrays, tmp_path: Path) -> None:
    models = tmp_path / "models" / "tiny"
    models.mkdir(parents=True)
    for name in files_of(written, 7):  # as OpenAI publishes it
        shutil.copy(written / name, models / name.replace("model-7", "model.ckpt"))
    (models / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    assert equal(read_model(models)[1], weights)
    assert find_model(models) == ("model.ckpt", 0)
    (tmp_path / "text.txt").write_text("the wheel turns when the moon tells it to turn\n" * 60)
    code = """
import gpt_2_simple as g, numpy as np
assert g.is_gpt2_downloaded(model_name="tiny")
sess = g.start_tf_sess()
g.finetune(sess, "text.txt", steps=2, model_name="tiny", sample_every=9, save_every=9, learning_rate=0.01)
import tensorflow as tf
variables = [v for v in tf.compat.v1.trainable_variables() if v.name.startswith("model")]
np.savez("truth.npz", **{v.name.split(":")[0]: sess.run(v) for v in variables})
"""
    in_child(code, tmp_path)
    config, found, step = read_model(tmp_path / "checkpoint" / "run1")
    truth = np.load(tmp_path / "truth.npz")
    assert (config, step) == (CONFIG, 2)
    assert {f"model/{name}" for name in found} == set(truth.files)
    for name, value in found.items():
        assert value.tobytes() == truth[f"model/{name}"].tobytes(), name
        assert not np.array_equal(value, weights[name]), f"{name} was trained"


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


DATA = "model-7.data-00000-of-00001"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no hparams.json": (lambda f: (f / "hparams.json").unlink(), "hparams.json is missing"),
    "hparams.json cut short": (lambda f: cut(f / "hparams.json", 20), "is not OpenAI's"),
    "hparams.json nested beyond measure": (
        lambda f: (f / "hparams.json").write_text("[" * 100_000),
        "is not OpenAI's",
    ),
    "hparams.json huge": (lambda f: (f / "hparams.json").write_text(" " * 2_000_000), "far too large"),
    "hparams.json of bytes": (lambda f: (f / "hparams.json").write_bytes(b"\xff{}"), "cannot be read"),
    "a size that is no number": (
        lambda f: (f / "hparams.json").write_text(
            '{"n_vocab":"257","n_ctx":1,"n_embd":8,"n_head":2,"n_layer":2}'
        ),
        "n_vocab is '257'",
    ),
    "a size of nothing": (
        lambda f: (f / "hparams.json").write_text(
            '{"n_vocab":257,"n_ctx":1024,"n_embd":0,"n_head":2,"n_layer":2}'
        ),
        "cannot be a GPT-2's",
    ),
    "sizes of a larger model": (
        lambda f: (f / "hparams.json").write_text(
            '{"n_vocab":50257,"n_ctx":1024,"n_embd":1600,"n_head":25,"n_layer":48}'
        ),
        r"model/wte has the shape \[257, 8\], not \[50257, 1600\]",
    ),
    "more blocks": (
        lambda f: (f / "hparams.json").write_text(
            '{"n_vocab":257,"n_ctx":1024,"n_embd":8,"n_head":2,"n_layer":3}'
        ),
        "lacks the variable model/h2/",
    ),
    "fewer blocks": (
        lambda f: (f / "hparams.json").write_text(
            '{"n_vocab":257,"n_ctx":1024,"n_embd":8,"n_head":2,"n_layer":1}'
        ),
        "of more than 1 blocks",
    ),
    "no index": (lambda f: (f / "model-7.index").unlink(), r"lacks model-7\.index"),
    "no data": (lambda f: (f / DATA).unlink(), "lacks model-7.data|damaged"),
    "no file checkpoint and no model": (
        lambda f: [(f / n).unlink() for n in ("checkpoint", "model-7.index")],
        "holds no GPT-2",
    ),
    "an empty file checkpoint": (lambda f: (f / "checkpoint").write_text(""), "names no model"),
    "data cut short": (lambda f: cut(f / DATA, 5000), "is truncated: 5,000 bytes, its index lists"),
    "data too long": (lambda f: (f / DATA).write_bytes((f / DATA).read_bytes() + b"x"), "is oversized"),
    "empty index": (lambda f: cut(f / "model-7.index", 0), "damaged"),
    "index cut short": (lambda f: cut(f / "model-7.index", 100), "damaged"),
    "index of something else": (lambda f: (f / "model-7.index").write_bytes(b"\0" * 4096), "damaged"),
    "other data of the same size": (
        lambda f: (f / DATA).write_bytes(np.zeros((f / DATA).stat().st_size, "u1").tobytes()),
        "damaged, or its files are of different models",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_one_line(damage: str, copy: Path) -> None:
    act, line = DAMAGE[damage]
    act(copy)
    with pytest.raises(FolderError, match=line) as caught:
        read_model(copy)
    assert "\n" not in str(caught.value)


def test_flipped_bytes_of_the_index_never_pass_for_another_model(copy: Path, weights: Arrays) -> None:
    whole = (copy / "model-7.index").read_bytes()
    draw = random.Random(5)
    refused = 0
    for _ in range(150):
        place = draw.randrange(len(whole))
        flipped = whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
        (copy / "model-7.index").write_bytes(flipped)
        try:
            assert equal(read_model(copy)[1], weights)
        except FolderError:
            refused += 1
    assert refused > 100


def test_another_programs_checkpoint_is_refused(written: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model-1"),
        tensor_names=["dense/kernel"],
        shape_and_slices=[""],
        tensors=[tf.zeros([3])],
    )
    shutil.copy(written / "hparams.json", tmp_path)
    with pytest.raises(FolderError, match="lacks the variable model/wte"):
        read_model(tmp_path)
    with pytest.raises(FolderError, match="lacks the variable model/wte"):
        check(tmp_path)


def test_half_precision_is_refused(written: Path, tmp_path: Path, weights: Arrays) -> None:
    import tensorflow as tf

    names = sorted(weights)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model-1"),
        tensor_names=[f"model/{name}" for name in names],
        shape_and_slices=[""] * len(names),
        tensors=[
            tf.constant(weights[n][None] if n.endswith("/w") else weights[n], tf.float16) for n in names
        ],
    )
    shutil.copy(written / "hparams.json", tmp_path)
    with pytest.raises(FolderError, match="is float16; only float32"):
        read_model(tmp_path)


def test_slots_of_an_optimizer_beside_the_weights_are_passed_over(
    written: Path, tmp_path: Path, weights: Arrays
) -> None:
    import tensorflow as tf

    tensors = {f"model/{n}": weights[n][None] if n.endswith("/w") else weights[n] for n in weights}
    tensors |= {"model/wte/Adam": weights["wte"], "global_step": np.int64(3)}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "model-3"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
    )
    shutil.copy(written / "hparams.json", tmp_path)
    _, found, step = read_model(tmp_path)
    assert step == 3
    assert equal(found, weights)


def test_a_file_checkpoint_with_a_path_of_another_machine_is_read_by_its_name(copy: Path) -> None:
    (copy / "checkpoint").write_text('model_checkpoint_path: "C:\\\\runs\\\\model-7"\n')
    assert find_model(copy) == ("model-7", 7)
    (copy / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/run1/model-7"\n')
    assert find_model(copy) == ("model-7", 7)


def test_without_the_file_checkpoint_the_highest_step_is_the_newest(copy: Path) -> None:
    for path in list(copy.glob("model-7.*")):
        shutil.copy(path, copy / path.name.replace("model-7", "model-10"))
    (copy / "checkpoint").unlink()
    assert find_model(copy) == ("model-10", 10)


def test_a_folder_of_something_else_is_not_openais(tmp_path: Path) -> None:
    assert not is_openai(tmp_path)
    with pytest.raises(FolderError, match=r"holds no GPT-2 in OpenAI's format: hparams.json is missing"):
        read_config(tmp_path)
    with pytest.raises(FolderError, match=re.escape("hparams.json is missing")):
        read_model(tmp_path / "nowhere")


def test_reading_says_nothing_and_opens_no_session(written: Path) -> None:
    """TensorFlow's start-up lines come from C++ and would reach the terminal of who looks at a model."""
    program = """
import sys
from pathlib import Path
from textmill import devices
from textmill.checkpoints.openai_checkpoint import read_model

def refuse(*_, **__):
    raise AssertionError("a session was opened")

devices.tensorflow().compat.v1.Session.__init__ = refuse
config, weights, step = read_model(Path(sys.argv[1]))
assert step == 7 and len(weights) == 28
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    ran = subprocess.run(
        [sys.executable, "-c", program, str(written)],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_without_tensorflow_it_is_read_and_to_write_it_says_what_to_install(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    config, weights, step = read_model(written)
    with pytest.raises(MachineError, match=r"pip install 'textmill\[train\]'"):
        write_model(tmp_path / "new", step, config, weights)
