"""The parts folder: what the map of normalize left of a group of a corpus's items, on its way to the reduce.

parts/manifest.json          kind "parts"; parents.corpus; details: first, items, of, rules, shards, documents
parts/units/<key>.part       a file for each item (clean.py), in their order in details.units
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textmill import manifest
from textmill.corpora.corpus import Corpus
from textmill.datasets.clean import Part
from textmill.errors import InputError
from textmill.files import new_folder

UNITS = "units"


@dataclass(frozen=True)
class PartsFolder:
    """Parts of a whole corpus, whose digest is `corpus`: (path, documents) of each item's part, in their order.

    shards: the SHA-256 of the shard that each was made of.
    """

    corpus: str
    units: list[tuple[Path, int]]
    shards: list[str]


def write_parts(folder: Path, source: Corpus, first: int, parts: Sequence[Path], rules: str) -> None:
    """Put the parts of the items from `first` on into a folder."""
    items = source.items[first : first + len(parts)]
    with new_folder(folder) as beside:
        (beside / UNITS).mkdir()
        for path in parts:
            shutil.copyfile(path, beside / UNITS / path.name)
        details = {
            "first": first,
            "of": len(source.items),
            "rules": rules,
            "items": [item["item"] for item in items],
            "units": [f"{UNITS}/{path.name}" for path in parts],
            "shards": [source.manifest.files[item["shard"]]["sha256"] for item in items],
            "documents": [Part(path).summary["rows"] for path in parts],
        }
        packages = ("ftfy", "numpy", "rensa", "zstandard")
        manifest.write(beside, "parts", parents={"corpus": source.digest}, details=details, packages=packages)


def read_parts(folders: Sequence[Path], rules: str) -> PartsFolder:
    """Open the folders of all groups of one corpus, in any order.

    Raises FolderError, and InputError when they are not of one corpus, or one is missing or there twice.
    """
    if not folders:
        raise InputError(
            "there are no parts to merge; run normalize_shards on each group of the corpus first."
        )
    opened = sorted(
        ((folder, manifest.read(folder, "parts", verify=True)) for folder in folders),
        key=lambda pair: (pair[1].details["first"], len(pair[1].details["items"])),
    )
    first_folder, first = opened[0]
    found = PartsFolder(first.parents["corpus"], [], [])
    for folder, part in opened:
        if part.parents["corpus"] != found.corpus:
            raise InputError(f"the parts {first_folder} and {folder} were made of different corpora.")
        if part.details["rules"] != rules:
            raise InputError(
                f"the parts {folder} were cleaned by the rules {part.details['rules'] or 'none'!r}, not {rules!r}; "
                "give both steps the same rules."
            )
        if part.details["first"] != len(found.units):
            what = "lack" if part.details["first"] > len(found.units) else "hold twice"
            item = min(part.details["first"], len(found.units))
            raise InputError(f"the parts {what} item {item} of the corpus; give each group once.")
        manifest.check_names(folder, part, part.details["units"])
        units = zip(part.details["units"], part.details["documents"], strict=True)
        found.units.extend((folder / name, documents) for name, documents in units)
        found.shards.extend(part.details["shards"])
    if len(found.units) != first.details["of"]:
        raise InputError(
            f"the parts hold {len(found.units)} of the corpus's {first.details['of']} items; give each group once."
        )
    return found
