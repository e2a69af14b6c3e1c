"""The rule sets: a rule is one file with a `RULE`, and one row here (or an entry point of another package). Rules run
in the order the user names them.

Parameters stand behind a name in parentheses, with commas between: `language(en de, minimum=0.8), min_length(200)`.
The first needs no name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from textmill import extensions
from textmill.errors import SettingsError
from textmill.postprocess import in_sentences
from textmill.rules import (
    boilerplate,
    episode_cleanup,
    language,
    length,
    mask_personal,
    script_markup,
    tweet_cleanup,
    unicode_repair,
    whitespace,
)
from textmill.rules.base import Outcome, Rule, Survey
from textmill.settings import unknown_name

__all__ = [
    "RENDERERS",
    "RULES",
    "Outcome",
    "Rule",
    "Survey",
    "find_rules",
    "render",
    "split_names",
    "surveyed",
]

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        boilerplate.RULE,
        episode_cleanup.RULE,
        *episode_cleanup.STEPS,
        language.RULE,
        length.MIN_LENGTH,
        length.MAX_LENGTH,
        mask_personal.RULE,
        script_markup.RULE,
        tweet_cleanup.RULE,
        unicode_repair.RULE,
        whitespace.RULE,
    )
}

RENDERERS: dict[str, Callable[[str], str]] = {
    "script": script_markup.to_script,
    "sentences": in_sentences,
}

_CALL = re.compile(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*\Z", re.DOTALL)


def split_names(value: str) -> list[str]:
    """The rules in a text with commas between them; commas in parentheses belong to a rule's parameters."""
    parts, depth, start = [], 0, 0
    for position, sign in enumerate(value):
        depth = max(0, depth + {"(": 1, ")": -1}.get(sign, 0))
        if sign == "," and depth == 0:
            parts.append(value[start:position])
            start = position + 1
    parts.append(value[start:])
    return [part.strip() for part in parts if part.strip()]


def find_rules(names: str | Iterable[str]) -> list[Rule]:
    """The rules of these names, in this order, each with its parameters.

    Raises SettingsError for a name or parameter that does not exist and for a value that is not accepted.
    """
    names = split_names(names) if isinstance(names, str) else list(names)
    rules: list[Rule] = []
    seen: set[str] = set()
    for written in names:
        call = _CALL.match(written)
        if call is None:
            raise SettingsError(f"rule {written!r} is not of the form name or name(value, name=value).")
        name, arguments = call[1], call[2]
        rule = extensions.look_up(RULES, "rules", name, Rule)
        if rule is None:
            raise SettingsError(unknown_name("rule", name, extensions.known(RULES, "rules")))
        if name in seen:
            raise SettingsError(f"rule {name!r} is named twice; name each rule once.")
        seen.add(name)
        rules.append(rule if arguments is None else _given(rule, arguments))
    return rules


def _given(rule: Rule, arguments: str) -> Rule:
    """The rule with the parameters written in its parentheses."""
    if rule.parameters is None:
        raise SettingsError(f"rule {rule.name!r} has no parameters; write it without parentheses.")
    kinds = list(rule.parameters.kinds())
    values: dict[str, str] = {}
    for position, part in enumerate(part.strip() for part in arguments.split(",")):
        key, equals, value = part.partition("=")
        if not part or (equals and not key.strip()):
            raise SettingsError(f"rule {rule.name!r} has an empty parameter in ({arguments}).")
        if not equals:
            if position:
                raise SettingsError(
                    f"rule {rule.name!r}: only the first parameter goes without a name; {part!r} is none of "
                    f"{', '.join(f'{name}=…' for name in kinds)}."
                )
            key, value = kinds[0], part
        key = key.strip()
        if key in values:
            raise SettingsError(f"rule {rule.name!r} is given {key!r} twice.")
        values[key] = value.strip()
    parameters = rule.parameters.from_dict(values, where=f"rule {rule.name}")
    shown = ", ".join(f"{key}={value}" for key, value in values.items())
    return rule.given(f"{rule.name}({shown})", parameters)


def surveyed(rules: Iterable[Rule], documents: Callable[[], Iterable[str]]) -> list[Rule]:
    """The rules, those that need to see the corpus first with what they learnt from it.

    `documents` gives all texts of the corpus in their order, once for each such rule; it is not called without one.
    """
    ready: list[Rule] = []
    for rule in rules:
        if rule.survey is not None:
            survey = rule.survey()
            for text in documents():
                for earlier in ready:
                    outcome = earlier.apply(text)
                    text = "" if outcome.drop else outcome.text
                if text:
                    survey.add(text)
            rule = replace(rule, apply=survey.learnt())
        ready.append(rule)
    return ready


def render(name: str, text: str) -> str:
    """`text`, as a rule left it, made fit for reading. `name`: a rule's or dataset's `render` ("": as it is)."""
    return RENDERERS[name](text) if name else text
