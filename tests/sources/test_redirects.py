"""Where the server of a named address may send us on to."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sources.fakes import Fake, serving
from textmill.errors import InputError
from textmill.ingest import ingest
from textmill.sources.redirects import GuardedRedirects, open_address
from textmill.stores.resumable import WebFolder

NAMES = {"public.example": "93.184.215.14", "other.example": "93.184.215.15", "inside.example": "10.0.0.7"}


class Redirecting(Fake):
    """Answers `/to/ADDRESS` with a redirect to it."""

    def answer(self, path: str, query: dict[str, str]) -> None:
        if path.startswith("/to/"):
            self.send(302, b"", Location=path.removeprefix("/to/"))
        else:
            super().answer(path, query)


@pytest.fixture
def server() -> Iterator[Any]:
    with serving(Redirecting) as server:
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in NAMES:
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (NAMES[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def redirected(first: str, then: str) -> str:
    request = urllib.request.Request(first)
    after = GuardedRedirects().redirect_request(request, None, 302, "Found", {}, then)
    assert after is not None
    return after.full_url


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("https://public.example/a", "https://other.example/b"),
        ("https://public.example/a", "https://public.example/b"),
        ("http://inside.example/a", "http://public.example/b"),
        ("http://inside.example/a", "http://inside.example:9000/b"),
        ("https://public.example/a", "https://nowhere.example/b"),  # it fails by itself
    ],
)
def test_redirects_that_are_followed(first: str, then: str, names: None) -> None:
    assert redirected(first, then) == then


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ("https://public.example/a", "http://inside.example/b", "inside.example, a private address"),
        ("http://inside.example/a", "ftp://public.example/b", "ftp:…, which is no web address"),
        (
            "https://public.example/a?signature=s3cr3t",
            "http://inside.example/b",
            "^https://public.example/a redirects",
        ),
    ],
)
def test_redirects_that_are_not(first: str, then: str, why: str, names: None) -> None:
    with pytest.raises(InputError, match=why):
        redirected(first, then)


def test_the_first_address_counts_after_several_redirects_too(names: None) -> None:
    """public -> another public one -> a private one: the one before is not what the user named."""
    handler, request = GuardedRedirects(), urllib.request.Request("https://public.example/")
    second = handler.redirect_request(request, None, 302, "", {}, "https://other.example/")
    assert second is not None
    with pytest.raises(InputError, match="a private address"):
        handler.redirect_request(second, None, 302, "", {}, "http://inside.example/")


def test_metadata_never_becomes_a_corpus_or_a_model(server: Any, tmp_path: Path) -> None:
    """Not even from a server in a private network, where this one is."""
    address = f"{server.address}/to/http://169.254.169.254/latest/meta-data/"
    with pytest.raises(
        InputError, match=r"redirects to 169.254.169.254, a link-local or metadata address; if that"
    ):
        ingest(address, tmp_path / "corpus")
    with pytest.raises(InputError, match="metadata"):
        WebFolder(address).open("hparams.json", 0, "")


def test_a_redirect_within_the_same_network_is_followed(server: Any) -> None:
    server.files["/there.txt"] = b"a text"
    request = urllib.request.Request(f"{server.address}/to/{server.address}/there.txt")
    with open_address(request, 10) as answer:
        assert answer.read() == b"a text"
