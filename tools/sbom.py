"""The bill of materials of an image, CycloneDX 1.6 as JSON, on stdout. Runs inside the image, with nothing but Python.

usage: sbom.py IMAGE [SITE-PACKAGES...]     folders beside those that this Python searches

Lists the Python packages and, where there is dpkg, the Debian packages of the base. The same image gives the same
bytes: no time and no serial number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG = Path("/var/lib/dpkg/status")
OS_RELEASE = Path("/etc/os-release")


def bill(name: str, folders: list[str], dpkg: Path = DPKG, os_release: Path = OS_RELEASE) -> dict[str, Any]:
    """The bill of materials of image `name`."""
    python = [python_component(dist) for dist in metadata.distributions(path=[*folders, *sys.path])]
    unique = {part["bom-ref"]: part for part in [*python, *debian_components(dpkg, os_release)]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": name, "name": name}},
        "components": [unique[ref] for ref in sorted(unique)],
        "dependencies": [{"ref": name, "dependsOn": sorted(unique)}],
    }


def python_component(dist: metadata.Distribution) -> dict[str, Any]:
    """One Python distribution."""
    name = dist.metadata["Name"].lower().replace("_", "-").replace(".", "-")
    return _component(
        name, dist.version, f"pkg:pypi/{name}@{quote(dist.version)}", python_licence(dist.metadata)
    )


def python_licence(about: Any) -> str:
    """What a distribution's metadata say of its licence: the expression, else classifiers, else the first line of the
    free field; empty where they say nothing."""
    if about["License-Expression"]:
        return str(about["License-Expression"])
    classifiers = [
        c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License ::")
    ]
    return " AND ".join(classifiers) or str(about["License"] or "").strip().partition("\n")[0]


def debian_components(dpkg: Path, os_release: Path) -> Iterator[dict[str, Any]]:
    """The packages that dpkg's status file names as installed; none where there is no such file."""
    if not dpkg.exists():
        return
    system = dict(
        line.split("=", 1) for line in os_release.read_text(encoding="utf-8").splitlines() if "=" in line
    )
    distro = f"{system['ID']}-{system.get('VERSION_ID', '')}".replace('"', "").rstrip("-")
    for entry in dpkg.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            where = f"arch={fields['Architecture']}&distro={distro}"
            yield _component(
                name, version, f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?{where}", ""
            )


def _component(name: str, version: str, purl: str, licence: str) -> dict[str, Any]:
    part: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if licence:
        part["licenses"] = [{"license": {"name": licence}}]
    return part


if __name__ == "__main__":
    json.dump(bill(sys.argv[1], sys.argv[2:]), sys.stdout, indent=1)
    print()
