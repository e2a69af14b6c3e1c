"""Object stores through fsspec: its own memory store, and the real s3fs and gcsfs against loopback stand-ins."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.contracts.source_contract import HAMLET, FolderContract, Place
from tests.sources.fakes import FakeGCS, FakeS3, serving
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError
from textmill.ingest import ingest
from textmill.sources import open_source


class TestMemory(FolderContract):
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        store = fsspec.filesystem("memory")

        def put(files: Mapping[str, bytes]) -> str:
            if store.exists("/bucket"):
                store.rm("/bucket", recursive=True)
            for name, data in files.items():
                store.pipe(f"/bucket/texts/{name}", data)
            return "memory://bucket/texts"

        yield put
        store.rm("/bucket", recursive=True)

    @pytest.fixture
    def missing(self) -> str:
        return "memory://bucket/hamlett.txt"


class OnServer(FolderContract):
    """A store whose library talks to a stand-in."""

    scheme: str

    @pytest.fixture
    def place(self, server: Any) -> Place:
        def put(files: Mapping[str, bytes]) -> str:
            server.files = {f"/bucket/texts/{name}": data for name, data in files.items()}
            return f"{self.scheme}://bucket/texts"

        return put

    @pytest.fixture
    def missing(self, server: Any) -> str:
        return f"{self.scheme}://bucket/hamlett.txt"

    def test_unchanged_objects_are_listed_but_not_fetched(
        self, place: Place, server: Any, tmp_path: Path
    ) -> None:
        address = place({"a.txt": HAMLET, "b.txt": HAMLET})
        ingest(address, tmp_path / "corpus")
        place({"a.txt": HAMLET, "b.txt": b"other words"})
        del server.requests[:]
        summary = ingest(address, tmp_path / "corpus")
        assert (summary["unchanged"], summary["changed"]) == (1, 1)
        assert not any("a.txt" in request for request in server.requests)

    def test_documents_know_their_address(self, place: Place, tmp_path: Path) -> None:
        ingest(place({"a.txt": HAMLET}), tmp_path / "corpus")
        (document,) = read_corpus(tmp_path / "corpus").documents()
        assert document.source == f"{self.scheme}://bucket/texts/a.txt"


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is None, reason="s3fs is not installed")
class TestS3(OnServer):
    scheme = "s3"

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        with serving(FakeS3) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield server


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is None, reason="gcsfs is not installed")
class TestGCS(OnServer):
    scheme = "gs"

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        with serving(FakeGCS) as server:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
            yield server


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(
    scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError) as caught:
        open_source(f"{scheme}://bucket/texts", max_bytes=1)
    assert str(caught.value) == (
        f"{scheme}://bucket/texts needs the package {package}: pip install 'textmill[{extra}]'."
    )


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(InputError, match="names no bucket; write memory://bucket/key"):
        open_source("memory://", max_bytes=1)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"unknown kind of source 'htp://'. Did you mean 'http://'\? Known: .*file://"
    ):
        open_source("htp://example.org", max_bytes=1)
    with pytest.raises(InputError, match="no source is given"):
        open_source(" ", max_bytes=1)
