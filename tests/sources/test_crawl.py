"""Crawling loopback sites with the real Scrapy."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("scrapy")
pytest.importorskip("trafilatura")

from tests.contracts.collected_contract import QUICK, CollectedContract
from tests.sources.sites import page, scene, site
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError
from textmill.ingest import ingest, plan
from textmill.sources.crawl import Patterns


@pytest.fixture
def server() -> Iterator[Any]:
    with site() as server:
        yield server


def host(server: Any) -> str:
    return server.address.removeprefix("http://")


def address(server: Any, **more: Any) -> str:
    return "crawl:" + json.dumps(QUICK | {"start": [server.address + "/"]} | more)


def crawl(server: Any, corpus: Path, **more: Any) -> dict[str, Any]:
    return ingest(address(server, **more), corpus)


def documents(corpus: Path) -> dict[str, str]:
    return {document.id.partition("/")[2]: document.text for document in read_corpus(corpus).documents()}


def skipped(corpus: Path) -> dict[str, str]:
    return {each["item"].partition("/")[2]: each["reason"] for each in read_corpus(corpus).skipped}


class TestCrawl(CollectedContract):
    scheme = "crawl"
    texts: ClassVar = {name: scene(name) for name in ("Ash", "Birch", "Cedar")}

    @pytest.fixture
    def server(self) -> Iterator[Any]:
        with site() as server:
            yield server

    def put(self, server: Any, texts: dict[str, str]) -> None:
        server.files = {f"/{name}.html": page(name, text) for name, text in texts.items()}
        if texts:
            server.files["/"] = page("Index", "", *(f"/{name}.html" for name in texts))

    def settings(self, server: Any) -> dict[str, Any]:
        return {"start": [f"{server.address}/"], "keep": ["*.html"], "select": ["article"]}

    def item(self, server: Any, name: str) -> str:
        return f"{host(server)}/{name}.html"

    def bodies(self, server: Any) -> list[str]:
        return [request for request in server.requests if request != "GET /robots.txt"]


def test_unchanged_pages_are_asked_for_by_their_tag(server: Any, tmp_path: Path) -> None:
    server.files = {"/": page("Index", "", "/a.html"), "/a.html": page("A", scene("Ash"))}
    crawl(server, tmp_path / "corpus", keep=["/a*"])
    assert server.unchanged == []
    assert crawl(server, tmp_path / "corpus", keep=["/a*"])["unchanged"] == 1
    assert server.unchanged == ["/", "/a.html"]


def test_a_page_is_one_file_of_the_cache_and_a_damaged_or_hostile_one_is_fetched_anew(
    server: Any, tmp_path: Path
) -> None:
    """The cache travels with a corpus, so what lies in it may be a stranger's: nothing of it is unpickled."""

    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "run"),)

    names = [f"/{letter}.html" for letter in "abcd"]
    server.files = {"/": page("Index", "", *names)} | {name: page(name, scene(name)) for name in names}
    crawl(server, tmp_path / "corpus", keep=["/*.html"])
    cached = sorted(
        path for path in (tmp_path / "corpus/collecting/crawl/cache").rglob("*") if path.is_file()
    )
    assert len(cached) == 5
    for path, data in zip(
        cached,
        [b"", pickle.dumps(Hostile()), b'{"url": 7}\n', cached[3].read_bytes()[:-9], None],
        strict=True,
    ):
        if data is not None:
            path.write_bytes(data)
    assert crawl(server, tmp_path / "corpus", keep=["/*.html"])["unchanged"] == 4
    assert len(server.unchanged) == 1, "the whole one was asked for by its tag, the others anew"
    assert not (tmp_path / "run").exists()


def test_what_is_followed_kept_and_skipped_and_how_deep(server: Any, tmp_path: Path) -> None:
    server.files = {
        "/": page("Index", scene("Index"), "/plays/1", "/plays/lost/2", "/about", "/plays/scan.png"),
        "/plays/1": page("One", scene("One"), "/plays/2#end", "/", "2"),
        "/plays/2": page("Two", scene("Two"), "/plays/3?act=1"),
        "/plays/3": page("Three", scene("Three"), "/plays/4"),
        "/plays/4": page("Four", scene("Four")),
        "/plays/lost/2": page("Lost", scene("Lost")),
        "/about": page("About", scene("About")),
    }
    rules = {"follow": ["/plays/*"], "keep": ["/plays/*"], "skip": ["/plays/lost/*"], "depth": 3}
    crawl(server, tmp_path / "corpus", **rules)
    assert sorted(documents(tmp_path / "corpus")) == ["plays/1", "plays/2", "plays/3?act=1"]
    assert server.requests == [
        "GET /robots.txt", "GET /", "GET /plays/1", "GET /plays/2", "GET /plays/3?act=1"
    ]  # fmt: skip


