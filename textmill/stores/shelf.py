"""Folders that several runs of a pipeline share, kept by their content, beside what KFP keeps of each run.

KFP takes a task's result from an earlier run when its inputs are the same: of a parameter the text, of an artifact the
one that it knows by its address. What a task makes lies at another address in each run, so whatever comes after a task
that ran is done anew. A folder that is named by its content and kept below

    <pipeline root>/<pipeline>/shelf/<name>/…

has the same address in every run, and with `dsl.importer` it is the same artifact. KFP's launcher writes nowhere but
into its own run's place, so this is written by ourselves, with the store's credentials from the environment. Without
them the folders stay with the run: all goes on as ever, and the next run works on all of them anew.

Knows nothing of what is in the folders, but that manifest.json is written last.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from textmill import manifest
from textmill.errors import TextmillError
from textmill.files import write_json
from textmill.stores import Store, open_store

log = logging.getLogger("textmill.shelf")

INDEX = "folders.json"  # name -> address, in the task's own output
IN_A_RUN = 4  # last parts of an output's URI: run, task, a name for this turn of it, output


def keep(folder: Path, uri: str, names: Sequence[str]) -> list[str]:
    """Keep the folders `names` (posix, below `folder`) where every run finds them; return an address for each.

    `uri` is where KFP takes `folder` itself to: the addresses on one machine, and in a pod that may not write to the
    store, lie below it. What was kept elsewhere is removed from `folder`.
    """
    folder, shared = Path(folder), shelf_of(uri)
    if shared and _kept(folder, shared, names):
        uri = shared
        for name in names:
            shutil.rmtree(folder / name.partition("/")[0], ignore_errors=True)
    addresses = [_below(uri, name) for name in names]
    write_json(folder / INDEX, dict(zip(names, addresses, strict=True)))
    return addresses


def shelf_of(uri: str) -> str:
    """The shelf of the pipeline whose run has an output at `uri`; "" where that is no address that KFP made."""
    base, mark, query = uri.partition("?")
    scheme, found, path = base.partition("://")
    parts = path.split("/")
    if not found or len(parts) <= IN_A_RUN:
        return ""
    return f"{scheme}://{'/'.join(parts[:-IN_A_RUN])}/shelf{mark}{query}"


def _kept(folder: Path, shared: str, names: Sequence[str]) -> bool:
    try:
        store = open_store(shared)
        added = sum(_put(store, folder, name) for name in names)
    except TextmillError as error:
        log.warning("nothing is shared with other runs, the next one works on every item anew: %s", error)
        return False
    log.info("%s: %d new, %d were there", store.label, added, len(names) - added)
    return True


def _put(store: Store, folder: Path, name: str) -> bool:
    """Copy a folder to the store unless it is there, whole; say whether it was copied."""
    there = dict(store.list(f"{name}/"))
    files = {
        path.relative_to(folder).as_posix(): path for path in (folder / name).rglob("*") if path.is_file()
    }
    last = f"{name}/{manifest.NAME}"
    if last in there and all(
        there.get(key) == path.stat().st_size for key, path in files.items() if key != last
    ):
        return False
    for key in sorted(files, key=lambda key: (key == last, key)):
        store.write(key, files[key])
    return True


def _below(uri: str, name: str) -> str:
    base, mark, query = uri.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"
