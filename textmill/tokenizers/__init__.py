"""The tokenizers: one file each, one row in TOKENIZERS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from textmill.errors import FolderError
from textmill.settings import unknown_name
from textmill.tokenizers.base import Ids, Tokenizer
from textmill.tokenizers.bpe import BPETokenizer
from textmill.tokenizers.char import CharTokenizer
from textmill.tokenizers.folder import digest, read_details
from textmill.tokenizers.word import WordTokenizer

__all__ = ["TOKENIZERS", "Ids", "Tokenizer", "digest", "encode_document", "load_tokenizer", "with_end"]

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "bpe": BPETokenizer,
    "char": CharTokenizer,
    "word": WordTokenizer,
}


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer kept in a dataset's or checkpoint's `tokenizer/`."""
    name = read_details(folder).get("name", "")
    if name not in TOKENIZERS:
        raise FolderError(unknown_name("tokenizer", str(name), TOKENIZERS, str(folder)))
    return TOKENIZERS[name].load(Path(folder))


def encode_document(tokenizer: Tokenizer, text: str, *, begins: bool = True, ends: bool = True) -> Ids:
    """Ids of a document between its delimiters, those it has and the text does not bring.

    `begins` and `ends` say whether the text is the first and the last piece of its document.
    """
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.encode_document(text, begins=begins, ends=ends)
    return with_end(tokenizer, tokenizer.encode(text), ends=ends)


def with_end(tokenizer: Tokenizer, ids: Ids, *, ends: bool = True) -> Ids:
    """The ids of a text and the end of its document, if it has one and does not bring it."""
    end = tokenizer.end_of_document
    if not ends or end is None or end in ids[-2:]:  # marked-up text ends with <eoepisode> and a line feed
        return ids
    return np.append(ids, np.int32(end))
