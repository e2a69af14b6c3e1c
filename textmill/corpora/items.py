"""A corpus's items (its files), listed and taken apart: one corpus becomes one for each query, author or series.

The shards of the items that are taken keep their bytes, so what an item's corpus holds depends on that item alone: a
change of one item leaves the work on the others as it is. Knows nothing of what the texts are.
"""

from __future__ import annotations

import fnmatch
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.corpora.corpus import SHARDS, Corpus, read_corpus
from textmill.errors import InputError
from textmill.files import new_folder
from textmill.settings import Settings, setting

log = logging.getLogger("textmill.items")


@dataclass(frozen=True)
class ItemsSettings(Settings):
    """Which items of a corpus."""

    items: str = setting("", "Items (files) of the corpus: names or globs, with commas between (empty: all).")


@dataclass(frozen=True)
class ListSettings(ItemsSettings):
    """Which items of a corpus go on."""

    minimum_characters: int = setting(1, "Leave out items with fewer characters of text.", minimum=1)


def list_items(corpus: Path, settings: ListSettings | None = None) -> list[str]:
    """The names of a corpus's items, in order; those with too little text are left out, and said.

    Raises InputError for a name or glob that matches none, and when no item has enough text.
    """
    settings = settings or ListSettings()
    source = read_corpus(Path(corpus))
    least = settings.minimum_characters
    sizes = {entry["item"]: entry["characters"] for entry in source.items}
    chosen = _chosen(source, settings.items)
    enough = [name for name in chosen if sizes[name] >= least]
    for name in chosen:
        if sizes[name] < least:
            log.warning("%s is left out: it has %d characters, fewer than %d", name, sizes[name], least)
    if not enough:
        most = max(chosen, key=lambda name: sizes[name])
        raise InputError(
            f"no item of {corpus} has {least:,} characters; {most!r} has the most, {sizes[most]:,}. Collect more, or "
            "lower 'minimum_characters'."
        )
    return enough


def take_items(corpus: Path, taken: Path, settings: ItemsSettings | None = None) -> dict[str, Any]:
    """Make a corpus folder `taken` of some items of another; return its figures: items, documents, characters.

    Raises InputError for a name or glob that matches no item.
    """
    settings, taken = settings or ItemsSettings(), Path(taken)
    source = read_corpus(Path(corpus), verify=True)
    if taken.exists():
        manifest.read(taken, "corpus")  # nothing else is replaced
    chosen = set(_chosen(source, settings.items))
    entries = [item for item in source.items if item["item"] in chosen]
    shards = {entry["shard"]: source.manifest.files[entry["shard"]] for entry in entries}
    with new_folder(taken) as folder:
        (folder / SHARDS).mkdir()
        for shard in shards:
            shutil.copyfile(source.folder / shard, folder / shard)
        details = source.manifest.details | {
            "items": entries,
            "skipped": [report for report in source.skipped if report["item"] in chosen],
        }
        manifest.write(
            folder,
            "corpus",
            settings=settings.as_dict(),
            parents={"corpus": source.digest},
            details=details,
            files=shards,
            known=shards,
            packages=("zstandard",),
        )
    figures = {name: sum(entry[name] for entry in entries) for name in ("documents", "characters")}
    log.info("%s: %d documents, %d characters", ", ".join(sorted(chosen)), *figures.values())
    return {"items": len(entries), **figures}


def _chosen(corpus: Corpus, wanted: str) -> list[str]:
    """Names of the wanted items, in the corpus's order. An item's whole name is that item, whatever stands in it."""
    names = [item["item"] for item in corpus.items]
    if not wanted.strip() or wanted in names:
        return [wanted] if wanted in names else names
    found: set[str] = set()
    for pattern in filter(None, (part.strip() for part in wanted.split(","))):
        matching = {name for name in names if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not matching:
            shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            raise InputError(f"no item of the corpus {corpus.folder} is named {pattern!r}; it has {shown}.")
        found |= matching
    return [name for name in names if name in found]
