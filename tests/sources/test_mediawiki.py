"""A wiki on loopback, read by the real mwclient; and a recorded-form answer of the real API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("mwclient")
pytest.importorskip("mwparserfromhell")

from tests.contracts.collected_contract import QUICK, CollectedContract
from tests.sources.sites import Wiki, site
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError
from textmill.ingest import ingest, plan
from textmill.sources.mediawiki import MediaWikiSource, counted

EPISODE = """{{{{Incomplete|section}}}}
The {name} is an episode.
== Synopsis ==
A short summary.
== Plot ==
{{{{Warning}}}}
Moll and Toby walk to the mill of {name}. This article is incomplete.

They meet a Pedlar.
=== Later ===
The wheel turns again in {name}.
Yes.
== Major events ==
* Moll finds a letter.
"""


@pytest.fixture
def server() -> Iterator[Any]:
    with site(Wiki) as server:
        yield server


def read(server: Any, corpus: Path, **more: Any) -> dict[str, Any]:
    return ingest(address(server, **more), corpus)


def address(server: Any, **more: Any) -> str:
    return "mediawiki:" + json.dumps(QUICK | {"api": f"{server.address}/w/api.php"} | more)


def documents(corpus: Path) -> dict[str, str]:
    return {document.id: document.text for document in read_corpus(corpus).documents()}


def skipped(corpus: Path) -> dict[str, str]:
    return {each["item"]: each["reason"] for each in read_corpus(corpus).skipped}


def actions(server: Any) -> list[str]:
    """What was asked: the pages' texts apart from the listings."""
    return [
        "text" if q["action"] == "parse" or "content" in q.get("rvprop", "") else "list"
        for q in server.queries
    ]


