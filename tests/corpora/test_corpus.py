"""The corpus folder: shards' bytes and names, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import zstandard

from textmill import manifest
from textmill.corpora.corpus import Document, ShardWriter, read_corpus, read_shard
from textmill.errors import FolderError

DOCUMENTS = [
    Document("a.txt", "To be,\nor not\u2028to be 🥖", "a.txt", {"title": "Hamlet"}),
    Document("b.csv#1", 'a "quoted" \\ text\t', "b.csv"),
]


def write_shard(corpus: Path, documents: Iterable[Document]) -> str:
    """Write one shard; its name."""
    with ShardWriter(corpus) as writer:
        for document in documents:
            writer.add(document)
    return writer.shard.name


def test_a_shard_is_json_lines_with_sorted_keys_named_by_its_bytes(tmp_path: Path) -> None:
    name = write_shard(tmp_path, DOCUMENTS)
    data = zstandard.ZstdDecompressor().stream_reader((tmp_path / name).read_bytes()).read()
    assert data.decode() == (
        '{"id":"a.txt","meta":{"title":"Hamlet"},"source":"a.txt","text":"To be,\\nor not\u2028to be 🥖"}\n'
        '{"id":"b.csv#1","meta":{},"source":"b.csv","text":"a \\"quoted\\" \\\\ text\\t"}\n'
    )
    import hashlib

    assert name == f"shards/{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:32]}.jsonl.zst"


def test_the_same_documents_give_the_same_bytes_and_other_ones_another_name(tmp_path: Path) -> None:
    first, again = write_shard(tmp_path / "1", DOCUMENTS), write_shard(tmp_path / "2", iter(DOCUMENTS))
    assert first == again
    assert (tmp_path / "1" / first).read_bytes() == (tmp_path / "2" / again).read_bytes()
    assert write_shard(tmp_path / "1", DOCUMENTS[:1]) != first


def test_what_was_written_is_read_with_its_counts(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        for document in DOCUMENTS:
            writer.add(document)
    assert (writer.shard.documents, writer.shard.characters) == (2, 39)
    assert writer.shard.size == (tmp_path / writer.shard.name).stat().st_size
    assert list(read_shard(tmp_path / writer.shard.name)) == DOCUMENTS


def test_a_failed_shard_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path) as writer:
        writer.add(DOCUMENTS[0])
        raise ZeroDivisionError
    assert list((tmp_path / "shards").iterdir()) == []


def corpus(folder: Path) -> Path:
    items = [{"item": document.id, "shard": write_shard(folder, [document])} for document in DOCUMENTS]
    manifest.write(folder, "corpus", details={"items": items, "skipped": [{"item": "x", "reason": "y"}]})
    return folder


def test_a_corpus_reads_its_documents_in_the_order_of_its_items(tmp_path: Path) -> None:
    found = read_corpus(corpus(tmp_path), verify=True)
    assert list(found.documents()) == DOCUMENTS
    assert [item["item"] for item in found.items] == ["a.txt", "b.csv#1"]
    assert found.skipped == [{"item": "x", "reason": "y"}]
    assert found.digest == json.loads((tmp_path / "manifest.json").read_bytes())["digest"]


def test_an_altered_shard_is_refused_with_one_line(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    shard = folder / read_corpus(folder).items[0]["shard"]
    data = bytearray(shard.read_bytes())
    data[20] ^= 255
    shard.write_bytes(data)
    with pytest.raises(FolderError, match="was altered"):
        read_corpus(folder, verify=True)
    with pytest.raises(FolderError, match="is missing or damaged; make the corpus anew"):
        list(read_corpus(folder).documents())
    shard.write_bytes(b"")
    with pytest.raises(FolderError, match="has 0 bytes"):
        read_corpus(folder)
