"""Members of tar and zip archives, one after the other, without unpacking to disk.

An archive that tries to leave its folder, unpacks to too much or is damaged is refused as a whole. Links, devices,
encrypted members and archives in the archive are reported and left out.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from tarfile import HeaderError, TarFile
from typing import IO, Self

from textmill.sources import BadItem, Item, chunks_of, clean_name, is_hidden, spool
from textmill.sources.compression import (
    COMPRESSIONS,
    DAMAGE,
    Bounded,
    damaged,
    decompressed,
    size_of,
    unpacking_bound,
)

HEADER = 1 << 20  # bytes that a tar header with its long names may take

SHORT = {".tgz": ".tar.gz", ".tbz2": ".tar.bz2", ".txz": ".tar.xz", ".tzst": ".tar.zst"}


def archive_suffix(name: str) -> str:
    """ ".zip", ".tar", ".tar.gz"…, or "" for a name that is not an archive's."""
    name = name.lower()
    name = next(
        (name.removesuffix(short) + long for short, long in SHORT.items() if name.endswith(short)), name
    )
    known = (".zip", ".tar", *(f".tar{suffix}" for suffix in COMPRESSIONS))
    return next((suffix for suffix in known if name.endswith(suffix)), "")


_Member = tuple[str, str, IO[bytes] | None]  # path, problem, the open member where there is no problem


class BadArchive(BadItem):
    """The archive as a whole is refused: nothing of it is taken."""


def members(file: IO[bytes], suffix: str, prefix: str, source: str, max_bytes: int) -> Iterator[Item]:
    """The archive's files in archive order, named `prefix` + path. Each is open only until the next is asked for.

    Iterating and opening raise BadArchive.
    """
    read = _zip_members if suffix == ".zip" else functools.partial(_tar_members, suffix=suffix[4:])
    with _refusing():
        yield from _items(read(file, max_bytes=max_bytes), prefix, source, max_bytes)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except BadItem as error:
        raise BadArchive(error.reason) from error
    except DAMAGE as error:
        raise BadArchive(damaged(error).reason) from error


def _items(found: Iterator[_Member], prefix: str, source: str, max_bytes: int) -> Iterator[Item]:
    for path, problem, opened in found:
        name = _member_name(path)
        if not name or is_hidden(name):
            continue
        if not problem and archive_suffix(name):
            problem = "an archive in an archive is not unpacked"
        opener = functools.partial(_spooled, opened, max_bytes)
        yield Item(prefix + name, opener, source=f"{source}/{name}", problem=problem)


def _member_name(path: str) -> str:
    path = path.replace("\\", "/")
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", path):
        raise BadItem(f"unsafe: its member {clean_name(path)!r} points out of the archive's folder")
    return clean_name("/".join(part for part in parts if part not in ("", ".")))


def _spooled(opened: IO[bytes] | None, max_bytes: int) -> IO[bytes]:
    assert opened is not None
    with _refusing():
        return spool(chunks_of(opened), max_bytes)


class _CheckedTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header after the first for the end of the archive; that would lose texts silently."""

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ in ("EmptyHeaderError", "EOFHeaderError"):
                raise  # the true end
            raise BadItem(f"damaged: {error}") from error


def _tar_members(file: IO[bytes], suffix: str, max_bytes: int) -> Iterator[_Member]:
    stream = decompressed(file, suffix, max_bytes)
    narrow = functools.partial(
        stream.at_most, HEADER, BadItem(f"unsafe: a header of more than {HEADER:,} bytes")
    )
    with narrow():
        tar = tarfile.open(fileobj=stream, mode="r|", tarinfo=_CheckedTarInfo)  # noqa: SIM115
    while True:
        with narrow():
            member = tar.next()
        if member is None:
            return
        tar.members = []  # type: ignore[attr-defined]  # or it keeps every header
        if member.isreg() and not member.issparse():
            opened = tar.extractfile(member)
            assert opened is not None
            yield member.name, "", opened
            for _ in chunks_of(opened):  # what was left unread, here and not within the bound of a header
                pass
        elif not member.isdir():
            yield member.name, f"{_tar_kind(member)}, not a file", None


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    return "a sparse file" if member.issparse() else "a device"


def _zip_members(file: IO[bytes], max_bytes: int) -> Iterator[_Member]:
    limit, excess = unpacking_bound(size_of(file), max_bytes)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if problem := _zip_problem(info):
                yield info.filename, problem, None
                continue
            with archive.open(info) as raw:
                opened = Bounded(raw, limit, excess)
                yield info.filename, "", io.BufferedReader(opened)
                limit -= opened.count  # the bound holds for all members together


def _zip_problem(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "a link, not a file"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a device, not a file"
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
        zipfile.ZIP_BZIP2,
        zipfile.ZIP_LZMA,
    ):
        return f"compressed by a method ({info.compress_type}) that is not known here"
    return ""
