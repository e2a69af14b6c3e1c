"""The compiled ingest, executed against servers of ours: killed while it collects, run again, and run elsewhere with
the earlier corpus handed in, as on a cluster. The servers' own logs say what was fetched."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contracts.collected_contract import QUICK
from tests.contracts.posts_contract import FIRST
from tests.pipelines.conftest import deadly
from tests.sources.sites import Site, Wiki, feed, page, scene, site
from tests.sources.social_fakes import FakeBluesky, FakeMastodon, FakeX, service
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError
from textmill.local.running import run_pipeline

INGEST = Path(__file__).parents[2] / "components" / "ingest" / "component.yaml"
NAMES = ("ash", "birch", "cedar")


@dataclass(frozen=True)
class Case:
    """A source. begin: a server with a few documents. texts: its requests, so far, that brought a text or a page of
    posts. add: one more document, or one more post. deadly: how many such requests are answered before the kill."""

    scheme: str
    begin: Callable[[], AbstractContextManager[Any]]
    settings: Callable[[Any], dict[str, Any]]
    asks: Callable[[str, dict[str, str]], bool]
    add: Callable[[Any], None]
    most: int = 1  # requests for texts that a run needs for one new document

    def source(self, server: Any) -> str:
        return f"{self.scheme}:{json.dumps(QUICK | self.settings(server))}"


def _wiki() -> AbstractContextManager[Any]:
    @contextlib.contextmanager
    def begun() -> Any:
        with site(deadly(Wiki)) as server:
            server.titles = {name.title(): scene(name.title()) for name in NAMES}
            yield server

    return begun()


def _put_pages(server: Any, names: tuple[str, ...]) -> None:
    links = [f"/{name}.html" for name in names]
    server.files |= {f"/{name}.html": page(name, scene(name)) for name in names}
    server.files["/"] = page("Mills", scene("the valley"), *links)


def _site() -> AbstractContextManager[Any]:
    @contextlib.contextmanager
    def begun() -> Any:
        with site(deadly(Site)) as server:
            _put_pages(server, NAMES)
            yield server

    return begun()


def _put_feed(server: Any, names: tuple[str, ...]) -> None:
    server.files |= {f"/{name}.html": page(name, scene(name)) for name in names}
    server.files["/feed.xml"] = feed(server.address, {name: scene(name) for name in names})


def _feed() -> AbstractContextManager[Any]:
    @contextlib.contextmanager
    def begun() -> Any:
        with site(deadly(Site)) as server:
            _put_feed(server, NAMES)
            yield server

    return begun()


def _posts(fake: Any) -> Callable[[], AbstractContextManager[Any]]:
    posts = [(FIRST + i, f"post {i} 🥖", "") for i in range(7)]
    return lambda: service(deadly(fake), posts)


def _post(server: Any) -> None:
    server.posts.append((FIRST + 50, "just now", ""))


def _more(put: Callable[[Any, tuple[str, ...]], None]) -> Callable[[Any], None]:
    return lambda server: put(server, (*NAMES, "damson"))


def _titled(server: Any) -> None:
    server.titles["Damson"] = scene("Damson")


def _of(server: Any, *queries: str) -> dict[str, Any]:
    return {"queries": list(queries), "server": server.address}


CASES = [
    Case(
        "mediawiki",
        _wiki,
        lambda server: {
            "api": f"{server.address}/w/api.php",
            "pages": [name.title() for name in (*NAMES, "damson")],
        },
        lambda path, query: query.get("action") == "parse",
        _titled,
    ),
    Case(
        "crawl",
        _site,
        lambda server: {"start": [f"{server.address}/"], "keep": ["*.html"]},
        lambda path, query: path.endswith(".html"),
        _more(_put_pages),
    ),
    Case(
        "feeds",
        _feed,
        lambda server: {"feeds": [f"{server.address}/feed.xml"], "article": True},
        lambda path, query: path.endswith(".html"),
        _more(_put_feed),
    ),
    Case(
        "mastodon",
        _posts(FakeMastodon),
        lambda server: _of(server, "@jo"),
        lambda path, query: path.endswith("/statuses"),
        _post,
        2,
    ),
    Case(
        "bluesky",
        _posts(FakeBluesky),
        lambda server: _of(server, "@jo.soil.example"),
        lambda path, query: path.endswith("getAuthorFeed"),
        _post,
        2,
    ),
    Case(
        "x",
        _posts(FakeX),
        lambda server: _of(server, "@jo"),
        lambda path, query: path.endswith("/tweets"),
        _post,
    ),
]


class Log:
    """The requests for texts that a server answered; those that it answered 304 do not count."""

    def __init__(self, server: Any, case: Case) -> None:
        self.texts: list[tuple[str, dict[str, str]]] = []
        handler = server.RequestHandlerClass
        whole = handler.answer

        def answer(handled: Any, path: str, query: dict[str, str]) -> None:
            known = list(getattr(server, "unchanged", []))
            whole(handled, path, query)
            answered = not handled.refused and getattr(server, "unchanged", []) == known
            if answered and case.asks(path, query):
                self.texts.append((path, query))

        handler.answer = answer


def ingest(output: Path, **parameters: Any) -> dict[str, Any]:
    """Execute the compiled component, as a pipeline of this one task; its figures."""
    spec = yaml.safe_load(INGEST.read_text(encoding="utf-8"))
    spec["pipelineInfo"]["name"] = "collect"
    pipeline = output.parent / "collect.yaml"
    pipeline.write_text(yaml.safe_dump(spec))
    run_pipeline(pipeline, parameters, output, out=io.StringIO())
    said = json.loads((output / "ingest" / "executor_output.json").read_bytes())
    figures: dict[str, Any] = said["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    return figures


def corpus(output: Path) -> Path:
    return output / "ingest" / "corpus"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.scheme)
def test_killed_then_resumed_then_handed_on_and_only_what_is_new_is_fetched(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X_BEARER_TOKEN", "x-secret")
    with case.begin() as server:
        server.token = "x-secret" if case.scheme == "x" else ""
        log, source = Log(server, case), case.source(server)
        server.fatal = lambda path, query: case.asks(path, query) and len(log.texts) >= 2
        with pytest.raises(MachineError, match="ingest was killed"):
            ingest(tmp_path / "one", source=source)
        server.fatal = None
        assert len(log.texts) == 2
        ingest(tmp_path / "one", source=source)
        asked = [json.dumps([path, sorted(query.items())]) for path, query in log.texts]
        again = (
            case.scheme == "bluesky"
        )  # whose newest page is asked for in the same words, after the rest of the walk
        assert len(asked) == len(set(asked)) + again, "nothing that came before the kill was fetched again"
        first = read_corpus(corpus(tmp_path / "one"), verify=True)

        # Elsewhere, with nothing but the earlier corpus: nothing changed, nothing is fetched, all bytes are the same.
        del log.texts[:]
        figures = ingest(tmp_path / "two", source=source, earlier=str(corpus(tmp_path / "one")))
        assert (figures["unchanged"], figures["new"] + figures["changed"] + figures["gone"]) == (
            len(first.items),
            0,
        )
        assert len(log.texts) == (case.scheme in ("mastodon", "bluesky", "x")), (
            "posts: is there anything newer?"
        )
        assert files(corpus(tmp_path / "two")) == files(corpus(tmp_path / "one"))
        assert files(corpus(tmp_path / "two") / "shards") == files(corpus(tmp_path / "one") / "shards")

        # And with one new document: it alone is fetched, and its shard alone is new.
        case.add(server)
        del log.texts[:]
        figures = ingest(tmp_path / "three", source=source, earlier=str(tmp_path / "*" / "ingest" / "corpus"))
        assert figures["new"] + figures["changed"] == 1
        assert 1 <= len(log.texts) <= case.most
        old, new = (set(files(corpus(tmp_path / name) / "shards").items()) for name in ("one", "three"))
        assert len(new - old) == 1
        texts = [document.text for document in read_corpus(corpus(tmp_path / "three")).documents()]
        assert len(texts) == len(list(first.documents())) + 1


def test_one_query_that_fails_leaves_the_others(tmp_path: Path) -> None:
    with _posts(FakeMastodon)() as server:
        source = f"mastodon:{json.dumps(QUICK | _of(server, '@jo', '@nobody', 'words to search for'))}"
        figures = ingest(tmp_path / "one", source=source)
    assert (figures["items"], figures["skipped"]) == (1, 2)
    said = {each["item"]: each["reason"] for each in read_corpus(corpus(tmp_path / "one")).skipped}
    assert said["@nobody"].startswith("127.0.0.1")
    assert "knows no @nobody" in said["@nobody"]
    assert "MASTODON_ACCESS_TOKEN" in said["words to search for"]


def test_when_every_query_wants_a_key_the_run_ends_in_one_line_and_the_corpus_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X_BEARER_TOKEN", "x-secret")
    with _posts(FakeX)() as server:
        server.token = "x-secret"
        source = f"x:{json.dumps(QUICK | _of(server, '@jo', 'bread'))}"
        ingest(tmp_path / "one", source=source)
        before = files(corpus(tmp_path / "one"))
        server.token = "another"
        with pytest.raises(InputError, match=r"^ingest: .*answered 401.*X_BEARER_TOKEN") as caught:
            ingest(tmp_path / "one", source=source)
        assert "\n" not in str(caught.value)
    assert files(corpus(tmp_path / "one")) == before
