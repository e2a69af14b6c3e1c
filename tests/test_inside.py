"""docs/inside.md leads through functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WAYS = (ROOT / "docs" / "inside.md").read_text(encoding="utf-8").split("\n## ")[1:]
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")
PLACES = sorted({place for way in WAYS for place in PLACE.findall(way)})


def test_each_way_says_how_many_files_it_passes() -> None:
    assert len(WAYS) == 3
    for way in WAYS:
        [said] = re.findall(r"\*\*(\d+) files\*\*", way)
        assert int(said) == len({file for file, _ in PLACE.findall(way)}), way.partition("\n")[0]


@pytest.mark.parametrize(("file", "function"), PLACES, ids=[":".join(place) for place in PLACES])
def test_each_function_on_the_way_is_there(file: str, function: str) -> None:
    body = ast.parse((ROOT / "textmill" / file).read_text(encoding="utf-8")).body
    for name in function.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        assert found, f"{file} has no {function}"
        body = found[0].body
