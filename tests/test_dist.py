"""What is given out: the sdist and the wheel hold what they should; the wheel runs a pipeline from an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import textmill

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
UV = Path(sys.executable).with_name("uv")


def tracked(*folders: str) -> set[str]:
    """Files of the checkout below these folders; none outside a checkout."""
    said = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True)
    return set(said.stdout.splitlines())


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == textmill.__version__


def test_the_metadata_names_no_host_and_every_supported_python() -> None:
    project = PROJECT["project"]
    assert "urls" not in project
    assert "://" not in str(project)
    pythons = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert project["requires-python"] == f">={pythons[0]},<3.{int(pythons[-1].split('.')[1]) + 1}"
    assert project["license-files"] == ["LICENSE", "NOTICE"]


def test_every_extra_that_a_message_names_exists() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    named = {
        extra
        for path in (ROOT / "textmill").rglob("*.py")
        for extras_named in re.findall(r"textmill\[([\w,-]+)\]", path.read_text(encoding="utf-8"))
        for extra in extras_named.split(",")
    }
    assert named
    assert named <= extras


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_runs_the_quickstart_from_an_empty_folder(tmp_path: Path) -> None:
    """Built from the sdist, installed with its extras from the package registry, nothing of the checkout in reach."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TEXTMILL_", "VIRTUAL_ENV"))
    }

    def run(*command: object, folder: Path = ROOT) -> str:
        said = subprocess.run(
            [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert said.returncode == 0, f"{command}:\n{said.stdout[-3000:]}\n{said.stderr[-6000:]}"
        return said.stdout

    dist, fresh, empty = tmp_path / "dist", tmp_path / "fresh", tmp_path / "empty"
    empty.mkdir()
    run(UV, "build", "--quiet", "--out-dir", dist)
    [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")

    with tarfile.open(sdist) as archive:
        inside = {
            name.partition("/")[2] for name in (m.name for m in archive.getmembers() if m.isfile()) if name
        }
    besides = {"CHANGELOG.md", "LICENSE", "NOTICE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    assert besides <= inside
    if of_git := tracked("textmill", "samples", "pipelines", "components"):
        assert of_git <= inside
        assert not [n for n in inside - of_git - besides if n.endswith((".pyc", ".log", "~"))]

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = Parser().parsestr(
            archive.read(f"textmill-{textmill.__version__}.dist-info/METADATA").decode()
        )
    assert {name.split("/")[0] for name in names} == {
        "textmill",
        f"textmill-{textmill.__version__}.dist-info",
    }
    for name in ("py.typed", "templates/report.html.j2", "serving/page/index.html", "samples/README.md"):
        assert f"textmill/{name}" in names
    assert sum(name.startswith("textmill/recipes/") for name in names) == len(
        list((ROOT / "pipelines" / "compiled").glob("*.yaml"))
    )
    assert metadata["License-Expression"] == "Apache-2.0"

    run(UV, "venv", "--quiet", "--python", sys.executable, fresh)
    run(UV, "pip", "install", "--quiet", "--python", fresh / "bin/python", f"{wheel}[train,report,kfp]")
    where = run(fresh / "bin/python", "-c", "import textmill; print(textmill.__file__)", folder=empty)
    assert Path(where.strip()).is_relative_to(fresh)
    said = run(
        fresh / "bin/textmill", "run", "quickstart", "--output", "out",
        "--param", "preset=tiny", "--param", "length=200", "--param", "number=1", folder=empty,
    )  # fmt: skip
    assert "quickstart is done" in said
    assert "<html" in (empty / "out/report.html").read_text(encoding="utf-8")
    assert (empty / "out/generate/texts/texts.txt").stat().st_size >= 200
    assert (empty / "out/train/checkpoint/manifest.json").exists()
