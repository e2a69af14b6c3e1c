"""The store in this process."""

from __future__ import annotations

import itertools

import pytest

from tests.contracts.store_contract import StoreContract

_number = itertools.count()


class TestMemory(StoreContract):
    @pytest.fixture
    def uri(self) -> str:
        return f"memory://test-{next(_number)}/runs"
