"""TensorFlow's tensor bundles (checkpoints of version 2), read without TensorFlow.

    PREFIX.index                   a LevelDB table: name -> BundleEntryProto; "" -> BundleHeaderProto
    PREFIX.data-00000-of-00001     the tensors' bytes, one after the other

As tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/table and tensor_bundle.proto have it. Every block of the
index and every tensor has a CRC-32C, which is checked. Importing TensorFlow to read a model takes 600 MB and seconds,
which a program that only writes text need not spend.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from textmill.checkpoints.crc32c import crc32c, masked

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes: two handles, filled up, and the magic
TRAILER = 5  # bytes behind a block: its compression and its checksum
LARGEST_INDEX = 1 << 26  # bytes; GPT-2's have some ten thousand
TYPES = {  # DataType of types.proto -> (name, bytes of one; 0: of no fixed size)
    1: ("float32", 4), 2: ("float64", 8), 3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2), 6: ("int8", 1),
    7: ("string", 0), 8: ("complex64", 8), 9: ("int64", 8), 10: ("bool", 1), 11: ("qint8", 1), 12: ("quint8", 1),
    13: ("qint32", 4), 14: ("bfloat16", 2), 15: ("qint16", 2), 16: ("quint16", 2), 17: ("uint16", 2),
    18: ("complex128", 16), 19: ("float16", 2), 20: ("resource", 0), 21: ("variant", 0), 22: ("uint32", 4),
    23: ("uint64", 8),
}  # fmt: skip

Fields = list[tuple[int, "int | bytes"]]


class Damaged(ValueError):
    """The files are not what this format says, in a few words."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies. `type` is a name of TYPES, `item_size` its bytes (0: not fixed)."""

    type: str
    item_size: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int  # bytes
    checksum: int  # masked


@dataclass
class Bundle:
    """The tensors of one prefix, by name."""

    prefix: Path
    shards: int = 1
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, prefix: Path) -> Bundle:
        """Read the index. Raises Damaged, and OSError where it cannot be read."""
        path = Path(f"{prefix}.index")
        if path.stat().st_size > LARGEST_INDEX:
            raise Damaged("the index is far too large")
        bundle = cls(Path(prefix))
        try:
            for key, value in _table(path.read_bytes()):
                if not key:
                    bundle.shards = _header(value)
                elif not key.startswith(b"\0"):  # parts of a divided tensor, listed with the whole
                    bundle.entries[key.decode()] = _entry(value)
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise Damaged("the index is cut off or garbled") from error
        return bundle

    def data_file(self, shard: int) -> Path:
        """The file that this part of the tensors lies in."""
        return Path(f"{self.prefix}.data-{shard:05}-of-{self.shards:05}")

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """A float32 tensor, its checksum compared. Raises Damaged, and OSError."""
        entry = self.entries[name]
        assert entry.type == "float32", entry.type
        if not 0 <= entry.shard < self.shards or entry.size != 4 * int(np.prod(entry.shape, dtype=object)):
            raise Damaged(f"the index contradicts itself about {name}")
        raw = np.fromfile(self.data_file(entry.shard), np.uint8, entry.size, offset=entry.offset)
        if len(raw) != entry.size:
            raise Damaged(f"the data ends before {name} does")
        if masked(crc32c(raw)) != entry.checksum:
            raise Damaged(f"the checksum of {name} does not match its bytes")
        return raw.view("<f4").astype(np.float32, copy=False).reshape(entry.shape)


# --- the table ---


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise Damaged("the index is cut off, or no index")
    _, _, place = _handle(data, len(data) - FOOTER)  # of the metaindex, which TensorFlow leaves empty
    start, size, _ = _handle(data, place)
    for _, handle in _block(data, start, size):
        yield from _block(data, *_handle(handle, 0)[:2])


def _block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = start + size
    if end + TRAILER > len(data) - FOOTER:
        raise Damaged("a block of the index lies outside of it")
    kept = np.frombuffer(data, np.uint8, size + 1, start)  # the checksum is of the compression's byte too
    if masked(crc32c(kept)) != struct.unpack_from("<I", data, end + 1)[0]:
        raise Damaged("the checksum of the index does not match its bytes")
    if data[end] != 0:
        raise Damaged("the index is compressed, which TensorFlow does not write")
    end -= 4 + 4 * struct.unpack_from("<I", data, end - 4)[0]  # where keys begin anew, for searching
    key, place = b"", start
    while place < end:
        shared, place = _varint(data, place)
        own, place = _varint(data, place)
        length, place = _varint(data, place)
        if shared > len(key) or place + own + length > end:
            raise Damaged("a block of the index is garbled")
        key = key[:shared] + data[place : place + own]
        place += own + length
        yield key, data[place - length : place]


def _handle(data: bytes, place: int) -> tuple[int, int, int]:
    """A block's start and size, and the place behind them."""
    start, place = _varint(data, place)
    size, place = _varint(data, place)
    return start, size, place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise Damaged("a number of the index is too long")


# --- the messages ---


def _fields(message: bytes) -> Fields:
    """The fields of a protocol buffer: (number, integer or bytes)."""
    found: Fields = []
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            number, place = _varint(message, place)
            found.append((tag >> 3, number))
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Damaged("an entry of the index is garbled")
        if place + length > len(message):
            raise Damaged("an entry of the index is cut off")
        raw = message[place : place + length]
        found.append((tag >> 3, raw if kind == 2 else int.from_bytes(raw, "little")))
        place += length
    return found


def _header(message: bytes) -> int:
    """How many data files there are."""
    header = dict(_fields(message))
    if header.get(2, 0) != 0:
        raise Damaged("its numbers are big-endian")
    return _whole(header.get(1, 0))


def _entry(message: bytes) -> Entry:
    fields = _fields(message)
    if any(number == 7 for number, _ in fields):
        raise Damaged("a tensor is divided into slices")
    known = dict(fields)
    name, size = TYPES.get(_whole(known.get(1, 0)), ("unknown", 0))
    shape = []
    for number, value in _fields(_message(known.get(2, b""))):
        if number == 2:  # an axis
            shape.append(_whole(dict(_fields(_message(value))).get(1, 0)))
    whole = [_whole(known.get(number, 0)) for number in (3, 4, 5, 6)]
    return Entry(name, size, tuple(shape), *whole)


def _whole(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise Damaged("an entry of the index is garbled")
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise Damaged("an entry of the index is garbled")
    return value
