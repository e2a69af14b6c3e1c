"""The licences of what is installed beside textmill, by kind: docs/licences.md; `--check` only compares.

    python tools/licences.py [--check]

Reads each locked package's own metadata in this environment, so run it in the one that `make setup` makes. What a
package says is not the last word: where its classifier and its text differ, read the text.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "licences.md"
KINDS = [  # the first that fits what a package says; permissive ones after those that ask more
    ("AGPL", r"AGPL|Affero"),
    ("LGPL: a library that is used unchanged asks nothing of its users", r"LGPL|Lesser General Public"),
    ("GPL", r"\bGPL|GNU General Public"),
    ("MPL: changes of its own files stay under it", r"MPL|Mozilla Public"),
    ("Apache-2.0", r"Apache"),
    ("BSD", r"BSD|Modified BSD|3-Clause"),
    ("MIT and alike (ISC, HPND, Zlib, 0BSD, CNRI)", r"MIT|ISC|HPND|Zlib|CNRI|Expat"),
    ("PSF", r"PSF|Python Software Foundation"),
    ("public domain", r"CC0|Unlicense|Public Domain"),
]


def said(package: str) -> str:
    """What an installed package says of its licence, on one line; "" where it says nothing."""
    facts = metadata.metadata(package)
    if expression := facts.get("License-Expression"):
        return str(expression)
    classifiers = [c.rpartition(":: ")[2] for c in facts.get_all("Classifier") or [] if "License ::" in c]
    named = [c for c in classifiers if c != "OSI Approved"]
    return "; ".join(named) or " ".join(str(facts.get("License") or "").split())[:200]


def kind(text: str) -> str:
    """The kind of a licence. "A OR B" is taken as the one that asks less, since the user may choose."""
    kinds = [name for name, _ in KINDS]
    fitting = [
        next((name for name, pattern in KINDS if re.search(pattern, part, re.IGNORECASE)), "")
        for part in re.split(r"\s+OR\s+", text)
    ]
    known = [name for name in fitting if name]
    return max(known, key=kinds.index) if known else ""


def page() -> str:
    """docs/licences.md."""
    lock = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    by_kind: dict[str, list[str]] = defaultdict(list)
    absent = []
    for package in sorted(set(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", lock, re.MULTILINE)), key=str.lower):
        try:
            text = said(package)
        except metadata.PackageNotFoundError:
            absent.append(package)  # for another system or Python
            continue
        by_kind[kind(text) or f"said otherwise: {text or 'nothing'}"].append(package)
    order = [name for name, _ in KINDS]
    rows = sorted(by_kind.items(), key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    return "\n".join(
        [
            "# Licences of the packages beside textmill",
            "",
            "<!-- Written from the locked packages' own metadata by: python tools/licences.py -->",
            "",
            "Textmill is under the Apache License 2.0, its samples in the public domain (CC0 1.0). It holds no code of",
            "others; what it uses is installed beside it, under licences of these kinds (`requirements/dev.lock`, with",
            "the tests' packages too). What an image holds, with versions, is said by its bill of materials.",
            "",
            "| kind | packages | |",
            "|---|---|---|",
            *(f"| {name} | {len(packages)} | {', '.join(packages)} |" for name, packages in rows),
            "",
            f"Locked for other systems or Pythons, and not looked at: {', '.join(absent) or 'none'}.",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    text = page()
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in arguments:
        print(f"{TARGET.relative_to(ROOT)} is not current; run: python tools/licences.py", file=sys.stderr)
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
