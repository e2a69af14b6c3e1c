"""What textmill exports: docs/api.md names it, it is there, documented and typed, and importing it costs nothing."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Protocol

import pytest

import textmill
from textmill.manifest import read

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PUBLIC = sorted(set(re.findall(r"`(textmill\.[\w.]+)`", DOCUMENT)))


def found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_the_document_names_all_that_the_package_exports() -> None:
    assert {name.rpartition(".")[2] for name in PUBLIC if name.count(".") == 1} == set(textmill.__all__)


def test_the_document_names_every_error_and_its_exit_code() -> None:
    from textmill import errors

    rows = dict(re.findall(r"^\| `textmill\.(\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE))
    there = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert rows == {name: str(kind.exit_code) for name, kind in there.items()}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_the_document_names_is_there(name: str) -> None:
    assert found(name) is not None


def test_lazy_names_their_types_and_the_list_of_them_agree() -> None:
    """A type checker reads the imports, Python the table, and `from textmill import *` the list."""
    tree = ast.parse(Path(textmill.__file__).read_text(encoding="utf-8"))
    [typed] = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(typed.test) == "TYPE_CHECKING"
    imported = {
        alias.name: (node.module or "").removeprefix("textmill.")
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == textmill._HOMES
    assert sorted(textmill.__all__) == sorted([*imported, "__version__"])
    assert Path(textmill.__file__).with_name("py.typed").exists()


def test_no_exported_name_hides_a_module() -> None:
    modules = {path.stem for path in Path(textmill.__file__).parent.iterdir()}
    assert not modules & set(textmill.__all__)


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = textmill.Nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import textmill", "textmill.errors numpy yaml click"),
        ("from textmill import *", "tensorflow jax keras numba kfp scrapy uvicorn kubernetes"),
        ("import textmill.train, textmill.ingest, textmill.generate", "tensorflow jax keras numba kfp"),
    ],
)
def test_importing_loads_no_more_than_is_asked_for(code: str, unwanted: str) -> None:
    ask = f"{code}\nimport sys\nprint([name for name in {unwanted.split()} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def documented() -> list[tuple[str, Any]]:
    """(name, what) of each public function and class, and of the methods that a class has for others."""
    rows = []
    for name in PUBLIC:
        what = found(name)
        if inspect.isfunction(what) or inspect.isclass(what):
            rows.append((name, what))
        if inspect.isclass(what):
            rows += [
                (f"{name}.{key}", value.fget if isinstance(value, property) else getattr(what, key))
                for key, value in vars(what).items()
                if not key.startswith("_")
                and isinstance(value, staticmethod | classmethod | property | type(lambda: 0))
            ]
    return rows


def test_every_public_function_and_class_is_documented() -> None:
    """A dataclass's own docstring is made of its fields, and says nothing."""
    bare = [
        name
        for name, what in documented()
        if not inspect.getdoc(what)  # a method that overrides another does what that one says
        or (dataclasses.is_dataclass(what) and (what.__doc__ or "").startswith(f"{what.__name__}("))
    ]
    assert not bare, f"these want a docstring: {bare}"


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isfunction(found(name))])
def test_a_public_function_is_typed_and_says_what_it_raises(name: str) -> None:
    function = found(name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert re.search(r"\bRaises?\b", inspect.getdoc(function) or ""), f"{name} does not say what it raises"


def test_tables_have_rows_of_the_documented_kinds() -> None:
    kinds = {
        "MODELS": "models.Family",
        "RULES": "rules.Rule",
        "SOURCES": "sources.Kind",
        "STORES": "stores.Kind",
    }
    for table, kind in kinds.items():
        assert all(isinstance(row, found(f"textmill.{kind}")) for row in getattr(textmill, table).values())
    contract = found("textmill.tokenizers.Tokenizer")
    assert issubclass(type(contract), type(Protocol))
    wanted = {name for name in vars(contract) if not name.startswith("_")}
    for tokenizer in textmill.TOKENIZERS.values():
        assert not [name for name in wanted if not hasattr(tokenizer, name)]


def test_the_example_of_the_document_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = textwrap.dedent("".join(re.findall(r"^(?:    .*)?\n", DOCUMENT, re.MULTILINE)))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/api.md", "exec"), {})
    assert "MERREN" in capsys.readouterr().out, "the text that it prints goes on from the prompt"
    read(tmp_path / "work" / "checkpoint", "checkpoint", verify=True)
