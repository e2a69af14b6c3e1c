"""docs/training_gpt2.md: every option of gpt-2-simple's finetune, every field of the schedule, and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from textmill.cli import main
from textmill.models import get_model
from textmill.models.schedules import TransformerSchedule

DOCUMENT = (Path(__file__).parents[1] / "docs" / "training_gpt2.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    part = DOCUMENT[DOCUMENT.index(f"## {heading}") :].split("\n## ")[0]
    table = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


@pytest.mark.skipif(not importlib.util.find_spec("gpt_2_simple"), reason="gpt-2-simple is not installed")
def test_every_option_of_finetune_is_in_the_table() -> None:
    """Read from its source: importing it would turn eager mode off."""
    [folder] = importlib.util.find_spec("gpt_2_simple").submodule_search_locations  # type: ignore[union-attr]
    tree = ast.parse((Path(folder) / "gpt_2.py").read_text(encoding="utf-8"))
    [finetune] = [node for node in tree.body if getattr(node, "name", "") == "finetune"]
    named = [name for row in rows("gpt-2-simple") for name in re.findall(r"`(\w+)`", row[0])]
    assert named == [argument.arg for argument in finetune.args.args]


def test_what_they_are_called_here_exists() -> None:
    options = {flag for parameter in main.commands["train"].params for flag in parameter.opts}
    fields = {field.name for field in dataclasses.fields(TransformerSchedule)}
    table = rows("gpt-2-simple")
    named = [here for row in table for here in re.findall(r"`(--?[\w-]+)(?: (\w+)=)?", row[1])]
    assert len(named) >= 15
    for flag, field in named:
        assert flag in options
        assert not field or field in fields


def test_defaults_in_the_table_are_the_preset_s() -> None:
    schedule = get_model("gpt2").schedule("124M").as_dict()
    checked = 0
    for row in rows("gpt-2-simple"):
        field = re.search(r"--set (\w+)=", row[1])
        if field and "→" in row[2]:
            assert row[2].rpartition("→ ")[2] == f"{schedule[field[1]]}".lower(), field[1]
            checked += 1
    assert checked >= 10


def test_every_field_of_the_schedule_is_listed_as_it_is() -> None:
    listed = {row[0].strip("`"): (row[1], row[2]) for row in rows("The preset's fields")}
    assert listed == {
        field.name: (str(field.default).lower(), field.metadata["help"])
        for field in dataclasses.fields(TransformerSchedule)
    }
