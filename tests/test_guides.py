"""The guides say what is there: each option of ours that docs/coming_from_*.md and docs/recipes.md name exists, each
recipe has its part, and the Python shown runs."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from tests import generating
from textmill.cli import main
from textmill.models import MODELS
from textmill.pipeline_file import read_pipeline
from textmill.rules import RULES
from textmill.tokenizers import TOKENIZERS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RECIPES = {
    path.stem: read_pipeline(path) for path in sorted((ROOT / "pipelines" / "compiled").glob("*.yaml"))
}
RECIPES_TEXT = (DOCS / "recipes.md").read_text(encoding="utf-8")
GUIDES = [
    *sorted(DOCS.glob("coming_from_*.md")),
    DOCS / "recipes.md",
    DOCS / "flow.md",
    DOCS / "extending.md",
]


def verbs(group: click.Group = main, before: str = "") -> dict[str, click.Command]:
    """All verbs, those of a group as "models pull"."""
    found = {}
    for name, command in group.commands.items():
        found[f"{before}{name}"] = command
        if isinstance(command, click.Group):
            found |= verbs(command, f"{before}{name} ")
    return found


VERBS = verbs()
OPTIONS = {
    option for command in VERBS.values() for p in command.params for option in (*p.opts, *p.secondary_opts)
}
SETTABLE = {
    name
    for family in MODELS.values()
    for kind in (family.config_class, family.schedule_class)
    for name in kind.kinds()
}
PARAMETERS = {name for recipe in RECIPES.values() for name in recipe.parameters}


def commands(text: str) -> list[str]:
    """The commands of a guide: its indented lines and its `textmill …` in code."""
    shown = re.findall(r"^    (textmill .*?)(?:  +#.*)?$", text, flags=re.MULTILINE)
    return shown + [" ".join(each.split()) for each in re.findall(r"`(textmill [^`]+)`", text)]


def ours(text: str) -> list[str]:
    """What stands in code in the second column of its tables."""
    rows = [
        re.split(r"(?<!\\)\|", line)
        for line in text.splitlines()
        if line.startswith("| ") and "---" not in line
    ]
    return list(itertools.chain(*(re.findall(r"`([^`]+)`", row[2]) for row in rows)))


def check(spoken: str, options: set[str] = OPTIONS) -> None:
    """Every option in a piece of a command line exists, and what is set by it."""
    for option in re.findall(r"(?<!\S)--?[a-z][\w-]*", spoken):
        assert option in options, f"{spoken}: there is no {option}"
    for name in re.findall(r"--set (\w+)=", spoken):
        assert name in SETTABLE, f"{spoken}: no model has {name}"
    for name in re.findall(r"--param \"?(\w+)=", spoken):
        assert name in PARAMETERS, f"{spoken}: no recipe has {name}"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_commands_have_their_verbs_options_and_values(guide: Path) -> None:
    found = commands(guide.read_text(encoding="utf-8"))
    assert found
    for spoken in found:
        words = [word for word in shlex.split(spoken)[1:] if word != "…"]
        name = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
        assert name in VERBS, f"{spoken}: there is no textmill {name}"
        check(spoken, {o for p in VERBS[name].params for o in (*p.opts, *p.secondary_opts)})
        for option, value in itertools.pairwise(words):
            for parameter in VERBS[name].params:
                if option in parameter.opts and isinstance(parameter.type, click.Choice):
                    assert value in parameter.type.choices, (
                        f"{spoken}: {option} is none of {parameter.type.choices}"
                    )
        if name in ("run", "submit") and words[1:2] and words[1] in RECIPES:
            given = dict(re.findall(r"--param \"?(\w+)=([^\s\"]*)", spoken))
            missing = {p.name: "x" for p in RECIPES[words[1]].parameters.values() if p.required}
            RECIPES[words[1]].arguments(missing | given)


@pytest.mark.parametrize("guide", sorted(DOCS.glob("coming_from_*.md")), ids=lambda path: path.stem)
def test_what_a_table_calls_ours_exists(guide: Path) -> None:
    named = ours(guide.read_text(encoding="utf-8"))
    assert len(named) > 8
    for piece in named:
        if piece.startswith("--"):
            check(piece.replace("=…", "=x"))
        elif re.fullmatch(r"textmill \w+", piece):
            assert piece.split()[1] in VERBS, piece
    words = set(re.findall(r"(?:recipe|pipeline) `(\w+)`", " ".join(named)))
    assert words <= set(RECIPES)


def test_rules_models_and_presets_that_are_named_exist() -> None:
    for guide in sorted(DOCS.glob("coming_from_*.md")):
        text = guide.read_text(encoding="utf-8")
        assert set(re.findall(r"rule `(\w+)`", text)) <= set(RULES)
        assert set(re.findall(r"--model ([\w-]+)", text)) - {"small"} <= set(MODELS)
        assert set(re.findall(r"--tokenizer (\w+)", text)) <= set(TOKENIZERS)
        for preset in re.findall(r"(?:--preset|preset) `?(\w+)`?", text):
            assert any(preset in family.presets for family in MODELS.values()) or preset in ("the", "as"), (
                preset
            )


# --- recipes


def test_every_recipe_has_its_row_its_picture_and_a_command_that_fits() -> None:
    table = re.findall(r"^\| \[(\w+)\]\(#([\w-]+)\) \|", RECIPES_TEXT, flags=re.MULTILINE)
    assert sorted(name for name, _ in table) == sorted(RECIPES)
    headings = {
        re.sub(r"\W+", "-", h.lower()): h for h in re.findall(r"^## (.*)$", RECIPES_TEXT, flags=re.MULTILINE)
    }
    for name, anchor in table:
        assert anchor in headings, f"recipes.md has no heading for #{anchor}"
        assert f"(pictures/{name}.svg)" in RECIPES_TEXT
        assert len(re.findall(rf"^    textmill run {name} ", RECIPES_TEXT, flags=re.MULTILINE)) == 1


def test_figures_of_the_quickstart_are_those_of_the_code() -> None:
    family = MODELS["char-gru"]
    assert f"{family.parameter_count(family.config('small', 64)):,}" in RECIPES_TEXT
    assert f"{family.parameter_count(family.config('shakespeare', 98)):,}" in RECIPES_TEXT
    assert f"{family.preset('small')['train']['epochs']} epochs" in RECIPES_TEXT


# --- the Python of a guide


def test_the_python_for_those_who_come_from_gpt_2_simple_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from textmill.writing.generator import Generator

    (block,) = re.findall(
        r"```python\n(.*?)```", (DOCS / "coming_from_gpt_2_simple.md").read_text("utf-8"), re.DOTALL
    )
    opened: list[Path] = []

    def opening(checkpoint: Path, precision: str = "auto") -> Generator:
        opened.append(checkpoint)
        return generating.character_generator()

    monkeypatch.setattr(Generator, "open", staticmethod(opening))
    names: dict = {}
    exec(block.replace('["Once", "Twice"]', '["abc", "hi"]'), names)
    assert opened == [Path("checkpoint")]
    assert len(names["texts"]) == 4
    assert names["texts"][0].text.startswith("abc")
