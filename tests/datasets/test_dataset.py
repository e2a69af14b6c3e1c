"""The dataset folder: what is written is read again, and a damaged one is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from textmill.datasets.dataset import Dataset, SplitWriter, read_dataset, read_json_lines, token_dtype
from textmill.errors import FolderError


@pytest.fixture
def dataset(char_dataset: Path) -> Dataset:
    return read_dataset(char_dataset, verify=True)


def test_tokens_are_mapped_and_decode_to_the_text(dataset: Dataset) -> None:
    tokens = dataset.tokens("valid")
    assert isinstance(tokens, np.memmap)
    assert tokens.dtype == np.uint16
    [(name, text)] = dataset.texts("valid")
    assert name == "3-the-door.txt"
    assert dataset.tokenizer.decode(tokens) == text
    assert text.startswith("SCENE III\tAt the mill's door.\n")


def test_documents_follow_each_other(dataset: Dataset) -> None:
    first, second = dataset.documents("train")
    assert (first["id"], first["title"]) == ("1-the-mill.txt", "1-the-mill.txt")
    assert first["start"] == 0
    assert second["start"] == first["tokens"] == first["characters"] + 1  # and the end of the document
    assert second["start"] + second["tokens"] == len(dataset.tokens("train"))


def test_titles_are_found_by_position(dataset: Dataset) -> None:
    start = dataset.documents("train")[1]["start"]
    positions = np.array([0, start - 1, start, len(dataset.tokens("train")) - 1])
    titles = ["1-the-mill.txt", "1-the-mill.txt", "2-the-road.txt", "2-the-road.txt"]
    assert dataset.title_at("train", positions) == titles


def test_the_manifest_says_what_it_is(dataset: Dataset, corpus: Path) -> None:
    details = dataset.details
    assert details["rules"] == ["unicode_repair", "whitespace"]
    assert details["render"] == ""
    assert details["dtype"] == "uint16"
    assert details["tokenizer"]["digest"] == dataset.tokenizer_digest
    assert details["splits"]["valid"]["documents"] == 1
    assert details["splits"]["train"]["tokens"] == len(dataset.tokens("train"))
    assert dataset.manifest.kind == "dataset"
    assert dataset.manifest.settings["valid_documents"] == "3-*"
    assert set(dataset.manifest.parents) == {"corpus"}
    assert len(dataset.digest) == 64


def test_an_empty_split_has_no_tokens(tmp_path: Path) -> None:
    with SplitWriter(tmp_path / "test", np.dtype("<u2")) as writer:
        pass
    assert writer.counts == {"tokens": 0, "documents": 0, "characters": 0}
    assert list(read_json_lines(tmp_path / "test" / "text.jsonl.zst")) == []
    assert (tmp_path / "test" / "tokens.bin").read_bytes() == b""


def test_token_files_are_little_endian_and_as_small_as_they_can_be(tmp_path: Path) -> None:
    assert [token_dtype(size).str for size in (98, 65_536, 65_537)] == ["<u2", "<u2", "<u4"]
    with SplitWriter(tmp_path, token_dtype(70_000)) as writer:
        writer.add("a", "A", "xy", np.array([1, 69_999]))
    assert (tmp_path / "tokens.bin").read_bytes() == bytes([1, 0, 0, 0, 0x6F, 0x11, 1, 0])
    assert (tmp_path / "documents.jsonl").read_text() == (
        '{"characters":2,"id":"a","start":0,"title":"A","tokens":2}\n'
    )


def test_pieces_follow_one_another_and_any_text_comes_back(tmp_path: Path) -> None:
    """Each piece is a zstd frame of its own; readers of the format read them as one file."""
    texts = ["a\nb\u2028c\r\n\x00🙂", '"start":0', ""]
    with SplitWriter(tmp_path, np.dtype("<u2")) as writer:
        for number, text in enumerate(texts):
            writer.add(f"{number}\x00", 'a "title"', text, np.arange(number + 1))
    lines = list(read_json_lines(tmp_path / "text.jsonl.zst"))
    assert lines == [{"id": f"{number}\x00", "text": text} for number, text in enumerate(texts)]
    entries = [json.loads(line) for line in (tmp_path / "documents.jsonl").read_text().splitlines()]
    assert [(entry["start"], entry["tokens"]) for entry in entries] == [(0, 1), (1, 2), (3, 3)]
    assert {entry["title"] for entry in entries} == {'a "title"'}
    assert writer.counts == {"tokens": 6, "documents": 3, "characters": sum(map(len, texts))}


@pytest.mark.parametrize("name", ["train/tokens.bin", "report.json", "tokenizer/tokenizer.json"])
def test_an_altered_file_is_refused(char_dataset: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(char_dataset, folder)
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    read_dataset(folder)  # the same sizes: a quick look sees nothing
    with pytest.raises(FolderError, match=f"{name} was altered"):
        read_dataset(folder, verify=True)


def test_a_damaged_text_file_is_refused(char_dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(char_dataset, folder)
    path = folder / "train" / "text.jsonl.zst"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(FolderError, match="damaged"):
        list(read_dataset(folder).texts("train"))


def test_another_folder_is_refused(corpus: Path) -> None:
    with pytest.raises(FolderError, match="holds a corpus; a dataset is wanted"):
        read_dataset(corpus)
