"""The tokenizer of a model to start from: a checkpoint of ours, an OpenAI, gpt-2-simple or Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from textmill.checkpoints import huggingface, openai_checkpoint
from textmill.errors import FolderError, InputError
from textmill.tokenizers import Tokenizer, load_tokenizer
from textmill.tokenizers.bpe import BPETokenizer


def read_base_tokenizer(base: Path, special_tokens: str = "") -> Tokenizer:
    """The tokenizer in the folder `base`; `special_tokens` ("id", "literal"; "": as it is) changes its delimiters.

    Raises FolderError if the folder holds none, InputError if its kind of tokenizer has no such choice.
    """
    base = Path(base)
    if not base.is_dir():
        raise FolderError(f"there is no base model at {base}: no such folder.")
    if (base / "tokenizer" / "tokenizer.json").is_file():
        return _with_delimiters(load_tokenizer(base / "tokenizer"), special_tokens)
    if openai_checkpoint.is_openai(base):
        return BPETokenizer.from_openai(base, special_tokens or "id")
    if huggingface.is_huggingface(base):
        return huggingface.read_tokenizer(base, special_tokens or "id")
    raise FolderError(
        f"{base} is no model to take a tokenizer from: it holds no checkpoint of textmill (tokenizer/), OpenAI or "
        "gpt-2-simple (hparams.json, encoder.json, vocab.bpe), or Hugging Face (config.json, vocab.json, merges.txt)."
    )


def _with_delimiters(tokenizer: Tokenizer, special_tokens: str) -> Tokenizer:
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.with_delimiters(special_tokens or tokenizer.special_tokens)
    if special_tokens:
        raise InputError(
            f"special_tokens {special_tokens!r} needs byte pairs; the base has {tokenizer.name} tokens."
        )
    return tokenizer
