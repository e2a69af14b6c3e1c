"""GPT-2 checkpoints in OpenAI's format, as openai/gpt-2 publishes them and gpt-2-simple writes them.

    hparams.json            {"n_vocab", "n_ctx", "n_embd", "n_head", "n_layer"}
    encoder.json vocab.bpe  the tokenizer (textmill/tokenizers/bpe.py)
    checkpoint              text: model_checkpoint_path: "model-500"
    model-500.index model-500.data-00000-of-00001     TensorFlow's V2 format, restored by name
    model-500.meta          the variables' graph, for TensorFlow 1 programs; never read here

OpenAI's own prefix is model.ckpt, gpt-2-simple's model-<step>. Variables are "model/" + our names
(textmill/models/gpt2.py); matrices of the blocks are [1, in, out] there and [in, out] here. Reading needs no
TensorFlow (tensor_bundle.py) and unpickles nothing; names, shapes, types and sizes are checked against hparams.json
before a tensor is read. Writing is TensorFlow's.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from textmill import devices
from textmill.checkpoints.tensor_bundle import Bundle, Damaged
from textmill.errors import FolderError, SettingsError
from textmill.files import sync_file, sync_folder, write_bytes, write_json, writing_failed
from textmill.models.gpt2 import Array, Arrays, GPT2Config, parameter_shapes

HPARAMS = "hparams.json"
TOKENIZER_FILES = ("encoder.json", "vocab.bpe")
SUFFIXES = (".data-00000-of-00001", ".index", ".meta")
NAMES = {
    "n_vocab": "vocabulary_size",
    "n_ctx": "context",
    "n_embd": "width",
    "n_head": "num_heads",
    "n_layer": "num_layers",
}
LARGEST_TEXT = 1 << 20  # bytes of hparams.json or `checkpoint`; real ones have some hundred


def is_openai(folder: Path) -> bool:
    """Whether the folder looks like a checkpoint in this format, whole or not."""
    folder = Path(folder)
    return (folder / HPARAMS).is_file() and (
        (folder / "checkpoint").is_file() or any(folder.glob("model*.index"))
    )


def read_config(folder: Path) -> GPT2Config:
    """The sizes in hparams.json. Raises FolderError when it is missing or is not OpenAI's."""
    path = Path(folder) / HPARAMS
    try:
        values = json.loads(_text(path))
        sizes = {ours: values[theirs] for theirs, ours in NAMES.items()}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FolderError(
            f"{path} is not OpenAI's: it must be a JSON object with {', '.join(NAMES)}; copy the checkpoint anew."
        ) from None
    for theirs, ours in NAMES.items():
        if type(sizes[ours]) is not int:
            raise FolderError(f"{path}: {theirs} is {sizes[ours]!r}; a whole number is wanted.")
    try:
        return GPT2Config.from_dict(sizes)
    except SettingsError as error:
        raise FolderError(f"{path} cannot be a GPT-2's: {error}") from None


def find_model(folder: Path) -> tuple[str, int]:
    """(prefix, step) of the newest model: what the file `checkpoint` names, or else the highest step there is.

    OpenAI's model.ckpt has step 0.
    """
    folder = Path(folder)
    if (folder / "checkpoint").is_file():
        prefix = named_model(folder)
        if not (folder / f"{prefix}.index").is_file():
            raise FolderError(
                f"{folder} lacks {prefix}.index, which its file checkpoint names; copy it whole."
            )
    else:
        there = [path.name.removesuffix(".index") for path in folder.glob("model*.index")]
        if not there:
            raise FolderError(f"{folder} holds no GPT-2 in OpenAI's format: there is no file checkpoint.")
        prefix = max(there, key=_step)
    return prefix, _step(prefix)


def named_model(folder: Path) -> str:
    """The prefix of the model that the file `checkpoint` names. Raises FolderError."""
    index = Path(folder) / "checkpoint"
    found = re.search(r'^model_checkpoint_path:\s*"([^"\n]+)"', _text(index), re.MULTILINE)
    prefix = (
        re.split(r"[/\\]", found[1])[-1] if found else ""
    )  # TensorFlow may write a whole path of elsewhere
    if not re.fullmatch(r"[\w.-]+", prefix):
        raise FolderError(f"{index} names no model; copy the checkpoint anew.")
    return prefix


