"""The package is built in layers: a module imports its own layer and those below it, never one above.

A new module of the top level, or a new package, is put into LAYERS by whoever adds it: the test names it otherwise.
"""

from __future__ import annotations

import ast
from pathlib import Path

import textmill

PACKAGE = Path(textmill.__file__).parent
LAYERS = [  # from the ground up; what stands on one line may not import each other
    ["errors", "postprocess", "charts"],
    ["files", "settings", "holding", "workers", "extensions"],
    ["manifest", "progress", "devices", "hardware", "pipeline_file"],
    ["artifacts", "models", "tokenizers", "rules"],
    ["corpora"],
    ["sources", "datasets"],
    ["stores"],
    ["checkpoints"],
    ["writing"],
    ["ingest", "generate", "report", "local"],
    ["normalize", "training", "generate_groups", "serving"],
    ["train"],
    ["cluster"],
    ["doctor"],
    ["commands"],
    ["cli"],
]


def imported(path: Path) -> set[str]:
    """The modules and packages right below textmill that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("textmill.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "textmill":
            found |= {name.name for name in node.names if not name.name.startswith("_")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("textmill."):
            found.add((node.module or "").split(".")[1])
    return found


def own(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_go_down_the_layers() -> None:
    height = {name: level for level, names in enumerate(LAYERS) for name in names}
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
    homeless = {own(path) for path in files} ^ set(height)
    assert not homeless, f"put into LAYERS, or take out of it: {sorted(homeless)}"
    upward = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files
        for name in sorted(imported(path) - {own(path)})
        if height[name] >= height[own(path)]
    ]
    assert not upward, upward


def test_the_package_knows_neither_pipelines_nor_kfp_compiler() -> None:
    """kfp is asked for by those who talk to its server or run a pipeline locally, and only when they do."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # the module's own level
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(n.split(".")[0] in ("kfp", "pipelines", "components") for n in names), path
