"""A GPT-2 of any format written in OpenAI's or Hugging Face's, and said what it is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.checkpoints import huggingface, openai_checkpoint
from textmill.checkpoints.base_model import open_base
from textmill.checkpoints.base_tokenizer import read_base_tokenizer
from textmill.checkpoints.checkpoint import read_details
from textmill.checkpoints.pretrained import describe
from textmill.errors import FolderError, InputError
from textmill.files import new_folder
from textmill.models import get_model
from textmill.tokenizers import load_tokenizer
from textmill.tokenizers.bpe import BPETokenizer


def export_model(source: Path, form: str, out: Path) -> Path:
    """Write the GPT-2 in `source` to the new folder `out` as "openai" or "huggingface" has it; return `out`.

    Raises FolderError or InputError: no GPT-2, not whole, not of byte pairs, or something stands at `out`.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"there is something at {out} already; name a new folder.")
    base = open_base(source, get_model("gpt2"))
    tokenizer = read_base_tokenizer(source)
    if not isinstance(tokenizer, BPETokenizer):
        raise InputError(
            f"{source} has {tokenizer.name} tokens; other programs read a GPT-2 of byte pairs alone."
        )
    weights = base.weights()
    with tempfile.TemporaryDirectory(prefix="textmill-") as beside:
        tokenizer.save(Path(beside))
        if form == "huggingface":
            huggingface.write_model(out, base.config, weights, Path(beside))
        else:
            with new_folder(out) as folder:
                openai_checkpoint.write_model(folder, _step(source), base.config, weights, Path(beside))
    return out


def describe_model(folder: Path) -> dict[str, Any]:
    """What a checkpoint or a model's folder holds, its files checked. Raises FolderError."""
    folder = Path(folder)
    if manifest.kind_of(folder) == "checkpoint":
        manifest.read(folder, "checkpoint", verify=True)
        details = read_details(folder)
        tokenizer = load_tokenizer(folder / "tokenizer")
        found = {
            "format": "textmill",
            "model": details["model"],
            "parameters": get_model(details["model"]).parameter_count(
                get_model(details["model"]).config_class.from_dict(details["config"], where=str(folder))
            ),
            "config": details["config"],
            "step": details["step"],
            "loss": details.get("loss"),
        }
    else:
        if not folder.is_dir():
            raise FolderError(f"there is no model at {folder}: no such folder.")
        found = {"model": "gpt2", **describe(folder)}
        tokenizer = read_base_tokenizer(folder)
    found["tokenizer"] = {"name": tokenizer.name, "size": tokenizer.size}
    if isinstance(tokenizer, BPETokenizer):
        found["tokenizer"]["special_tokens"] = tokenizer.special_tokens
    made = manifest.digest_of(folder)
    return found | ({"sha256": made} if made else {})


def _step(folder: Path) -> int:
    return openai_checkpoint.find_model(folder)[1] if openai_checkpoint.is_openai(folder) else 0
