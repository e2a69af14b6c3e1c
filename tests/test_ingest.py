"""ingest: what becomes a corpus, what is left out and said, what is read again, and what a stop leaves behind."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from textmill import ingest as module
from textmill.corpora.corpus import ShardWriter, read_corpus
from textmill.errors import FolderError, InputError, Interrupted, SettingsError
from textmill.ingest import IngestSettings, ingest

TEXTS = {"b.txt": b"second", "a.txt": b"first", "deep/c.txt": b"third", "Z.txt": b"capitals sort first"}


def put(folder: Path, files: dict[str, bytes]) -> str:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(folder)


def tree(folder: Path) -> dict[str, bytes]:
    """{path: bytes} of everything in a folder, hidden files too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def timeless(folder: Path) -> dict[str, bytes]:
    """`tree` without the seconds at which items were fetched."""
    return {
        name: re.sub(rb'"fetched": "[^"]+"', b'"fetched": ""', data) for name, data in tree(folder).items()
    }


def texts(corpus: Path) -> dict[str, str]:
    return {document.id: document.text for document in read_corpus(corpus, verify=True).documents()}


def skipped(corpus: Path) -> list[tuple[str, Any, str]]:
    return [(r["item"], r.get("line"), r["reason"]) for r in read_corpus(corpus).skipped]


