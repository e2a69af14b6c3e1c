"""`FORMAT:PLACE`: which files are read, where from, and what a damaged or hostile one comes to."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.contracts.source_contract import HAMLET, Place, SourceContract, listing
from textmill.corpora.corpus import Document, read_corpus
from textmill.errors import InputError, MachineError
from textmill.ingest import IngestSettings, ingest
from textmill.sources import SOURCES
from textmill.sources.dumps import FORMATS

SRT = b"1\n00:00:01,000 --> 00:00:02,000\nHello there.\n"


class TestDumps(SourceContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        def put(files: Mapping[str, bytes]) -> str:
            shutil.rmtree(tmp_path / "texts", ignore_errors=True)
            for name, data in files.items():
                path = tmp_path / "texts" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return f"markdown:{tmp_path / 'texts'}"

        return put

    @pytest.fixture
    def missing(self, tmp_path: Path) -> str:
        return f"markdown:{tmp_path / 'hamlett.txt'}"

    def test_a_second_ingest_changes_nothing_and_a_changed_file_is_seen(
        self, place: Place, tmp_path: Path
    ) -> None:
        corpus = tmp_path / "corpus"
        assert ingest(self.one(place, HAMLET), corpus)["new"] == 1
        assert ingest(self.one(place, HAMLET), corpus)["unchanged"] == 1
        assert ingest(self.one(place, HAMLET + b"\n*Exit*"), corpus)["changed"] == 1
        assert [document.text for document in read_corpus(corpus).documents()] == [
            HAMLET.decode() + "\nExit\n"
        ]


def read(address: str, tmp_path: Path, **settings: object) -> list[Document]:
    ingest(address, tmp_path / "corpus", IngestSettings.of(**settings))
    return list(read_corpus(tmp_path / "corpus").documents())


def zipped(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def test_every_format_is_a_source_under_its_name() -> None:
    assert set(FORMATS) == {name for name, kind in SOURCES.items() if kind.path == "dumps:DumpSource"}
    for name, form in FORMATS.items():
        assert callable(form.load(name))


def test_only_the_files_of_the_format_are_read_also_in_archives(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.srt").write_bytes(SRT)
    (folder / "b.vtt.gz").write_bytes(gzip.compress(b"WEBVTT\n\n00:01.000 --> 00:02.000\nSecond.\n"))
    (folder / "notes.txt").write_bytes(b"not a subtitle")
    (folder / "more.zip").write_bytes(zipped({"x/c.srt": SRT, "x/readme.txt": b"no", "x/d.csv": b"no"}))
    documents = read(f"subtitles:{folder}", tmp_path)
    assert [(d.id, d.text) for d in documents] == [
        ("a.srt", "Hello there.\n"),
        ("b.vtt.gz", "Second.\n"),
        ("more.zip/x/c.srt", "Hello there.\n"),
    ]
    assert documents[0].source == "subtitles:a.srt"
    assert documents[2].source == "subtitles:more.zip/x/c.srt"
    assert ingest(f"subtitles:{folder}", tmp_path / "corpus")["unchanged"] == 3


def test_a_named_file_or_pattern_is_read_by_its_suffix_and_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.srt").write_bytes(SRT)
    (tmp_path / "texts" / "b.txt").write_bytes(b"plain")
    assert [d.id for d in read(str(tmp_path / "texts"), tmp_path)] == ["b.txt"]
    assert [d.text for d in read(str(tmp_path / "texts" / "a.srt"), tmp_path)] == ["Hello there.\n"]
    assert [d.text for d in read(str(tmp_path / "texts"), tmp_path, pattern="*.srt")] == ["Hello there.\n"]


def test_the_same_file_read_as_another_format_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" = Mill = \n\n A mill @-@ race . \n")
    assert read(str(tmp_path / "a.txt"), tmp_path)[0].text.startswith(" = Mill")
    assert read(f"wikitext:{tmp_path / 'a.txt'}", tmp_path)[0].text == "Mill\n\nA mill-race .\n"


def test_a_place_without_such_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words")
    with pytest.raises(InputError, match=r"no epub in texts: none of its files is named \*\.epub\."):
        listing(f"epub:{tmp_path / 'texts'}")
    with pytest.raises(InputError, match="epub: names no place; write epub:FILE or epub:FOLDER"):
        listing("epub: ")
    with pytest.raises(InputError, match=r"'crawl:site\.yaml' is no place of files; write epub:FILE"):
        listing("epub:crawl:site.yaml")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(
        MachineError, match=r"a.pdf needs the package pypdf: pip install 'textmill\[dumps\]'\."
    ):
        ingest(str(tmp_path / "a.pdf"), tmp_path / "corpus")
    with pytest.raises(MachineError, match=r"needs the package pyarrow: pip install 'textmill\[parquet\]'\."):
        listing("parquet:table.parquet")


def said_of(address: str, corpus: Path) -> str:
    """What an ingest says of what it cannot read; "" where it reads it."""
    try:
        ingest(address, corpus, IngestSettings.of(fallback_encoding=""))
    except InputError as error:
        return str(error)
    shutil.rmtree(corpus)
    return ""


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_rubbish_is_one_clear_line_in_every_format(name: str, tmp_path: Path) -> None:
    rubbish = [
        b"\x00\x01\x02" * 50,
        b"PK\x03\x04" + b"z" * 90,
        b"%PDF-1.4\n1 0 obj<<",
        b"<a><b",
        b"[[[[[{",
        b"= ",
        b"-->",
    ]
    for data in rubbish:
        (tmp_path / "rubbish").write_bytes(data)
        said = said_of(f"{name}:{tmp_path / 'rubbish'}", tmp_path / "corpus")
        assert "\n" not in said
        assert "no text in" in said or name in ("fountain", "html", "markdown"), data  # these take any words
