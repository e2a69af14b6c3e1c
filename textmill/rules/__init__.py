"""The rule sets: a rule is one file with a `RULE`, and one row here. Rules run in the order the user names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textmill.errors import SettingsError
from textmill.rules import script_markup, unicode_repair, whitespace
from textmill.rules.base import Outcome, Rule
from textmill.settings import unknown_name

__all__ = ["RENDERERS", "RULES", "Outcome", "Rule", "find_rules", "render"]

RULES: dict[str, Rule] = {
    rule.name: rule for rule in (script_markup.RULE, unicode_repair.RULE, whitespace.RULE)
}

RENDERERS: dict[str, Callable[[str], str]] = {"script": script_markup.to_script}


def find_rules(names: Iterable[str]) -> list[Rule]:
    """The rules of these names, in this order. Raises SettingsError for a name that does not exist."""
    names = list(names)
    for name in names:
        if name not in RULES:
            raise SettingsError(unknown_name("rule", name, RULES))
        if names.count(name) > 1:
            raise SettingsError(f"rule {name!r} is named twice; name each rule once.")
    return [RULES[name] for name in names]


def render(name: str, text: str) -> str:
    """`text`, as a rule left it, made fit for reading. `name`: a rule's or dataset's `render` ("": as it is)."""
    return RENDERERS[name](text) if name else text