def refused(source: str, corpus: Path, **settings: Any) -> str:
    """The one line of a refused ingest."""
    with pytest.raises(InputError) as caught:
        ingest(source, corpus, IngestSettings.of(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


# --- what becomes a corpus ---


def test_a_folder_becomes_documents_in_the_order_of_their_names(tmp_path: Path, corpus: Path) -> None:
    summary = ingest(put(tmp_path / "texts", TEXTS), corpus)
    assert list(texts(corpus).items()) == [
        ("Z.txt", "capitals sort first"),
        ("a.txt", "first"),
        ("b.txt", "second"),
        ("deep/c.txt", "third"),
    ]
    counts = {"unchanged": 0, "new": 4, "changed": 0, "gone": 0, "skipped": 0}
    assert summary == {"items": 4, "documents": 4, "characters": 35, **counts}
    assert sorted(path.name for path in corpus.iterdir()) == ["manifest.json", "shards"]


def test_the_corpus_is_the_same_to_the_byte_in_whatever_order_files_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(put(tmp_path / "1" / "texts", TEXTS), tmp_path / "1" / "corpus")
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: Any = ".") -> None:
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    source = put(tmp_path / "2" / "texts", dict(reversed(TEXTS.items())))
    assert next(entry.name for entry in Reversed(source).entries) == "deep"
    ingest(source, tmp_path / "2" / "corpus")
    assert timeless(tmp_path / "1" / "corpus") == timeless(tmp_path / "2" / "corpus")


def test_archives_and_folders_of_the_same_texts_hold_the_same_documents(tmp_path: Path) -> None:
    source = put(tmp_path / "texts", TEXTS)
    ingest(source, tmp_path / "folder")
    for name in ("texts.tar", "texts.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for path in ("b.txt", "deep", "a.txt", "Z.txt"):
                archive.add(Path(source) / path, path)
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive_:
        for path in reversed(TEXTS):
            archive_.write(Path(source) / path, path)
    for name in ("texts.tar", "texts.tar.gz", "texts.zip"):
        ingest(str(tmp_path / name), tmp_path / f"corpus of {name}")
        assert list(texts(tmp_path / f"corpus of {name}").items()) == list(texts(tmp_path / "folder").items())


def test_an_archive_in_a_folder_is_like_a_folder_in_it(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", {"b.txt": b"beside"})
    with zipfile.ZipFile(tmp_path / "texts" / "a.zip", "w") as archive:
        archive.writestr("in/c.txt", "inside")
        archive.writestr("picture.jpg", b"\0")
    ingest(source, corpus)
    assert texts(corpus) == {"a.zip/in/c.txt": "inside", "b.txt": "beside"}
    assert skipped(corpus) == [("a.zip/picture.jpg", None, "of unknown kind (.jpg)")]


def test_a_single_file_is_text_whatever_its_suffix_and_in_a_folder_it_is_told(
    tmp_path: Path, corpus: Path
) -> None:
    source = put(tmp_path / "texts", {"readme.rst": b"# words", "a.txt": b"first", "LICENSE": b"law"})
    ingest(f"{source}/readme.rst", tmp_path / "single", IngestSettings.of(pattern="*.txt"))
    assert texts(tmp_path / "single") == {"readme.rst": "# words"}
    ingest(source, corpus)
    assert texts(corpus) == {"a.txt": "first"}
    assert skipped(corpus) == [
        ("LICENSE", None, "of unknown kind (no suffix)"),
        ("readme.rst", None, "of unknown kind (.rst)"),
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.md", ["deep/b.md", "r.md"]),
        ("./*.md", ["r.md"]),
        ("**/*.txt", ["a.txt", "deep/c.txt"]),
        ("deep/*", ["deep/c.txt"]),
        ("deep/*.md", ["deep/b.md"]),
        ("[ar].*", ["a.txt", "r.md"]),
    ],
)
def test_a_pattern_chooses_by_path_or_by_name(
    pattern: str, expected: list[str], tmp_path: Path, corpus: Path
) -> None:
    files = {"r.md": b"1", "deep/b.md": b"2", "a.txt": b"3", "deep/c.txt": b"4"}
    ingest(put(tmp_path / "texts", files), corpus, IngestSettings.of(pattern=pattern))
    assert list(texts(corpus)) == expected


def test_the_corpus_in_its_own_source_is_not_read(tmp_path: Path) -> None:
    source = put(tmp_path / "texts", TEXTS)
    for _ in range(2):  # the first makes it, the second finds it
        assert ingest(source, tmp_path / "texts" / "corpus")["items"] == 4


# --- what is left out ---

MIXED = {
    "1-good.txt": b"good",
    "2-binary.txt": b"\x89PNG\0\0",
    "3-cp1252.txt": "café".encode("cp1252"),
    "4-neither.txt": b"caf\xe9 \x81",
    "5-posts.jsonl": b'{"text": "one"}\n{"text": \n{"text": "three"}\n{"text": " "}\n',
    "6-empty.txt": b"",
    "7-open.csv": b'text\nrow\n"open',
    "8-half.jsonl": b'{"text": "cut \\ud83e"}\n{"text": "whole \\ud83e\\udd56"}\n',
    "9-archive.tar.gz": b"no archive",
    "9-good.txt": b"good too",
}


def test_bad_files_in_the_middle_are_skipped_and_said(
    tmp_path: Path, corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "textmill")
    summary = ingest(put(tmp_path / "texts", MIXED), corpus)
    assert texts(corpus) == {
        "1-good.txt": "good",
        "3-cp1252.txt": "café",
        "5-posts.jsonl#1": "one",
        "5-posts.jsonl#3": "three",
        "8-half.jsonl#2": "whole 🥖",
        "9-good.txt": "good too",
    }
    assert skipped(corpus) == [
        ("2-binary.txt", 1, "a binary file (it has NUL bytes), not a text"),
        ("4-neither.txt", 1, "not UTF-8 (0xe9), and not CP1252 (0x81)"),
        ("5-posts.jsonl", None, "documents without text: 1"),
        ("5-posts.jsonl", 2, "not valid JSON (Expecting value, column 10)"),
        ("6-empty.txt", None, "no text in it"),
        ("7-open.csv", 3, "not valid csv (unexpected end of data)"),
        ("8-half.jsonl", None, "document '8-half.jsonl#1' holds half a character (a lone surrogate)"),
        ("9-archive.tar.gz", None, "damaged: Not a gzipped file (b'no')"),
    ]
    assert summary["skipped"] == 8
    assert "skipped 5-posts.jsonl, line 2: not valid JSON (Expecting value, column 10)" in caplog.text
    assert "3-cp1252.txt is not UTF-8; it is read as cp1252" in caplog.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("2-binary.txt", "2-binary.txt, line 1: a binary file"),
        ("4-neither.txt", "4-neither.txt, line 1: not UTF-8"),
        ("5-posts.jsonl", "5-posts.jsonl, line 2: not valid JSON"),
        ("7-open.csv", "7-open.csv, line 3: not valid csv"),
        ("8-half.jsonl", "8-half.jsonl: document '8-half.jsonl#1' holds half a character"),
        ("9-archive.tar.gz", "9-archive.tar.gz: damaged"),
    ],
)
def test_strict_stops_at_the_bad_file_and_names_the_line(
    name: str, said: str, tmp_path: Path, corpus: Path
) -> None:
    source = put(tmp_path / "texts", {name: MIXED[name], "good.txt": b"good"})
    line = refused(source, corpus, strict=True)
    assert line.startswith(said)
    assert "(strict; otherwise" in line


