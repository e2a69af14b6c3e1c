"""The object store: can a small object be written, read, replaced only if unchanged, and removed?"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from textmill.doctor.finding import NOTE, OK, WRONG, Finding
from textmill.errors import TextmillError
from textmill.stores import Changed, Store, label_of, open_store

WHAT = "object store"


def examine(uri: str) -> Iterator[Finding]:
    """One finding; a note where no folder of a store is named."""
    if not uri:
        yield Finding(WHAT, NOTE, "none is named.", "give --store s3://bucket/folder to try one")
        return
    label = label_of(uri)
    try:
        store = open_store(uri)
        missing = _trouble(store)
    except TextmillError as error:
        yield Finding(WHAT, WRONG, str(error))
        return
    if missing:
        yield Finding(WHAT, WRONG, f"{label} {missing}: checkpoints cannot be published there safely.")
    else:
        yield Finding(WHAT, OK, f"{label} can be written, read, and swapped only if unchanged.")


def _trouble(store: Store) -> str:
    """What the store does wrong with an object of ours; "" where all is well."""
    name, first, second = f"textmill-doctor-{secrets.token_hex(8)}", b"first", b"second"
    try:
        version = store.write_if_unchanged(name, first, "")
        if b"".join(store.read(name).chunks) != first:
            return "gives back other bytes than were written"
        if name not in {found for found, _ in store.list(name)}:
            return "does not list what was written"
        store.write_if_unchanged(name, second, version)
        for stale in (version, ""):
            try:
                store.write_if_unchanged(name, first, stale)
            except Changed:
                continue
            return "replaces an object that was changed meanwhile (no conditional writes)"
    finally:
        with contextlib.suppress(TextmillError):
            store.delete(name)
    return ""
