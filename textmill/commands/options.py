"""Settings as options of a command: one option for each setting, `--config FILE`, and NAME=VALUE pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from textmill.errors import InputError
from textmill.settings import Settings

Folder = click.Path(path_type=Path)


def settings_options(
    cls: type[Settings], section: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add one option for each setting, and --config FILE; the command gets them merged as `settings`.

    An argument wins over the environment (TEXTMILL_<SECTION>_<NAME>), which wins over the file, then the default.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def wrapped(config: Path | None, assignments: tuple[str, ...] = (), **values: Any) -> None:
            given = {name: values.pop(name) for name in cls.kinds() if name in values}
            given = {name: value for name, value in given.items() if value is not None}
            if assignments:
                given["overrides"] = _assignments(assignments)
            command(settings=cls.resolve(given, file=config, section=section), **values)

        wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
        wrapped.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        for field in reversed(dataclasses.fields(cls)):
            wrapped = _option(cls, field)(wrapped)
        note = f"YAML file with these settings below the key {section}."
        return click.option("--config", type=Folder, help=note)(wrapped)

    return decorate


def _option(
    cls: type[Settings], field: dataclasses.Field[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag = f"--{field.name.replace('_', '-')}"
    help = field.metadata["help"]
    if field.name == "overrides":
        return click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help=help)
    default = getattr(cls(), field.name)
    if isinstance(default, bool):
        return click.option(
            f"{flag}/--no-{flag[2:]}", field.name, default=None, help=f"{help}  [{_word(default)}]"
        )
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    metavar = (
        "|".join(field.metadata["choices"])
        if field.metadata["choices"]
        else (str if default is None else type(default)).__name__.upper()
    )
    note = f"  [{shown}]" if shown not in ("", None) else ""
    return click.option(flag, field.name, default=None, metavar=metavar, help=help + note)


def _word(value: bool) -> str:
    return "yes" if value else "no"


def _assignments(pairs: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs, values read as YAML."""
    import yaml

    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"{pair!r} is not of the form NAME=VALUE.")
        try:
            values[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"the value of {pair!r} is not valid YAML.") from error
    return values


def named_values(pairs: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE pairs, values as they stand: the pipeline's file knows their types."""
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise InputError(f"{pair!r} is not of the form NAME=VALUE.")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
