"""Pages written from the code name everything that is there; and the site has every page, with links of its own."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import textmill
from textmill.models import MODELS
from textmill.rules import RULES
from textmill.settings import Settings
from textmill.sources import SOURCES
from textmill.sources.dumps import FORMATS
from textmill.stores import STORES
from tools import docs_pages, docs_site

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ALL = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
COMPONENTS = (DOCS / "components.md").read_text(encoding="utf-8")


def settings_classes() -> Iterator[type[Settings]]:
    """Every settings class of the package that someone can give values for."""
    for module in pkgutil.walk_packages(textmill.__path__, "textmill."):
        importlib.import_module(module.name)

    def below(cls: type[Settings]) -> Iterator[type[Settings]]:
        for sub in cls.__subclasses__():
            if sub.__module__.startswith("textmill."):
                yield sub
                yield from below(sub)

    yield from below(Settings)


def test_every_setting_of_every_stage_stands_there() -> None:
    told = {group.cls for tables in docs_pages.groups().values() for group in tables}
    bases = {base for cls in told for base in cls.__mro__}
    missing = [cls.__name__ for cls in settings_classes() if cls not in bases]
    assert not missing, f"put into tools/docs_pages.py: {missing}"
    for cls in told:
        for field in dataclasses.fields(cls):
            assert f"| `{field.name}` |" in SETTINGS, f"{cls.__name__}.{field.name}"


def test_options_are_the_commands_and_variables_are_read() -> None:
    from textmill.cli import main

    rows = re.findall(
        r"\| `--(?:\[no-\])?([\w-]+)(?: NAME=VALUE)?` \| `TEXTMILL_([A-Z]+)_(\w+)` \|$",
        SETTINGS,
        re.MULTILINE,
    )
    assert len(rows) > 100
    for flag, section, name in rows:
        verbs = ["submit", "runs", "doctor"] if section == "SUBMIT" else [section.lower()]
        options = {option for verb in verbs for p in main.commands[verb].params for option in p.opts}
        assert f"--{flag}" in options, flag
        assert flag.replace("-", "_") == name.lower() or (flag, name) == ("set", "OVERRIDES")


def test_every_component_stands_there_with_its_parameters() -> None:
    names = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    assert set(re.findall(r"^## (\w+)$", COMPONENTS, re.MULTILINE)) == names
    for name in names:
        section = COMPONENTS.split(f"\n## {name}\n")[1].split("\n## ")[0]
        spec = yaml.safe_load(
            (ROOT / "components" / name / "component.yaml").read_text(encoding="utf-8").split("\n---")[0]
        )
        inputs = spec["components"][f"comp-{name.replace('_', '-')}"].get("inputDefinitions", {})
        for parameter in [*inputs.get("parameters", {}), *inputs.get("artifacts", {})]:
            assert f"| `{parameter}` |" in section, (name, parameter)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("source", SOURCES),
        ("format", FORMATS),
        ("rule", RULES),
        ("store", STORES),
        ("model", MODELS),
        ("preset", [preset for family in MODELS.values() for preset in family.presets]),
        ("recipe", [path.stem for path in (ROOT / "pipelines" / "compiled").glob("*.yaml")]),
    ],
)
def test_everything_that_has_a_name_is_named_in_the_documents(what: str, names: list[str]) -> None:
    missing = [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", ALL)]
    assert not missing, f"no document names these {what}s: {missing}"


def test_every_verb_stands_on_the_command_lines_page() -> None:
    from textmill.cli import main

    page = (DOCS / "command_line.md").read_text(encoding="utf-8")
    for verb in main.commands:
        assert f"\n## textmill {verb}\n" in page


def test_every_environment_variable_that_the_package_reads_is_told() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "textmill").rglob("*.py"))
    read = set(
        re.findall(r"environ(?:\.get\(|\[)\"((?:TEXTMILL|AWS|MINIO|S3|GOOGLE|STORAGE|KFP|KUBE)\w+)\"", code)
    )
    read |= set(re.findall(r"_VARIABLES? = \(?\"(\w+)\"", code))
    told = {name for names in docs_pages.ENVIRONMENT.values() for name in names}
    of_the_platform = {
        name for name in read if name.startswith(("MINIO_SERVICE_", "KFP_RETRY", "KUBERNETES_"))
    }
    assert read - told - of_the_platform == set()


# ---------------------------------------------------------------------- the site


class _Loader(yaml.SafeLoader):
    """mkdocs.yml names a function."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def site() -> dict[str, object]:
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)


def pages(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for each in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages(each)


def test_the_site_leads_to_every_page_once() -> None:
    listed = list(pages(site()["nav"]))
    written = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted([*written, *docs_site.PAGES.values()]), "put the page into mkdocs.yml"


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    theme = site()["theme"]
    assert isinstance(theme, dict)
    assert theme["font"] is False
    for name in ("extra_css", "extra_javascript"):
        assert not [each for each in site().get(name, []) if "://" in str(each)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("document", "written", "shown"),
    [
        ("docs/scale.md", "[figures](../benchmarks/README.md#x)", "[figures](benchmarks.md#x)"),
        ("docs/scale.md", "[it](kubernetes.md#accounts)", "[it](kubernetes.md#accounts)"),
        (
            "docs/scale.md",
            "[the recipe](../pipelines/quickstart.py)",
            "the recipe (`pipelines/quickstart.py`)",
        ),
        (
            "docs/scale.md",
            "[`pipelines/quickstart.py`](../pipelines/quickstart.py)",
            "`pipelines/quickstart.py`",
        ),
        ("docs/scale.md", "[it](../components/train/README.md)", "[it](components.md#train)"),
        ("docs/scale.md", "[away](https://example.org/a.md)", "[away](https://example.org/a.md)"),
        ("docs/scale.md", "    [code](../x.py)", "    [code](../x.py)"),
        ("docs/decisions/0001-exact-resume.md", "[scale](../scale.md)", "[scale](../scale.md)"),
        ("README.md", "[serving](docs/serving.md)", "[serving](serving.md)"),
        ("README.md", "![it](docs/pictures/a.svg)", "![it](pictures/a.svg)"),
        ("README.md", "[me](README.md)", "me"),
        ("benchmarks/README.md", "![speed](plots/speed.svg)", "![speed](benchmarks/plots/speed.svg)"),
    ],
)
def test_links_of_the_forge_become_links_of_the_site(document: str, written: str, shown: str) -> None:
    page = docs_site.PAGES.get(document, document.removeprefix("docs/"))
    assert docs_site.site_links(written, document, page) == shown


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    generator = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if not generator.exists():
        pytest.skip("make docs has not made its environment here")
    command = [generator, "build", "--strict", "--site-dir", tmp_path / "site"]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="?(https?://[^" >]+)', page.read_text(encoding="utf-8")
        )
        assert not fetched, page
