"""The corpus folder: documents in compressed shards, one shard for each source item. Its only writer and reader.

    corpus/manifest.json                      kind "corpus"; details.items in item order, details.skipped
    corpus/shards/<digest>.jsonl.zst          a document a line: {"id", "meta", "source", "text"}, keys sorted
    corpus/collecting/                        what a source keeps for its next run; no part of the corpus' content

A shard is named by the first 32 hex digits of the SHA-256 of its bytes, and the same documents give the same bytes:
an unchanged item keeps its shard. Knows nothing of where documents come from.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

from textmill import manifest
from textmill.errors import FolderError
from textmill.files import writing_failed

SHARDS = "shards"
WORK = "collecting"  # not hidden: it must travel with the corpus, and some tools leave hidden files behind
SUFFIX = ".jsonl.zst"
LEVEL = 6  # fixed, and one thread: the bytes depend on the documents alone; 50 MB of text a second


@dataclass(frozen=True)
class Document:
    """One text: its `id` in the corpus, its `source`, and what else is known in `meta` (title, author…)."""

    id: str
    text: str
    source: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """A shard that was written: `name` is its path in the corpus folder."""

    name: str
    sha256: str
    size: int
    documents: int
    characters: int


class ShardWriter:
    """Streams documents into a new shard of a corpus folder; `shard` is set when the `with` block ends well.

    Until then nothing but a hidden part file exists, and it vanishes when the block fails.
    """

    shard: Shard

    def __init__(self, corpus: Path) -> None:
        self._folder = corpus / SHARDS
        self._part = self._folder / f".{os.getpid()}.part"
        self._hash = hashlib.sha256()
        self._size = self.documents = self.characters = 0

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "wb")
        except OSError as error:
            raise writing_failed(self._part, error) from error
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        return self

    def add(self, document: Document) -> None:
        """Append one document."""
        line = {"id": document.id, "meta": document.meta, "source": document.source, "text": document.text}
        data = json.dumps(line, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        self._write(self._compressor.compress(data.encode() + b"\n"))
        self.documents += 1
        self.characters += len(document.text)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise writing_failed(self._part, error) from error
        self._hash.update(data)
        self._size += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failed:
            raise writing_failed(self._part, failed) from failed
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._write(self._compressor.flush())
        self._file.close()
        digest = self._hash.hexdigest()
        name = f"{SHARDS}/{digest[:32]}{SUFFIX}"
        os.replace(self._part, self._folder.parent / name)
        self.shard = Shard(name, digest, self._size, self.documents, self.characters)


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of one shard, in order, one in memory at a time. Raises FolderError when it is damaged."""
    try:
        with open(path, "rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file)
            for line in io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8", newline="\n"):
                value = json.loads(line)
                yield Document(value["id"], value["text"], value["source"], value["meta"])
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise FolderError(f"{path} is missing or damaged; make the corpus anew or copy it whole.") from error


@dataclass(frozen=True)
class Corpus:
    """A corpus folder, opened. Nothing but its manifest is in memory."""

    folder: Path
    manifest: manifest.Manifest

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def items(self) -> list[dict[str, Any]]:
        """One dict for each source item, by name: item, fingerprint, shard, documents, characters, source, fetched…"""
        return self.manifest.details["items"]

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """What was left out and why: item, reason, and the line where it is one line."""
        return self.manifest.details.get("skipped", [])

    def documents(self) -> Iterator[Document]:
        """All documents, in the order of their items, one in memory at a time.

        `meta.fetched` says when a document was read, and `meta.terms` under what terms its source gives it out, where
        that is known of the whole item. They lie in the manifest and not in the shard, so that a text fetched again,
        or elsewhere, gives the same shard.
        """
        for item in self.items:
            known = {key: item[key] for key in ("fetched", "terms") if key in item}
            for document in read_shard(self.folder / item["shard"]):
                yield replace(document, meta=document.meta | known)


def read_corpus(folder: Path, verify: bool = False) -> Corpus:
    """Open a corpus folder; with `verify` every shard's hash is checked. Raises FolderError."""
    found = manifest.read(Path(folder), "corpus", verify=verify)
    manifest.check_names(folder, found, (item["shard"] for item in found.details["items"]))
    return Corpus(Path(folder), found)