def test_no_more_pages_than_max_pages_nearest_first(server: Any, tmp_path: Path) -> None:
    server.files = {f"/{n}": page(f"{n}", scene(f"{n}"), f"/{2 * n + 1}", f"/{2 * n + 2}") for n in range(30)}
    crawl(server, tmp_path / "corpus", start=[server.address + "/0"], skip=["/"], max_pages=5)
    assert sorted(documents(tmp_path / "corpus")) == ["0", "1", "2", "3", "4"]
    assert len(server.requests) == 6


def test_robots_txt_is_obeyed_under_one_honest_name(server: Any, tmp_path: Path) -> None:
    server.files = {
        "/robots.txt": b"User-agent: textmill\nDisallow: /secret\nCrawl-delay: 0.05\n\nUser-agent: *\nDisallow: /\n",
        "/": page("Index", scene("Index"), "/secret/a", "/open"),
        "/secret/a": page("Secret", scene("Secret")),
        "/open": page("Open", scene("Open")),
    }
    crawl(server, tmp_path / "corpus", contact="https://example.org/who")
    assert sorted(documents(tmp_path / "corpus")) == ["", "open"]
    assert server.asked("/secret/a") == 0
    (agent,) = server.agents
    assert agent.startswith("textmill/")
    assert agent.endswith(" (+https://example.org/who)")
    with pytest.raises(InputError, match=r"/secret/a: forbidden by the robots.txt of its host\.$"):
        crawl(server, tmp_path / "other", start=[server.address + "/secret/a"])
    assert server.asked("/secret/a") == 0


def test_the_crawl_delay_is_kept(server: Any, tmp_path: Path) -> None:
    from textmill.sources.crawl import CrawlSource

    server.files = {"/robots.txt": b"User-agent: *\nCrawl-delay: 7\n", "/": page("Index", scene("Index"))}
    source = CrawlSource(address(server, allow=["127.0.0.1"]), max_bytes=1 << 20)
    robots, _ = source._ask_robots()
    from textmill.sources.crawl_child import settings_of

    settings = settings_of(source._orders(tmp_path, robots))
    assert settings["DOWNLOAD_DELAY"] == settings["AUTOTHROTTLE_START_DELAY"] == 7.0
    assert settings["DOWNLOAD_DELAY_JITTER"] == 0.0
    assert "one each 7 s or slower" in plan(address(server), tmp_path / "none").notes[0]


def test_as_long_as_robots_txt_cannot_be_read_nothing_is_fetched(server: Any, tmp_path: Path) -> None:
    server.files = {"/": page("Index", scene("Index"))}
    server.scripts["/robots.txt"] = [(503, {})] * 9
    with pytest.raises(MachineError, match="503 Service Unavailable"):
        crawl(server, tmp_path / "corpus")
    assert server.asked("/") == 0
    assert not (tmp_path / "corpus").exists()


def test_429_and_500_are_waited_out_and_what_stays_broken_is_reported(server: Any, tmp_path: Path) -> None:
    server.files = {
        "/": page("Index", scene("Index"), "/busy", "/shaky", "/broken", "/gone", "/picture"),
        "/busy": page("Busy", scene("Busy")),
        "/shaky": page("Shaky", scene("Shaky")),
        "/broken": page("Broken", scene("Broken")),
        "/picture": b"\x89PNG",
    }
    server.headers["/picture"] = {"Content-Type": "image/png"}
    server.scripts = {"/busy": [(429, {"Retry-After": "1"})], "/shaky": [(500, {}), (502, {})]}
    server.scripts["/broken"] = [(503, {})] * 9
    crawl(server, tmp_path / "corpus", retries=2)
    first = server.requests.index("GET /busy")
    assert server.requests[first + 1] == "GET /busy", "its host gets nothing else while Retry-After lasts"
    assert sorted(documents(tmp_path / "corpus")) == ["", "busy", "shaky"]
    assert skipped(tmp_path / "corpus") == {
        "broken": "the server answered 503",
        "gone": "the server answered 404",
        "picture": "of unknown kind (image/png)",
    }
    assert (server.asked("/busy"), server.asked("/shaky"), server.asked("/broken")) == (2, 3, 3)


