"""GPT-2 as Hugging Face keeps it: safetensors in and out, so that transformers, vLLM and llama.cpp's tools read ours.

    config.json                    model_type gpt2 and the sizes (transformers' GPT2Config)
    model.safetensors              or model.safetensors.index.json and the parts it names
    vocab.json merges.txt          the tokenizer: OpenAI's two files under other names; tokenizer.json holds both

Tensors are ours (textmill/models/gpt2.py) under other names and in the same shapes: transformers' Conv1D keeps its
matrices [in, out], as OpenAI does. The output matrix is wte. No code runs on load: pickled weights are not read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from textmill.errors import FolderError, InputError, MachineError, SettingsError
from textmill.files import new_folder, write_bytes, write_json
from textmill.models.gpt2 import LAYER_NORM_EPSILON, Array, Arrays, GPT2Config, parameter_shapes
from textmill.tokenizers import load_tokenizer
from textmill.tokenizers.bpe import END, BPETokenizer, vocab_bpe

WEIGHTS = "model.safetensors"
HEAD = "lm_head"
INDEX = "model.safetensors.index.json"
SIZES = {
    "vocab_size": "vocabulary_size",
    "n_positions": "context",
    "n_embd": "width",
    "n_head": "num_heads",
    "n_layer": "num_layers",
}
# What transformers' GPT2Config can say of a network that is not GPT-2's: key, what is accepted, its default.
FIXED: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
    ("activation_function", ("gelu_new", "gelu_pytorch_tanh"), "gelu_new"),
    ("layer_norm_epsilon", (LAYER_NORM_EPSILON,), LAYER_NORM_EPSILON),
    ("scale_attn_weights", (True,), True),
    ("scale_attn_by_inverse_layer_idx", (False,), False),
    ("add_cross_attention", (False,), False),
)
READABLE = ("F32", "F16", "BF16")


def is_huggingface(folder: Path) -> bool:
    """Whether the folder looks like a model of Hugging Face, whole or not."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors*"))


def read_config(folder: Path) -> GPT2Config:
    """The sizes in config.json. Raises FolderError when the model is no GPT-2, or one with another arithmetic."""
    path = Path(folder) / "config.json"
    values = _read_json(path)
    kind = values.get("model_type") or next(iter(values.get("architectures") or ["?"]))
    if kind != "gpt2":
        raise FolderError(f"{path.parent} holds a model of type {kind!r}; only gpt2 can be read.")
    for key, accepted, default in FIXED:
        if values.get(key, default) not in accepted:
            raise FolderError(f"{path}: {key} is {values[key]!r}; a GPT-2 has {accepted[0]!r}.")
    given: dict[str, Any] = {ours: values.get(theirs) for theirs, ours in SIZES.items()}
    for theirs, ours in SIZES.items():
        if type(given[ours]) is not int:
            raise FolderError(f"{path}: {theirs} is {given[ours]!r}; a whole number is wanted.")
    if values.get("n_inner") not in (None, 4 * given["width"]):
        raise FolderError(f"{path}: n_inner is {values['n_inner']!r}; a GPT-2 has four times its n_embd.")
    try:
        return GPT2Config.from_dict(given)
    except SettingsError as error:
        raise FolderError(f"{path} cannot be a GPT-2's: {error}") from None


def read_model(folder: Path) -> tuple[GPT2Config, Arrays]:
    """(sizes, weights under our names, float32). Raises FolderError for what is missing, damaged or not a GPT-2.

    Names are taken with and without "transformer.", as transformers writes both; the masks that old files keep
    (attn.bias, attn.masked_bias) are passed over. Half precision is widened, which loses nothing.
    """
    folder = Path(folder)
    config = read_config(folder)
    found = _find(folder, config)
    weights = {name: found[name]() for name in parameter_shapes(config)}
    head = found.get(HEAD)
    if head is not None and not np.array_equal(head(), weights["wte"]):
        raise FolderError(f"{folder} has an output matrix of its own (lm_head); GPT-2's is its wte.")
    return config, weights


def check(folder: Path) -> GPT2Config:
    """The sizes, when all tensors they ask for are there in their shapes. Reads no tensor. Raises FolderError."""
    config = read_config(folder)
    _find(Path(folder), config)
    return config


def check_file(path: Path) -> None:
    """Raise FolderError unless it is a whole safetensors file."""
    for _ in _tensors(path):
        pass


