"""tools/images.py with a docker that only writes down what it is asked: the table, the references, the errors."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from components import pinned_image

ROOT = Path(__file__).parents[2]
ID = "sha256:0123456789abcdef" + "0" * 48
DIGEST = "sha256:" + "d" * 64
DOCKER = f"""#!{sys.executable}
import json, os, sys
asked = sys.argv[1:]
with open(os.environ["ASKED"], "a") as file:
    print(json.dumps(asked), file=file)
if asked[:2] == ["image", "inspect"]:
    pushed = ["elsewhere/textmill-python-cpu@sha256:0"]
    if any(json.loads(line)[0] == "push" for line in open(os.environ["ASKED"])):
        pushed.append("registry.example/team/textmill-python-cpu@{DIGEST}")
    print(json.dumps([{{"Id": "{ID}", "Size": 5_000_000, "RepoDigests": pushed}}]))
if asked[0] == "run":
    print(json.dumps({{"components": [{{"name": "numpy"}}]}}))
sys.exit(asked[0] == os.environ.get("FAILS"))
"""


class Images:
    def __init__(self, folder: Path) -> None:
        self.table, self.asked = folder / "made" / "digests.json", folder / "asked"
        self.bin = folder / "bin"
        self.bin.mkdir()
        docker = self.bin / "docker"
        docker.write_text(DOCKER)
        docker.chmod(docker.stat().st_mode | stat.S_IXUSR)

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "tools" / "images.py"), *arguments, "--table", str(self.table)],
            env={**os.environ, "PATH": f"{self.bin}:/usr/bin:/bin", "ASKED": str(self.asked), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def commands(self, verb: str) -> list[list[str]]:
        return [line for line in map(json.loads, self.asked.read_text().splitlines()) if line[0] == verb]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


def test_what_was_built_is_named_by_its_content(images: Images) -> None:
    done = images("build", "cpu", "--base", "python:3.11-other")
    assert done.returncode == 0, done.stderr
    assert pinned_image("cpu", images.table) == "localhost:5000/textmill-python-cpu:0123456789ab"
    entry = json.loads(images.table.read_text())["images"]["textmill-python-cpu"]
    assert (entry["id"], entry["bytes"]) == (ID, 5_000_000)
    bill = json.loads((images.table.parent / "sbom" / "textmill-python-cpu.cdx.json").read_text())
    assert bill["components"] == [{"name": "numpy"}]
    [build] = images.commands("build")
    assert "BASE=python:3.11-other" in build
    assert str(ROOT / "images" / "Dockerfile.cpu") in build
    assert "5 MB, 1 packages" in done.stderr


def test_what_was_pushed_is_named_by_the_registrys_digest(images: Images) -> None:
    images("build", "cpu")
    done = images("push", "cpu", "--registry", "registry.example/team/")
    assert done.returncode == 0, done.stderr
    assert pinned_image("cpu", images.table) == f"registry.example/team/textmill-python-cpu@{DIGEST}"
    assert images.commands("push") == [["push", "registry.example/team/textmill-python-cpu:0123456789ab"]]


def test_building_again_forgets_what_was_pushed(images: Images) -> None:
    images("build", "cpu")
    images("push", "cpu", "--registry", "registry.example/team")
    images("build", "cpu")
    assert "@" not in pinned_image("cpu", images.table)


def test_the_others_keep_their_place_in_the_table(images: Images) -> None:
    images("build", "cpu")
    images("build", "serve")
    assert list(json.loads(images.table.read_text())["images"]) == [
        "textmill-python-cpu",
        "textmill-python-serve",
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "line"),
    [
        (
            ["push", "cpu", "--registry", "r"],
            {},
            3,
            "textmill-python-cpu was not built yet; run: make images",
        ),
        (["push", "cpu"], {}, 2, "say where to: --registry"),
        (["build", "tpu"], {}, 2, "no such image: tpu; there are cpu, gpu, serve"),
        (["build", "cpu"], {"FAILS": "build"}, 3, "images: docker build failed (exit code 1)."),
        (["build", "cpu"], {"PATH": "/nowhere"}, 3, "images: docker is not installed here"),
    ],
)
def test_what_goes_wrong_is_one_line(
    images: Images, arguments: list[str], environment: dict[str, str], code: int, line: str
) -> None:
    done = images(*arguments, **environment)
    assert done.returncode == code
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not images.table.exists()


def test_an_image_that_was_never_built_has_a_digest_of_zeros(tmp_path: Path) -> None:
    table = tmp_path / "digests.json"
    entry = {"registry": "localhost:5000", "digest": "sha256:" + "0" * 64}
    table.write_text(json.dumps({"images": {"textmill-python-gpu": entry}}))
    assert pinned_image("gpu", table).endswith("/textmill-python-gpu@sha256:" + "0" * 64)
