"""docs/rules.md and docs/dumps_and_posts.md say what is there: every rule, format, setting and default."""

from __future__ import annotations

import re
from pathlib import Path

from textmill.rules import RULES, find_rules
from textmill.rules.episode_cleanup import STEPS
from textmill.sources.dumps import FORMATS
from textmill.sources.social import SocialSettings
from textmill.sources.x import XSettings

DOCS = Path(__file__).parent.parent / "docs"
RULES_TEXT = (DOCS / "rules.md").read_text(encoding="utf-8")
SOURCES_TEXT = (DOCS / "dumps_and_posts.md").read_text(encoding="utf-8")


def rows(text: str, head: str) -> dict[str, list[str]]:
    """The table whose first column is headed so: name -> its other cells."""
    table = text[text.index(f"| {head} |") :].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_rule_stands_in_the_table_with_its_parameters_and_defaults() -> None:
    table = rows(RULES_TEXT, "rule")
    assert set(table) == set(RULES) - {step.name for step in STEPS}
    for name, (_, parameters) in table.items():
        kind = RULES[name].parameters
        if name != "episode_cleanup":
            said = dict(re.findall(r"`(\w+)` ([^,]+)", parameters))
            defaults = kind().as_dict() if kind else {}
            assert said == {k: {True: "yes", False: "no"}.get(v, str(v)) for k, v in defaults.items()}, name


def test_every_step_stands_in_its_table_and_the_ones_that_are_off_say_so() -> None:
    table = rows(RULES_TEXT, "step")
    assert list(table) == [step.name for step in STEPS]
    kind = RULES["episode_cleanup"].parameters
    assert kind is not None
    assert {name for name, (text,) in table.items() if "(off)" in text} == {
        k for k, on in kind().as_dict().items() if not on
    }


def test_the_example_of_rules_is_accepted() -> None:
    (example,) = re.findall(r'^    rules: "(.+)"$', RULES_TEXT, re.MULTILINE)
    assert len(find_rules(example)) == 5


def test_every_format_stands_in_its_table_with_its_files_and_extra() -> None:
    table = rows(SOURCES_TEXT, "format")
    assert set(table) == set(FORMATS)
    for name, (files, _, needs) in table.items():
        form = FORMATS[name]
        assert needs == (f"`textmill[{form.extra}]`" if form.packages else "")
        assert all(
            glob.strip("*").partition("-")[0] in files for glob in form.names.split() if glob != "tweet.js"
        ), name


def test_every_setting_of_posts_stands_in_its_table_with_its_default() -> None:
    table = rows(SOURCES_TEXT, "setting")
    own = set(XSettings.kinds()) - set(SocialSettings.__mro__[1].kinds()) | {"max_wait"}  # type: ignore[attr-defined]
    assert set(table) == own
    defaults = XSettings().as_dict()
    for name, (default, _) in table.items():
        assert default in ("", "the usual one", str(defaults[name]).lower().removesuffix(".0")), name


def test_the_keys_places_are_those_that_the_sources_name() -> None:
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", SOURCES_TEXT))
    code = "".join(
        (DOCS.parent / "textmill" / "sources" / f"{name}.py").read_text()
        for name in ("mastodon", "bluesky", "x")
    )
    assert named == set(re.findall(r'"([A-Z]+_[A-Z_]+)"', code))
