"""What holds for every row of SOURCES: what a dry run says, what is kept of where a text came from, and what a user
reads who gets something wrong. Each row is tried by the command line at a real place: files, or a server of ours."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner

from tests.contracts.collected_contract import QUICK
from tests.contracts.posts_contract import FIRST
from tests.sources.dumps import test_formats as samples
from tests.sources.fakes import Fake, FakeGCS, FakeS3, serving
from tests.sources.sites import Site, Wiki, feed, page, scene, site
from tests.sources.social_fakes import FakeBluesky, FakeMastodon, FakeX, service
from textmill.cli import main
from textmill.corpora.corpus import read_corpus
from textmill.sources import SOURCES

TEXT = b"The wheel turned, and turned again."
Place = Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[str]]


@dataclass(frozen=True)
class Row:
    """place: makes one good text be there, and gives its address. item, source: what the corpus calls it. terms: what
    is known of them, in `terms` or `licence`. wrong: addresses, in which PLACE is the good one, HOST its server and
    HERE a folder, and the line that is said of each."""

    scheme: str
    place: Place
    item: str
    source: str
    terms: str = ""
    wrong: list[tuple[str, str]] = field(default_factory=list)


# --- files, here and elsewhere


@contextlib.contextmanager
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (folder / "mill.txt").write_bytes(TEXT)
    yield str(folder / "mill.txt")


@contextlib.contextmanager
def by_http(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(Fake) as server:
        server.files = {"/mill.txt": TEXT}
        yield f"{server.address}/mill.txt"


@contextlib.contextmanager
def by_https(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same code; a certificate for a loopback server is not had for nothing, so that the request goes by http."""
    from textmill.sources import web

    asked = web._request
    monkeypatch.setattr(web, "_request", lambda url, method: asked(url.replace("https:", "http:"), method))
    with by_http(folder, monkeypatch) as address:
        yield address.replace("http:", "https:")


def in_store(scheme: str, handler: type[Fake]) -> Place:
    @contextlib.contextmanager
    def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        with serving(handler) as server:
            for name, value in (
                ("AWS_ENDPOINT_URL", server.address),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
                ("STORAGE_EMULATOR_HOST", server.address),
            ):
                monkeypatch.setenv(name, value)
            server.files = {"/bucket/mill.txt": TEXT}
            yield f"{scheme}://bucket/mill.txt"

    return place


@contextlib.contextmanager
def in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/mill.txt", TEXT)
    yield "memory://bucket/mill.txt"
    store.rm("/bucket", recursive=True)


@contextlib.contextmanager
def in_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    yield "sample:posts"


def garbled(name: str) -> tuple[str, str]:
    return (f"{name}:HERE/garbled", rf"no text in {name}:garbled: \S+(, line 1)?: ")


def of_format(name: str, file: str, data: bytes | str, *wrong: tuple[str, str], terms: str = "") -> Row:
    """A file of a format."""

    @contextlib.contextmanager
    def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        (folder / file).write_bytes(data.encode() if isinstance(data, str) else data)
        yield f"{name}:{folder / file}"

    named_nothing = (f"{name}:", f"{name}: names no place; write {name}:FILE or {name}:FOLDER")
    nowhere = (f"{name}:HERE/nowhere.xyz", r"there is no file or folder .*nowhere\.xyz")
    none = (f"{name}:HERE/empty", f"no {name} in empty: none of its files is named")
    return Row(name, place, file, f"{name}:{file}", terms, [named_nothing, nowhere, none, *wrong])


# --- servers


QUICKLY = QUICK | {"retries": 0}


def described(scheme: str, value: dict[str, Any]) -> str:
    return f"{scheme}:{json.dumps(QUICKLY | value)}"


@contextlib.contextmanager
def on_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with site(Site) as server:
        licence = "<link rel='license' href='https://creativecommons.org/licenses/by/4.0/'>"
        server.files["/mill.html"] = page("Mill", scene("Ash"), head=licence)
        yield described("crawl", {"start": [f"{server.address}/mill.html"]})


