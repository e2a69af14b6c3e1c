"""A store in this process, for tests and trials: memory://name/prefix. It is gone with the process."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

from textmill.stores import CHUNK, Changed, Found, Missing, Store, label_of, safe_name

_objects: dict[str, tuple[bytes, str]] = {}  # of all memory stores: whole name -> bytes, version
_lock = threading.Lock()
_versions = itertools.count(1)


class MemoryStore(Store):
    """memory://…: every store with the same URI holds the same objects."""

    def __init__(self, uri: str) -> None:
        self.label = label_of(uri)

    def read(self, name: str) -> Found:
        with _lock:
            found = _objects.get(self._name(name))
        if found is None:
            raise Missing(name)
        data, version = found
        return Found(len(data), version, (data[i : i + CHUNK] for i in range(0, len(data), CHUNK)))

    def write(self, name: str, data: bytes | Path) -> None:
        whole = data.read_bytes() if isinstance(data, Path) else data
        with _lock:
            _objects[self._name(name)] = (whole, str(next(_versions)))

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        with _lock:
            start = f"{self.label}/"
            found = sorted((k[len(start) :], len(v[0])) for k, v in _objects.items() if k.startswith(start))
        yield from (pair for pair in found if pair[0].startswith(prefix))

    def delete(self, name: str) -> None:
        with _lock:
            _objects.pop(self._name(name), None)

    def write_if_unchanged(self, name: str, data: bytes, version: str) -> str:
        with _lock:
            if _objects.get(self._name(name), (b"", ""))[1] != version:
                raise Changed(name)
            new = str(next(_versions))
            _objects[self._name(name)] = (data, new)
            return new

    def _name(self, name: str) -> str:
        return f"{self.label}/{safe_name(name)}"
