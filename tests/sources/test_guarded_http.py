"""Which addresses may be connected to, and what one fetch bears."""

from __future__ import annotations

import email.utils
import gzip
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sources.sites import site
from textmill.sources import BadItem, Unreachable
from textmill.sources.guarded_http import (
    Fetcher,
    Guard,
    Limits,
    Refused,
    Robots,
    Status,
    clean_url,
    robots_delay,
    wait_before,
)

QUICK = Limits(timeout=5.0, max_bytes=100_000, attempts=2, wait=0.01, delay=0.0)
HERE = Guard(["127.0.0.1"])


@pytest.fixture
def server() -> Iterator[Any]:
    with site() as server:
        yield server


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.100.100.200", "private"),
        ("192.0.0.192", "private"),
        ("fd00:ec2::254", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("2002:0a00:0001::1", "private"),
        ("64:ff9b::a00:1", "private"),
        ("169.254.169.254", "link-local or metadata"),
        ("64:ff9b::a9fe:a9fe", "link-local or metadata"),
        ("fe80::1%eth0", "link-local or metadata"),
        ("168.63.129.16", "link-local or metadata"),
        ("0.0.0.0", "special"),
        ("224.0.0.1", "special"),
        ("255.255.255.255", "special"),
        ("::", "special"),
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str, what: str) -> None:
    assert f"a {what} address; allow it by name" in Guard().refusal("evil.example", address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "8.8.8.8"])
def test_public_addresses_are_not(address: str) -> None:
    assert Guard().refusal("example.org", address) == ""


def test_an_allowed_name_allows_itself_and_no_metadata() -> None:
    guard = Guard(["intranet", "127.0.0.1", "169.254.169.254"])
    assert guard.refusal("Intranet", "10.0.0.1") == ""
    assert guard.refusal("intranet", "127.0.0.1") == ""
    assert guard.refusal("intranet", "169.254.169.254") != "", "a name must not lead to the metadata service"
    assert guard.refusal("evil.example", "127.0.0.1") != "", (
        "an allowed address does not allow other names for it"
    )
    assert guard.refusal("127.0.0.1", "127.0.0.1") == ""
    assert guard.refusal("169.254.169.254", "169.254.169.254") == ""


