"""Write what is written from the code; `--check` only compares.

Each component's README.md from its signature, docstring and metadata.yaml, and the pages of tools/docs_pages.py.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def readme(name: str) -> str:
    """The README of the component `name`."""
    import docstring_parser
    from kfp import dsl

    function = getattr(importlib.import_module(f"components.{name}.component"), name).python_func
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    said = {p.arg_name: " ".join((p.description or "").split()) for p in doc.params}
    facts = yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text(encoding="utf-8"))
    parameters, inputs, outputs = [], [], []
    for parameter in inspect.signature(function).parameters.values():
        kind = parameter.annotation
        row = f"| `{parameter.name}` | {_kind(kind)} |"
        default = "" if parameter.default is inspect.Parameter.empty else _default(parameter.default)
        what = _cell(said[parameter.name])
        if not typing.get_args(kind):
            parameters.append(f"{row} {default} | {what} |")
        elif dsl.Output[typing.get_args(kind)[0]] == kind:
            outputs.append(f"{row} {what} |")
        else:
            optional = " (optional)" if parameter.default is None else ""
            inputs.append(f"{row} {what}{optional} |")
    parts = [
        f"# {name}",
        "<!-- Written by tools/readmes.py from component.py and metadata.yaml; change those and run: make compile -->",
        doc.short_description or "",
        *_table("Input artifacts", "name | type | what it is", inputs),
        *_table("Parameters", "name | type | default | what it does", parameters),
        *_table("Output artifacts", "name | type | what it is", outputs),
        *_table("Output parameter", "name | type | what it is", _returned(function, doc)),
        "## Use",
        f"```python\nfrom components.{name}.component import {name}\n```",
        f'or `kfp.components.load_component_from_file("components/{name}/component.yaml")`.',
        f"Stability: {facts['stability']}. Tags: {', '.join(facts['tags'])}. "
        f"Last verified: {facts['lastVerified']:%Y-%m-%d}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(title: str, columns: str, rows: list[str]) -> list[str]:
    if not rows:
        return []
    rule = "|".join(["---"] * (columns.count("|") + 1))
    return [f"## {title}", "\n".join([f"| {columns} |", f"|{rule}|", *rows])]


def _returned(function: Any, doc: Any) -> list[str]:
    kind = inspect.signature(function).return_annotation
    if kind is inspect.Signature.empty:
        return []
    return [f"| `Output` | {_kind(kind)} | {_cell(' '.join((doc.returns.description or '').split()))} |"]


def _kind(annotation: Any) -> str:
    arguments = typing.get_args(annotation)
    return str(getattr(arguments[0] if arguments else annotation, "__name__", annotation))


def _default(value: Any) -> str:
    return "(empty)" if value == "" else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))
    from tools import docs_pages

    written = {
        source.with_name("README.md"): readme(source.parent.name)
        for source in sorted((ROOT / "components").glob("*/component.py"))
    } | docs_pages.pages()
    stale = False
    for target, text in written.items():
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if "--check" in arguments:
            print(f"{target.relative_to(ROOT)} is not current; run: make compile", file=sys.stderr)
        else:
            target.write_text(text, encoding="utf-8")
            print(f"wrote {target.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