@contextlib.contextmanager
def on_wiki(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with site(Wiki) as server:
        server.titles = {"Mill": scene("Ash")}
        yield described("mediawiki", {"api": f"{server.address}/w/api.php", "pages": ["Mill"]})


@contextlib.contextmanager
def in_feed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with site(Site) as server:
        server.files["/feed.xml"] = feed(server.address, {"mill": scene("Ash")})
        yield described("feeds", {"feeds": [f"{server.address}/feed.xml"]})


def on_service(scheme: str, fake: Any, query: str, token: str = "") -> Place:
    @contextlib.contextmanager
    def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        with service(fake, [(FIRST, "The wheel turned.", "")]) as server:
            if token:
                monkeypatch.setenv(token, "secret")
                server.token = "secret"
            yield described(scheme, {"queries": [query], "server": server.address})

    return place


def wrong_description(scheme: str, named: str, lines: str) -> list[tuple[str, str]]:
    return [
        (f"{scheme}:", f"{scheme}: says nothing; write {scheme}:FILE.yaml"),
        (f"{scheme}:HERE/nowhere.yaml", r"there is no file or folder .*nowhere\.yaml"),
        (f"{scheme}:HERE/broken.yaml", r"broken\.yaml is not valid YAML, line \d"),
        (f"{scheme}:HERE/list.yaml", r"list\.yaml must hold settings, `key: value`, not list"),
        (f"{scheme}:{{}}", named),
        (f"{scheme}:{{contcat: me}}", "unknown setting 'contcat' .*Did you mean 'contact'"),
        (f"{scheme}:what is this", f"is none of {scheme}:FILE.yaml"),
        (lines, "a loopback address; allow it by name|is no https address; X_BEARER_TOKEN is not sent there"),
    ]


ROWS = [
    Row("file", here, "mill.txt", "mill.txt", "", [
        ("HERE/nowhere.txt", r"there is no file or folder .*nowhere\.txt"),
        ("HERE/empty", "no text in empty: it holds no files"),
        ("HERE/*.md", "nothing matches"),
        ("HERE/blank.txt", r"no text in blank\.txt: no text in it"),
        ("", "no source is given"),
        ("fiel:///mill.txt", r"unknown kind of source 'fiel://'. Did you mean 'file://'"),
        ("mastdon:HERE/text.txt", r"unknown kind of source 'mastdon:'. Did you mean 'mastodon:'"),
    ]),
    Row("http", by_http, "mill.txt", "http://127.0.0.1", "", [
        ("PLACEx", r"cannot fetch http://127\.0\.0\.1:\d+/mill\.txtx: the server answered 404 .*check the address"),
        ("http://", "is not an address of the form https://host/path"),
        ("http://me:secret@127.0.0.1/x", "a user and password in an address end up in logs"),
    ]),
    Row("https", by_https, "mill.txt", "https://127.0.0.1", "", [
        ("PLACEx", r"cannot fetch https://127\.0\.0\.1:\d+/mill\.txtx: the server answered 404"),
    ]),
    *(
        Row(scheme, in_store(scheme, fake), "mill.txt", f"{scheme}://bucket/mill.txt", "", [
            (f"{scheme}://bucket/nowhere.txt", f"there is no object or prefix {scheme}://bucket/nowhere.txt"),
            (f"{scheme}://", f"names no bucket; write {scheme}://bucket/key"),
            (f"{scheme}://bucket/*.md", r"nothing matches|there is no object or prefix .*\*\.md"),
        ])
        for scheme, fake in (("s3", FakeS3), ("gs", FakeGCS), ("gcs", FakeGCS))
    ),
    Row("memory", in_memory, "mill.txt", "memory://bucket/mill.txt", "", [
        ("memory://bucket/nowhere.txt", "there is no object or prefix memory://bucket/nowhere.txt"),
    ]),
    Row("sample", in_package, "baker.jsonl", "baker.jsonl", "CC0 1.0", [
        ("sample:pots", "unknown sample 'pots'. Did you mean 'posts'"),
    ]),
    Row("crawl", on_site, "127.0.0.1:PORT/mill.html", "http://127.0.0.1", "creativecommons.org/licenses/by/4.0", [
        *wrong_description("crawl", "no pages are named", "crawl:{start: [HOST/mill.html]}"),
        ("crawl:{start: [HOST/none.html], allow: [127.0.0.1], delay: 0}", r"none\.html: .*404"),
        ("crawl:{start: [HOST/], select: ['p[']}", "setting 'select'"),
    ]),
    Row("mediawiki", on_wiki, "Mill", "http://127.0.0.1", "licenses/by-sa/4.0", [
        *wrong_description(
            "mediawiki", "setting 'api' is missing", "mediawiki:{api: HOST/w/api.php, pages: [Mill]}"
        ),
        ("mediawiki:{api: HOST/w/api.php, pages: [Nope], allow: [127.0.0.1]}", "none of its 1 pages is there"),
        ("mediawiki:{api: HOST/w/api.php, series: [EP]}", "'EP' has no range such as {001..274}"),
        ("mediawiki:{api: HOST/api.php, pages: [Nope], allow: [127.0.0.1]}", "404|does not answer as a wiki"),
    ]),
    Row("feeds", in_feed, "127.0.0.1:PORT/feed.xml/tag:mill,2026:mill", "http://127.0.0.1", "CC0", [
        *wrong_description("feeds", "no feeds are named", "feeds:{feeds: [HOST/feed.xml]}"),
        ("feeds:{feeds: [HOST/none.xml], allow: [127.0.0.1]}", r"none\.xml: .*404"),
        ("feeds:{feeds: [ftp://x/feed]}", "setting 'feeds' holds"),
    ]),
    *(
        Row(scheme, on_service(scheme, fake, query, token), query, "https://", terms, [
            *wrong_description(scheme, "no queries are named", f"{scheme}:{{queries: ['{query}'], server: HOST}}"),
            (f"{scheme}:HERE/nowhere.txt", r"there is no file or folder .*nowhere\.txt"),
            (f"{scheme}:HERE/blank.txt", "holds no query; write one a line"),
            (
                f"{scheme}:{{queries: ['{unknown}'], server: HOST, allow: [127.0.0.1], delay: 0}}",
                "@nobody: .*(knows no|Profile not found)",
            ),
        ])
        for scheme, fake, query, unknown, token, terms in (
            ("mastodon", FakeMastodon, "@jo", "@nobody", "", "/about"),
            ("bluesky", FakeBluesky, "@jo.soil.example", "@nobody", "", "bsky.social/about/support/tos"),
            ("x", FakeX, "@jo", "@nobody", "X_BEARER_TOKEN", "docs.x.com/developer-terms"),
        )
    ),
    of_format("epub", "mill.epub", samples.epub(), garbled("epub"), terms="CC0"),
    of_format("fdx", "mill.fdx", samples.FDX, garbled("fdx")),
    of_format("fountain", "mill.fountain", samples.FOUNTAIN),
    of_format(
        "gutenberg", "mill.txt", samples.BOOK, ("gutenberg:HERE/text.txt", "no line '.*START OF"), terms="public domain"
    ),
    of_format("html", "mill.html", page("Mill", scene("Ash"))),
    of_format("markdown", "mill.md", "---\nlicense: CC0\n---\n# Mill\n\nIt turned.\n", terms="CC0"),
    of_format("mastodon-archive", "outbox.json", samples.outbox(samples.note(1, "<p>It turned.</p>"))),
    of_format("parquet", "mill.parquet", samples.parquet(text=["It turned."]), garbled("parquet")),
    of_format("pdf", "mill.pdf", samples.pdf([["It turned."]]), garbled("pdf")),
    of_format("subtitles", "mill.srt", samples.SRT),
    of_format(
        "wikitext", "mill.txt", " = Mill = \n \n It turned . \n", ("wikitext:HERE/text.txt", "no heading of the form")
    ),
    of_format("x-archive", "tweets.js", samples.tweets([samples.TWEET]), garbled("x-archive")),
]  # fmt: skip

GARBLED = ("mill.epub", "mill.fdx", "mill.parquet", "mill.pdf", "tweets.js")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are wrong in one way or another, and an empty folder for the good one."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbled").mkdir()
    for name in GARBLED:
        (tmp_path / "garbled" / name).write_bytes(b"\x00\xffgarbled")
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "text.txt").write_text("Just a text.\n")
    (tmp_path / "broken.yaml").write_text("start: [\n")
    (tmp_path / "list.yaml").write_text("- one\n- two\n")
    (tmp_path / "good").mkdir()
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["ingest", *arguments])


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_source_has_its_row() -> None:
    assert sorted(row.scheme for row in ROWS) == sorted(SOURCES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.scheme)
