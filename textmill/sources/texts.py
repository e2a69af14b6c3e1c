"""From bytes to documents: encodings, and the kinds of text files. A new kind is one reader and one row in READERS.

Line ends become \\n everywhere, also inside csv cells and JSON strings. A file is read as a stream; only a .txt file,
which is one document, is in memory as a whole.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from textmill.corpora.corpus import Document
from textmill.sources import BadItem, chunks_of, spool
from textmill.sources.compression import COMPRESSIONS, decompressed
from textmill.sources.dumps import FORMATS, format_of

log = logging.getLogger("textmill.ingest")

DOCUMENTS = "documents"  # the kind of what collected items hold; see `packed`. No name's suffix says it.

BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Reading:
    """How texts are read: what IngestSettings says about it, and the largest size a file may unpack to."""

    text_field: str
    csv_header: str
    fallback_encoding: str
    max_bytes: int


@dataclass(frozen=True)
class TextKind:
    """What a name's suffixes mean: a reader, and the compression around it ("" for none)."""

    suffix: str
    compression: str


Row = Document | BadItem


def text_kind(name: str, named: bool, kind: str = "") -> TextKind | None:
    """The kind of text a name's suffixes promise; for a `named` file also that of a format (sources/dumps), and .txt
    for an unknown suffix; else None. `kind` is what the source says it is."""
    path = PurePosixPath(name.lower())
    compression = path.suffix if path.suffix in COMPRESSIONS else ""
    suffix = PurePosixPath(path.stem).suffix if compression else path.suffix
    if kind == DOCUMENTS:
        return TextKind(DOCUMENTS, "")
    if kind or (named and (kind := format_of(name))):
        return TextKind(kind, compression)
    if suffix in READERS:
        return TextKind(suffix, compression)
    return TextKind(".txt", compression) if named else None


def read_documents(
    file: IO[bytes], kind: TextKind, name: str, source: str, reading: Reading
) -> tuple[str, Iterator[Row]]:
    """(encoding, documents) of one file; a bad line comes as a BadItem among the documents.

    Raises BadItem, also while iterating, when the file as a whole cannot be used. `file` is seekable.
    """

    def from_start() -> IO[bytes]:
        file.seek(0)
        return io.BufferedReader(decompressed(file, kind.compression, reading.max_bytes))

    form = FORMATS.get(kind.suffix)
    if form and form.binary:
        whole = spool(chunks_of(from_start()), reading.max_bytes) if kind.compression else file
        whole.seek(0)
        return "binary", form.load(name)(whole, name, source, reading)
    encoding = _encoding(from_start, reading.fallback_encoding)
    text = io.TextIOWrapper(from_start(), encoding=encoding, newline=None)
    read = form.load(name) if form else READERS[kind.suffix]
    return encoding, read(text, name, source, reading)


def _encoding(from_start: Callable[[], IO[bytes]], fallback: str) -> str:
    """UTF-8 or what a byte order mark says, else the fallback: the first that fits the whole file."""
    head = from_start().read(3)
    encoding = next((name for mark, name in BOMS.items() if head.startswith(mark)), "utf-8")
    misfit = _misfit(from_start(), encoding)
    if misfit and fallback and encoding == "utf-8":
        encoding, first = fallback, misfit
        misfit = _misfit(from_start(), encoding)
        misfit = misfit and BadItem(f"{first.reason}, and {misfit.reason}", misfit.line)
    if misfit:
        raise misfit
    return encoding


def _misfit(file: IO[bytes], encoding: str) -> BadItem | None:
    decoder, lines = codecs.getincrementaldecoder(encoding)(), 1
    try:
        for chunk in chunks_of(file):
            text = decoder.decode(chunk)
            if "\0" in text:
                line = lines + text[: text.index("\0")].count("\n")
                raise BadItem("a binary file (it has NUL bytes), not a text", line)
            lines += text.count("\n")
        decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        line = lines + error.object[: error.start].count(b"\n")
        byte = f"0x{error.object[error.start]:02x}" if error.start < len(error.object) else "the end"
        return BadItem(f"not {encoding.removesuffix('-sig').upper()} ({byte})", line)
    return None


