"""docs/extending.md does what it says: its blocks become a package that is registered by entry points alone; their
contracts are run, and a text goes through all of them. All in processes of their own: the tables stay as they are."""

from __future__ import annotations

import importlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import zstandard

from textmill import extensions
from textmill.errors import MachineError
from textmill.rules import RULES, Rule
from textmill.settings import SettingsError

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", DOCUMENT, flags=re.DOTALL))


def install(folder: Path, project: dict) -> None:
    """What `pip install` leaves of a project beside its files: its name, version and entry points."""
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    about.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8"
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extending")
    for name, text in BLOCKS.items():
        path = folder / ("own_" + name if name.startswith("tests/") else name)  # `tests` is textmill's
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    (folder / "my_mill" / "__init__.py").touch()
    install(folder, tomllib.loads(BLOCKS["pyproject.toml"])["project"])
    with sqlite3.connect(folder / "texts.db") as database:
        database.execute("CREATE TABLE texts (name TEXT, body TEXT)")
        body = "“Who’s there?” said the miller. “The river,” said the river.\n" * 20
        database.executemany(
            "INSERT INTO texts VALUES (?, ?)", [(f"{i}.txt", f"{i} {body}") for i in range(10)]
        )
    return folder


def run(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("name", sorted(name for name in BLOCKS if name.startswith("tests/")))
def test_each_part_keeps_its_contract(name: str, package: Path) -> None:
    said = run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"own_{name}")
    assert int(re.findall(r"(\d+) passed", said)[0]) >= 6


def test_a_text_goes_through_all_of_them_by_the_commands_of_the_document(package: Path) -> None:
    commands = re.findall(r"^    textmill (.*)$", DOCUMENT, flags=re.MULTILINE)
    for command in (each for each in commands if not each.startswith("run ")):
        run(package, "-m", "textmill.cli", *command.replace("/path/to", str(package)).split())
    cleaned = (
        zstandard.ZstdDecompressor()
        .stream_reader((package / "dataset/train/text.jsonl.zst").read_bytes())
        .read()
    )
    assert all('"Who\'s there?"' in json.loads(line)["text"] for line in cleaned.decode().splitlines())
    with sqlite3.connect(package / "kept.db") as database:
        published = {name for (name,) in database.execute("SELECT name FROM objects")}
    assert any(name.startswith("run/") and name.endswith(".safetensors") for name in published), published
    assert len((package / "texts" / "texts.jsonl").read_text("utf-8").splitlines()) == 2


def test_the_recipe_compiles_and_runs(package: Path) -> None:
    run(package, "my_recipe.py")
    said = run(
        package,
        "-m",
        "textmill.cli",
        *["run", "my_recipe.yaml", "--param", "source=sqlite:texts.db", "-o", "mine"],
    )
    assert "my-recipe is done" in said
    assert (package / "mine" / "normalize" / "dataset" / "manifest.json").is_file()


def test_every_part_that_is_promised_has_a_block_and_a_test() -> None:
    groups = tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"]
    assert sorted(groups) == [f"textmill.{each}" for each in ("models", "rules", "sources", "stores")]
    assert len([name for name in BLOCKS if name.startswith("tests/")]) == len(groups)


# --- what is wrong with another's package is one line, and our own rows come first


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Rule]:
    (tmp_path / "strange.py").write_text("ROW = 3\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no\\nluck')\n")
    points = {
        "odd": "strange:ROW",
        "gone": "strange:NOTHING",
        "broken": "broken:ROW",
        "whitespace": "broken:ROW",
    }
    install(tmp_path, {"name": "others", "version": "1", "entry-points": {"textmill.rules": points}})
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return dict(RULES)


def test_a_row_of_our_own_is_never_replaced(table: dict[str, Rule]) -> None:
    assert extensions.look_up(table, "rules", "whitespace", Rule) is RULES["whitespace"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("odd", r"rules 'odd' of the package others \(strange:ROW\) is of type int; it must be a .*\.Rule\."),
        ("gone", r"cannot be loaded: AttributeError: module 'strange' has no attribute 'NOTHING'\."),
        ("broken", r"cannot be loaded: RuntimeError: no luck\."),
    ],
)
def test_what_cannot_be_used_is_one_line(table: dict[str, Rule], name: str, said: str) -> None:
    with pytest.raises(MachineError, match=said) as caught:
        extensions.look_up(table, "rules", name, Rule)
    assert "\n" not in str(caught.value)
    assert name not in table


def test_names_of_others_are_offered_too(table: dict[str, Rule]) -> None:
    from textmill.rules import find_rules

    assert extensions.look_up(table, "rules", "od", Rule) is None
    with pytest.raises(SettingsError, match=r"unknown rule 'od'. Did you mean 'odd'\? Known: .*odd"):
        find_rules("od")