class OfWiki(CollectedContract):
    scheme = "mediawiki"
    texts: ClassVar = {name: f"The mill of {name} stands by the river." for name in ("Ash", "Birch", "Cedar")}
    content: ClassVar[str]

    @pytest.fixture
    def server(self) -> Iterator[Any]:
        with site(Wiki) as server:
            yield server

    def put(self, server: Any, texts: dict[str, str]) -> None:
        server.titles, server.categories = dict(texts), {"Mills": list(texts)}

    def settings(self, server: Any) -> dict[str, Any]:
        return {"api": f"{server.address}/w/api.php", "category": "Mills", "content": self.content}

    def item(self, server: Any, name: str) -> str:
        return name

    def bodies(self, server: Any) -> list[str]:
        return [action for action in actions(server) if action == "text"]

    def test_unchanged_pages_are_listed_but_not_fetched(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        ingest(self.address(server), tmp_path / "corpus")
        server.queries.clear()
        self.put(server, self.texts | {"Birch": "Another text."})
        summary = ingest(self.address(server), tmp_path / "corpus")
        assert (summary["unchanged"], summary["changed"]) == (2, 1)
        assert actions(server) == ["list", "list", "text"]
        fetched = server.queries[-1]
        wanted = str(server.RequestHandlerClass._revision(type("", (), {"server": server})(), "Birch"))
        assert fetched.get("oldid", fetched.get("revids")) == wanted


class TestRendered(OfWiki):
    content = "html"


class TestWikitext(OfWiki):
    content = "wikitext"


@pytest.mark.parametrize("content", ["html", "wikitext"])
def test_a_series_from_the_second_heading_up_to_a_name(server: Any, tmp_path: Path, content: str) -> None:
    """S5's crawl: numbered series, from a heading by number up to 'Major events', warnings out, some pages skipped."""
    server.titles = {title: EPISODE.format(name=title) for title in ("EP001", "EP002", "EP004", "AG10")}
    server.titles["Mud and Flour"] = EPISODE.format(name="EP003")
    server.redirects = {"EP003": "Mud and Flour"}
    settings = {
        "series": ["EP{001..006}", "AG{9..10}"],
        "skip": ["EP004"],
        "content": content,
        "from_heading": 2,
        "to_heading": "major events",
        "remove_text": ["This article is incomplete."],
        "minimum_paragraph": 20,
    }
    read(server, tmp_path / "corpus", **settings)
    found = documents(tmp_path / "corpus")
    assert sorted(found) == ["AG10", "EP001", "EP002", "EP003"]
    # Two lines in wikitext are one paragraph; the renderer of the tests makes each line one.
    tail = (
        "The wheel turns again in EP001. Yes.\n"
        if content == "wikitext"
        else "The wheel turns again in EP001.\n"
    )
    meet = "They meet a Pedlar."
    walk = "Moll and Toby walk to the mill of EP001."
    assert found["EP001"] == f"{walk}\n\n{tail}"
    assert meet not in found["EP001"], "shorter than minimum_paragraph"
    assert "EP003" in found["EP003"]
    missing = "no such page on Millwiki"
    assert skipped(tmp_path / "corpus") == {"AG9": missing, "EP005": missing, "EP006": missing}


def test_where_a_page_came_from(server: Any, tmp_path: Path) -> None:
    server.titles = {"Mud and Flour": "The miller's tale."}
    server.redirects = {"EP003": "Mud and Flour"}
    read(server, tmp_path / "corpus", pages=["EP003"])
    (document,) = read_corpus(tmp_path / "corpus").documents()
    assert document.id == "EP003"
    fetched = document.meta.pop("fetched")
    assert fetched.startswith("20")
    assert document.meta == {
        "url": f"{server.address}/wiki/Mud_and_Flour",
        "title": "Mud and Flour",
        "author": "contributors to Millwiki",
        "date": "2026-10-31T08:00:00Z",
        "licence": "https://creativecommons.org/licenses/by-sa/4.0/",
        "site": "Millwiki",
        "revision": read_corpus(tmp_path / "corpus").documents().__next__().meta["revision"],
    }
    assert read_corpus(tmp_path / "corpus").manifest.details["collected"]["licence"].endswith("by-sa/4.0/")


def test_empty_missing_twice_and_invalid_pages_are_reported_and_not_written(
    server: Any, tmp_path: Path
) -> None:
    server.titles = {"Full": "A text.", "Empty": "", "Short": "== Plot ==\nText", "Hidden": "Secret"}
    server.redirects, server.protected = {"Alias": "Full"}, {"Hidden"}
    pages = ["Full", "Alias", "Empty", "Lost", "a<b", "Hidden"]
    read(server, tmp_path / "corpus", pages=pages)
    assert documents(tmp_path / "corpus") == {"Full": "A text.\n"}
    revision = skipped(tmp_path / "corpus").pop("Hidden")
    assert revision.startswith("cannot be read: There is no revision")
    assert skipped(tmp_path / "corpus") == {
        "Alias": "the same page as 'Full'",
        "Empty": "no text in it",
        "Hidden": revision,
        "Lost": "no such page on Millwiki",
        "a<b": 'no such page on Millwiki (The requested page title contains invalid characters: "<".)',
    }
    server.queries.clear()
    again = read(server, tmp_path / "corpus", pages=["Full", "Empty"])
    assert (again["unchanged"], again["skipped"]) == (1, 1)
    assert "text" not in actions(server), "an empty page that did not change is not fetched again"


def test_a_section_that_is_not_there_is_reported(server: Any, tmp_path: Path) -> None:
    server.titles = {"A": EPISODE.format(name="A"), "B": "Only an opening.\n== Cast ==\nMoll"}
    read(server, tmp_path / "corpus", pages=["A", "B"], from_heading="Plot")
    assert list(documents(tmp_path / "corpus")) == ["A"]
    assert skipped(tmp_path / "corpus") == {"B": "no heading 'Plot' in it"}
    read(server, tmp_path / "corpus", pages=["A", "B"], from_heading=2)
    assert skipped(tmp_path / "corpus") == {"B": "only 1 headings, not 2 in it"}


def test_another_section_is_another_text_of_the_same_revision(server: Any, tmp_path: Path) -> None:
    server.titles = {"A": EPISODE.format(name="A")}
    read(server, tmp_path / "corpus", pages=["A"], from_heading="Plot")
    summary = read(server, tmp_path / "corpus", pages=["A"], from_heading="Synopsis", to_heading="Plot")
    assert summary["changed"] == 1
    assert documents(tmp_path / "corpus") == {"A": "A short summary.\n"}


def test_a_category_goes_on_where_the_answer_says_and_wikitext_comes_many_at_once(
    server: Any, tmp_path: Path
) -> None:
    server.titles = {f"Page {n:02}": f"Text {n}." for n in range(25)}
    server.categories, server.batch = {"Mills": list(server.titles)}, 7
    summary = read(
        server, tmp_path / "corpus", category="Category:Mills", content="wikitext", pages_at_once=10
    )
    assert summary["items"] == 25
    assert actions(server) == ["list"] * 5 + ["text"] * 3
    assert documents(tmp_path / "corpus")["Page 24"] == "Text 24.\n"


def test_one_request_after_the_other_with_maxlag_and_one_name(server: Any, tmp_path: Path) -> None:
    server.titles = {"A": "Text.", "B": "Text too."}
    read(server, tmp_path / "corpus", pages=["A", "B"], contact="mail@example.org")
    assert {query["maxlag"] for query in server.queries} == {"5"}
    (agent,) = server.agents
    assert agent.startswith("textmill/")
    assert agent.endswith("(+mail@example.org)")


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"Retry-After": "0"}),
        (503, {}),
        (200, {"Retry-After": "0", "X-Database-Lag": "7", "error": "maxlag"}),
        (200, {"error": "maxlag"}),
        (200, {"error": "ratelimited"}),
    ],
)
def test_not_now_is_waited_out_and_then_one_line_that_loses_nothing(
    server: Any, tmp_path: Path, trouble: tuple[int, dict[str, str]]
) -> None:
    server.titles = {"A": "Text."}
    server.scripts["/w/api.php"] = [(trouble[0], dict(trouble[1]))]
    assert read(server, tmp_path / "corpus", pages=["A"])["items"] == 1
    before = (tmp_path / "corpus" / "manifest.json").read_bytes()
    server.scripts["/w/api.php"] = [(trouble[0], dict(trouble[1])) for _ in range(9)]
    with pytest.raises(MachineError) as caught:
        read(server, tmp_path / "corpus", pages=["A"])
    assert "\n" not in str(caught.value)
    assert (tmp_path / "corpus" / "manifest.json").read_bytes() == before


