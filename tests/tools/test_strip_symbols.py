"""tools/strip_symbols.py on real libraries: smaller, and they still work."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).parents[2] / "tools" / "strip_symbols.py"
spec = importlib.util.spec_from_file_location("strip_symbols", TOOL)
assert spec
assert spec.loader
strip_symbols = importlib.util.module_from_spec(spec)
spec.loader.exec_module(strip_symbols)


@pytest.mark.skipif(sys.platform != "linux", reason="ELF")
def test_numpy_works_without_its_symbols(tmp_path: Path) -> None:
    packages = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        shutil.copytree(
            packages / name, tmp_path / name, ignore=shutil.ignore_patterns("tests", "*.pyc", "include")
        )
    libraries = sorted(tmp_path.rglob("*.so*"))
    before = sum(path.stat().st_size for path in libraries)
    strip_symbols.main(tmp_path)
    assert sum(path.stat().st_size for path in libraries) < before
    code = "import numpy as n; print(n.__file__, n.linalg.inv(n.random.default_rng(0).random((9, 9))).shape)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert [strip_symbols.strip(path) for path in libraries] == [0] * len(libraries), "nothing is left to cut"


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + b"\0" * 80, b"text\n" * 40])
def test_other_files_are_left_as_they_are(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(content)
    assert strip_symbols.strip(path) == 0
    assert path.read_bytes() == content
