"""The folder that holds a tokenizer: `tokenizer.json` with its name, and whatever files the tokenizer adds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from textmill.errors import FolderError
from textmill.files import sha256_of


def read_details(folder: Path, file: str = "tokenizer.json") -> dict[str, Any]:
    """A JSON object among the tokenizer's files. Raises FolderError if it is missing or is not one."""
    path = Path(folder) / file
    try:
        details = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FolderError(f"{folder} holds no tokenizer: {file} is missing.") from None
    except (ValueError, OSError):
        raise FolderError(f"{path} cannot be read as a tokenizer's file; make the folder anew.") from None
    if not isinstance(details, dict):
        raise FolderError(f"{path} cannot be read as a tokenizer's file; make the folder anew.")
    return details


def digest(folder: Path) -> str:
    """SHA-256 over the tokenizer's files: the sorted lines "<sha256>  <path>", as in a manifest."""
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file() and not p.name.startswith("."))
    lines = (f"{sha256_of(p)}  {p.relative_to(folder).as_posix()}\n" for p in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