def packed(text: str, meta: dict[str, Any], id: str = "") -> bytes:
    """A line of DOCUMENTS: what the sources that collect hand over. The same document gives the same bytes."""
    value = {"id": id, "meta": meta, "text": text}
    return json.dumps(value, ensure_ascii=True, sort_keys=True, allow_nan=False).encode() + b"\n"


def _read_documents(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """DOCUMENTS: as `packed` wrote them; `meta.url`, where there is one, is where the document came from."""
    for line in text:
        value = json.loads(line)
        meta = value["meta"]
        identity = f"{name}#{value['id']}" if value["id"] else name
        yield Document(identity, newlines(value["text"]), meta.get("url") or source, meta)


def _read_text(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """.txt: the whole file is one document."""
    yield Document(name, text.read(), source)


def _read_jsonl(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """.jsonl: an object a line; its `id` or line number names the document, its other fields are the meta."""
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                yield _from_object(
                    json.loads(line.rstrip("\n"), parse_constant=_no_constant), name, source, reading, number
                )
            except json.JSONDecodeError as error:
                yield BadItem(f"not valid JSON ({error.msg}, column {error.colno})", number)
            except (ValueError, RecursionError) as error:
                yield BadItem(f"not valid JSON ({error})", number)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _from_object(value: Any, name: str, source: str, reading: Reading, number: int) -> Row:
    field = reading.text_field
    if not isinstance(value, dict):
        return BadItem(f"a JSON {type(value).__name__}, not an object with a field {field!r}", number)
    if field not in value:
        return BadItem(f"no field {field!r} (it has {listed(value)}); name one with text_field", number)
    text = value.pop(field)
    if not isinstance(text, str):
        return BadItem(f"field {field!r} is a {type(text).__name__}, not a text", number)
    own = value.pop("id", None)
    identity = own if isinstance(own, str | int) and not isinstance(own, bool) and own != "" else number
    return Document(f"{name}#{identity}", newlines(text), source, value)


def _read_csv(text: IO[str], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """.csv (commas, double quotes, quoted newlines): one column, or the one that the header calls `text_field`.

    In one column the first row is a header when csv_header is "yes", or "auto" and it is `text_field` or one word.
    """
    csv.field_size_limit(min(reading.max_bytes, sys.maxsize))
    rows = csv.reader(text, strict=True)
    try:
        first = next((row for row in rows if row), [])
        column = _text_column(first, reading)
        names = [reading.text_field]
        if _is_header(first, reading):
            names = first
            if len(first) == 1 and first != [reading.text_field]:
                log.info("%s: its first row (%s) is taken for the header", name, listed(first))
        elif first:
            yield _from_row(first, names, column, name, source, 1)
        number = 1
        for row in rows:
            number += 1
            if row:
                yield _from_row(row, names, column, name, source, number, rows.line_num)
    except csv.Error as error:
        raise BadItem(f"not valid csv ({error})", rows.line_num) from error


def _is_header(first: list[str], reading: Reading) -> bool:
    if len(first) > 1:
        return True
    if reading.csv_header != "auto":
        return reading.csv_header == "yes"
    return first == [reading.text_field] or (len(first) == 1 and len(first[0].split()) == 1)


def _text_column(first: list[str], reading: Reading) -> int:
    if len(first) <= 1:
        return 0
    if reading.text_field in first:
        return first.index(reading.text_field)
    raise BadItem(f"no column {reading.text_field!r} (it has {listed(first)}); name one with text_field", 1)


def _from_row(
    row: list[str], names: list[str], column: int, name: str, source: str, number: int, line: int = 1
) -> Row:
    if len(row) != len(names):
        return BadItem(f"{len(row)} columns where the first row has {len(names)}", line)
    meta = {names[i]: cell for i, cell in enumerate(row) if i != column}
    return Document(f"{name}#{meta.pop('id', '') or number}", row[column], source, meta)


def newlines(text: str) -> str:
    """Line ends as \\n."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def listed(names: Any) -> str:
    """The first few names, for an error."""
    names = [str(name) for name in names]
    shown = ", ".join(repr(name[:30]) for name in names[:8])
    return (shown or "none") + (" …" if len(names) > 8 else "")


READERS: dict[str, Callable[[IO[str], str, str, Reading], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".txt": _read_text,
    DOCUMENTS: _read_documents,
}
