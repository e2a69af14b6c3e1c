"""tools/setup.py: what a newcomer lacks is said in one line, and nothing else is tried that would fail in the same way.

pip, uv and venv are stand-ins of a few lines that say what the real ones said (21 November 2026)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "setup.py"

NO_NETWORK = """\
WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError('<HTTPSConnection>:
 Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/uv/
ERROR: No matching distribution found for uv"""
FULL = "error: Failed to install: schemathesis\n  cause: No space left on device (os error 28)"
FORBIDDEN = "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'"
OTHER_BYTES = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that is there, whose python and uv (pip is python -m pip) note what they are told."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    shutil.copy("/bin/true", folder / "pip")
    for name in ("python", "uv"):
        stand_in(folder / name, "", 0)
    return folder.parent


def stand_in(path: Path, says: str, code: int) -> None:
    log = path.parent / "log"
    path.write_text(f"#!/bin/sh\necho {path.name} \"$*\" >> {log}\ncat <<'SAID'\n{says}\nSAID\nexit {code}\n")
    path.chmod(0o755)


def setup(
    venv: Path, *, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, str(TOOL), str(venv), "1.2.3"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def asked(venv: Path) -> list[str]:
    return (venv / "bin" / "log").read_text().splitlines()


def test_uv_installs_the_lock_with_its_hashes_and_then_textmill(venv: Path) -> None:
    ended = setup(venv)
    assert (ended.returncode, ended.stderr) == (0, "")
    first, second, third = asked(venv)
    assert first.endswith("uv==1.2.3")
    assert "--require-hashes" in second
    assert "requirements/dev.lock" in second
    assert third.endswith("--no-deps --editable .")


@pytest.mark.parametrize(
    ("says", "line"),
    [
        (NO_NETWORK, "no package registry can be reached; check the network"),
        (FULL, "no space left: the packages take 4 GB in "),
        (FORBIDDEN, "no permission to write "),
        (OTHER_BYTES, "is not the one that requirements/dev.lock names"),
    ],
)
@pytest.mark.parametrize("program", ["python", "uv"])
def test_what_pip_would_meet_too_is_one_line_at_once(venv: Path, program: str, says: str, line: str) -> None:
    stand_in(venv / "bin" / program, says, 1)
    ended = setup(venv)
    assert ended.returncode == 2
    assert line in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "trying pip" not in ended.stdout


def test_pip_installs_the_lock_where_uv_cannot(venv: Path) -> None:
    stand_in(venv / "bin" / "uv", "error: this machine is odd", 1)
    ended = setup(venv)
    assert ended.returncode == 0
    assert "uv did not do it; trying pip" in ended.stdout
    assert any(
        "pip install" in line and "--require-hashes" in line and line.startswith("python")
        for line in asked(venv)
    )


def test_what_nobody_knows_is_shown_and_ends_in_its_last_line(venv: Path) -> None:
    for program in ("uv", "python"):
        stand_in(venv / "bin" / program, "Traceback: deep\nOddError: the moon is full", 1)
    ended = setup(venv)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "the packages could not be installed: OddError: the moon is full"
    assert "Traceback: deep" in ended.stderr


def changed_python(folder: Path, site: str) -> str:
    """This Python with `site` done before the tool."""
    (folder / "sitecustomize.py").write_text(site)
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_another_python_is_named(tmp_path: Path, version: tuple[int, ...]) -> None:
    python = changed_python(tmp_path, f"import sys\nsys.version_info = {version}\n")
    ended = setup(tmp_path / "venv", python=python)
    assert ended.returncode == 2
    shown = ".".join(map(str, version))
    assert ended.stderr == (
        f"textmill needs Python 3.11 to 3.13; this is Python {shown}. Say which one: make PYTHON=python3.11 …\n"
    )
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_says_what_to_install(tmp_path: Path) -> None:
    python = changed_python(tmp_path, "import sys\nsys.modules['ensurepip'] = None\n")
    ended = setup(tmp_path / "venv", python=python)
    assert ended.returncode == 2
    assert (
        ended.stderr == "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv\n"
    )


def test_a_place_where_nothing_can_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = setup(tmp_path / "file" / "venv")
    assert ended.returncode == 2
    assert ended.stderr.startswith("cannot make the environment in ")
    assert len(ended.stderr.splitlines()) == 1


def test_the_supported_versions_are_those_of_the_project() -> None:
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text("utf-8")
    text = TOOL.read_text("utf-8")
    assert "OLDEST, NEWEST = (3, 11), (3, 13)" in text


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
def test_make_says_that_there_is_no_such_python(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["make", "setup", "PYTHON=python9", f"VENV={tmp_path}/venv"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith("there is no python9 here; say which Python: make PYTHON=python3.11 …\n")
