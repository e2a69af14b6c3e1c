"""Hugging Face's GPT-2: names, shapes and keys as transformers has them; what is no GPT-2, or damaged, is refused.

The logits of transformers itself: `pytest -m slow tests/checkpoints/test_huggingface.py` where transformers and torch
are installed (they are not among this project's packages).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from textmill.checkpoints.huggingface import (
    is_huggingface,
    read_config,
    read_model,
    read_tokenizer,
    their_name,
    write_model,
)
from textmill.errors import FolderError, InputError
from textmill.models.gpt2 import Arrays, GPT2Config, forward, init, parameter_shapes
from textmill.tokenizers.bpe import END, BPETokenizer
from textmill.tokenizers.char import CharTokenizer

TEXT = "Is the wheel turning? It turns when the moon tells it to turn; the moon is a poor miller. " * 3


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train([TEXT], vocabulary_size=280)


@pytest.fixture(scope="module")
def config(tokenizer: BPETokenizer) -> GPT2Config:
    return GPT2Config.of(vocabulary_size=tokenizer.size, context=32, width=12, num_heads=3, num_layers=2)


@pytest.fixture(scope="module")
def weights(config: GPT2Config) -> Arrays:
    return {
        name: value + np.random.default_rng([4, i]).normal(0, 0.2, value.shape).astype(np.float32)
        for i, (name, value) in enumerate(init(config, 3).items())
    }


@pytest.fixture(scope="module")
def written(
    config: GPT2Config, weights: Arrays, tokenizer: BPETokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    tokenizer.save(folder / "tokenizer")
    write_model(folder / "model", config, weights, folder / "tokenizer")
    return folder / "model"


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def equal(a: Arrays, b: Arrays) -> bool:
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def resave(folder: Path, act: Callable[[dict[str, Any]], Any]) -> None:
    """model.safetensors with its tensors changed by `act`."""
    tensors = load_file(folder / "model.safetensors")
    tensors = act(tensors) or tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_names_and_shapes_are_transformers(written: Path) -> None:
    """As in transformers/models/gpt2/modeling_gpt2.py: Conv1D's matrices are [in, out]."""
    tensors = load_file(written / "model.safetensors")
    assert len(tensors) == 2 + 2 * 12 + 2
    shapes = {name: value.shape for name, value in tensors.items()}
    assert {name: shape for name, shape in shapes.items() if ".h." not in name} == {
        "transformer.wte.weight": (280, 12),
        "transformer.wpe.weight": (32, 12),
        "transformer.ln_f.weight": (12,),
        "transformer.ln_f.bias": (12,),
    }
    assert {name.removeprefix("transformer.h.1."): s for name, s in shapes.items() if ".h.1." in name} == {
        "ln_1.weight": (12,),
        "ln_1.bias": (12,),
        "attn.c_attn.weight": (12, 36),
        "attn.c_attn.bias": (36,),
        "attn.c_proj.weight": (12, 12),
        "attn.c_proj.bias": (12,),
        "ln_2.weight": (12,),
        "ln_2.bias": (12,),
        "mlp.c_fc.weight": (12, 48),
        "mlp.c_fc.bias": (48,),
        "mlp.c_proj.weight": (48, 12),
        "mlp.c_proj.bias": (12,),
    }


def test_tensors_are_not_transposed(written: Path, weights: Arrays) -> None:
    tensors = load_file(written / "model.safetensors")
    for ours, theirs in (
        ("h1/attn/c_proj/w", "transformer.h.1.attn.c_proj.weight"),
        ("wte", "transformer.wte.weight"),
    ):
        assert tensors[theirs].tobytes() == weights[ours].tobytes()


