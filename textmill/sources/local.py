"""Files on this machine: one file, a folder with all below it, or a glob."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from textmill.errors import InputError
from textmill.sources import Item, Source, clean_name, is_hidden


class LocalSource(Source):
    """A path, a glob (`plays/*.txt`, `**` for any depth) or a file:// address.

    Below a folder, hidden names are left out and links are followed (Kubernetes mounts ConfigMaps as links).
    """

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        if address.lower().startswith("file://"):
            address = unquote(urlsplit(address).path)
        self.path = Path(address).expanduser()
        name = self.path.name if self.path.name not in ("", "..") else self.path.resolve().name
        self.label = clean_name(name or "/")

    def items(self) -> list[Item]:
        if self.path.is_dir():
            return [_item(path, name) for name, path in self._walk(self.path, "", ())]
        if self.path.exists():
            return [_item(self.path, self.path.name, named=True, alone=True)]
        if glob.has_magic(str(self.path)):
            return self._matches()
        raise InputError(_nothing_at(self.path))

    def _matches(self) -> list[Item]:
        parts = self.path.parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root, pattern = Path(*parts[:fixed]), "/".join(parts[fixed:])
        found: dict[str, Path] = {}
        for name in glob.glob(pattern, root_dir=root, recursive=True):
            path = root / name
            found.update(self._walk(path, name, ()) if path.is_dir() else [(name, path)])
        if not found:
            raise InputError(
                f"nothing matches {self.path}; quote a glob so that textmill sees it, `**` is any depth."
            )
        named = bool(PurePosixPath(pattern).suffix)
        return [_item(path, name, named) for name, path in found.items()]

    def _walk(
        self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, Path]]:
        """(name, path) of every file below a folder; `above` are its parents, against links that run in a circle."""
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        if here in above or (self.ignore and self.ignore.exists() and folder.samefile(self.ignore)):
            return
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entry.name for entry in entries if not is_hidden(entry.name))
        except PermissionError:
            yield prefix, folder
            return
        for entry in listed:
            name, path = f"{prefix}/{entry}" if prefix else entry, folder / entry
            if path.is_dir():
                yield from self._walk(path, name, (*above, here))
            else:
                yield name, path


def _item(path: Path, name: str, named: bool = False, alone: bool = False) -> Item:
    name = clean_name(name)
    problem = ""
    if path.is_dir():
        problem = "a folder that may not be listed"
    elif not path.is_file():
        problem = "not a regular file" if path.exists() else "a link to nothing"
    return Item(name, lambda: open(path, "rb"), source=name, named=named, alone=alone, problem=problem)


def _nothing_at(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to nothing."
    parent = path.parent
    if not parent.is_dir():
        return f"there is no file or folder {path}: {parent} does not exist."
    names = sorted(entry.name for entry in parent.iterdir())
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"there is no file or folder {path}." + (f" Did you mean {near[0]!r}?" if near else "")
