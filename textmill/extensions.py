"""Rows that other installed packages add to the tables SOURCES, RULES, MODELS and STORES.

A package names its row as an entry point of the group `textmill.sources`, `textmill.rules`, `textmill.models` or
`textmill.stores`, under the name that users write. It is imported when that name is asked for and no row of our own
has it: so it can take no row's place, and costs nothing until it is used. docs/extending.md shows one of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from textmill.errors import MachineError

Row = TypeVar("Row")


def look_up(table: dict[str, Row], group: str, name: str, kind: type[Row]) -> Row | None:
    """The table's row of this name, or that of an installed package, which is then put into the table; None: neither.

    Raises MachineError for a package whose row cannot be imported or is no `kind`.
    """
    if name in table:
        return table[name]
    for point in _points(group):
        if point.name == name:
            table[name] = _load(point, kind)
            return table[name]
    return None


def known(table: Iterable[str], group: str) -> list[str]:
    """All names, for a message: the table's, then those of installed packages."""
    own = list(table)
    return own + sorted({point.name for point in _points(group)} - set(own))


def _points(group: str) -> Iterable[EntryPoint]:
    return entry_points(group=f"textmill.{group}")


def _load(point: EntryPoint, kind: type[Row]) -> Row:
    package = point.dist.name if point.dist else point.module
    what = f"{point.group} {point.name!r} of the package {package}"
    try:
        row = point.load()
    except Exception as error:  # another's code: whatever it raises
        said = " ".join(str(error).split())
        raise MachineError(
            f"{what} ({point.value}) cannot be loaded: {type(error).__name__}: {said[:200]}."
        ) from error
    if not isinstance(row, kind):
        raise MachineError(
            f"{what} ({point.value}) is of type {type(row).__name__}; it must be a {kind.__module__}.{kind.__name__}."
        )
    return row
