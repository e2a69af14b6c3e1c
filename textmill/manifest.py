"""`manifest.json`: what a folder is, which files it holds, what it was made with and from. The only reader and writer.

Format (version 1): {"format": "textmill/<kind>", "version": 1, "digest", "files": {path: {"size", "sha256"}},
"settings", "parents": {name: digest}, "versions": {package: version}, "details": {...}}.

`digest` is the SHA-256 over the sorted lines "<sha256>  <path>" of `files`, so the same content has the same digest
wherever and whenever it was made. A folder whose files do not fit its manifest is refused with one line.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textmill import __version__
from textmill.errors import FolderError
from textmill.files import sha256_of, write_json

NAME = "manifest.json"
VERSION = 1
KINDS = ("corpus", "parts", "dataset", "model", "checkpoint", "state", "prompts", "texts")


@dataclass(frozen=True)
class Manifest:
    """One folder's manifest, read or about to be written."""

    kind: str
    files: dict[str, dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        lines = (f"{entry['sha256']}  {path}\n" for path, entry in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def write(
    folder: Path,
    kind: str,
    *,
    settings: Mapping[str, Any] | None = None,
    parents: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    files: Iterable[str] | None = None,
    packages: Iterable[str] = (),
    known: Mapping[str, dict[str, Any]] | None = None,
) -> Manifest:
    """Hash the folder's files (or only `files`, relative paths) and write its manifest, last and atomically.

    `packages` are the libraries whose versions shaped the content. `known` are entries ({"size", "sha256"}) of files
    that were hashed as they were written, or before: they are not read again.
    """
    assert kind in KINDS, kind
    if files is None:
        files = [
            p.relative_to(folder).as_posix()
            for p in folder.rglob("*")
            if p.is_file() and p.name != NAME and not p.name.startswith(".")
        ]
    known = known or {}
    entries = {name: known.get(name) or entry(folder / name) for name in sorted(files)}
    versions = {"textmill": __version__, "python": platform.python_version()}
    versions |= {name: version_of(name) for name in packages}
    made = Manifest(kind, entries, dict(settings or {}), dict(parents or {}), versions, dict(details or {}))
    write_json(
        folder / NAME,
        {
            "format": f"textmill/{kind}",
            "version": VERSION,
            "digest": made.digest,
            "files": made.files,
            "settings": made.settings,
            "parents": made.parents,
            "versions": made.versions,
            "details": made.details,
        },
    )
    return made


def version_of(package: str) -> str:
    """An installed package's version. The images have TensorFlow's CPU build, which goes by another name.

    Raises importlib.metadata.PackageNotFoundError.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{package}-cpu")


def entry(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def read(folder: Path, kind: str, *, verify: bool = False) -> Manifest:
    """Read a folder's manifest; check that its files are there with their sizes, and with `verify` their hashes.

    Raises FolderError: missing, of another kind, newer than this program, half-written or altered.
    """
    folder = Path(folder)
    path = folder / NAME
    try:
        value = json.loads(path.read_bytes())
        found, version, digest = value["format"], value["version"], value["digest"]
        manifest = Manifest(
            kind, value["files"], value["settings"], value["parents"], value["versions"], value["details"]
        )
        sizes = [entry["size"] + len(entry["sha256"]) for entry in manifest.files.values()]
        if not all(isinstance(number, int) for number in [version, *sizes]):
            raise TypeError
    except FileNotFoundError:
        raise FolderError(_missing(folder, kind)) from None
    except NotADirectoryError:
        raise FolderError(f"{folder} is a file; a {kind} folder is wanted here.") from None
    except PermissionError:
        raise FolderError(f"no permission to read {path}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FolderError(f"{path} is not a textmill manifest; make the {kind} folder anew.") from None
    if found != f"textmill/{kind}":
        raise FolderError(
            f"{folder} holds a {str(found).removeprefix('textmill/')}; a {kind} is wanted here."
        )
    if version > VERSION:
        raise FolderError(
            f"{folder} was written by a newer textmill (manifest version {version}); upgrade textmill to read it."
        )
    if digest != manifest.digest:
        raise FolderError(f"{path} was altered: its digest does not fit its files; make the {kind} anew.")
    for name, entry in manifest.files.items():
        _check_file(folder, kind, name, entry, verify)
    return manifest


def check_names(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    """Raise FolderError for a name in the manifest's details that is none of its files: those alone were checked."""
    for name in names:
        if name not in manifest.files:
            raise FolderError(
                f"{Path(folder) / NAME} names {name!r}, which is none of its files; do not use it."
            )


def kind_of(folder: Path) -> str:
    """The kind that a folder's manifest names, "" where there is none to be read. Nothing is checked."""
    try:
        value = json.loads((Path(folder) / NAME).read_bytes())
        return str(value["format"]).removeprefix("textmill/")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def digest_of(folder: Path) -> str:
    """The digest of a folder of any kind, "" where it has no manifest. Raises FolderError like `read`."""
    kind = kind_of(folder)
    return read(folder, kind).digest if kind in KINDS else ""


def _missing(folder: Path, kind: str) -> str:
    if not folder.exists():
        return f"there is no {kind} at {folder}: no such folder."
    return f"{folder} is not a {kind}: it has no {NAME} (half-written, or another folder was meant)."


def _check_file(folder: Path, kind: str, name: str, entry: dict[str, Any], verify: bool) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise FolderError(f"{folder / NAME} names {name!r}, a path out of the folder; do not use it.")
    if not path.is_file():
        raise FolderError(f"the {kind} {folder} lacks {name}; make it anew or copy it whole.")
    size = path.stat().st_size
    if size != entry["size"]:
        raise FolderError(
            f"{path} has {size} bytes, its manifest says {entry['size']}; make the {kind} anew or copy it whole."
        )
    if verify and sha256_of(path) != entry["sha256"]:
        raise FolderError(
            f"{path} was altered: its SHA-256 is not the manifest's; make the {kind} anew or copy it whole."
        )
