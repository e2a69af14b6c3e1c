"""The model that a training starts from: a checkpoint of ours, an OpenAI or gpt-2-simple folder, a Hugging Face folder.

Knows which of them a folder is, and whether a dataset was made with its tokenizer; reading its weights is left to the
readers of each format.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textmill import manifest, tokenizers
from textmill.checkpoints import huggingface, openai_checkpoint
from textmill.checkpoints.base_tokenizer import read_base_tokenizer
from textmill.checkpoints.checkpoint import Tensors, load_model, read_details
from textmill.datasets.dataset import Dataset
from textmill.errors import FolderError, InputError
from textmill.files import sha256_of
from textmill.models import Family
from textmill.tokenizers.bpe import BPETokenizer

FOREIGN: dict[str, Any] = {"openai": openai_checkpoint, "huggingface": huggingface}


@dataclass(frozen=True)
class BaseModel:
    """A model to start from; its weights are read when they are asked for."""

    folder: Path
    kind: str  # "checkpoint", "openai" or "huggingface"
    config: Any
    digest: str  # SHA-256: the manifest's, or over all files that belong to the model

    def weights(self) -> Tensors:
        """Name -> float32 array. Raises FolderError for files that are not whole."""
        if self.kind == "checkpoint":
            return load_model(self.folder).weights
        return FOREIGN[self.kind].read_model(self.folder)[1]


def open_base(folder: Path, family: Family) -> BaseModel:
    """What stands in `folder`. Raises FolderError if it is no model, InputError if it is one of another family."""
    folder = Path(folder)
    if manifest.kind_of(folder) == "checkpoint":
        details = read_details(folder)
        if details["model"] != family.name:
            raise InputError(
                f"the base {folder} is a {details['model']}, the model to train a {family.name}; choose model "
                f"{details['model']}, or another base."
            )
        config = family.config_class.from_dict(details["config"], where=str(folder))
        return BaseModel(folder, "checkpoint", config, details["digest"])
    kind = _foreign_kind(folder)
    if family.weights_format != "openai":
        raise InputError(
            f"the base {folder} is a GPT-2, the model to train a {family.name}; choose model gpt2."
        )
    return BaseModel(
        folder, kind, FOREIGN[kind].read_config(folder), manifest.digest_of(folder) or _digest(folder)
    )


def check_tokenizer(base: BaseModel, source: Dataset) -> None:
    """Raise InputError unless the dataset's tokens mean to the base what they mean to the dataset."""
    theirs, ours = read_base_tokenizer(base.folder), source.tokenizer
    if isinstance(theirs, BPETokenizer) and isinstance(ours, BPETokenizer):
        same = theirs.table == ours.table and theirs.merges == ours.merges  # delimiters may be others
    else:
        same = tokenizers.digest(base.folder / "tokenizer") == source.tokenizer_digest
    if not same:
        raise InputError(
            f"the dataset {source.folder} was made with another tokenizer than the base {base.folder}; make it anew "
            f"with: textmill normalize CORPUS --base {base.folder}"
        )


def _foreign_kind(folder: Path) -> str:
    if not folder.is_dir():
        raise FolderError(f"there is no base model at {folder}: no such folder.")
    if openai_checkpoint.is_openai(folder):
        return "openai"
    if huggingface.is_huggingface(folder):
        return "huggingface"
    raise FolderError(
        f"{folder} is no model to start from: it holds no checkpoint of textmill (manifest.json), OpenAI or "
        "gpt-2-simple (hparams.json, checkpoint), or Hugging Face (config.json, model.safetensors)."
    )


def _digest(folder: Path) -> str:
    """SHA-256 over the folder's files: the sorted lines "<sha256>  <path>", as in a manifest."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith((".", "events")))
    return hashlib.sha256("".join(f"{sha256_of(p)}  {p.name}\n" for p in files).encode()).hexdigest()
