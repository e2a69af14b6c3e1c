"""tar and zip: their members as items, and archives that are refused."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
import zstandard

from textmill.sources import BadItem
from textmill.sources.archive import BadArchive, archive_suffix, members

Files = list[tuple[str, bytes]]
PLAYS: Files = [
    ("plays/hamlet.txt", b"To be\n"),
    ("./plays/deep/lear.txt", b"Blow, winds\n"),
    ("notes.csv", b"a\n"),
]


def tar(files: Files, *more: tarfile.TarInfo, mode: str = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info)
    return packed.getvalue()


def zipped(files: Files, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return packed.getvalue()


PACK: dict[str, Callable[[Files], bytes]] = {
    ".tar": tar,
    ".tar.gz": lambda files: tar(files, mode="w:gz"),
    ".tar.bz2": lambda files: tar(files, mode="w:bz2"),
    ".tar.xz": lambda files: lzma.compress(tar(files), preset=0),
    ".tar.zst": lambda files: zstandard.compress(tar(files)),
    ".zip": zipped,
}
kinds = pytest.mark.parametrize("suffix", PACK)


def contents(data: bytes, suffix: str, max_bytes: int = 1 << 30) -> dict[str, bytes | str]:
    """{name: bytes, or the problem}."""
    found: dict[str, bytes | str] = {}
    for item in members(io.BytesIO(data), suffix, "", "plays", max_bytes):
        found[item.name] = item.problem or item.open().read()
    return found


@kinds
def test_members_come_with_clean_names_and_their_bytes(suffix: str) -> None:
    assert contents(PACK[suffix](PLAYS), suffix) == {
        "plays/hamlet.txt": b"To be\n",
        "plays/deep/lear.txt": b"Blow, winds\n",
        "notes.csv": b"a\n",
    }


@kinds
def test_members_may_be_passed_over(suffix: str) -> None:
    files = [("a.txt", b"a" * 3_000_000), ("b.txt", b"b" * 3_000_000), ("c.txt", b"c")]
    found = members(io.BytesIO(PACK[suffix](files)), suffix, "in/", "x", 1 << 30)
    assert [item.name for item in found] == ["in/a.txt", "in/b.txt", "in/c.txt"]


@kinds
@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/etc/passwd", "..\\evil.txt", "C:\\evil.txt"]
)
def test_a_path_out_of_the_folder_refuses_the_archive(suffix: str, name: str) -> None:
    with pytest.raises(BadArchive, match=r"unsafe: its member .* points out of the archive's folder"):
        contents(PACK[suffix]([*PLAYS, (name, b"x")]), suffix)


def test_links_and_devices_are_told_and_not_followed() -> None:
    link, hard, device, pipe = (tarfile.TarInfo(n) for n in ("link.txt", "hard.txt", "null.txt", "pipe.txt"))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../etc/passwd"
    device.type, pipe.type = tarfile.CHRTYPE, tarfile.FIFOTYPE
    assert contents(tar([("a.txt", b"a")], link, hard, device, pipe), ".tar") == {
        "a.txt": b"a",
        "link.txt": "a link to '/etc/passwd', not a file",
        "hard.txt": "a link to '../../etc/passwd', not a file",
        "null.txt": "a device, not a file",
        "pipe.txt": "a device, not a file",
    }


def test_links_and_encrypted_members_of_a_zip_are_told() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret.txt", "words")
    data = bytearray(packed.getvalue())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag of encryption, in the central directory
    assert contents(bytes(data), ".zip") == {"link.txt": "a link, not a file", "secret.txt": "encrypted"}


@kinds
def test_hidden_members_are_left_out_and_archives_inside_are_told(suffix: str) -> None:
    files = [(".x.txt", b"x"), ("__MACOSX/a.txt", b"x"), ("in.tar.gz", b"x"), ("a.txt", b"a")]
    assert contents(PACK[suffix](files), suffix) == {
        "in.tar.gz": "an archive in an archive is not unpacked",
        "a.txt": b"a",
    }


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip"])
def test_a_bomb_is_refused_whether_its_members_are_read_or_not(suffix: str) -> None:
    bomb = PACK[suffix]([("a.txt", b"0" * (24 << 20)), ("b.bin", b"0" * (24 << 20))])
    with pytest.raises(BadArchive, match="decompression bomb"):
        contents(bomb, suffix)
    with pytest.raises(BadArchive, match="holds more than 1,000 bytes; raise max_bytes"):
        contents(bomb, suffix, max_bytes=1_000)


def test_the_bound_is_for_all_members_together() -> None:
    files = [(f"{n}.txt", b"x" * 400) for n in range(4)]
    for suffix in (".tar", ".zip"):
        with pytest.raises(BadArchive, match="more than 1,000 bytes"):
            contents(PACK[suffix](files), suffix, max_bytes=1_000)


@pytest.mark.parametrize("before", [b"", tar([("a.txt", b"a")])[:1024]], ids=["first", "second"])
def test_a_tar_header_that_claims_gigabytes_takes_no_memory(before: bytes) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    noise = bytes(range(256)) * 4096
    data = gzip.compress(before + info.tobuf() + noise * 64, 1)
    tracemalloc.start()
    with pytest.raises(BadArchive, match="a header of more than"):
        contents(data, ".tar.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@kinds
def test_a_cut_or_foreign_file_is_damaged(suffix: str) -> None:
    packed = PACK[suffix]([("a.txt", bytes(range(256)) * 200), ("b.txt", bytes(range(255, -1, -1)) * 200)])
    with pytest.raises(BadItem, match="damaged: "):
        contents(packed[: len(packed) * 2 // 3], suffix)
    with pytest.raises(BadItem, match="damaged: "):
        contents(b"not an archive at all " * 100, suffix)


def test_a_tar_damaged_in_the_middle_does_not_end_there_silently() -> None:
    data = bytearray(tar([("a.txt", b"a"), ("b.txt", b"b"), ("c.txt", b"c")]))
    data[1024:1040] = b"?" * 16  # the second header
    with pytest.raises(BadArchive, match="damaged: "):
        contents(bytes(data), ".tar")


def test_a_zip_member_with_a_wrong_checksum_is_damaged() -> None:
    data = bytearray(zipped([("a.txt", b"some words")], zipfile.ZIP_STORED))
    data[data.index(b"some words")] ^= 1
    with pytest.raises(BadArchive, match="damaged: Bad CRC-32"):
        contents(bytes(data), ".zip")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.zip", ".zip"),
        ("A.TAR.GZ", ".tar.gz"),
        ("a.tgz", ".tar.gz"),
        ("a.tzst", ".tar.zst"),
        ("a.tar", ".tar"),
        ("a.gz", ""),
        ("a.txt", ""),
    ],
)
def test_archives_are_known_by_their_suffix(name: str, suffix: str) -> None:
    assert archive_suffix(name) == suffix