def test_a_name_that_turns_private_the_second_time_is_not_connected_to(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what is checked is what is connected to, each time."""
    port = server.server_port
    asked: list[str] = []

    def resolve(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("textmill.sources.guarded_http.socket.getaddrinfo", resolve)
    with pytest.raises(Refused, match=r"rebound\.example is at 127\.0\.0\.1, a loopback address"):
        Fetcher(Guard(), QUICK).get(f"http://rebound.example:{port}/")
    assert server.requests == []
    assert asked == ["rebound.example"], "resolved once: there is no second answer to differ"
    server.files = {"/": b"there"}
    assert Fetcher(Guard(["rebound.example"]), QUICK).get(f"http://rebound.example:{port}/").body == b"there"


def test_a_redirect_into_a_private_network_is_refused(server: Any) -> None:
    server.moved = {"/a": "http://169.254.169.254/latest/", "/b": f"http://localhost:{server.server_port}/c"}
    for path in ("/a", "/b"):
        with pytest.raises(Refused):
            Fetcher(HERE, QUICK).get(server.address + path)
    assert server.requests == ["GET /a", "GET /b"]


def test_redirects_are_followed_and_bounded(server: Any) -> None:
    server.files = {"/end": b"there"}
    server.moved = {"/1": "2", "/2": "/end", "/loop": "/loop", "/away": "ftp://example.org/x"}
    answer = Fetcher(HERE, QUICK).get(server.address + "/1")
    assert (answer.url, answer.body) == (f"{server.address}/end", b"there")
    with pytest.raises(BadItem, match="more than 5 redirects"):
        Fetcher(HERE, QUICK).get(server.address + "/loop")
    with pytest.raises(BadItem, match="not a web address"):
        Fetcher(HERE, QUICK).get(server.address + "/away")


@pytest.mark.parametrize("manner", ["drip", "hang", "cut"])
def test_what_does_not_end_is_ended(server: Any, manner: str) -> None:
    server.manner = {"/": manner}
    with pytest.raises(Unreachable, match=r"no whole answer in time|the connection was cut"):
        Fetcher(HERE, Limits(timeout=0.2, attempts=1, delay=0.0)).get(server.address + "/")


def test_sizes_are_bounded_also_unpacked(server: Any) -> None:
    many = b"\0" * 3_000_000
    server.files = {"/large": b"x" * 100_001, "/gzip": gzip.compress(many), "/deflate": zlib.compress(many)}
    server.headers = {path: {"Content-Encoding": path[1:]} for path in ("/gzip", "/deflate")}
    for path in server.files:
        with pytest.raises(BadItem, match="holds more than 100,000 bytes"):
            Fetcher(HERE, QUICK).get(server.address + path)
    server.files["/gzip"] = gzip.compress(b"x" * 100_000)
    assert Fetcher(HERE, QUICK).get(server.address + "/gzip").body == b"x" * 100_000
    server.files["/gzip"] = server.files["/gzip"][:-9]
    with pytest.raises(Unreachable, match="the connection was cut"):
        Fetcher(HERE, QUICK).get(server.address + "/gzip")


def test_not_now_is_asked_again_and_never_is_not(server: Any) -> None:
    server.files = {"/a": b"there"}
    server.scripts = {"/a": [(503, {})], "/b": [(404, {})] * 5}
    assert Fetcher(HERE, QUICK).get(server.address + "/a").body == b"there"
    with pytest.raises(Status, match="404"):
        Fetcher(HERE, QUICK).get(server.address + "/b")
    assert (server.asked("/a"), server.asked("/b")) == (2, 1)
    server.scripts = {"/a": [(429, {"Retry-After": "9999"})]}
    with pytest.raises(Unreachable, match="wants 9999"):
        Fetcher(HERE, QUICK).get(server.address + "/a")


def test_the_wait_doubles_and_is_never_shorter_than_asked() -> None:
    limits = Limits(wait=2.0, max_wait=100.0)
    for attempt, least in ((1, 2.0), (2, 4.0), (5, 32.0)):
        assert least <= wait_before(attempt, limits, None) <= least * 1.5
    assert wait_before(20, limits, None) == 100.0
    assert wait_before(1, limits, "60") == 60.0
    assert wait_before(1, limits, "101") == float("inf")
    assert 50 < wait_before(1, limits, email.utils.formatdate(time.time() + 60, usegmt=True)) <= 61
    assert wait_before(1, limits, "soon") <= 3.0


def test_a_host_is_not_asked_twice_within_the_delay(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("textmill.sources.guarded_http.time.sleep", slept.append)
    server.files = {"/a": b"a"}
    fetcher = Fetcher(HERE, Limits(delay=3.0))
    fetcher.delays[f"127.0.0.1:{server.server_port}"] = 10.0
    fetcher.get(server.address + "/a")
    fetcher.get(server.address + "/a")
    assert slept[0] == 0.0
    assert 9 < slept[1] <= 10


def test_the_cache_asks_only_for_what_changed(server: Any, tmp_path: Path) -> None:
    server.files = {"/a": b"one"}
    for remembers in (False, True):
        fetcher = Fetcher(HERE, QUICK, cache=tmp_path / "cache", remembers=remembers)
        assert fetcher.get(server.address + "/a").body == b"one"
        assert server.unchanged == []
    assert Fetcher(HERE, QUICK, cache=tmp_path / "cache").get(server.address + "/a").body == b"one"
    assert server.unchanged == ["/a"]
    server.files["/a"] = b"two"
    assert Fetcher(HERE, QUICK, cache=tmp_path / "cache").get(server.address + "/a").body == b"two"
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    assert Fetcher(HERE, QUICK, cache=tmp_path / "cache").get(server.address + "/a").body == b"two", (
        "damaged: fetched"
    )


def test_robots_txt_is_read_once_through_redirects_and_its_absence_allows(server: Any) -> None:
    pytest.importorskip("protego")
    server.moved = {"/robots.txt": "/moved/robots"}
    server.files = {"/moved/robots": b"User-agent: textmill\nDisallow: /no\nCrawl-delay: 4\n"}
    robots = Robots(Fetcher(HERE, QUICK))
    robots.check(server.address + "/yes")
    with pytest.raises(BadItem, match=r"forbidden by the robots\.txt"):
        robots.check(server.address + "/no/page")
    assert server.asked("/moved/robots") == 1
    assert robots.fetcher.delays == {f"127.0.0.1:{server.server_port}": 4.0}
    with site() as other:
        Robots(Fetcher(HERE, QUICK)).check(other.address + "/any")


def test_a_request_rate_is_a_delay() -> None:
    protego = pytest.importorskip("protego")
    assert robots_delay(protego.Protego.parse("User-agent: *\nRequest-rate: 1/10\n")) == 10.0
    assert robots_delay(protego.Protego.parse("User-agent: *\nDisallow:\n")) == 0.0


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("HTTP://Example.ORG:80/a b?q=ü#part", "http://example.org/a%20b?q=%C3%BC"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("https://a.org:8443/%41", "https://a.org:8443/%41"),
    ],
)
def test_addresses_as_they_go_over_the_wire(url: str, clean: str) -> None:
    assert clean_url(url) == clean


@pytest.mark.parametrize(
    "url", ["ftp://a.org", "javascript:x", "http://", "http://u:p@a.org/", "http://a.org:x/", ""]
)
def test_what_is_no_web_address(url: str) -> None:
    with pytest.raises(BadItem):
        clean_url(url)


def test_requests_sessions_are_guarded_bounded_and_patient(server: Any) -> None:
    requests = pytest.importorskip("requests")
    from textmill.sources.guarded_session import guarded_session

    session = guarded_session(HERE, Limits(timeout=0.3, max_bytes=1000, attempts=2, wait=0.01, delay=0.0))
    server.files = {"/a": b"there", "/large": b"x" * 1001, "/bomb": gzip.compress(b"\0" * 100_000)}
    server.headers["/bomb"] = {"Content-Encoding": "gzip"}
    server.manner = {"/drip": "drip", "/hang": "hang", "/cut": "cut"}
    server.scripts = {"/a": [(429, {"Retry-After": "0"})], "/busy": [(503, {})] * 5}
    server.moved = {"/inside": f"http://localhost:{server.server_port}/a", "/loop": "/loop"}
    assert session.get(server.address + "/a").content == b"there"
    assert session.get(server.address + "/busy").status_code == 503
    for path in ("/large", "/bomb"):
        with pytest.raises(BadItem, match="more than 1,000 bytes"):
            session.get(server.address + path)
    for path in ("/drip", "/hang", "/cut"):
        with pytest.raises(Unreachable):
            session.get(server.address + path)
    with pytest.raises(Refused):
        session.get(server.address + "/inside")
    with pytest.raises(requests.TooManyRedirects):
        session.get(server.address + "/loop")
