"""Settings as frozen dataclasses: what each stage can be told, checked before the first slow act.

Knows names, types, ranges and where a value came from (argument > environment > file > default).
Knows nothing of what the settings mean.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import reprlib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from textmill.errors import SettingsError

_SHORT = reprlib.Repr()  # of a value in a message: a few lines of YAML can stand for gigabytes
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 8, 8
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field with a help line and bounds (both inclusive)."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base class. Subclasses are frozen dataclasses whose fields are made by `setting`."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Checked settings from keyword arguments.

        A whole float where an int is wanted is cast (kfp hands over every number in a dict as float); a text is
        parsed as YAML where another type is wanted. Raises SettingsError naming the setting, its value and what is
        accepted.
        """
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Like `of`; `where` (a file, the environment) is named in errors."""
        kinds = cls.kinds()
        checked = {}
        for name, value in values.items():
            if name not in kinds:
                raise SettingsError(unknown_name("setting", name, kinds, where))
            checked[name] = _check(cls, name, kinds[name], value, where)
        made = cls(**checked)
        made.check()
        return made

    @classmethod
    def resolve(
        cls,
        arguments: Mapping[str, Any],
        *,
        file: Path | None = None,
        section: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Merge argument > environment (TEXTMILL_<SECTION>_<NAME>) > YAML file (its `section`) > default."""
        values: dict[str, Any] = {}
        if file is not None:
            values.update(cls.from_dict(_read_file(file, section), where=str(file)).changed())
        environ = os.environ if environ is None else environ
        prefix = f"TEXTMILL_{section.upper()}_" if section else "TEXTMILL_"
        for name in cls.kinds():
            key = prefix + name.upper()
            if key in environ:
                values[name] = _check(
                    cls, name, cls.kinds()[name], environ[key], f"environment variable {key}"
                )
        values.update(arguments)
        return cls.from_dict(values)

    def check(self) -> None:
        """Checks between fields; subclasses raise SettingsError."""

    def replace(self, **values: Any) -> Self:
        """A copy with these values, checked."""
        return type(self).from_dict({**self.as_dict(), **values})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def changed(self) -> dict[str, Any]:
        """Only the values that differ from the defaults."""
        default = {f.name: _default(f) for f in dataclasses.fields(self)}
        return {k: v for k, v in self.as_dict().items() if v != default[k]}

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """Field name -> annotated type, in order."""
        hints = typing.get_type_hints(cls)
        return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def unknown_name(what: str, name: str, known: typing.Iterable[str], where: str = "") -> str:
    """The line for a name that is not there: what came, what is near, what exists."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    place = f" in {where}" if where else ""
    return f"unknown {what} {name!r}{place}.{hint} Known: {', '.join(known)}."


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _check(cls: type, name: str, kind: Any, value: Any, where: str) -> Any:
    field = next(f for f in dataclasses.fields(cls) if f.name == name)
    place = f" ({where})" if where else ""
    wanted = " or ".join(k.__name__ for k in _alternatives(kind))
    try:
        value = _cast(kind, value)
    except (TypeError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise SettingsError(
            f"setting {name!r}{place} is {_SHORT.repr(value)}, which is not of type {wanted}."
        ) from error
    minimum, maximum, choices = (field.metadata.get(k) for k in ("minimum", "maximum", "choices"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value != value:
            raise SettingsError(f"setting {name!r}{place} is not a number.")
        if minimum is not None and value < minimum:
            raise SettingsError(f"setting {name!r}{place} is {value}; it must be at least {minimum}.")
        if maximum is not None and value > maximum:
            raise SettingsError(f"setting {name!r}{place} is {value}; it must be at most {maximum}.")
    if choices is not None and value not in choices:
        raise SettingsError(
            f"setting {name!r}{place} is {_SHORT.repr(value)}; choose one of: {', '.join(map(str, choices))}."
        )
    return value


def _alternatives(kind: Any) -> list[type]:
    members = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return [typing.get_origin(k) or k for k in members if k is not type(None)]


def _cast(kind: Any, value: Any) -> Any:
    if value is None and isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind):
        return None
    given = value
    for plain in _alternatives(kind):
        if isinstance(value, str) and plain is not str:
            value = yaml.safe_load(value)
        if plain is bool:
            if isinstance(value, bool):
                return value
            raise TypeError
        if plain is int and not isinstance(value, bool):
            if isinstance(value, float) and not value.is_integer():
                raise TypeError
            if isinstance(value, int | float):
                return int(value)
        if plain is float and not isinstance(value, bool) and isinstance(value, int | float | str):
            return float(value)  # YAML reads 1e-3 as text
        if plain is list and isinstance(value, list | tuple):
            return list(value)
        if plain is list and isinstance(given, str) and isinstance(value, str | int | float):
            return [given]  # one entry, as it stands
        if plain in (str, dict) and isinstance(value, plain):
            return value
    raise TypeError


def _read_file(file: Path, section: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{file} is not valid YAML: {str(error).splitlines()[0]}.") from error
    if section:
        values = values.get(section, {}) if isinstance(values, dict) else values
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold a mapping of settings, not {type(values).__name__}.")
    return values
