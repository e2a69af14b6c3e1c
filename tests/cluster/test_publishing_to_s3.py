"""What tests/checkpoints asks of publishing and of stale processes, on the S3 server that AWS_ENDPOINT_URL names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.checkpoints.test_publishing import *  # noqa: F403
from tests.checkpoints.test_publishing import _quick
from tests.checkpoints.test_stale_process import test_a_process_that_was_taken_for_lost_changes_nothing
from textmill.stores import open_store

__all__ = ["_quick", "test_a_process_that_was_taken_for_lost_changes_nothing"]


@pytest.fixture
def uri() -> Iterator[str]:
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("no object store: AWS_ENDPOINT_URL is not set")
    found = f"s3://{os.environ.get('KFP_BUCKET', 'mlpipeline')}/textmill-test/{uuid.uuid4().hex}"
    yield found
    store = open_store(found)
    for name, _ in list(store.list()):
        store.delete(name)
