"""docs/security.md: every module that opens something from outside stands there, and what it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "textmill"
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

# What reads something that may come from outside, or starts a program: module or name, as it is called.
OPENS = re.compile(
    r"^(tarfile\.open|zipfile\.ZipFile|\w*\.?ZipFile|gzip\.\w+|bz2\.\w+|lzma\.\w+|zlib\.decompress\w*|"
    r"yaml\.\w*load\w*|json\.loads?|pickle\.\w+|np\.(load|memmap|fromfile)|safe_open|load_file|"
    r"urllib\.request\.\w+|http\.client\.\w+|requests\.\w+|httpx\.\w+|fsspec\.filesystem|"
    r"subprocess\.\w+|os\.system|eval|exec|compile|lxml\.\w+\.\w+|feedparser\.parse|pypdf\.\w+|"
    r"pyarrow\.parquet\.\w+|tf\.train\.load_checkpoint|zstandard\.ZstdDecompressor|Environment)$"
)
# They read what this program itself wrote a moment before, or only say what kinds of errors there are.
OWN = {
    "hardware.py",  # the package's own table
}


def calls(path: Path) -> set[str]:
    """The names of what a module calls, as they are written."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_every_module_that_opens_something_stands_there() -> None:
    opening = {
        path.relative_to(PACKAGE).as_posix(): sorted(filter(OPENS.match, calls(path)))
        for path in PACKAGE.rglob("*.py")
    }
    missing = {
        name: how for name, how in opening.items() if how and name not in OWN and f"`{name}`" not in TEXT
    }
    assert not missing, f"say in docs/security.md what is checked: {missing}"
    assert [name for name in OWN if not opening.get(name)] == [], "these open nothing any more"


def test_nothing_is_evaluated_and_nothing_unpickled_but_a_workers_error_and_a_survey() -> None:
    for path in PACKAGE.rglob("*.py"):
        found = calls(path)
        assert not {"eval", "exec", "os.system", "yaml.load", "yaml.unsafe_load", "yaml.full_load"} & found, (
            path
        )
        assert "pickle.loads" not in found or path.name in ("workers.py", "clean.py"), path
        assert "pickle.load" not in found, path
        assert "shell=True" not in path.read_text(encoding="utf-8"), path


def test_the_modules_and_tests_that_it_names_exist() -> None:
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.py)(?:::(\w+))?`", TEXT):
        path, function = name
        place = ROOT / path if path.startswith(("pipelines/", "tests/")) else None
        places = [place] if place else [PACKAGE / path, ROOT / "tests" / path]
        there = [each for each in places if each.is_file()]
        assert there, path
        if function:
            assert f"def {function}(" in there[-1].read_text(encoding="utf-8"), function


def test_each_row_has_a_check_and_a_test() -> None:
    table = TEXT[TEXT.index("| what | where |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 20
    for row in table:
        _, where, check, test = (cell.strip() for cell in row.strip("|").split(" | "))
        assert all((where, check, re.search(r"`[\w/]+\.py`", test))), row