def test_stopped_between_two_pages_it_goes_on(server: Any, tmp_path: Path) -> None:
    server.titles = {name: f"Text of {name}." for name in "ABCD"}
    server.manner = {}
    failing = MediaWikiSource._rendered

    def stop(self: Any, info: dict[str, Any]) -> Any:
        if info["title"] == "C":
            raise MachineError("down")
        return failing(self, info)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MachineError):
        patch.setattr(MediaWikiSource, "_rendered", stop)
        read(server, tmp_path / "corpus", pages=list("ABCD"))
    server.queries.clear()
    assert read(server, tmp_path / "corpus", pages=list("ABCD"))["items"] == 4
    assert actions(server).count("text") == 2


@pytest.mark.parametrize("body", [b"<html>a shop</html>", b"[]", b'{"query": 7}'])
def test_what_is_no_wiki_is_one_line(server: Any, tmp_path: Path, body: bytes) -> None:
    with site() as other:
        other.files["/w/api.php"] = body
        with pytest.raises(InputError, match=r"does not answer as a wiki's api\.php does; check 'api'"):
            read(other, tmp_path / "corpus", pages=["A"])
        with pytest.raises(InputError, match=r"answered 404 Not Found; check 'api'\."):
            read(other, tmp_path / "corpus", pages=["A"], api=f"{other.address}/wiki/api.php")


def test_an_address_says_what_a_description_says(server: Any, tmp_path: Path) -> None:
    source = MediaWikiSource(
        "mediawiki:https://en.wiki.example/w/api.php?series=EP{001..003}&skip=EP001|EP002&from_heading=3"
        "&to_heading=Major events&delay=2.5",
        max_bytes=1,
    )
    assert source.settings.series == ["EP{001..003}"]
    assert source.settings.skip == ["EP001", "EP002"]
    assert (source.settings.from_heading, source.settings.to_heading) == ("3", "Major events")
    assert source.settings.delay == 2.5


