"""What earlier ingests left in a corpus folder for the next one: the old corpus, and the journal of a stopped run."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.corpora.corpus import SHARDS, WORK
from textmill.errors import FolderError, InputError
from textmill.files import sha256_of, writing_failed

log = logging.getLogger("textmill.ingest")

JOURNAL = ".ingest.jsonl"


@dataclass(frozen=True)
class Kept:
    """One item whose shard is there: its entry in the manifest, what was reported of it, its shard's size and hash."""

    entry: dict[str, Any]
    reports: list[dict[str, Any]]
    file: dict[str, Any]


@dataclass(frozen=True)
class Previous:
    """The corpus that stands in the folder. Empty when there is none."""

    settings: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Kept] = field(default_factory=dict)
    archives: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    reader: int = 0


def read_previous(corpus: Path) -> Previous:
    """The corpus in the folder; a damaged one counts as none. Raises InputError when something else is there."""
    if not corpus.exists():
        return Previous()
    try:
        found = manifest.read(corpus, "corpus")
    except FolderError as error:
        if not corpus.is_dir() or not _is_ours(corpus):
            raise
        if (corpus / manifest.NAME).exists():
            log.warning("%s Everything is read again.", error)
        return Previous()
    skipped = found.details.get("skipped", [])
    reports: dict[str, list[dict[str, Any]]] = {}
    for report in skipped:
        reports.setdefault(report["item"], []).append(report)
    items = {
        entry["item"]: Kept(entry, reports.get(entry["item"], []), found.files[entry["shard"]])
        for entry in found.details["items"]
    }
    archives = {entry["item"]: entry for entry in found.details.get("archives", [])}
    return Previous(found.settings, items, archives, skipped, found.details.get("reader", 0))


def _is_ours(corpus: Path) -> bool:
    """True for a damaged corpus, one whose first ingest was stopped, and an empty folder."""
    try:
        value = json.loads((corpus / manifest.NAME).read_bytes())
        return value["format"] == "textmill/corpus" and value["version"] <= manifest.VERSION
    except (ValueError, KeyError, TypeError):
        return False
    except FileNotFoundError:
        names = [path.name for path in corpus.iterdir()]
        others = sorted(name for name in names if name not in (SHARDS, WORK) and name[0] != ".")
        if others:
            raise InputError(
                f"{corpus} is not empty and not a corpus (it holds {others[0]}); choose another folder."
            ) from None
        return True


class Journal:
    """A line for each item that a run has read, so that a stopped one can go on. Gone when the run is complete."""

    def __init__(self, corpus: Path, reading: dict[str, Any]) -> None:
        """`reading` is what shards depend on besides the bytes; lines written under another one do not count."""
        self._path, self._reading = corpus / JOURNAL, reading
        self.done: dict[str, Kept] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                self._recall(corpus, line)

    def _recall(self, corpus: Path, line: bytes) -> None:
        with contextlib.suppress(
            ValueError, KeyError, TypeError, OSError
        ):  # a line cut by the stop, a lost shard
            value = json.loads(line)
            kept = Kept(value["entry"], value["reports"], value["file"])
            if (
                value["reading"] == self._reading
                and sha256_of(corpus / kept.entry["shard"]) == kept.file["sha256"]
            ):
                self.done[kept.entry["item"]] = kept

    def add(self, kept: Kept) -> None:
        """Remember an item whose shard is complete."""
        line = {"reading": self._reading, "entry": kept.entry, "reports": kept.reports, "file": kept.file}
        try:
            with open(self._path, "ab") as journal:
                journal.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise writing_failed(self._path, error) from error

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
