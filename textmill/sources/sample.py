"""The embedded samples, written for this project (CC0): sample:play, sample:posts, sample:episodes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from textmill.errors import InputError, MachineError
from textmill.settings import unknown_name
from textmill.sources import Item, Source
from textmill.sources.local import LocalSource

PACKAGE = Path(__file__).parents[1]
TERMS = "CC0 1.0"


class SampleSource(Source):
    """A folder of the samples, which lie in the installed package, or beside it in a checkout."""

    def __init__(self, address: str, *, max_bytes: int, ignore: Path | None = None) -> None:
        super().__init__(address, max_bytes=max_bytes, ignore=ignore)
        name = address.partition(":")[2].strip("/")
        samples = _samples()
        known = sorted(path.name for path in samples.iterdir() if path.is_dir())
        if name not in known:
            raise InputError(unknown_name("sample", name, known))
        self.label = f"sample:{name}"
        self._folder = LocalSource(str(samples / name), max_bytes=max_bytes)

    def items(self) -> list[Item]:
        return [dataclasses.replace(item, terms=TERMS) for item in self._folder.items()]


def _samples() -> Path:
    for folder in (PACKAGE / "samples", PACKAGE.parent / "samples"):
        if folder.is_dir():
            return folder
    raise MachineError(
        "the samples are not in this installation; install textmill from its wheel or a checkout."
    )
