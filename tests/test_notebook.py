"""examples/quickstart.ipynb runs from its first cell to its last, and ends with the report.

Its cells are plain Python and are run as a notebook runs them, in one namespace, without Jupyter."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "quickstart.ipynb"


def cells(kind: str) -> list[str]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (found["nbformat"], found["metadata"]["kernelspec"]["language"]) == (4, "python")
    return ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == kind]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_notebook_runs_and_shows_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        said, shown = [], None
        for source in cells("code"):
            shown = run_cell(source, names)
            said.append(capsys.readouterr().out)
        run, made, text, losses, _ = said
        assert "quickstart is done after" in run
        assert [line.split()[:2] for line in made.splitlines()] == [
            [task, "done"] for task in ("ingest", "normalize", "train", "generate", "report")
        ]
        assert len(text) > 200
        found = [float(loss) for loss in re.findall(r"loss (\d\.\d{3})", losses)]
        assert len(found) == 3
        assert found[-1] < found[0] < 3.3, "it learns more than to count characters"
        assert "How it learned" in shown._repr_html_()
    finally:
        if "output" in names:
            shutil.rmtree(names["output"], ignore_errors=True)


def test_the_notebook_is_kept_without_paths_of_a_machine() -> None:
    assert not re.search(r"/work/|/root/|/home/", NOTEBOOK.read_text(encoding="utf-8"))
    assert len(cells("markdown")) >= 5