def test_a_page_that_does_not_answer_now_and_those_behind_it_stay(server: Any, tmp_path: Path) -> None:
    files = {
        "/": page("Index", scene("Index"), "/list", "/solo"),
        "/list": page("List", scene("List"), "/behind"),
        "/behind": page("Behind", scene("Behind")),
        "/solo": page("Solo", scene("Solo")),
    }
    server.files = dict(files)
    crawl(server, tmp_path / "corpus")
    server.scripts["/list"] = [(503, {})] * 2
    summary = crawl(server, tmp_path / "corpus")
    assert (summary["unchanged"], summary["gone"], summary["skipped"]) == (4, 0, 1)
    del server.files["/behind"]
    assert crawl(server, tmp_path / "corpus")["gone"] == 1


def test_redirects_stay_among_the_hosts_and_public(server: Any, tmp_path: Path) -> None:
    with site() as other:
        other.files = {"/": page("Other", scene("Other"))}
        server.files = {
            "/": page("Index", scene("Index"), "/moved", "/loop", "/out", "/metadata", other.address + "/"),
            "/new": page("New", scene("New"), "/moved"),
        }
        server.moved = {
            "/moved": "/new",
            "/loop": "/loop?again",
            "/loop?again": "/loop",
            "/out": other.address + "/",
            "/metadata": "http://169.254.169.254/latest/meta-data/",
        }
        crawl(server, tmp_path / "corpus")
        assert other.requests == []
    assert sorted(documents(tmp_path / "corpus")) == ["", "new"]
    assert skipped(tmp_path / "corpus") == {
        "metadata": "redirected to 169.254.169.254, which is not among the allowed hosts",
        "out": f"redirected to {host(other)}, which is not among the allowed hosts",
    }
    assert server.asked("/moved") == server.asked("/new") == 1


def test_a_redirect_to_a_page_that_is_not_to_be_visited_is_reported(server: Any, tmp_path: Path) -> None:
    server.files = {"/": page("Index", scene("Index"), "/plays/1"), "/other": page("Other", scene("Other"))}
    server.moved = {"/plays/1": "/other"}
    crawl(server, tmp_path / "corpus", follow=["/plays/*"])
    assert skipped(tmp_path / "corpus") == {
        "plays/1": f"redirected to {server.address}/other, which is not to be visited"
    }


