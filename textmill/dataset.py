"""The dataset folder: tokens, documents and cleaned text of each split. Its only writer and reader.

dataset/manifest.json                    kind "dataset"; details: rules, render, splits, dtype, tokenizer
dataset/report.json                      what was changed, dropped and counted on the way
dataset/tokenizer/                       the tokenizer's files
dataset/{train,valid,test}/tokens.bin    little-endian uint16 or uint32
dataset/{train,valid,test}/documents.jsonl    {"id", "title", "start", "tokens", "characters"} a line
dataset/{train,valid,test}/text.jsonl.zst     {"id", "text"} a line
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import zstandard

from textmill import manifest
from textmill.errors import FolderError
from textmill.split import SPLITS
from textmill.tokenizers import Tokenizer, load_tokenizer

LEVEL = 3  # fixed, and one thread: the bytes depend on the text alone


def token_dtype(size: int) -> np.dtype[Any]:
    """The smallest of the two number formats that holds the ids of a vocabulary of this size."""
    return np.dtype("<u2") if size <= 1 << 16 else np.dtype("<u4")


class JsonLinesWriter:
    """Streams JSON values into a .jsonl.zst file, one a line; the same values give the same bytes."""

    def __init__(self, path: Path) -> None:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._writer = zstandard.open(path, "wb", cctx=compressor)

    def __enter__(self) -> Self:
        return self

    def add(self, value: dict[str, Any]) -> None:
        self._writer.write(_line(value))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The values of a .jsonl.zst file, one in memory at a time. Raises FolderError when it is damaged."""
    try:
        with open(path, "rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file)
            for line in io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8", newline="\n"):
                yield json.loads(line)
    except (zstandard.ZstdError, ValueError, FileNotFoundError) as error:
        raise FolderError(f"{path} is missing or damaged; make the dataset anew or copy it whole.") from error


class SplitWriter:
    """Writes one split of a dataset document by document; counts its documents, characters and tokens."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.documents = self.characters = self.tokens = 0
        self._folder, self._dtype = folder, dtype
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._tokens: IO[bytes] = self._stack.enter_context(open(self._folder / "tokens.bin", "wb"))
        self._index: IO[bytes] = self._stack.enter_context(open(self._folder / "documents.jsonl", "wb"))
        self._texts = self._stack.enter_context(JsonLinesWriter(self._folder / "text.jsonl.zst"))
        return self

    def add(self, name: str, title: str, text: str, ids: npt.NDArray[np.integer]) -> None:
        """Append one document and its token ids."""
        ids.astype(self._dtype).tofile(self._tokens)
        entry = {
            "id": name,
            "title": title,
            "start": self.tokens,
            "tokens": len(ids),
            "characters": len(text),
        }
        self._index.write(_line(entry))
        self._texts.add({"id": name, "text": text})
        self.documents += 1
        self.characters += len(text)
        self.tokens += len(ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def counts(self) -> dict[str, int]:
        return {"tokens": self.tokens, "documents": self.documents, "characters": self.characters}


@dataclass(frozen=True)
class Dataset:
    """A dataset folder, opened. Tokens are mapped, not read; documents are read when first asked for."""

    folder: Path
    manifest: manifest.Manifest

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def details(self) -> dict[str, Any]:
        return self.manifest.details

    @property
    def tokenizer_digest(self) -> str:
        return self.details["tokenizer"]["digest"]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder / "tokenizer")

    @cached_property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_bytes())

    def tokens(self, split: str) -> npt.NDArray[np.integer]:
        """All ids of a split, one after the other: a read-only map of the file, [tokens]."""
        dtype = np.dtype(self.details["dtype"]).newbyteorder("<")
        path = self._split(split) / "tokens.bin"
        if path.stat().st_size == 0:
            return np.empty(0, dtype=dtype)
        return np.memmap(path, dtype=dtype, mode="r")

    def documents(self, split: str) -> list[dict[str, Any]]:
        """{"id", "title", "start", "tokens", "characters"} of each document, in order."""
        if split not in self._documents:
            with open(self._split(split) / "documents.jsonl", "rb") as file:
                self._documents[split] = [json.loads(line) for line in file]
        return self._documents[split]

    def spans(self, split: str) -> npt.NDArray[np.int64]:
        """First position and number of tokens of each document, [documents, 2]; the rest of the index is not kept."""
        with open(self._split(split) / "documents.jsonl", "rb") as file:
            entries = (json.loads(line) for line in file)
            flat = np.fromiter((entry[k] for entry in entries for k in ("start", "tokens")), np.int64)
        return flat.reshape(-1, 2)

    def texts(self, split: str) -> Iterator[tuple[str, str]]:
        """(id, cleaned text) of each document, one in memory at a time."""
        for value in read_json_lines(self._split(split) / "text.jsonl.zst"):
            yield value["id"], value["text"]

    def title_at(self, split: str, positions: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        """The title of the document that holds each token position."""
        documents = self.documents(split)
        starts = [document["start"] for document in documents]
        found = np.searchsorted(starts, np.asarray(positions), side="right") - 1
        return [documents[i]["title"] for i in found]

    @cached_property
    def _documents(self) -> dict[str, list[dict[str, Any]]]:
        return {}

    def _split(self, split: str) -> Path:
        assert split in SPLITS, split
        return self.folder / split


def read_dataset(folder: Path, verify: bool = False) -> Dataset:
    """Open a dataset folder; with `verify` every file's hash is checked. Raises FolderError."""
    return Dataset(Path(folder), manifest.read(Path(folder), "dataset", verify=verify))


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"
