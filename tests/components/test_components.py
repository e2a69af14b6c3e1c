"""The components: thin, current, equal to the stages' settings, and deterministic."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import importlib
import inspect
import itertools
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMES = sorted(p.parent.name for p in (ROOT / "components").glob("*/component.py"))
SETTINGS = {
    "ingest": "textmill.ingest:IngestSettings",
    "normalize": "textmill.normalize:NormalizeSettings",
    "normalize_merge": "textmill.normalize:NormalizeSettings",
    "normalize_shards": "textmill.normalize:ShardsSettings",
    "shard_groups": "textmill.normalize:GroupsSettings",
    "pull": "textmill.checkpoints.pretrained:PullSettings",
    "train": "textmill.training.settings:TrainSettings",
    "generate": "textmill.generate:GenerateSettings",
    "report": "textmill.report:ReportSettings",
    "list_items": "textmill.corpora.items:ListSettings",
    "serve": "textmill.cluster.deploying:DeploySettings",
    "split_prompts": "textmill.generate_groups:PromptsSettings",
    "generate_group": "textmill.generate_groups:GroupSettings",
    "merge_texts": "textmill.settings:Settings",
}
OWN = {
    "ingest": {"source", "earlier"},
    "generate": {"more"},
    "generate_group": {"more"},
    "normalize": {"more"},
    "normalize_merge": {"more"},
}  # what a stage is told beside its settings
MOST_PARAMETERS = 13


def component(name: str) -> Any:
    sys.path.insert(0, str(ROOT))
    try:
        return getattr(importlib.import_module(f"components.{name}.component"), name)
    finally:
        sys.path.remove(str(ROOT))


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """The component's parameters that are no artifacts."""
    signature = inspect.signature(component(name).python_func)
    return {p.name: p for p in signature.parameters.values() if not typing.get_args(p.annotation)}


def settings(name: str) -> Any:
    module, _, cls = SETTINGS[name].partition(":")
    return getattr(importlib.import_module(module), cls)


def test_all_components_are_here() -> None:
    assert sorted(SETTINGS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_names_and_defaults_are_those_of_the_settings(name: str) -> None:
    cls = settings(name)
    defaults = cls().as_dict()
    kinds = cls.kinds()
    given = {k: p for k, p in parameters(name).items() if k not in OWN.get(name, ())}
    assert len(parameters(name)) <= MOST_PARAMETERS
    for parameter in given.values():
        assert parameter.default == defaults[parameter.name], parameter.name
        kind = kinds[parameter.name]
        assert parameter.annotation is (typing.get_origin(kind) or kind), parameter.name


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_what_the_settings_say(name: str) -> None:
    import docstring_parser

    doc = docstring_parser.parse(inspect.getdoc(component(name).python_func) or "")
    said = {p.arg_name: " ".join((p.description or "").split()) for p in doc.params}
    assert set(said) == set(inspect.signature(component(name).python_func).parameters)
    for field in dataclasses.fields(settings(name)):
        if field.name in said:
            assert said[field.name] == " ".join(field.metadata["help"].split()), field.name


@pytest.mark.parametrize("name", NAMES)
def test_body_is_thin(name: str) -> None:
    """No loop, condition, parsing, validation or try: the package does the work, and is tested there."""
    tree = ast.parse((ROOT / "components" / name / "component.py").read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    forbidden = (
        ast.For,
        ast.While,
        ast.If,
        ast.IfExp,
        ast.Try,
        ast.With,
        ast.Raise,
        ast.Lambda,
        ast.ListComp,
        ast.DictComp,
    )
    assert not [ast.unparse(node) for node in ast.walk(function) if isinstance(node, forbidden)]
    said = [node for node in function.body if not isinstance(node, ast.ImportFrom)]
    assert len(said) <= 7


@pytest.mark.parametrize("name", NAMES)
def test_module_imports_only_kfp_and_the_standard_library(name: str) -> None:
    tree = ast.parse((ROOT / "components" / name / "component.py").read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert imported <= {"kfp", "components"} | sys.stdlib_module_names
    assert "__future__" not in imported  # it breaks the KFP compiler


def test_package_never_imports_kfp_at_import_time() -> None:
    for path in sorted((ROOT / "textmill").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] == "kfp"], path


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_what_kubeflow_asks_of_a_component(name: str) -> None:
    """The fields, their order and the form of versions that kubeflow/pipelines-components' validator demands."""
    facts = yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text(encoding="utf-8"))
    assert list(facts) == ["name", "stability", "dependencies", "tags", "lastVerified"]
    assert facts["name"] == name
    assert facts["stability"] in ("experimental", "alpha", "beta", "stable")
    assert {"kubeflow"} <= set(facts["dependencies"]) <= {"kubeflow", "external_services"}
    assert "Pipelines" in [needed["name"] for needed in facts["dependencies"]["kubeflow"]]
    for needed in itertools.chain.from_iterable(facts["dependencies"].values()):
        assert list(needed) == ["name", "version"]
        assert re.fullmatch(r"(==|>=|<=)?\d+\.\d+\.\d+", needed["version"]), "one bound, a whole version"
    assert facts["tags"]
    assert all(isinstance(tag, str) for tag in facts["tags"])
    assert isinstance(facts["lastVerified"], datetime.datetime), "2026-11-21T00:00:00Z, not a day alone"


@pytest.mark.parametrize("name", NAMES)
def test_compiled_component_is_pinned_and_installs_nothing(name: str) -> None:
    spec = yaml.safe_load((ROOT / "components" / name / "component.yaml").read_text(encoding="utf-8"))
    container = spec["deploymentSpec"]["executors"][f"exec-{name.replace('_', '-')}"]["container"]
    assert re.fullmatch(r"[^@]+/textmill-python-cpu@sha256:[0-9a-f]{64}", container["image"])
    assert "pip install" not in " ".join(container["command"])


def test_compiled_files_and_readmes_are_current() -> None:
    for tool in ("compile.py", "readmes.py"):
        ran = subprocess.run(
            [sys.executable, str(ROOT / "tools" / tool), "--check"], capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr


def test_compiling_is_deterministic(tmp_path: Path) -> None:
    code = (
        "import hashlib, sys; sys.path.insert(0, 'tools'); import compile as c\n"
        "for target, content in c.compile_all(): print(target.name, hashlib.sha256(content).hexdigest())"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert said[0].count("\n") == len(NAMES) + len(list((ROOT / "pipelines" / "compiled").glob("*.yaml")))
