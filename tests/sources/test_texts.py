"""Encodings, and the three kinds of text files."""

from __future__ import annotations

import gzip
import io
from typing import Any

import pytest

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.texts import Reading, Row, read_documents, text_kind


def read(data: bytes, name: str = "a.txt", **settings: Any) -> tuple[str, list[Row]]:
    values: dict[str, Any] = {"text_field": "text", "csv_header": "auto", "fallback_encoding": "cp1252"}
    reading = Reading(max_bytes=1 << 20, **(values | settings))
    kind = text_kind(name, named=True)
    assert kind is not None
    encoding, rows = read_documents(io.BytesIO(data), kind, name, name, reading)
    return encoding, list(rows)


def texts(data: bytes, name: str, **settings: Any) -> list[tuple[str, str]]:
    """(id, text) of the good rows, ("line", reason) of the bad ones."""
    _, rows = read(data, name, **settings)
    return [
        (row.id, row.text) if isinstance(row, Document) else (f"line {row.line}", row.reason) for row in rows
    ]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("café\n".encode(), "utf-8"),
        ("café\n".encode("utf-8-sig"), "utf-8-sig"),
        ("café\n".encode("utf-16"), "utf-16"),
        ("café\n".encode("cp1252"), "cp1252"),
        (b"caf\xc3\xa9\r\n", "utf-8"),
        (b"caf\xc3\xa9\r", "utf-8"),
    ],
)
def test_encodings_and_line_ends_end_as_one(data: bytes, encoding: str) -> None:
    assert read(data) == (encoding, [Document("a.txt", "café\n", "a.txt")])


def test_text_that_fits_no_encoding_says_where() -> None:
    with pytest.raises(BadItem) as caught:
        read(b"one\ntwo caf\xe9 \x81\n")
    assert (caught.value.reason, caught.value.line) == ("not UTF-8 (0xe9), and not CP1252 (0x81)", 2)
    with pytest.raises(BadItem) as caught:
        read(b"one\ntwo caf\xe9", fallback_encoding="")
    assert (caught.value.reason, caught.value.line) == ("not UTF-8 (0xe9)", 2)
    with pytest.raises(BadItem, match="not UTF-8"):
        read(b"cut in a letter \xc3", fallback_encoding="")


def test_one_bad_byte_at_the_end_of_a_long_file_decides_for_all_of_it() -> None:
    data = b"x" * 1_000_000 + b"\xe9"
    encoding, rows = read(data)
    assert encoding == "cp1252"
    assert isinstance(rows[0], Document)
    assert rows[0].text.endswith("xé")


def test_a_binary_file_is_known_by_its_nul_bytes() -> None:
    with pytest.raises(BadItem, match="binary file"):
        read(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")


def test_jsonl_keeps_the_files_ids_and_everything_else_as_meta() -> None:
    data = b'{"id": "p1", "text": "one\\r\\ntwo", "author": "me", "n": 3}\n\n{"text": "three"}\n{"id": 7, "text": "x"}'
    _, rows = read(data, "posts.jsonl")
    assert rows == [
        Document("posts.jsonl#p1", "one\ntwo", "posts.jsonl", {"author": "me", "n": 3}),
        Document("posts.jsonl#3", "three", "posts.jsonl"),
        Document("posts.jsonl#7", "x", "posts.jsonl"),
    ]


def test_jsonl_names_each_bad_line_and_goes_on() -> None:
    data = b'{"text": "good"}\n{"text": "cut\n[1]\n{"body": "b"}\n{"text": 5}\n{"text": "t", "x": NaN}\n{"text": "z"}\n'
    assert texts(data, "a.jsonl") == [
        ("a.jsonl#1", "good"),
        ("line 2", "not valid JSON (Unterminated string starting at, column 10)"),
        ("line 3", "a JSON list, not an object with a field 'text'"),
        ("line 4", "no field 'text' (it has 'body'); name one with text_field"),
        ("line 5", "field 'text' is a int, not a text"),
        ("line 6", "not valid JSON (NaN is not JSON)"),
        ("a.jsonl#7", "z"),
    ]
    assert texts(b'{"body": "b"}', "a.jsonl", text_field="body") == [("a.jsonl#1", "b")]


def test_csv_takes_the_named_column_and_quoted_newlines() -> None:
    data = b'id,text,author\r\n1,"Hello, ""you""\r\nthere",me\r\n,plain,\r\n'
    _, rows = read(data, "a.csv")
    assert rows == [
        Document("a.csv#1", 'Hello, "you"\nthere', "a.csv", {"author": "me"}),
        Document("a.csv#3", "plain", "a.csv", {"author": ""}),
    ]
    assert texts(data, "a.csv", text_field="author")[0] == ("a.csv#1", "me")


ONE = b"A text of its own\nand another\n"


@pytest.mark.parametrize(
    ("header", "data", "expected"),
    [
        ("auto", ONE, ["A text of its own", "and another"]),
        ("yes", ONE, ["and another"]),
        ("no", ONE, ["A text of its own", "and another"]),
        ("auto", b"tweet\n" + ONE, ["A text of its own", "and another"]),
        ("no", b"tweet\n" + ONE, ["tweet", "A text of its own", "and another"]),
        ("auto", b"text\nwords\n", ["words"]),
        ("auto", b"\n\nfirst row\n\nsecond\n", ["first row", "second"]),
        ("auto", b"", []),
    ],
)
def test_the_header_of_a_csv_of_one_column(header: str, data: bytes, expected: list[str]) -> None:
    assert [text for _, text in texts(data, "a.csv", csv_header=header)] == expected


def test_csv_that_cannot_be_understood_says_why_and_where() -> None:
    assert texts(b"id,text\n1,a\n2\n3,b\n", "a.csv") == [
        ("a.csv#1", "a"),
        ("line 3", "1 columns where the first row has 2"),
        ("a.csv#3", "b"),
    ]
    with pytest.raises(BadItem, match=r"no column 'text' \(it has 'id', 'body'\); name one with text_field"):
        read(b"id,body\n1,a\n", "a.csv")
    with pytest.raises(BadItem) as caught:
        read(b'text\n"never closed\n\n', "a.csv")
    assert (caught.value.reason, caught.value.line) == ("not valid csv (unexpected end of data)", 3)


def test_a_cell_may_be_larger_than_the_csv_modules_own_limit() -> None:
    assert len(texts(b"text\n" + b"x" * 200_000, "a.csv")[0][1]) == 200_000


@pytest.mark.parametrize(
    ("name", "named", "expected"),
    [
        ("a.txt", False, (".txt", "")),
        ("A.TXT.GZ", False, (".txt", ".gz")),
        ("a.jsonl.zst", False, (".jsonl", ".zst")),
        ("a.csv.xz", False, (".csv", ".xz")),
        ("readme.md", False, None),
        ("readme.md", True, ("markdown", "")),
        ("book.epub", False, None),
        ("data/tweets.js", True, ("x-archive", "")),
        ("a.srt.gz", True, ("subtitles", ".gz")),
        ("a.gz", False, None),
        ("a.gz", True, (".txt", ".gz")),
        ("README", True, (".txt", "")),
    ],
)
def test_kinds_by_name(name: str, named: bool, expected: tuple[str, str] | None) -> None:
    kind = text_kind(name, named)
    assert (kind and (kind.suffix, kind.compression)) == expected


def test_a_compressed_csv_is_read_as_its_content() -> None:
    assert texts(gzip.compress(b"text\none\n"), "a.csv.gz") == [("a.csv.gz#2", "one")]
