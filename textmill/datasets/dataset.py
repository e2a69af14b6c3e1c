"""The dataset folder: tokens, documents and cleaned text of each split. Its only writer and reader.

dataset/manifest.json                    kind "dataset"; details: rules, render, splits, dtype, tokenizer
dataset/report.json                      what was changed, dropped and counted on the way
dataset/tokenizer/                       the tokenizer's files
dataset/{train,valid,test}/tokens.bin    little-endian uint16 or uint32
dataset/{train,valid,test}/documents.jsonl    {"id", "title", "start", "tokens", "characters"} a line
dataset/{train,valid,test}/text.jsonl.zst     {"id", "text"} a line; a zstd frame for each shard of the corpus
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
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
from textmill.datasets.split import SPLITS
from textmill.errors import FolderError
from textmill.tokenizers import Tokenizer, load_tokenizer

LEVEL = 3  # fixed, and one thread: the bytes depend on the text alone


def token_dtype(size: int) -> np.dtype[Any]:
    """The smallest of the two number formats that holds the ids of a vocabulary of this size."""
    return np.dtype("<u2") if size <= 1 << 16 else np.dtype("<u4")


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The values of a .jsonl.zst file, one in memory at a time. Raises FolderError when it is damaged."""
    try:
        with open(path, "rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            for line in io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8", newline="\n"):
                yield json.loads(line)
    except (zstandard.ZstdError, ValueError, FileNotFoundError) as error:
        raise FolderError(f"{path} is missing or damaged; make the dataset anew or copy it whole.") from error


class PieceWriter:
    """Writes documents of one split to three files: their tokens, their index, their text as one zstd frame.

    Pieces follow one another in a split (SplitWriter); the index leaves a gap (a zero byte) for each document's start.
    """

    def __init__(
        self, tokens: IO[bytes], documents: IO[bytes], text: IO[bytes], dtype: np.dtype[Any]
    ) -> None:
        self._tokens, self._documents, self._text, self._dtype = tokens, documents, text, dtype
        self._frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self.documents = self.characters = self.tokens = 0

    def add(self, name: str, title: str, text: str, ids: npt.NDArray[np.integer]) -> None:
        """Append one document and its token ids."""
        self._tokens.write(ids.astype(self._dtype).tobytes())
        head = _line({"characters": len(text), "id": name})[:-2]
        tail = _line({"title": title, "tokens": len(ids)})[1:]
        self._documents.write(head + b',"start":\0,' + tail)
        self._text.write(self._frame.compress(_line({"id": name, "text": text})))
        self.documents += 1
        self.characters += len(text)
        self.tokens += len(ids)

    def finish(self) -> dict[str, int]:
        """End the frame, if there is anything in it; return the counts."""
        if self.documents:
            self._text.write(self._frame.flush())
        return {"tokens": self.tokens, "documents": self.documents, "characters": self.characters}


class SplitWriter:
    """Writes one split of a dataset piece by piece; counts its documents, characters and tokens."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.counts = {"tokens": 0, "documents": 0, "characters": 0}
        self._folder, self._dtype = folder, dtype
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.tokens: IO[bytes] = self._stack.enter_context(open(self._folder / "tokens.bin", "wb"))
        self._documents: IO[bytes] = self._stack.enter_context(open(self._folder / "documents.jsonl", "wb"))
        self.text: IO[bytes] = self._stack.enter_context(open(self._folder / "text.jsonl.zst", "wb"))
        return self

    def add(self, name: str, title: str, text: str, ids: npt.NDArray[np.integer]) -> None:
        """Append one document as a piece of its own."""
        index = io.BytesIO()
        piece = PieceWriter(self.tokens, index, self.text, self._dtype)
        piece.add(name, title, text, ids)
        self.append(index.getvalue(), piece.finish())

    def append(self, index: bytes, counts: Mapping[str, int]) -> None:
        """Note a piece whose tokens and text were written to `tokens` and `text`."""
        start = self.counts["tokens"]
        for line in index.splitlines(keepends=True):
            self._documents.write(line.replace(b"\0", b"%d" % start, 1))
            start += int(line[line.rindex(b":") + 1 : -2])
        for name, count in counts.items():
            self.counts[name] += count

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.counts["documents"]:
            self.text.write(zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b""))
        self._stack.close()


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