def test_an_allowed_host_at_a_forbidden_address_is_not_connected_to(server: Any, tmp_path: Path) -> None:
    """The name is among the hosts; what it resolves to is checked when the connection is made."""
    port = host(server).rpartition(":")[2]
    server.files = {
        "/": page("Index", scene("Index"), f"http://localhost:{port}/inner"),
        "/inner": page("Inner", scene("Inner")),
    }
    crawl(server, tmp_path / "corpus", hosts=[f"localhost:{port}"])
    assert sorted(documents(tmp_path / "corpus")) == [""]
    (reason,) = {each["reason"] for each in read_corpus(tmp_path / "corpus").skipped}
    assert "localhost is at" in reason
    assert "a loopback address; allow it by name" in reason
    assert server.asked("/inner") == 0


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_crawler_itself_checks_each_address_it_connects_to(
    server: Any, tmp_path: Path, name: str
) -> None:
    """As when a name resolves to another address after robots.txt was read: the child is on its own."""
    from textmill.sources.crawl import CrawlSource

    server.files = {"/": page("Index", scene("Index")), "/b": page("B", scene("B"))}
    port = host(server).rpartition(":")[2]
    source = CrawlSource(address(server, allow=["127.0.0.1"], hosts=[f"localhost:{port}"]), max_bytes=1 << 20)
    robots, _ = source._ask_robots()
    orders = source._orders(tmp_path, robots) | {"cache": ""}
    orders["hosts"], orders["robots"] = [f"{name}:{port}"], {f"{name}:{port}": ""}
    orders["start"], orders["allow"] = [f"http://{name}:{port}/b"], []
    child = subprocess.Popen(
        [sys.executable, "-m", "textmill.sources.crawl_child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(orders).encode() + b"\n")
    child.stdin.flush()
    child.stdout.read()
    assert child.wait() == 0
    child.stdin.close()
    (item,) = [item for item in source._pages(tmp_path / "journal.jsonl") if item.problem]
    assert item.problem.endswith("a loopback address; allow it by name if that is meant")
    assert server.asked("/b") == 0


def test_slow_cut_silent_large_and_packed_pages_are_bounded(server: Any, tmp_path: Path) -> None:
    bomb = gzip.compress(b"<p>" + b"\0" * 3_000_000)
    links = ["/drip", "/cut", "/hang", "/large", "/bomb", "/packed", "/torn"]
    server.files = {
        "/": page("Index", scene("Index"), *links),
        "/large": page("Large", "x" * 300_000),
        "/bomb": bomb,
        "/packed": gzip.compress(page("Packed", scene("Packed"))),
        "/torn": gzip.compress(page("Torn", scene("Torn")))[:60],
    }
    for path in ("/bomb", "/packed", "/torn"):
        server.headers[path] = {"Content-Encoding": "gzip"}
    server.manner = {"/drip": "drip", "/cut": "cut", "/hang": "hang"}
    crawl(server, tmp_path / "corpus", timeout=1.5, retries=0, max_page_bytes=200_000, concurrency=4)
    assert sorted(documents(tmp_path / "corpus")) == ["", "packed"]
    found = skipped(tmp_path / "corpus")
    too_large = "holds more than 200,000 bytes; raise max_bytes if that is meant"
    assert found["large"] == found["bomb"] == too_large
    assert found["cut"] == "the connection was cut"
    assert found["drip"] == found["hang"] == "no whole answer in 1.5 s"
    assert len(bomb) < 20_000
    assert "torn" in found


def test_characters_are_read_as_they_are_and_not_as_they_are_said_to_be(server: Any, tmp_path: Path) -> None:
    text = "“Die Mühle steht still”, sagt Zoë."
    server.files = {
        "/": page("Index", "", "/header", "/wrong", "/inside"),
        "/header": page("H", text).decode().encode("cp1252"),
        "/wrong": page("W", text).decode().encode("cp1252"),
        "/inside": page("I", text, head="<meta charset='utf-16'>"),
    }
    server.headers["/header"] = {"Content-Type": "text/html; charset=ISO-8859-1"}
    server.headers["/wrong"] = {"Content-Type": "text/html; charset=utf-8"}
    server.headers["/inside"] = {"Content-Type": "text/html"}
    crawl(server, tmp_path / "corpus", select=["article p"], keep=["/?*", "/header", "/wrong", "/inside"])
    assert documents(tmp_path / "corpus") == dict.fromkeys(("header", "wrong", "inside"), text + "\n")


RUN = """
import sys
from pathlib import Path
from textmill.ingest import ingest
print(ingest(sys.argv[1], Path(sys.argv[2])), flush=True)
"""


def test_killed_in_the_middle_it_goes_on_and_fetches_nothing_twice(server: Any, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    names = [f"/{n}.html" for n in range(8)]
    server.files = {"/": page("Index", scene("Index"), *names)}
    server.files |= {name: page(name, scene(name)) for name in names}
    server.manner = {"/4.html": "hang"}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, address(server, timeout=60.0), str(corpus)], cwd=os.getcwd()
    )
    while server.asked("/4.html") == 0 and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(0.3)  # its child ends too
    asked = len(server.requests)
    assert server.asked("/5.html") == 0
    time.sleep(0.2)
    assert len(server.requests) == asked, "nothing goes on without its parent"
    server.manner = {}
    journal = corpus / "collecting" / "crawl" / "journal.jsonl"
    with open(journal, "ab") as file:  # as if the kill had come in the middle of a line
        file.write(b'{"url": "http://half')
    summary = ingest(address(server, timeout=60.0), corpus)
    assert summary["items"] == 9
    assert {path: server.asked(path) for path in names} == dict.fromkeys(names, 1) | {"/4.html": 2}
    assert server.asked("/") == 1
    assert not journal.exists()


def test_a_crawl_that_was_read_but_not_made_a_corpus_is_not_crawled_again(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/": page("Index", scene("Index"), "/a"), "/a": page("A", scene("A"))}
    with monkeypatch.context() as patch:
        patch.setattr(
            "textmill.ingest._Ingest.finish", lambda self: (_ for _ in ()).throw(MachineError("full"))
        )
        with pytest.raises(MachineError, match="full"):
            crawl(server, tmp_path / "corpus")
    del server.requests[:]
    assert crawl(server, tmp_path / "corpus")["items"] == 2
    assert server.requests == ["GET /robots.txt"]


def test_stopped_by_its_time_limit_it_goes_on_the_next_time(server: Any, tmp_path: Path) -> None:
    server.files = {f"/{n}": page(f"{n}", scene(f"{n}"), f"/{n + 1}") for n in range(6)}
    server.files["/"] = server.files["/0"]
    limited = {"skip": ["/6"], "max_minutes": 0.05, "delay": 0.8, "depth": 9}
    runs = [crawl(server, tmp_path / "corpus", **limited)]
    while len(runs) < 9 and runs[-1]["items"] < 6:
        runs.append(crawl(server, tmp_path / "corpus", **limited))
    assert len(runs) > 1
    assert all(before["items"] <= after["items"] for before, after in itertools.pairwise(runs))
    assert all(run["gone"] == 0 for run in runs)
    assert [server.asked(f"/{n}") for n in range(1, 6)] == [1] * 5
    assert not (tmp_path / "corpus" / "collecting" / "crawl" / "journal.jsonl").exists()


def test_a_robots_txt_elsewhere_is_not_fetched(server: Any, tmp_path: Path) -> None:
    with site() as other:
        server.moved = {"/robots.txt": other.address + "/robots.txt"}
        with pytest.raises(InputError, match=r"redirected to .* which is not among the allowed hosts"):
            crawl(server, tmp_path / "corpus")
        assert other.requests == []


def test_an_address_alone_is_its_folder(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from textmill.sources.crawl import CrawlSource

    source = CrawlSource("crawl:https://example.org/plays/index.html?token=secret", max_bytes=1)
    assert source.settings.follow == ["/plays/*"]
    assert source.label == "crawl:https://example.org/plays/index.html"
    assert "secret" not in json.dumps(source.used())


def test_patterns() -> None:
    wanted = Patterns(
        frozenset({"a.org"}), ("/plays/*", "a.org/list?page=*"), ("*/scene-1",), ("https://a.org/plays/x*",)
    )
    assert wanted.visits("https://a.org/plays/")
    assert wanted.visits("http://a.org/list?page=2")
    assert wanted.visits("http://a.org/other/scene-1")
    assert not wanted.visits("http://a.org/other/scene-12")
    assert not wanted.visits("https://a.org/plays/xyz")
    assert not wanted.visits("https://b.a.org/plays/")
    assert not wanted.visits("https://a.org:8443/plays/")
    assert wanted.keeps("https://a.org/plays/scene-1")
    assert not wanted.keeps("https://a.org/plays/")


@pytest.mark.parametrize(
    ("description", "line"),
    [
        ("{}", "no pages are named; give the first ones in 'start'."),
        ("{start: [ftp://a.org/]}", "setting 'start' holds 'ftp://a.org/': not a web address."),
        (
            "{start: ['https://u:secret@a.org/']}",
            "setting 'start' holds 'https://a.org/': an address with a user or",
        ),
        ("{start: [https://a.org/], select: ['p[']}", "setting 'select': 'p[' is no selector ("),
        (
            "{start: [https://a.org/], hosts: [a.org/b]}",
            "setting 'hosts' holds 'a.org/b'; give a host such as",
        ),
        ("{start: [https://a.org/}", "the text after crawl: is not valid YAML, line 1:"),
        ("[https://a.org/]\n", "the text after crawl: must hold settings, `key: value`, not list."),
        ("nowhere.yaml", "there is no file or folder nowhere.yaml."),
        ("plays", "'crawl:plays' is none of crawl:FILE.yaml, crawl:https://… or crawl:{key: value, …}."),
        ("", "crawl: says nothing; write crawl:FILE.yaml or crawl:{…}."),
    ],
)
def test_what_a_description_gets_wrong_is_one_line(description: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ingest(f"crawl:{description}", tmp_path / "corpus")
    assert str(caught.value).startswith(line)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
