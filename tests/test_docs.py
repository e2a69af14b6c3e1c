"""The documents say what is there: links lead somewhere, recipes and verbs exist, make's verbs are real."""

from __future__ import annotations

import functools
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
    *sorted((ROOT / "components").glob("*/README.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "samples" / "README.md",
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


LINK = re.compile(r"\]\(([^()\s]+(?:\([^()]*\))?[^()\s]*)\)")


def prose(path: Path) -> str:
    """A document without its code."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```|^ {4}.*?$", "", text, flags=re.MULTILINE | re.DOTALL)


@functools.cache
def anchors(path: Path) -> set[str]:
    """What a link may name in a document, as the forge makes it of headings; ids that are written out too."""
    text = prose(path)
    found = set(re.findall(r'<a id="([^"]+)">', text))
    counts: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{counts[slug]}" if slug in counts else slug)
        counts[slug] = counts.get(slug, 0) + 1
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(prose(document)):
        target, _, anchor = link.partition("#")
        if "://" in link:
            assert re.match(r"https?://[\w.-]+(:\d+)?(/\S*)?$", link), (
                f"{document.name}: {link} is no address"
            )
            continue
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{document.name} links to {target}"
        assert ROOT in path.parents, f"{document.name} links out of the project: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{document.name} links to {link}, which is no heading"


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
