"""What the site's generator is told beside mkdocs.yml: pages from outside docs/, and links as the forge has them.

The documents are written for the forge, where a link may lead to any file of the repository. A site holds pages alone:
those of PAGES come along, components are sections of one page, and a link to another file becomes its name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Documents that do not lie in docs/, and the pages that they become.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "readme.md",
    "benchmarks/README.md": "benchmarks.md",
    "samples/README.md": "samples.md",
}
PICTURES = (".svg", ".png", ".jpg")
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\[\]]*)\]\((?P<path>[^()\s#:]+)(?P<anchor>#[^()\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```|^(?: {4}|\t).*?$)", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the documents from outside docs/, and the pictures that they show."""
    from mkdocs.structure.files import File

    for document, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / document)))
        for found in _LINK.finditer((ROOT / document).read_text(encoding="utf-8")):
            picture = _target(document, found["path"])
            if found["picture"] and not picture.startswith("docs/"):
                files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links of the site."""
    documents = {name: document for document, name in PAGES.items()}
    name = page.file.src_uri
    return site_links(markdown, documents.get(name, f"docs/{name}"), name)


def site_links(markdown: str, document: str, page: str) -> str:
    """`markdown` of `document`, a path in the repository, with links as `page`, a path in the site, needs them."""
    parts = _CODE.split(markdown)  # every second one is code
    for number in range(0, len(parts), 2):
        parts[number] = _LINK.sub(lambda found: _link(found, document, page), parts[number])
    return "".join(parts)


def _link(found: re.Match[str], document: str, page: str) -> str:
    target, anchor, text = _target(document, found["path"]), found["anchor"] or "", found["text"]
    component = re.fullmatch(r"components/(\w+)(?:/README\.md)?", target)
    if component:
        target, anchor = "docs/components.md", f"#{component[1]}"
    there = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
    if there == page:
        return f"[{text}]({anchor})" if anchor and not component else text
    if found["picture"] and not there:
        there = target
    if there and not target.endswith("/") and (there.endswith((".md", *PICTURES))):
        relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
        return f"{found['picture']}[{text}]({relative}{anchor})"
    return text if target.rstrip("/") in text else f"{text} (`{target}`)"


def _target(document: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