def test_what_would_be_done_what_is_done_and_what_is_kept_of_it(
    row: Row, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with row.place(folder / "good", monkeypatch) as address:
        (port,) = re.findall(r":(\d{4,5})/", address)[:1] or [""]
        item = row.item.replace("PORT", port)
        corpus = folder / "corpus"

        told = run(address, "-o", str(corpus), "--dry-run")
        assert told.exit_code == 0, told.stderr
        assert f"{item}: new" in told.stdout or row.scheme == "crawl"
        assert not corpus.exists()

        done = run(address, "-o", str(corpus))
        assert done.exit_code == 0, done.stderr
        again = run(address, "-o", str(corpus), "--dry-run")
        assert re.search(r": (unchanged|to be compared|asked for if a page leads to it)$", again.stdout, re.M)

        (entry,) = (each for each in read_corpus(corpus).items if each["item"] == item)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["fetched"])
        documents = [
            each for each in read_corpus(corpus, verify=True).documents() if each.id.startswith(item)
        ]
        assert documents
        for document in documents:
            assert document.source.startswith(("https://", row.source))
            assert document.meta["fetched"]
            said = f"{document.meta.get('licence', '')} {document.meta.get('terms', '')}".strip()
            assert row.terms in said
            assert bool(row.terms) == bool(said), said
        assert str(folder) not in (corpus / "manifest.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("row", "wrong", "line"),
    [(row, *each) for row in ROWS for each in row.wrong],
    ids=[f"{row.scheme}-{i}" for row in ROWS for i in range(len(row.wrong))],
)
def test_what_is_wrong_is_one_line_and_exit_2_and_nothing_is_lost(
    row: Row, wrong: str, line: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = folder / "corpus"
    (folder / "kept.txt").write_text("What was here before.")
    assert run(str(folder / "kept.txt"), "-o", str(corpus)).exit_code == 0
    before = files(corpus)
    with row.place(folder / "good", monkeypatch) as address:
        (host,) = re.findall(r"http://[\d.:]+", address)[:1] or [""]
        wrong = wrong.replace("PLACE", address).replace("HOST", host).replace("HERE", str(folder))
        for arguments in (["-o", str(corpus)], ["-o", str(folder / "new")]):
            ended = run(wrong, *arguments)
            assert ended.exit_code == 2, ended.stderr
            said = ended.stderr.splitlines()
            assert re.search(line, said[-1]), said[-1]
            assert said[-1].startswith("textmill: ")
            assert len(said) == 1
    assert files(corpus) == before
    assert not (folder / "new").exists()
