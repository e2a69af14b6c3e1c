"""Compile components and pipelines to YAML, byte for byte the same every time; `--check` only compares.

components/<name>/component.py -> component.yaml      pipelines/<name>.py -> pipelines/compiled/<name>.yaml
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOT_RECIPES = ("__init__", "tasks")


def sources() -> Iterator[tuple[str, str, Path]]:
    """(module, function, compiled file) of everything that is compiled."""
    for path in sorted((ROOT / "components").glob("*/component.py")):
        name = path.parent.name
        yield f"components.{name}.component", name, path.with_name("component.yaml")
    for path in sorted((ROOT / "pipelines").glob("*.py")):
        if path.stem not in NOT_RECIPES:
            yield f"pipelines.{path.stem}", path.stem, ROOT / "pipelines" / "compiled" / f"{path.stem}.yaml"


def compile_all() -> Iterator[tuple[Path, bytes]]:
    """(compiled file, the bytes it should hold)."""
    from kfp import compiler

    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        for module, function, target in sources():
            made: Any = getattr(importlib.import_module(module), function)
            package = Path(folder) / target.name
            compiler.Compiler().compile(made, str(package))
            yield target, package.read_bytes()


def main(arguments: list[str]) -> int:
    stale = []
    wanted = set()
    for target, content in compile_all():
        wanted.add(target)
        if target.exists() and target.read_bytes() == content:
            continue
        stale.append(target)
        if "--check" not in arguments:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            print(f"compiled {target.relative_to(ROOT)}")
    for extra in set((ROOT / "pipelines" / "compiled").glob("*.yaml")) - wanted:
        print(f"{extra.relative_to(ROOT)} has no source; remove it", file=sys.stderr)
        return 1
    if stale and "--check" in arguments:
        for target in stale:
            print(f"{target.relative_to(ROOT)} is not current; run: make compile", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
