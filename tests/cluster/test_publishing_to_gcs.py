"""What tests/checkpoints asks of publishing and of stale processes, on the server that STORAGE_EMULATOR_HOST names."""

from __future__ import annotations

import pytest

from tests.checkpoints.test_publishing import *  # noqa: F403
from tests.checkpoints.test_publishing import _quick
from tests.checkpoints.test_stale_process import test_a_process_that_was_taken_for_lost_changes_nothing
from tests.stores.given_gcs import new_bucket

__all__ = ["_quick", "test_a_process_that_was_taken_for_lost_changes_nothing"]


@pytest.fixture
def uri() -> str:
    return f"gs://{new_bucket()}/run/checkpoint"
