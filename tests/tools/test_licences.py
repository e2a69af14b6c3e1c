"""tools/licences.py: what a package says becomes a kind; the page names every locked package once."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Apache-2.0", "Apache-2.0"),
        ("BSD-3-Clause", "BSD"),
        ("MIT License", "MIT"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "LGPL"),
        ("GNU General Public License v2 (GPLv2)", "GPL"),
        ("GNU Affero General Public License v3", "AGPL"),
        ("GPL-2.0-only OR MIT", "MIT"),
        ("MPL-2.0 AND MIT", "MPL"),
        ("something of its own", ""),
    ],
)
def test_a_licence_is_put_with_its_kind(licences: ModuleType, text: str, kind: str) -> None:
    found = licences.kind(text)
    assert found.startswith(kind) if kind else found == ""


def test_the_page_names_every_locked_package_once_and_no_other(licences: ModuleType) -> None:
    lock = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    locked = sorted(set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", lock, re.MULTILINE)))
    page = licences.TARGET.read_text(encoding="utf-8")
    cells = re.findall(r"^\| [^|]+ \| \d+ \| (.+) \|$", page, re.MULTILINE)
    cells += re.findall(r"^Locked for other systems .*: (.+)\.$", page, re.MULTILINE)
    assert sorted(name for cell in cells for name in cell.split(", ")) == locked, "python tools/licences.py"


def test_none_asks_that_what_uses_it_be_given_out_as_source() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert not re.search(r"^\| A?GPL", page, re.MULTILINE)