def read_model(folder: Path, step: int | None = None) -> tuple[GPT2Config, Arrays, int]:
    """(sizes, weights under our names, step) of the folder's newest model, or of its model-<step>.

    Raises FolderError with one line for what is missing, truncated, swapped, oversized or not a GPT-2.
    """
    folder = Path(folder)
    config = read_config(folder)
    prefix, step = find_model(folder) if step is None else (f"model-{step}", step)
    bundle = _check(folder, prefix, config)
    weights: Arrays = {}
    for name, shape in parameter_shapes(config).items():
        try:
            weights[name] = bundle.read(f"model/{name}").reshape(shape)
        except (Damaged, OSError) as error:
            raise _damaged(folder, prefix, error) from error
    return config, weights, step


def check(folder: Path) -> GPT2Config:
    """The sizes, when the newest model has all tensors they ask for, in their shapes, and its data its size.

    Reads no tensor. Raises FolderError.
    """
    folder = Path(folder)
    config = read_config(folder)
    _check(folder, find_model(folder)[0], config)
    return config


def write_model(
    folder: Path,
    step: int,
    config: GPT2Config,
    weights: Mapping[str, Array],
    tokenizer_folder: Path | None = None,
) -> list[str]:
    """Add the model of this step to the folder and point the file `checkpoint` at it; return `files_of` it.

    Each file is written beside and renamed, `checkpoint` last: a kill leaves the old model or the new one. Files of
    other steps are left; `remove_model` removes them. encoder.json and vocab.bpe are copied from `tokenizer_folder`
    (default: tokenizer/ in the folder) where it has them.
    """
    folder = Path(folder)
    shapes = parameter_shapes(config)
    assert {name: np.shape(value) for name, value in weights.items()} == shapes
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"model-{step}"
    beside = folder / f".{prefix}.{os.getpid()}.part"
    try:
        beside.mkdir(exist_ok=True)
        _save(beside / prefix, {f"model/{name}": _theirs(name, weights[name]) for name in shapes})
        for suffix in SUFFIXES:
            sync_file(beside / (prefix + suffix))
        for suffix in SUFFIXES:
            os.replace(beside / (prefix + suffix), folder / (prefix + suffix))
        sync_folder(folder)
    except OSError as error:
        raise writing_failed(folder / prefix, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    source = Path(tokenizer_folder) if tokenizer_folder is not None else folder / "tokenizer"
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            write_bytes(folder / name, (source / name).read_bytes())
    write_json(folder / HPARAMS, {theirs: getattr(config, ours) for theirs, ours in NAMES.items()})
    line = f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n'
    write_bytes(folder / "checkpoint", line.encode())
    return files_of(folder, step)


def files_of(folder: Path, step: int) -> list[str]:
    """Names, relative to the folder, of the files that the model of this step consists of."""
    tokenizer = [name for name in TOKENIZER_FILES if (Path(folder) / name).is_file()]
    return sorted([HPARAMS, "checkpoint", *tokenizer, *(f"model-{step}{suffix}" for suffix in SUFFIXES)])


def remove_model(folder: Path, step: int) -> None:
    """Remove the tensors of one step; call it when the file `checkpoint` names another."""
    for suffix in SUFFIXES:
        (Path(folder) / f"model-{step}{suffix}").unlink(missing_ok=True)


def _step(prefix: str) -> int:
    found = re.search(r"-(\d{1,15})$", prefix)
    return int(found[1]) if found else 0


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise FolderError(f"{path} is far too large to be what its name says; copy the checkpoint anew.")
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise FolderError(
            f"{path.parent} holds no GPT-2 in OpenAI's format: {path.name} is missing."
        ) from None
    except (OSError, UnicodeDecodeError):
        raise FolderError(f"{path} cannot be read; copy the checkpoint anew.") from None


def _theirs(name: str, value: Array) -> Array:
    """As OpenAI's variables are shaped: the matrices of the blocks have an axis of 1 in front."""
    value = np.ascontiguousarray(value, np.float32)
    return value[None] if name.endswith("/w") else value


def _check(folder: Path, prefix: str, config: GPT2Config) -> Bundle:
    """The model's tensors, when what their index lists is the GPT-2 of `config` and its data is whole."""
    bundle = _open(folder, prefix)
    where = f"{folder / prefix}.index"
    other = f"{folder / HPARAMS} says otherwise: files of different models were mixed"
    for name, shape in parameter_shapes(config).items():
        variable = f"model/{name}"
        entry = bundle.entries.get(variable)
        if entry is None:
            raise FolderError(f"{where} lacks the variable {variable} (or is no GPT-2); {other}.")
        wanted = [1, *shape] if name.endswith("/w") else list(shape)
        if list(entry.shape) != wanted:
            raise FolderError(
                f"{where}: {variable} has the shape {list(entry.shape)}, not {wanted}; {other}."
            )
        if entry.type != "float32":
            raise FolderError(f"{where}: {variable} is {entry.type}; only float32 checkpoints can be read.")
    for name in bundle.entries:
        block = re.match(r"model/h(\d+)/", name)
        if block and int(block[1]) >= config.num_layers:
            raise FolderError(
                f"{where} has the variable {name}, of more than {config.num_layers} blocks; {other}."
            )
    _check_sizes(folder, prefix, _listed_bytes(bundle, where))
    return bundle


def data_size(folder: Path) -> int:
    """Bytes of data that the newest model's index lists; the data may not be there yet. Raises FolderError."""
    folder = Path(folder)
    prefix, _ = find_model(folder)
    return _listed_bytes(_open(folder, prefix), f"{folder / prefix}.index")


def _listed_bytes(bundle: Bundle, where: str) -> int:
    entries = bundle.entries
    if odd := next((name for name, entry in entries.items() if not entry.item_size), None):
        raise FolderError(f"{where}: {odd} is {entries[odd].type}; a GPT-2's variables are numbers.")
    return sum(entry.item_size * int(np.prod(entry.shape, dtype=object)) for entry in entries.values())


def _check_sizes(folder: Path, prefix: str, wanted: int) -> None:
    """The data files hold the listed tensors one after the other and nothing else."""
    parts = sorted(folder.glob(f"{prefix}.data-*-of-*"))
    found = sum(path.stat().st_size for path in parts)
    if not parts:
        raise FolderError(f"{folder} lacks {prefix}.data-00000-of-00001; copy the checkpoint whole.")
    if found != wanted:
        state = "truncated" if found < wanted else "oversized"
        raise FolderError(
            f"{parts[0]} is {state}: {found:,} bytes, its index lists {wanted:,}; copy the checkpoint anew."
        )


def _open(folder: Path, prefix: str) -> Bundle:
    try:
        return Bundle.open(folder / prefix)
    except (Damaged, OSError) as error:
        raise _damaged(folder, prefix, error) from error


def _damaged(folder: Path, prefix: str, error: Exception) -> FolderError:
    reason = getattr(error, "strerror", None) or str(error)
    return FolderError(
        f"{folder / prefix} is damaged, or its files are of different models ({reason}); copy it anew."
    )


def _save(prefix: Path, variables: Mapping[str, Array]) -> None:
    """Write <prefix>.index, .data-00000-of-00001 and .meta; the same variables give the same bytes."""
    tf = devices.tensorflow()
    names = sorted(variables)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.convert_to_tensor(variables[name]) for name in names],
        )
    except tf.errors.OpError as error:  # it keeps the system's text alone
        full = "No space left" in error.message
        raise OSError(errno.ENOSPC if full else errno.EIO, error.message, str(prefix)) from error
    with tf.Graph().as_default():
        for name in names:
            tf.compat.v1.get_variable(name, variables[name].shape, initializer=tf.zeros_initializer())
        graph = tf.compat.v1.train.Saver().export_meta_graph()
    prefix.with_name(prefix.name + ".meta").write_bytes(graph.SerializeToString(deterministic=True))
