"""The components, a folder each, and the images they run in.

A component's name and defaults are those of the stage's settings; its body is one import and one call. No
`from __future__ import annotations` here: the KFP compiler reads the annotations as they stand.
"""

import json
from pathlib import Path

DIGESTS = Path(__file__).parent.parent / "images" / "digests.json"


def pinned_image(variant: str = "cpu") -> str:
    """Full reference of an image by digest, such as `registry/textmill-python-cpu@sha256:…`.

    An image that was never built has a digest of zeros: it compiles, and cannot be pulled by mistake.
    """
    table = json.loads(DIGESTS.read_text(encoding="utf-8"))
    name = f"textmill-python-{variant}"
    return f"{table['registry']}/{name}@{table['images'][name]['digest']}"
