"""The Google Cloud Storage stand-in that STORAGE_EMULATOR_HOST names, for tests marked `cluster`."""

from __future__ import annotations

import json
import os
import urllib.request
import uuid

import pytest


def new_bucket() -> str:
    """The name of an empty bucket there; skips the test where no server is given."""
    address = os.environ.get("STORAGE_EMULATOR_HOST")
    if not address:
        pytest.skip("no Google Cloud Storage: STORAGE_EMULATOR_HOST names no server (docs/checkpoints.md)")
    name = f"textmill-{uuid.uuid4().hex}"
    asked = urllib.request.Request(
        f"{address}/storage/v1/b?project=none",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(asked, timeout=60).close()
    return name
