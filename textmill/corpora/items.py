"""A corpus's items (its files) taken apart: one corpus becomes one for each query, author or series.

The shards keep their bytes, so what an item's corpus holds depends on that item alone, and its folder is named by it:
a change of one item leaves the folders of the others, and the work on them, as they are. Knows nothing of what the
texts are.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from textmill import manifest
from textmill.corpora.corpus import SHARDS, Corpus, read_corpus
from textmill.errors import InputError
from textmill.files import new_folder
from textmill.settings import Settings, setting

log = logging.getLogger("textmill.items")

LONGEST_LABEL = 160  # bytes; file systems take 255 for a folder's name


@dataclass(frozen=True)
class ListSettings(Settings):
    """Which items of a corpus go on."""

    items: str = setting("", "Items (files) of the corpus: names or globs, with commas between (empty: all).")
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


def take_apart(corpus: Path, parts: Path, settings: ListSettings | None = None) -> list[str]:
    """Make the folder `parts` anew, with a corpus of each item in it; return their folders, in the items' order.

    A folder is <digest of the item's name, texts and terms>/<label of its name>, relative to `parts`: the same item has
    the same one in every run. Raises what `list_items` raises, and FolderError for a damaged corpus.
    """
    corpus, parts = Path(corpus), Path(parts)
    wanted = set(list_items(corpus, settings))
    source = read_corpus(corpus, verify=True)
    entries = [entry for entry in source.items if entry["item"] in wanted]
    with new_folder(parts) as folder:
        made = [_part(source, entry, folder) for entry in entries]
    log.info("%d corpora, %d characters", len(made), sum(entry["characters"] for entry in entries))
    return made


def name_of(address: str) -> str:
    """The name of the item whose corpus lies at an address (or in a folder) that ends as `take_apart` calls it."""
    return unquote(address.rstrip("/").rpartition("/")[2].replace("~", "%"))


def _part(source: Corpus, entry: dict[str, Any], folder: Path) -> str:
    """Write the corpus of one item; return its folder, relative to `folder`."""
    shard = entry["shard"]
    files = {shard: source.manifest.files[shard]}
    known = [entry["item"], files[shard]["sha256"], entry.get("terms", "")]
    digest = hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]
    name = f"{digest}/{_label(entry['item'])}"
    (folder / name / SHARDS).mkdir(parents=True)
    shutil.copyfile(source.folder / shard, folder / name / shard)
    details = source.manifest.details | {
        "items": [entry],
        "skipped": [report for report in source.skipped if report["item"] == entry["item"]],
    }
    manifest.write(
        folder / name,
        "corpus",
        settings=source.manifest.settings,
        parents={"corpus": source.digest},
        details=details,
        files=files,
        known=files,
        packages=("zstandard",),
    )
    return name


def _label(item: str) -> str:
    """A name as the last part of an address. Without `%`, which one program decodes and the next one does not."""
    while len(label := quote(item, safe="@,=+").replace("~", "%7E").replace("%", "~")) > LONGEST_LABEL:
        item = item[:-1]
    return "~2E" + label[1:] if label.startswith(".") else label


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
