"""Files at http addresses, from a loopback server."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.source_contract import HAMLET, Place, SourceContract, content, listing
from tests.sources.fakes import Fake, serving
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError
from textmill.ingest import ingest
from textmill.sources import web


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "WAIT", 0.0)


@pytest.fixture
def server() -> Iterator[Any]:
    with serving(Fake) as server:
        yield server


class TestWeb(SourceContract):
    @pytest.fixture
    def place(self, server: Any) -> Place:
        def put(files: Mapping[str, bytes]) -> str:
            server.files = {f"/texts/{name}": data for name, data in files.items()}
            return f"{server.address}/texts"

        return put

    @pytest.fixture
    def missing(self, server: Any) -> str:
        return f"{server.address}/hamlett.txt"


def test_an_unchanged_file_is_asked_for_but_not_fetched_again(server: Any, tmp_path: Path) -> None:
    server.files["/hamlet.txt"] = HAMLET
    ingest(f"{server.address}/hamlet.txt", tmp_path / "corpus")
    del server.requests[:]
    assert ingest(f"{server.address}/hamlet.txt", tmp_path / "corpus")["unchanged"] == 1
    assert server.requests == ["HEAD /hamlet.txt"]


def test_an_archive_is_fetched_once_and_its_members_are_the_items(server: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("plays/hamlet.txt", HAMLET)
        archive.writestr("readme.pdf", b"%PDF")
    server.files["/plays.zip"] = packed.getvalue()
    first = ingest(f"{server.address}/plays.zip", tmp_path / "corpus")
    assert (first["new"], first["skipped"]) == (1, 1)
    del server.requests[:]
    again = ingest(f"{server.address}/plays.zip", tmp_path / "corpus")
    assert (again["unchanged"], again["skipped"]) == (1, 1)
    assert server.requests == ["HEAD /plays.zip"]
    (document,) = read_corpus(tmp_path / "corpus").documents()
    assert (document.id, document.source) == (
        "plays/hamlet.txt",
        f"{server.address}/plays.zip/plays/hamlet.txt",
    )


def test_404_is_one_line_for_the_user_and_500_one_for_the_machine(server: Any) -> None:
    with pytest.raises(InputError) as caught:
        content(listing(f"{server.address}/lost.txt")["lost.txt"])
    line = f"cannot fetch {server.address}/lost.txt: the server answered 404 Not Found; check the address."
    assert str(caught.value) == line

    class Broken(Fake):
        def answer(self, path: str, query: dict[str, str]) -> None:
            self.send(503, b"busy")

    with (
        serving(Broken) as broken,
        pytest.raises(MachineError, match="503 Service Unavailable; try again"),
    ):
        content(listing(f"{broken.address}/a.txt")["a.txt"])
    assert broken.requests.count("GET /a.txt") == web.ATTEMPTS


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with serving(Fake) as server:
        address = f"{server.address}/a.txt"
    with pytest.raises(MachineError, match="Connection refused") as caught:
        ingest(address, tmp_path / "corpus")
    assert "\n" not in str(caught.value)


class Cut(Fake):
    """Promises more than it sends, `cuts` times."""

    def send(self, status: int, body: bytes, **headers: str) -> None:
        if self.command == "HEAD" or self.server.cuts == 0:
            return super().send(status, body, **headers)
        self.server.cuts -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:10])
        self.close_connection = True
        return None


def test_a_cut_connection_is_tried_again_and_then_one_line(tmp_path: Path) -> None:
    with serving(Cut) as server:
        server.files, server.cuts = {"/a.txt": HAMLET}, 2
        assert content(listing(f"{server.address}/a.txt")["a.txt"]) == HAMLET
        server.cuts = 3
        with pytest.raises(MachineError) as caught:
            ingest(f"{server.address}/a.txt", tmp_path / "corpus")
    assert "the connection was cut 33 bytes before the end; try again later." in str(caught.value)
    assert not (tmp_path / "corpus").exists()


def test_the_query_is_sent_but_neither_shown_nor_kept(server: Any, tmp_path: Path) -> None:
    server.files["/a b.txt"] = HAMLET
    ingest(f"{server.address}/a b.txt?signature=secret#part", tmp_path / "corpus")
    assert server.requests[-1] == "GET /a%20b.txt?signature=secret"
    assert "secret" not in (tmp_path / "corpus" / "manifest.json").read_text()
    assert [document.id for document in read_corpus(tmp_path / "corpus").documents()] == ["a b.txt"]


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        listing("https://someone:secret@example.org/a.txt")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [("", "127.0.0.1"), ("/texts/", "texts"), ("/a%2f..%2f..%2fb.txt", "b.txt"), ("/x/%2e%2e", "127.0.0.1")],
)
def test_names_are_the_last_part_and_never_a_path(server: Any, path: str, name: str) -> None:
    assert list(listing(server.address + path)) == [name]