def test_counting() -> None:
    assert counted("EP{008..011}") == ["EP008", "EP009", "EP010", "EP011"]
    assert counted("No. {9..11} (film)") == ["No. 9 (film)", "No. 10 (film)", "No. 11 (film)"]
    five = ["EP{001..274}", "AG{001..192}", "DP{001..191}", "XY{001..140}", "SM{001..140}"]
    assert sum(len(counted(each)) for each in five) == 937


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"api": ""}, "setting 'api' is missing; give the address of the wiki's api.php."),
        ({"api": "https://a.org/wiki"}, "setting 'api' is 'https://a.org/wiki'; it must end in /api.php."),
        ({}, "no pages are named; give 'pages', 'category' or 'series'."),
        ({"pages": [1984]}, "setting 'pages' lists 1984, which is not a text; quote it."),
        ({"series": ["EP001-274"]}, "setting 'series': 'EP001-274' has no range such as {001..274}."),
        ({"series": ["EP{9..1}"]}, "setting 'series': 'EP{9..1}' has no range such as {001..274}."),
        ({"series": ["A{1..20000}"]}, "20,000 pages are named; setting 'max_pages' is 10,000."),
        (
            {"pages": ["A"], "templates": {"p": 0}},
            "setting 'templates': p: 0 is no argument's number or name.",
        ),
        ({"pages": ["A"], "content": "pdf"}, "setting 'content' (mediawiki:{…}) is 'pdf'; choose one of:"),
    ],
)
def test_what_a_description_gets_wrong_is_one_line(change: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        ingest("mediawiki:" + json.dumps({"api": "https://a.org/w/api.php"} | change), tmp_path / "corpus")
    assert str(caught.value).startswith(line)


def test_a_category_that_is_not_there_is_one_line(server: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the category 'Nowhere' has no pages"):
        read(server, tmp_path / "corpus", category="Nowhere")


def test_a_dry_run_says_which_pages_are_missing_new_and_unchanged(server: Any, tmp_path: Path) -> None:
    server.titles = {"A": "Text.", "B": "Text too."}
    read(server, tmp_path / "corpus", pages=["A"])
    told = plan(address(server, pages=["A", "B", "C"]), tmp_path / "corpus")
    assert {row["item"]: row["what"] for row in told.items} == {
        "A": "unchanged",
        "B": "new",
        "C": "no such page on Millwiki",
    }


# The form of the real API's answers (formatversion=2), as its documentation shows them: a redirect that was followed
# after a normalisation, a missing title, and a revision with its slot.
DOCUMENTED = {
    "batchcomplete": True,
    "query": {
        "normalized": [{"fromencoded": False, "from": "eP001", "to": "EP001"}],
        "redirects": [{"from": "EP001", "to": "The First Sack"}],
        "pages": [
            {
                "pageid": 736,
                "ns": 0,
                "title": "The First Sack",
                "contentmodel": "wikitext",
                "pagelanguage": "en",
                "pagelanguagehtmlcode": "en",
                "pagelanguagedir": "ltr",
                "touched": "2026-11-05T03:31:27Z",
                "lastrevid": 1318264538,
                "length": 9211,
                "fullurl": "https://wiki.example/wiki/The_First_Sack",
                "editurl": "https://wiki.example/w/index.php?title=The_First_Sack&action=edit",
                "canonicalurl": "https://wiki.example/wiki/The_First_Sack",
                "revisions": [
                    {"revid": 1318264538, "parentid": 1317991235, "timestamp": "2026-10-23T08:05:43Z"}
                ],
            },
            {
                "ns": 0,
                "title": "EP999",
                "missing": True,
                "contentmodel": "wikitext",
                "fullurl": "https://wiki.example/wiki/EP999",
            },
        ],
    },
}


def test_the_documented_answer_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    source = MediaWikiSource(
        'mediawiki:{"api": "https://wiki.example/w/api.php", "pages": ["eP001", "EP999"]}', max_bytes=1 << 20
    )
    monkeypatch.setattr(source, "_open_wiki", lambda: None)
    monkeypatch.setattr(source, "_get", lambda action, **query: DOCUMENTED)
    source._wiki, source._licence, source._prefixes = "Example", "CC BY-SA 4.0", {"File"}
    first, second = source.items()
    assert (first.name, first.source) == ("eP001", "https://wiki.example/wiki/The_First_Sack")
    assert first.stamp.startswith("1318264538 ")
    assert (second.name, second.problem) == ("EP999", "no such page on Example")
