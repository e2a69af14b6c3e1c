"""The components, a folder each, and the images they run in.

A component's name and defaults are those of the stage's settings; its body is one import and one call. No
`from __future__ import annotations` here: the KFP compiler reads the annotations as they stand.
"""

import json
from pathlib import Path

DIGESTS = Path(__file__).parent.parent / "images" / "digests.json"


def pinned_image(variant: str = "cpu", table: Path = DIGESTS) -> str:
    """Full reference of an image: `registry/textmill-python-cpu@sha256:…` once it was pushed, and before that with a
    tag made of its content's id.

    An image that was never built has a digest of zeros: it compiles, and cannot be pulled by mistake.
    """
    name = f"textmill-python-{variant}"
    entry = json.loads(table.read_text(encoding="utf-8"))["images"][name]
    at = f"@{entry['digest']}" if "digest" in entry else f":{entry['tag']}"
    return f"{entry['registry']}/{name}{at}"
