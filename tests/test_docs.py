"""The documents say what is there: links lead somewhere, recipes and verbs exist, make's verbs are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from textmill.cli import main
from textmill.pipeline_file import read_pipeline

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "samples" / "README.md",
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_readme_names_every_recipe_and_no_other() -> None:
    there = {path.stem for path in (ROOT / "pipelines" / "compiled").glob("*.yaml")}
    table = README[README.index("## Recipes") : README.index("## Where things are")]
    named = {
        name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)
    }
    assert named == there


def test_commands_in_the_readme_exist_with_their_options() -> None:
    commands = re.findall(r"^    (?:\. \S+ && )?textmill (\w+)(.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)
    assert len(commands) >= 7
    for verb, rest in commands:
        options = {flag for p in main.commands[verb].params for flag in p.opts}
        for flag in re.findall(r"(?<!\S)--?[a-z][\w-]*", rest):
            assert flag in options, f"textmill {verb} has no {flag}"
        if verb == "run":
            found = read_pipeline(ROOT / "pipelines" / "compiled" / f"{rest.split()[0]}.yaml")
            for name in re.findall(r"--param (\w+)=", rest):
                assert name in found.parameters, f"{found.name} has no parameter {name}"


def test_verbs_of_make_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for verb in re.findall(r"(?:^    |`)make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{verb}:", makefile, flags=re.MULTILINE), f"make has no {verb}"


def test_no_file_of_the_tree_names_this_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"/work/|/root/|\.\./shared", document.read_text(encoding="utf-8"))


def test_the_forge_runs_what_ci_runs_on_every_supported_python() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"][
        "run"
    ]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.11,<3.14"' in project
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:textmill|tests|pipelines|benchmarks)/[\w./]*)`", text)
    assert len(named) >= 10
    for name in named:
        assert (ROOT / name).exists(), name