def _find(folder: Path, config: GPT2Config) -> dict[str, Callable[[], Array]]:
    """Our name of each tensor, and HEAD where there is one -> what reads it. Raises FolderError."""
    shapes = parameter_shapes(config)
    ours = {their_name(name): name for name in shapes} | {"lm_head.weight": HEAD}
    wanted = shapes | {HEAD: shapes["wte"]}
    found: dict[str, Callable[[], Array]] = {}
    for path in [folder / name for name in part_names(folder)]:
        for name, shape, tensor in _tensors(path):
            name = name.removeprefix("transformer.")
            if name in ours:
                if shape != wanted[ours[name]]:
                    raise FolderError(
                        f"{path}: {name} has the shape {list(shape)}, config.json says {list(wanted[ours[name]])}; "
                        "files of different models were mixed."
                    )
                found[ours[name]] = tensor
            elif not name.endswith((".attn.bias", ".attn.masked_bias")):
                raise FolderError(
                    f"{path} holds {name}, which no GPT-2 of these sizes has; only gpt2 can be read."
                )
    missing = next((name for name in shapes if name not in found), None)
    if missing:
        raise FolderError(f"{folder} lacks the tensor {their_name(missing)}; copy the model whole.")
    return found


def read_tokenizer(folder: Path, special_tokens: str = "id") -> BPETokenizer:
    """The tokenizer of vocab.json and merges.txt, or else of tokenizer.json. Raises FolderError.

    Where the model has more rows than there are tokens (padded to a round number), the rest get names of their own.
    """
    folder = Path(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        table = _read_json(folder / "vocab.json")
        added = _read_json(folder / "added_tokens.json") if (folder / "added_tokens.json").is_file() else {}
        lines = (folder / "merges.txt").read_bytes().replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
        lines = lines[1:] if lines[0].startswith(b"#version") else lines
        merges = b"\n".join([b"#version: 0.2", *lines, b""])
    else:
        table, added, merges = _read_one_file(folder / "tokenizer.json")
    extra = {token: i for token, i in added.items() if token not in table}
    size = read_config(folder).vocabulary_size if (folder / "config.json").is_file() else 0
    unused = {f"<|unused{i}|>": i for i in range(len(table) + len(extra), size)}
    if extra or unused:
        encoder = json.dumps({**table, **extra, **unused}).encode()
    else:
        encoder = (
            (folder / "vocab.json").read_bytes()
            if (folder / "vocab.json").is_file()
            else json.dumps(table).encode()
        )
    return BPETokenizer(encoder, merges, special_tokens, str(folder))


def write_model(
    folder: Path, config: GPT2Config, weights: Mapping[str, Array], tokenizer_folder: Path
) -> None:
    """Write the folder anew, whole or not at all. Raises InputError when its tokenizer is none that others know."""
    from safetensors.numpy import save_file

    tokenizer = load_tokenizer(tokenizer_folder)
    if not isinstance(tokenizer, BPETokenizer):
        raise InputError(
            f"a GPT-2 of {tokenizer.name} tokens cannot be read elsewhere; Hugging Face's format wants tokenizer bpe."
        )
    shapes = parameter_shapes(config)
    assert {name: np.shape(value) for name, value in weights.items()} == shapes
    tensors = {
        f"transformer.{their_name(name)}": np.ascontiguousarray(weights[name], np.float32) for name in shapes
    }
    end = tokenizer.end_of_document
    with new_folder(Path(folder)) as beside:
        save_file(tensors, beside / WEIGHTS, metadata={"format": "pt"})
        write_json(beside / "config.json", _config(config, end))
        write_json(beside / "generation_config.json", {"bos_token_id": end, "eos_token_id": end})
        _write_tokenizer(beside, tokenizer, config.context)


def their_name(name: str) -> str:
    """Our name of a tensor -> Hugging Face's without "transformer.": h3/attn/c_attn/w -> h.3.attn.c_attn.weight."""
    if name in ("wte", "wpe"):
        return f"{name}.weight"
    *path, leaf = name.split("/")
    if path[0].startswith("h"):
        path[:1] = ["h", path[0][1:]]
    return ".".join([*path, "bias" if leaf == "b" else "weight"])


def _config(config: GPT2Config, end: int | None) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        "n_ctx": config.context,
        "n_inner": None,
        **{key: default for key, _, default in FIXED},
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "resid_pdrop": 0.1,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": "float32",
    }


