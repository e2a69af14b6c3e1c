"""tools/sbom.py: a CycloneDX bill of what is there, the same bytes each time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "sbom.py"
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u1
Description: C library
 Version: not this one

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bill_names_every_package_once(sbom: ModuleType, tmp_path: Path) -> None:
    bill = sbom.bill("an-image", [], tmp_path / "no-dpkg")
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert bill["metadata"]["component"] == {"type": "container", "bom-ref": "an-image", "name": "an-image"}
    refs = [part["bom-ref"] for part in bill["components"]]
    assert f"pkg:pypi/numpy@{metadata.version('numpy')}" in refs
    assert refs == sorted(set(refs))
    [whole] = bill["dependencies"]
    assert (whole["ref"], whole["dependsOn"]) == ("an-image", refs)
    assert {part["type"] for part in bill["components"]} == {"library"}
    [numpy] = [part for part in bill["components"] if part["name"] == "numpy"]
    assert "BSD" in numpy["licenses"][0]["license"]["name"]


def test_names_are_written_as_package_urls_want_them(sbom: ModuleType, tmp_path: Path) -> None:
    info = tmp_path / "Some_Thing.x-1.0+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Some_Thing.x\nVersion: 1.0+cpu\nLicense: MIT\n more\n"
    )
    [found] = [
        c for c in sbom.bill("i", [str(tmp_path)], tmp_path / "none")["components"] if "some" in c["name"]
    ]
    assert found["purl"] == "pkg:pypi/some-thing-x@1.0%2Bcpu"
    assert found["licenses"] == [{"license": {"name": "MIT"}}]


def test_debian_packages_that_are_installed(sbom: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    [found] = sbom.debian_components(tmp_path / "status", tmp_path / "os-release")
    assert (found["name"], found["version"]) == ("libc6", "2.36-9+deb12u1")
    assert found["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12"


def test_the_same_bytes_each_time() -> None:
    first, second = (
        subprocess.run([sys.executable, str(TOOL), "x"], capture_output=True, check=True) for _ in "ab"
    )
    assert first.stdout == second.stdout
    assert first.stdout.startswith(b'{\n "bomFormat": "CycloneDX"')
