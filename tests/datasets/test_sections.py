"""A unit of work's file: sections come back, and one that was cut short or altered is not taken for whole."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import zstandard

from textmill.datasets.sections import Sections, SectionsWriter, is_whole
from textmill.errors import FolderError, MachineError

PACK = zstandard.ZstdCompressor(write_checksum=True)


def write(path: Path) -> Path:
    with SectionsWriter(path, ("first", "packed", "numbers", "nothing")) as writer:
        writer.sections["numbers"].write(np.arange(5, dtype="<u4").tobytes())
        writer.sections["first"].write(b"one")
        writer.sections["packed"].write(PACK.compress(b"two\nlines\n"))
        writer.sections["first"].write(b" and two")
        writer.summary = {"text": "\ud800 é"}
    return path


def test_sections_come_back_in_whatever_order_they_were_written(tmp_path: Path) -> None:
    made = Sections(write(tmp_path / "unit"))
    assert made.read("first") == b"one and two"
    assert made.mapped("numbers", np.dtype("<u4")).tolist() == [0, 1, 2, 3, 4]
    assert made.mapped("nothing", np.dtype("<u4")).tolist() == []
    with made.unpacked("packed") as stream:
        assert list(stream) == [b"two\n", b"lines\n"]
    with made.unpacked("nothing") as stream:
        assert stream.read() == b""
    with open(tmp_path / "copy", "wb") as copy:
        assert made.copy("first", copy) == 11
    assert (tmp_path / "copy").read_bytes() == b"one and two"
    assert made.summary == {"text": "\ud800 é"}
    assert is_whole(tmp_path / "unit")


def test_what_is_not_whole_is_told(tmp_path: Path) -> None:
    data = write(tmp_path / "unit").read_bytes()
    for number, wrong in enumerate([b"", data[:-1], data[:40], data + b"x", b"x" * len(data)]):
        path = tmp_path / str(number)
        path.write_bytes(wrong)
        assert not is_whole(path)
    assert not is_whole(tmp_path / "missing")
    altered = bytearray(data)
    altered[data.index(zstandard.FRAME_HEADER) + 9] ^= 0xFF
    (tmp_path / "altered").write_bytes(altered)
    with (
        pytest.raises(FolderError, match="is missing or damaged"),
        Sections(tmp_path / "altered").unpacked("packed") as stream,
    ):
        stream.read()


def test_nothing_is_there_until_the_block_ends_well(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SectionsWriter(tmp_path / "unit", ("a", "b")) as writer:
        writer.sections["b"].write(b"x" * 3_000_000)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(MachineError, match="no space left to write"),
        SectionsWriter(tmp_path / "unit", ("a",)),
    ):
        raise full
    assert list(tmp_path.iterdir()) == []
