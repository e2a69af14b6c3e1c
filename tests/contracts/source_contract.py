"""What every source must do. A new source's test class inherits SourceContract and supplies `place` (and `missing`).

class TestMine(SourceContract):
    @pytest.fixture
    def place(self, …): return put       # put({name: bytes}) makes exactly these files be there, returns the address
    @pytest.fixture
    def missing(self, …): return "mine://…"                              # an address where there is nothing
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from textmill.corpora.corpus import read_corpus
from textmill.errors import TextmillError
from textmill.ingest import IngestSettings, ingest
from textmill.sources import Item, Source, open_source

Place = Callable[[Mapping[str, bytes]], str]

HAMLET = b"To be, or not to be, that is the question.\n"


def listing(address: str, max_bytes: int = 1 << 20) -> dict[str, Item]:
    items = open_source(address, max_bytes=max_bytes).items()
    names = [item.name for item in items]
    assert len(names) == len(set(names)), "names are unique"
    return dict(zip(names, items, strict=True))


def content(item: Item) -> bytes:
    with item.open() as file:
        return file.read()


class SourceContract:
    """One file, reached by its own address."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> str:
        raise NotImplementedError

    @staticmethod
    def one(place: Place, data: bytes, name: str = "hamlet.txt") -> str:
        """The address of a single file with this content."""
        return f"{place({name: data})}/{name}"

    def test_one_file_is_one_item_named_by_its_last_part(self, place: Place) -> None:
        items = listing(self.one(place, HAMLET))
        assert list(items) == ["hamlet.txt"]
        assert items["hamlet.txt"].named
        assert items["hamlet.txt"].alone

    def test_an_item_opens_seekable_and_from_its_beginning_each_time(self, place: Place) -> None:
        item = listing(self.one(place, HAMLET))["hamlet.txt"]
        assert content(item) == HAMLET
        with item.open() as file:
            assert file.read(5) == HAMLET[:5]
            file.seek(0)
            assert file.read() == HAMLET

    def test_what_is_not_there_is_one_clear_line(self, missing: str, tmp_path: Path) -> None:
        with pytest.raises(TextmillError) as caught:
            ingest(missing, tmp_path / "corpus")
        assert "\n" not in str(caught.value)
        assert missing.rpartition("/")[2] in str(caught.value)
        assert not (tmp_path / "corpus").exists()

    def test_a_second_ingest_changes_nothing_and_a_changed_file_is_seen(
        self, place: Place, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "corpus"
        first = ingest(self.one(place, HAMLET), corpus)
        before = {path.name: path.stat().st_mtime_ns for path in (corpus / "shards").iterdir()}
        second = ingest(self.one(place, HAMLET), corpus)
        assert (first["new"], second["unchanged"], second["new"]) == (1, 1, 0)
        assert before == {path.name: path.stat().st_mtime_ns for path in (corpus / "shards").iterdir()}
        third = ingest(self.one(place, HAMLET + b"Whether 'tis nobler"), corpus)
        assert (third["changed"], third["unchanged"], third["gone"]) == (1, 0, 0)
        assert [document.text for document in read_corpus(corpus).documents()] == [
            (HAMLET + b"Whether 'tis nobler").decode()
        ]

    def test_more_than_max_bytes_is_refused(self, place: Place, tmp_path: Path) -> None:
        with pytest.raises(TextmillError, match="more than 10 bytes; raise max_bytes"):
            ingest(self.one(place, HAMLET), tmp_path / "corpus", IngestSettings(max_bytes=10))

    def test_the_label_tells_no_path_of_this_machine(self, place: Place, tmp_path: Path) -> None:
        source: Source = open_source(self.one(place, HAMLET), max_bytes=100)
        assert source.label
        assert str(tmp_path) not in source.label


class FolderContract(SourceContract):
    """Sources that hold folders too."""

    FILES: ClassVar = {
        "b.txt": b"two",
        "a/z.txt": b"one",
        "a/deep/er.txt": b"nil",
        "a.csv": b"text\nthree\n",
        ".hidden.txt": b"no",
        "a/.git/x.txt": b"no",
    }

    def test_a_folder_is_all_below_it_by_names_relative_to_it(self, place: Place) -> None:
        items = listing(place(self.FILES))
        assert sorted(items) == ["a.csv", "a/deep/er.txt", "a/z.txt", "b.txt"]
        assert content(items["a/deep/er.txt"]) == b"nil"
        assert not any(item.named or item.alone for item in items.values())

    def test_a_glob_chooses(self, place: Place) -> None:
        address = place(self.FILES)
        assert sorted(listing(address + "/*.txt")) == ["b.txt"]
        assert sorted(listing(address + "/**/*.txt")) == ["a/deep/er.txt", "a/z.txt", "b.txt"]
        assert sorted(listing(address + "/a/*.txt")) == ["z.txt"]
        with pytest.raises(TextmillError, match="nothing matches"):
            listing(address + "/*.md")

    def test_documents_come_in_the_order_of_names(self, place: Place, tmp_path: Path) -> None:
        ingest(place(self.FILES), tmp_path / "corpus")
        documents = list(read_corpus(tmp_path / "corpus", verify=True).documents())
        assert [document.id for document in documents] == ["a.csv#2", "a/deep/er.txt", "a/z.txt", "b.txt"]

    def test_what_is_gone_loses_its_shard(self, place: Place, tmp_path: Path) -> None:
        corpus = tmp_path / "corpus"
        ingest(place(self.FILES), corpus)
        summary = ingest(place({"b.txt": b"two", "c.txt": b"four"}), corpus)
        assert (summary["unchanged"], summary["new"], summary["gone"]) == (1, 1, 3)
        assert len(list((corpus / "shards").iterdir())) == 2
