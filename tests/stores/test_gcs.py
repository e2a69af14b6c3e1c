"""Google Cloud Storage: the real library against a loopback stand-in, and against the server that is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contracts.store_contract import StoreContract
from tests.stores.fake_gcs import serving
from tests.stores.given_gcs import new_bucket
from textmill.stores import Refused, StoreError, open_store, read_bytes


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with serving() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
        yield server


class TestGCS(StoreContract):
    @pytest.fixture
    def uri(self, server: Any) -> str:
        return "gs://bucket/runs"


@pytest.mark.cluster
class TestGivenGCS(StoreContract):
    """The server that STORAGE_EMULATOR_HOST names: Google's storage-testbench, fake-gcs-server."""

    @pytest.fixture
    def uri(self) -> str:
        return f"gs://{new_bucket()}/runs"


@pytest.mark.cluster
def test_a_bucket_that_is_not_there_is_refused_by_the_given_server() -> None:
    new_bucket()
    store = open_store("gs://textmill-no-such-bucket/x")
    with pytest.raises(Refused, match="there is no such bucket"):
        store.write("a", b"1")
    with pytest.raises(Refused, match="there is no such bucket"):
        list(store.list())


def test_a_server_that_fails_twice_is_asked_again(server: Any) -> None:
    store = open_store("gs://bucket/again")
    store.write("a", b"1")
    server.fail[:] = [503, 503]
    assert read_bytes(store, "a")[0] == b"1"


def test_a_server_that_goes_on_failing_may_pass(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmill.stores.gcs.PATIENCE", 1.0)
    server.fail[:] = [503] * 100
    with pytest.raises(StoreError, match=r"^gs://bucket/again: the store says 503 of a$|cannot reach"):
        open_store("gs://bucket/again").write("a", b"1")


def test_a_bucket_that_is_not_there_is_refused(server: Any) -> None:
    with pytest.raises(Refused, match="there is no such bucket"):
        open_store("gs://nowhere/x").write("a", b"1")


def test_no_permission_is_one_line(server: Any) -> None:
    server.fail[:] = [403]
    with pytest.raises(Refused, match="check the bucket, and the service account's roles"):
        open_store("gs://bucket/x").write("a", b"1")