def _write_tokenizer(folder: Path, tokenizer: BPETokenizer, context: int) -> None:
    special = {"bos_token": END, "eos_token": END, "unk_token": END}
    table = dict(sorted(tokenizer.table.items(), key=lambda item: item[1]))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    added = {
        "id": table[END],
        "content": END,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": table,
        "merges": [list(pair) for pair in tokenizer.merges],
    }
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": model,
    }
    write_bytes(folder / "vocab.json", json.dumps(table, ensure_ascii=False).encode())
    write_bytes(folder / "merges.txt", vocab_bpe(tokenizer.merges))
    write_bytes(folder / "tokenizer.json", json.dumps(whole, ensure_ascii=False, indent=1).encode())
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            "add_prefix_space": False,
            "model_max_length": context,
            "tokenizer_class": "GPT2Tokenizer",
        },
    )


def _read_one_file(path: Path) -> tuple[dict[str, int], dict[str, int], bytes]:
    """(table, added tokens, vocab.bpe) of a tokenizer.json of the package tokenizers."""
    if not path.is_file():
        raise FolderError(
            f"{path.parent} holds no tokenizer: vocab.json and merges.txt (or tokenizer.json) are missing."
        )
    values = _read_json(path)
    try:
        model, before = values["model"], values["pre_tokenizer"]
        steps = before.get("pretokenizers", [before])
        if model["type"] != "BPE" or [step["type"] for step in steps] != ["ByteLevel"]:
            raise FolderError(f"{path} is not a GPT-2's tokenizer: byte pairs on the byte level are wanted.")
        if (
            values.get("normalizer")
            or steps[0].get("add_prefix_space")
            or not steps[0].get("use_regex", True)
        ):
            raise FolderError(
                f"{path} changes or splits texts otherwise than GPT-2's tokenizer; it cannot be read."
            )
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        merges = vocab_bpe((first, second) for first, second in pairs)
        return dict(model["vocab"]), {t["content"]: t["id"] for t in values.get("added_tokens", [])}, merges
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FolderError(f"{path} cannot be read as a tokenizer; copy it anew.") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FolderError(f"{path.parent} holds no model of Hugging Face: {path.name} is missing.") from None
    except (ValueError, OSError, RecursionError):
        raise FolderError(f"{path} cannot be read as JSON; copy it anew.") from None
    if not isinstance(values, dict):
        raise FolderError(f"{path} is not a JSON object; copy it anew.")
    return values


def part_names(folder: Path) -> list[str]:
    """The names of the files that hold the tensors; those that an index names need not be there yet."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if not (folder / INDEX).is_file():
        pickled = [path.name for path in folder.glob("*.bin")]
        hint = f" ({pickled[0]} is pickled and could run code; save it as safetensors)" if pickled else ""
        raise FolderError(f"{folder} holds no weights: {WEIGHTS} is missing{hint}.")
    places = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise FolderError(f"{folder / INDEX} has no weight_map; copy it anew.")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name or name.startswith("."):
            raise FolderError(f"{folder / INDEX} names {name!r}, a path out of the folder; do not use it.")
    return names


def _tensors(path: Path) -> Iterator[tuple[str, tuple[int, ...], Callable[[], Array]]]:
    """(name, shape, what reads it as float32) of each tensor of a file. Raises FolderError if it is not whole."""
    try:
        import ml_dtypes  # noqa: F401 (teaches NumPy the type bfloat16)
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MachineError(
            "Hugging Face's models are read with safetensors: pip install 'textmill[train]'."
        ) from None

    def read(name: str) -> Array:
        with safe_open(path, framework="numpy") as file:
            return np.ascontiguousarray(file.get_tensor(name).astype(np.float32))

    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                found = file.get_slice(name)
                kind, shape = found.get_dtype(), tuple(found.get_shape())
                if kind not in READABLE and not name.endswith((".attn.bias", ".masked_bias")):
                    raise FolderError(f"{path}: {name} is {kind}; {', '.join(READABLE)} can be read.")
                yield name, shape, functools.partial(read, name)
    except FileNotFoundError:
        raise FolderError(f"{path.parent} lacks {path.name}; copy the model whole.") from None
    except (SafetensorError, OSError) as error:
        raise FolderError(f"{path} is not a whole safetensors file: {str(error).rstrip('.')}.") from error
