"""Parquet tables (columns, typed, compressed): a row is a document, the column is `text_field`. By pyarrow."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import IO, Any

from textmill.corpora.corpus import Document
from textmill.sources import BadItem
from textmill.sources.compression import size_of, unpacking_bound
from textmill.sources.texts import Reading, Row, listed, newlines

ROWS = 256  # in memory at a time, beside what pyarrow holds of a row group


def read(file: IO[bytes], name: str, source: str, reading: Reading) -> Iterator[Row]:
    """The rows in order; `id` or the row's number names the document, plain values of other columns are its meta."""
    import pyarrow
    import pyarrow.parquet

    limit, excess = unpacking_bound(size_of(file), reading.max_bytes)
    try:
        table = pyarrow.parquet.ParquetFile(file)
        columns = table.schema_arrow.names
        if reading.text_field not in columns:
            raise BadItem(
                f"no column {reading.text_field!r} (it has {listed(columns)}); name one with text_field"
            )
        kind = table.schema_arrow.field(reading.text_field).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise BadItem(f"column {reading.text_field!r} is of type {kind}, not a text")
        groups = (table.metadata.row_group(i) for i in range(table.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > limit:
            raise excess
        number = size = 0
        for batch in table.iter_batches(batch_size=ROWS, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                text = row.pop(reading.text_field)
                if text is None:
                    yield BadItem(f"row {number} has no text in column {reading.text_field!r}")
                    continue
                size += len(text)
                if size > limit:
                    raise excess
                own = row.pop("id", None)
                identity = own if isinstance(own, str | int) and own != "" else number
                yield Document(f"{name}#{identity}", newlines(text), source, _plain(row))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BadItem(f"not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row JSON can hold: bytes and what is missing are left out, dates are written as ISO 8601 has them."""
    return {key: plain for key, value in row.items() if (plain := _value(value)) is not None}


def _value(value: Any) -> Any:
    if isinstance(value, datetime.date | datetime.datetime | datetime.time):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [plain for part in value if (plain := _value(part)) is not None]
    if isinstance(value, dict):
        return _plain(value)
    return value if isinstance(value, str | int | bool) else None