def test_config_is_transformers(written: Path) -> None:
    values = json.loads((written / "config.json").read_text())
    assert {
        k: values[k] for k in ("model_type", "architectures", "activation_function", "layer_norm_epsilon")
    } == {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
    }
    sizes = {k: values[k] for k in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer", "n_inner")}
    assert sizes == {
        "vocab_size": 280,
        "n_positions": 32,
        "n_embd": 12,
        "n_head": 3,
        "n_layer": 2,
        "n_inner": None,
    }
    assert values["eos_token_id"] == values["bos_token_id"] == 279
    assert values["tie_word_embeddings"] is True


def test_what_is_written_is_read_back(written: Path, config: GPT2Config, weights: Arrays) -> None:
    found, tensors = read_model(written)
    assert found == config
    assert equal(tensors, weights)
    assert is_huggingface(written)


def test_every_name_has_its_own(config: GPT2Config) -> None:
    names = [their_name(name) for name in parameter_shapes(config)]
    assert len(set(names)) == len(names)


def test_names_without_the_prefix_and_masks_and_a_tied_head_are_read(copy: Path, weights: Arrays) -> None:
    def act(tensors: dict[str, Any]) -> dict[str, Any]:
        bare = {name.removeprefix("transformer."): value for name, value in tensors.items()}
        mask = np.tril(np.ones((1, 1, 32, 32), bool))
        return bare | {
            "h.0.attn.bias": mask,
            "h.1.attn.bias": mask,
            "h.0.attn.masked_bias": np.array(-1e4, np.float32),
            "lm_head.weight": bare["wte.weight"].copy(),
        }

    resave(copy, act)
    assert equal(read_model(copy)[1], weights)


def test_parts_are_read_together(copy: Path, weights: Arrays) -> None:
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    places = {}
    for part in range(3):
        name = f"model-{part + 1:05d}-of-00003.safetensors"
        chosen = {k: tensors[k] for k in sorted(tensors)[part::3]}
        save_file(chosen, copy / name, metadata={"format": "pt"})
        places |= dict.fromkeys(chosen, name)
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert equal(read_model(copy)[1], weights)
    (copy / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FolderError, match=r"lacks model-00002-of-00003\.safetensors; copy"):
        read_model(copy)
    index.write_text(json.dumps({"weight_map": {"wte.weight": "../model.safetensors"}}))
    with pytest.raises(FolderError, match="a path out of the folder"):
        read_model(copy)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_widened(kind: str, copy: Path, weights: Arrays) -> None:
    import ml_dtypes  # noqa: F401

    resave(copy, lambda tensors: {k: v.astype(kind) for k, v in tensors.items()})
    _, found = read_model(copy)
    for name, value in found.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, weights[name].astype(kind).astype(np.float32))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config cut short": (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "is not a JSON object"),
    "a Llama": (lambda f: change(f, model_type="llama"), "of type 'llama'; only gpt2"),
    "another activation": (lambda f: change(f, activation_function="relu"), "activation_function is 'relu'"),
    "another epsilon": (lambda f: change(f, layer_norm_epsilon=1e-6), "layer_norm_epsilon is 1e-06"),
    "scaled by layer": (
        lambda f: change(f, scale_attn_by_inverse_layer_idx=True),
        "scale_attn_by_inverse_layer_idx is True",
    ),
    "another inner width": (lambda f: change(f, n_inner=24), "n_inner is 24"),
    "a size missing": (lambda f: change(f, n_layer=None), "n_layer is None"),
    "heads that do not divide": (lambda f: change(f, n_head=5), "cannot be a GPT-2's"),
    "sizes of another model": (
        lambda f: change(f, n_embd=768, n_head=12),
        r"config.json says \[280, 768\]|says",
    ),
    "more blocks than tensors": (lambda f: change(f, n_layer=3), "lacks the tensor h.2.ln_1.weight"),
    "fewer blocks than tensors": (
        lambda f: change(f, n_layer=1),
        "holds h.1.* which no GPT-2 of these sizes",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "pickled weights": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "pytorch_model.bin is pickled and could run code",
    ),
    "weights cut short": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "is not a whole safetensors file",
    ),
    "weights too long": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes() + b"x"),
        "is not a whole safetensors file",
    ),
    "weights of zeros": (
        lambda f: (f / "model.safetensors").write_bytes(bytes(4000)),
        "is not a whole safetensors file",
    ),
    "a head of its own": (
        lambda f: resave(f, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"] + 1}),
        "an output matrix of its own",
    ),
    "a smaller head": (
        lambda f: resave(f, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"][1:].copy()}),
        r"lm_head.weight has the shape \[279, 12\]",
    ),
    "integers": (
        lambda f: resave(
            f, lambda t: t | {"transformer.wpe.weight": t["transformer.wpe.weight"].astype("i8")}
        ),
        "is I64; F32, F16, BF16 can be read",
    ),
    "an empty index": (
        lambda f: [
            (f / "model.safetensors").unlink(),
            (f / "model.safetensors.index.json").write_text("{}"),
        ],
        "has no weight_map",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line(case: str, copy: Path) -> None:
    act, line = REFUSED[case]
    act(copy)
    with pytest.raises(FolderError, match=line) as caught:
        read_model(copy)
    assert "\n" not in str(caught.value)


def test_another_tokenizer_is_refused(config: GPT2Config, weights: Arrays, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    CharTokenizer.train(["abc"]).save(tmp_path / "t")
    with pytest.raises(InputError, match="wants tokenizer bpe"):
        write_model(tmp_path / "model", config, weights, tmp_path / "t")
    assert not (tmp_path / "model").exists()


def test_the_tokenizer_comes_back_and_is_that_of_the_package_tokenizers(
    written: Path, tokenizer: BPETokenizer
) -> None:
    from tokenizers import Tokenizer

    text = "The wheel's  turning —\n\n'tis 2019.<|endoftext|>"
    theirs = Tokenizer.from_file(str(written / "tokenizer.json"))
    assert theirs.encode("The wheel's  turning —\n\n'tis 2019.").ids == tokenizer.encode(text[:-13]).tolist()
    assert theirs.encode(text).ids[-1] == tokenizer.end_of_document
    for folder in (written,):
        found = read_tokenizer(folder)
        assert (found.table, found.merges) == (tokenizer.table, tokenizer.merges)


def test_a_tokenizer_of_one_file_is_read(copy: Path, tokenizer: BPETokenizer) -> None:
    """transformers 5 writes tokenizer.json alone; older ones wrote merges as "a b"."""
    for name in ("vocab.json", "merges.txt"):
        (copy / name).unlink()
    found = read_tokenizer(copy, "literal")
    assert (found.table, found.merges) == (tokenizer.table, tokenizer.merges)
    assert found.special_tokens == "literal"
    values = json.loads((copy / "tokenizer.json").read_text())
    values["model"]["merges"] = [" ".join(pair) for pair in values["model"]["merges"]]
    (copy / "tokenizer.json").write_text(json.dumps(values))
    assert read_tokenizer(copy).merges == tokenizer.merges
    values["pre_tokenizer"] = {"type": "Whitespace"}
    (copy / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(FolderError, match="is not a GPT-2's tokenizer"):
        read_tokenizer(copy)
    values["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True}
    (copy / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(FolderError, match="splits texts otherwise"):
        read_tokenizer(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(FolderError, match="holds no tokenizer"):
        read_tokenizer(copy)


def test_rows_beyond_the_tokens_get_names(copy: Path, tokenizer: BPETokenizer) -> None:
    """Models are padded to round numbers; each id that the model can give must have a text."""
    change(copy, vocab_size=284)
    found = read_tokenizer(copy)
    assert found.size == 284
    assert found.decode([*found.encode("a"), 283]) == "a<|unused283|>"
    assert found.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_added_tokens_and_merges_without_a_head_are_read(copy: Path, tokenizer: BPETokenizer) -> None:
    change(copy, vocab_size=281)
    (copy / "added_tokens.json").write_text('{"<pad>": 280}')
    merges = (copy / "merges.txt").read_bytes().partition(b"\n")[2].removesuffix(b"\n")
    (copy / "merges.txt").write_bytes(merges.replace(b"\n", b"\r\n"))
    found = read_tokenizer(copy)
    assert found.table["<pad>"] == 280
    assert found.merges == tokenizer.merges
    assert found.table[END] == 279


def test_a_folder_of_something_else_is_none(tmp_path: Path) -> None:
    assert not is_huggingface(tmp_path)
    with pytest.raises(FolderError, match=r"holds no model of Hugging Face: config\.json is missing"):
        read_config(tmp_path / "nowhere")


@pytest.mark.slow
def test_transformers_computes_the_same_logits(
    written: Path, config: GPT2Config, weights: Arrays, tokenizer: BPETokenizer, tmp_path: Path
) -> None:
    reason = "transformers and torch are not installed: pip install transformers torch"
    transformers = pytest.importorskip("transformers", reason=reason)
    torch = pytest.importorskip("torch", reason=reason)
    model = transformers.GPT2LMHeadModel.from_pretrained(written).eval()
    tokens = np.random.default_rng(1).integers(0, config.vocabulary_size, (2, 32))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    ours = forward(config, weights, tokens)
    assert np.abs(ours).max() > 1
    difference = np.abs(theirs - ours).max()
    print(f"largest difference of logits: {difference:.2e} of {np.abs(ours).max():.2f}")
    assert difference < 1e-4
    assert (
        transformers.AutoTokenizer.from_pretrained(written)(TEXT)["input_ids"]
        == tokenizer.encode(TEXT).tolist()
    )
    model.save_pretrained(tmp_path / "theirs")
    transformers.AutoTokenizer.from_pretrained(written).save_pretrained(tmp_path / "theirs")
    assert equal(read_model(tmp_path / "theirs")[1], weights)
    assert read_tokenizer(tmp_path / "theirs").merges == tokenizer.merges