def test_strict_minds_neither_empty_files_nor_kinds_that_are_no_texts(tmp_path: Path, corpus: Path) -> None:
    files = {"a.txt": b"a", "empty.txt": b"", "picture.jpg": b"\0"}
    ingest(put(tmp_path / "texts", files), corpus, IngestSettings(strict=True))
    assert list(texts(corpus)) == ["a.txt"]


def test_strict_does_not_accept_what_an_earlier_run_skipped(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", {"5-posts.jsonl": MIXED["5-posts.jsonl"]})
    ingest(source, corpus)
    assert "line 2" in refused(source, corpus, strict=True)


def test_without_a_fallback_encoding_only_utf8_is_text(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", {"cafe.txt": MIXED["3-cp1252.txt"], "good.txt": b"good"})
    ingest(source, corpus, IngestSettings.of(fallback_encoding=""))
    assert list(texts(corpus)) == ["good.txt"]
    ingest(source, corpus, IngestSettings.of(fallback_encoding="mac-roman"))
    assert texts(corpus)["cafe.txt"] == "cafÈ"


def test_of_many_bad_lines_the_first_are_named_and_the_rest_counted(tmp_path: Path, corpus: Path) -> None:
    ingest(put(tmp_path / "texts", {"a.jsonl": b"no\n" * 500 + b'{"text": "yes"}\n'}), corpus)
    assert [line for _, line, _ in skipped(corpus)] == [None, *range(1, 11)]
    assert skipped(corpus)[0][2] == "bad lines that are not listed: 490"


@pytest.mark.parametrize(
    ("files", "pattern", "said"),
    [
        ({".hidden.txt": b"x"}, "", "no text in texts: it holds no files. Wanted are .csv, .jsonl, .txt"),
        ({"a.jpg": b"\0"}, "", "no text in texts: a.jpg: of unknown kind (.jpg). Wanted"),
        ({"a.txt": b" \n"}, "", "no text in texts: a.txt: no text in it. Wanted"),
        (
            {"a.txt": b"x"},
            "*.md",
            "none of its files matches the pattern '*.md' (1 found, the first is a.txt)",
        ),
        (
            {"a.jsonl": b'{"body": "x"}\n' * 3},
            "",
            "no field 'text' (it has 'body'); name one with text_field (and 2",
        ),
    ],
)
def test_an_empty_result_says_what_was_found(
    files: dict[str, bytes], pattern: str, said: str, tmp_path: Path, corpus: Path
) -> None:
    assert said in refused(put(tmp_path / "texts", files), corpus, pattern=pattern)
    assert not corpus.exists()


def test_an_unsafe_or_swollen_archive_is_one_line_and_nothing_of_it_is_taken(
    tmp_path: Path, corpus: Path
) -> None:
    source = put(tmp_path / "texts", {"a.txt": b"a"})
    with zipfile.ZipFile(tmp_path / "texts" / "evil.zip", "w") as archive:
        archive.writestr("fine.txt", "fine")
        archive.writestr("../../evil.txt", "evil")
    with zipfile.ZipFile(tmp_path / "texts" / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fine.txt", "fine")
        archive.writestr("zeros.txt", b"0" * (20 << 20))
    assert "no text in evil.zip: unsafe: its member '../../evil.txt' points out of" in refused(
        f"{source}/evil.zip", corpus
    )
    assert "no text in bomb.zip: unpacks to more than 200 times its size" in refused(
        f"{source}/bomb.zip", corpus
    )
    ingest(source, corpus)
    assert list(texts(corpus)) == ["a.txt"]
    assert [item for item, _, _ in skipped(corpus)] == ["bomb.zip", "evil.zip"]
    assert list(tmp_path.rglob("evil.txt")) == []


def test_of_a_name_that_comes_twice_in_a_tar_the_last_counts(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", {"old.txt": b"old", "new.txt": b"new"})
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(f"{source}/old.txt", "a.txt")
        archive.add(f"{source}/new.txt", "./a.txt")
    ingest(str(tmp_path / "a.tar"), corpus)
    assert texts(corpus) == {"a.txt": "new"}
    assert skipped(corpus) == [("a.txt", None, "its name comes twice, and the last one counts")]


# --- what is read again ---


def test_a_second_ingest_does_only_what_changed_and_says_so(
    tmp_path: Path, corpus: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(tmp_path / "texts", TEXTS)
    ingest(source, corpus)
    shards = {item["item"]: corpus / item["shard"] for item in read_corpus(corpus).items}
    before = {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in shards.items()}
    put(tmp_path / "texts", {"b.txt": b"second, changed", "d.txt": b"new"})
    (tmp_path / "texts" / "Z.txt").unlink()
    written: list[str] = []
    add = ShardWriter.add
    monkeypatch.setattr(ShardWriter, "add", lambda self, doc: (written.append(doc.id), add(self, doc)))
    monkeypatch.setattr(module.manifest, "sha256_of", None)  # nor is any shard read to be hashed
    caplog.set_level(logging.INFO, "textmill")
    summary = ingest(source, corpus)
    assert written == ["b.txt", "d.txt"]
    assert "2 unchanged, 1 new, 1 changed, 1 gone: 4 items, 4 documents" in caplog.text
    assert (summary["unchanged"], summary["new"], summary["changed"], summary["gone"]) == (2, 1, 1, 1)
    for name in ("a.txt", "deep/c.txt"):
        assert (shards[name].read_bytes(), shards[name].stat().st_mtime_ns) == before[name]
    assert not shards["Z.txt"].exists()
    assert not shards["b.txt"].exists()
    monkeypatch.undo()
    ingest(source, tmp_path / "fresh")
    assert timeless(corpus) == timeless(tmp_path / "fresh")


def test_other_reading_settings_read_everything_again_other_choices_do_not(
    tmp_path: Path, corpus: Path
) -> None:
    source = put(tmp_path / "texts", {"a.csv": b"text,body\none,two\n", "b.csv": b"text,body\n1,2\n"})
    ingest(source, corpus)
    assert ingest(source, corpus, IngestSettings.of(text_field="body"))["changed"] == 2
    assert texts(corpus) == {"a.csv#2": "two", "b.csv#2": "2"}
    settings = IngestSettings.of(text_field="body", pattern="a.*", strict=True)
    summary = ingest(source, corpus, settings)
    assert (summary["unchanged"], summary["gone"]) == (1, 1)


def test_what_was_reported_of_an_unchanged_file_is_still_reported(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", MIXED)
    with zipfile.ZipFile(tmp_path / "texts" / "a.zip", "w") as archive:
        archive.writestr("posts.jsonl", MIXED["5-posts.jsonl"])
        archive.writestr("b.jpg", b"\0")
    ingest(source, corpus)
    before = tree(corpus)
    summary = ingest(source, corpus)
    assert (summary["unchanged"], summary["skipped"]) == (6, 11)
    assert tree(corpus) == before


def test_an_unchanged_archive_is_not_unpacked_and_a_changed_one_keeps_its_unchanged_members(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(files: dict[str, str]) -> str:
        with zipfile.ZipFile(tmp_path / "plays.zip", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return str(tmp_path / "plays.zip")

    ingest(pack({"a.txt": "a", "b.txt": "b"}), corpus)
    with monkeypatch.context() as patch:
        patch.setattr(module, "members", None)
        assert ingest(str(tmp_path / "plays.zip"), corpus)["unchanged"] == 2
    summary = ingest(pack({"a.txt": "a", "b.txt": "changed", "c.txt": "c"}), corpus)
    assert (summary["unchanged"], summary["new"], summary["changed"]) == (1, 1, 1)
    chosen = ingest(str(tmp_path / "plays.zip"), corpus, IngestSettings.of(pattern="c.*"))
    assert (chosen["unchanged"], chosen["gone"]) == (1, 2)


def test_the_format_of_the_manifest(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmill.ingest._now", lambda: "2031-01-01T00:00:00Z")
    ingest(put(tmp_path / "texts", {"a.txt": b"To be"}), corpus)
    value = json.loads((corpus / "manifest.json").read_bytes())
    assert value["format"] == "textmill/corpus"
    assert value["details"] == {
        "source": "texts",
        "reader": 2,
        "archives": [],
        "skipped": [],
        "items": [
            {
                "item": "a.txt",
                "source": "a.txt",
                "fingerprint": "1bd754493b2d68d0f246eb503b367fcd9dd60971261311fc23df672e2a61cdaf",
                "encoding": "utf-8",
                "shard": next(iter(value["files"])),
                "documents": 1,
                "characters": 5,
                "fetched": "2031-01-01T00:00:00Z",
            }
        ],
    }


# --- what a stop leaves behind ---

KILLED = """
    import os, signal, sys
    from pathlib import Path
    from textmill import ingest as module
    from textmill.corpora.corpus import ShardWriter
    source, corpus, moment, count = sys.argv[1:]
    left = int(count)

    def killing(method):
        def wrapped(*args, **values):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **values)
        return wrapped

    owner = {"manifest": module.manifest, "shard": ShardWriter, "unlink": Path}[moment]
    name = {"manifest": "write", "shard": "_finish", "unlink": "unlink"}[moment]
    setattr(owner, name, killing(getattr(owner, name)))
    module.ingest(source, Path(corpus))
"""


def killed(source: str, corpus: Path, moment: str, count: int) -> None:
    """An ingest that is killed -9 at the given moment, after `count` of its kind have passed."""
    code = textwrap.dedent(KILLED)
    ended = subprocess.run([sys.executable, "-c", code, source, str(corpus), moment, str(count)], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_killed_first_ingest_is_no_corpus_and_goes_on_where_it_was(
    tmp_path: Path, corpus: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(tmp_path / "texts", TEXTS)
    killed(source, corpus, "shard", 2)
    with pytest.raises(FolderError, match=r"has no manifest\.json \(half-written"):
        read_corpus(corpus)
    with open(corpus / ".ingest.jsonl", "ab") as journal:
        journal.write(b'{"entry": {"item": "b.tx')  # as a kill in the middle of a line leaves it
    written: list[str] = []
    add = ShardWriter.add
    monkeypatch.setattr(ShardWriter, "add", lambda self, doc: (written.append(doc.id), add(self, doc)))
    caplog.set_level(logging.INFO, "textmill")
    ingest(source, corpus)
    assert "going on with an ingest that was stopped: 2 items are read" in caplog.text
    assert written == ["b.txt", "deep/c.txt"]
    ingest(source, tmp_path / "fresh")
    assert timeless(corpus) == timeless(tmp_path / "fresh")


@pytest.mark.parametrize(("moment", "count"), [("shard", 1), ("manifest", 0), ("unlink", 4)])
def test_a_killed_second_ingest_leaves_one_whole_corpus(
    moment: str, count: int, tmp_path: Path, corpus: Path
) -> None:
    source = put(tmp_path / "texts", TEXTS)
    ingest(source, corpus)
    old = texts(corpus)
    put(tmp_path / "texts", {name: b"changed " + data for name, data in TEXTS.items()})
    killed(source, corpus, moment, count)
    new = {name: f"changed {text}" for name, text in old.items()}
    assert texts(corpus) == (new if moment == "unlink" else old)
    ingest(source, corpus)
    ingest(source, tmp_path / "fresh")
    assert timeless(corpus) == timeless(tmp_path / "fresh")


def test_a_shard_lost_since_the_stop_is_made_again(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", TEXTS)
    killed(source, corpus, "manifest", 0)
    next((corpus / "shards").iterdir()).write_bytes(b"torn by a power cut")
    ingest(source, corpus)
    assert len(texts(corpus)) == 4


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(tmp_path / "texts", TEXTS)
    finish: Callable[[ShardWriter], None] = ShardWriter._finish
    calls = iter([None, None])

    def interrupted(self: ShardWriter) -> None:
        if next(calls, "done") == "done":
            raise KeyboardInterrupt
        finish(self)

    monkeypatch.setattr(ShardWriter, "_finish", interrupted)
    with pytest.raises(Interrupted, match=r"stopped; 2 items are read. The same command goes on from there"):
        ingest(source, corpus)
    assert not list((corpus / "shards").glob(".*"))


def test_a_failed_ingest_leaves_the_old_corpus(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", TEXTS)
    ingest(source, corpus)
    before = texts(corpus)
    put(tmp_path / "texts", {"b.txt": b"\0", "a.txt": b"changed"})
    refused(source, corpus, strict=True)
    refused(put(tmp_path / "empty", {"a.jpg": b"\0"}), corpus)
    assert texts(corpus) == before


def test_a_damaged_corpus_is_made_again(
    tmp_path: Path, corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = put(tmp_path / "texts", TEXTS)
    ingest(source, corpus)
    before = timeless(corpus)
    (corpus / read_corpus(corpus).items[0]["shard"]).unlink()
    ingest(source, corpus)
    assert "Everything is read again." in caplog.text
    assert timeless(corpus) == before


def test_a_folder_that_is_something_else_is_not_touched(tmp_path: Path) -> None:
    source = put(tmp_path / "texts", TEXTS)
    put(tmp_path / "other", {"thesis.doc": b"years of work"})
    assert "other is not empty and not a corpus (it holds thesis.doc)" in refused(source, tmp_path / "other")
    put(tmp_path / "dataset", {"manifest.json": b'{"format": "textmill/dataset", "version": 1}'})
    assert refused(source, tmp_path / "dataset")
    put(tmp_path, {"file": b""})
    assert "a file or folder of that name is in the way" in refused(source, tmp_path / "file")
    assert tree(tmp_path / "other") == {"thesis.doc": b"years of work"}


def test_two_ingests_do_not_write_one_corpus(tmp_path: Path, corpus: Path) -> None:
    source = put(tmp_path / "texts", TEXTS)
    ingest(source, corpus)
    descriptor = os.open(corpus, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert "another ingest is writing" in refused(source, corpus)
    os.close(descriptor)
    ingest(source, corpus)


# --- settings and memory ---


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fallback_encoding": "cp1525"}, "'fallback_encoding' is 'cp1525': Python knows no such encoding"),
        ({"fallback_encoding": "base64"}, "'fallback_encoding' is 'base64': Python knows no such encoding"),
        ({"text_field": ""}, "'text_field' is empty"),
        ({"csv_header": "maybe"}, "choose one of: auto, yes, no"),
        ({"max_bytes": 0}, "must be at least 1"),
        ({"patern": "*"}, "Did you mean 'pattern'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        IngestSettings.of(**settings)
    assert said in str(caught.value)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "jsonl.gz"])
def test_memory_is_flat_however_many_rows_a_file_has(suffix: str, tmp_path: Path, corpus: Path) -> None:
    import gzip

    words = " ".join(f"word{number * 7919 % 10_007}" for number in range(1_000)) + " same"
    row = json.dumps({"text": words}) + "\n" if suffix.startswith("jsonl") else f'"{words}"\n'
    path = tmp_path / f"a.{suffix}"
    with gzip.open(path, "wt") if suffix.endswith("gz") else open(path, "w") as file:
        for number in range(1_500):
            file.write(row.replace("same", str(number)))
    tracemalloc.start()
    summary = ingest(str(path), corpus)
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert sum(len(document.text) for document in read_corpus(corpus).documents()) == summary["characters"]
    read = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert summary["characters"] > 12_000_000
    assert max(written, read) < 8_000_000
