"""What every source that collects documents from servers must do. A new one's test class inherits CollectedContract.

class TestMine(CollectedContract):
    scheme = "mine"
    @pytest.fixture
    def server(self): …                    # a loopback server with `requests`
    def put(self, server, texts): …        # makes exactly these documents be there, {name: text}
    def settings(self, server): …          # the description that reads them, with short waits, without `allow`
    def item(self, server, name): …        # the item's name in the corpus
    def bodies(self, server): …            # the requests, so far, that fetched a text
    texts: …                               # three documents, {name: text}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from textmill.cli import main
from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError, MachineError, TextmillError
from textmill.ingest import IngestSettings, ingest, plan
from textmill.sources import open_source
from textmill.sources.texts import DOCUMENTS

QUICK = {"delay": 0.0, "retry_wait": 0.01, "retries": 1, "timeout": 5.0, "allow": ["127.0.0.1"]}


def shards(corpus: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (corpus / "shards").iterdir()}


class CollectedContract:
    """Three documents on a server."""

    scheme: ClassVar[str]
    texts: ClassVar[dict[str, str]]
    forgets: ClassVar = True  # what is no longer listed is gone
    server: Any

    def put(self, server: Any, texts: dict[str, str]) -> None:
        raise NotImplementedError

    def settings(self, server: Any) -> dict[str, Any]:
        raise NotImplementedError

    def item(self, server: Any, name: str) -> str:
        raise NotImplementedError

    def bodies(self, server: Any) -> list[str]:
        raise NotImplementedError

    def address(self, server: Any, **more: Any) -> str:
        return f"{self.scheme}:{json.dumps(QUICK | self.settings(server) | more)}"

    def test_each_document_is_an_item_that_says_where_it_came_from(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        summary = ingest(self.address(server), tmp_path / "corpus")
        assert (summary["new"], summary["skipped"]) == (3, 0)
        found = {document.id: document for document in read_corpus(tmp_path / "corpus").documents()}
        assert sorted(found) == sorted(self.item(server, name) for name in self.texts)
        for name, text in self.texts.items():
            document = found[self.item(server, name)]
            assert " ".join(text.split()) in " ".join(document.text.split())
            assert document.meta["url"].startswith(server.address)
            assert document.source == document.meta["url"]
            assert document.meta["title"]
            assert document.meta["fetched"].endswith("Z")

    def test_an_item_opens_from_its_beginning_each_time(self, server: Any) -> None:
        self.put(server, self.texts)
        items = open_source(self.address(server), max_bytes=1 << 20).items()
        assert all(item.kind == DOCUMENTS for item in items)
        with items[0].open() as first, items[0].open() as second:
            assert first.read() == second.read() != b""

    def test_only_what_changed_is_fetched_and_written_again(self, server: Any, tmp_path: Path) -> None:
        corpus = tmp_path / "corpus"
        self.put(server, self.texts)
        ingest(self.address(server), corpus)
        before, manifest = shards(corpus), (corpus / "manifest.json").read_bytes()
        assert ingest(self.address(server), corpus)["unchanged"] == 3
        assert shards(corpus) == before
        assert (corpus / "manifest.json").read_bytes() == manifest
        first, *rest = self.texts
        self.put(
            server,
            {first: self.texts[first] + " And then the ice came down."} | {n: self.texts[n] for n in rest},
        )
        summary = ingest(self.address(server), corpus)
        assert (summary["unchanged"], summary["changed"], summary["gone"]) == (2, 1, 0)
        assert len(before.items() & shards(corpus).items()) == 2

    def test_the_time_of_fetching_is_not_in_the_shards(
        self, server: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        self.put(server, self.texts)
        ingest(self.address(server), tmp_path / "one")
        monkeypatch.setattr("textmill.ingest._now", lambda: "2031-01-01T00:00:00Z")
        ingest(self.address(server), tmp_path / "two")
        one, two = read_corpus(tmp_path / "one"), read_corpus(tmp_path / "two")
        assert one.digest == two.digest
        assert {document.meta["fetched"] for document in two.documents()} == {"2031-01-01T00:00:00Z"}

    def test_what_is_no_longer_there(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        ingest(self.address(server), tmp_path / "corpus")
        first, second, _ = self.texts
        self.put(server, {name: self.texts[name] for name in (first, second)})
        summary = ingest(self.address(server), tmp_path / "corpus")
        assert summary["items"] == (2 if self.forgets else 3)
        assert summary["gone"] == (1 if self.forgets else 0)

    def test_nothing_there_is_one_clear_line_and_no_folder(self, server: Any, tmp_path: Path) -> None:
        self.put(server, {})
        with pytest.raises(TextmillError) as caught:
            ingest(self.address(server), tmp_path / "corpus")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "corpus").exists()

    def test_a_server_that_is_down_leaves_the_corpus_as_it_was(self, server: Any, tmp_path: Path) -> None:
        corpus = tmp_path / "corpus"
        self.put(server, self.texts)
        address = self.address(server)
        ingest(address, corpus)
        before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
        server.shutdown()
        server.server_close()
        with pytest.raises(MachineError) as caught:
            ingest(address, corpus)
        assert "\n" not in str(caught.value)
        after = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
        assert {path: after.get(path) for path in before if "collecting" not in str(path)} == {
            path: data for path, data in before.items() if "collecting" not in str(path)
        }

    def test_a_private_address_must_be_allowed_by_name(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        with pytest.raises(InputError, match=r"127\.0\.0\.1, a loopback address; allow it by name"):
            ingest(self.address(server, allow=[]), tmp_path / "corpus")
        assert server.requests == []
        assert not (tmp_path / "corpus").exists()

    def test_more_than_max_bytes_is_refused(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        with pytest.raises(TextmillError, match="more than 60 bytes"):
            ingest(self.address(server), tmp_path / "corpus", IngestSettings(max_bytes=60))

    def test_a_dry_run_fetches_no_text_and_writes_nothing(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        told = plan(self.address(server), tmp_path / "corpus")
        assert {row["what"] for row in told.items} == {"new"}
        assert self.bodies(server) == []
        assert list(tmp_path.iterdir()) == []

    def test_a_description_in_a_file_means_what_it_means_inline(self, server: Any, tmp_path: Path) -> None:
        self.put(server, self.texts)
        inline = self.address(server)
        (tmp_path / "described.yaml").write_text(inline.partition(":")[2])
        ingest(inline, tmp_path / "one")
        ingest(f"{self.scheme}:{tmp_path / 'described.yaml'}", tmp_path / "two")
        one, two = read_corpus(tmp_path / "one"), read_corpus(tmp_path / "two")
        assert one.digest == two.digest
        assert two.manifest.details["source"] == f"{self.scheme}:described.yaml"
        assert str(tmp_path) not in (tmp_path / "two" / "manifest.json").read_text()

    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ({"dellay": 1}, "unknown setting 'dellay' in {scheme}:{{…}}. Did you mean 'delay'?"),
            ({"delay": "soon"}, "setting 'delay' ({scheme}:{{…}}) is 'soon', which is not of type float."),
            ({"retries": -1}, "setting 'retries' ({scheme}:{{…}}) is -1; it must be at least 0."),
            ({"allow": [7]}, "setting 'allow' lists 7, which is not a text; quote it."),
        ],
    )
    def test_a_wrong_description_is_one_line_and_exit_2(
        self, server: Any, tmp_path: Path, change: dict[str, Any], line: str
    ) -> None:
        ended = CliRunner().invoke(
            main, ["ingest", self.address(server, **change), "-o", str(tmp_path / "corpus")]
        )
        assert ended.exit_code == 2
        assert ended.stderr.startswith("textmill: " + line.format(scheme=self.scheme))
        assert ended.stderr.count("\n") == 1
        assert not (tmp_path / "corpus").exists()
