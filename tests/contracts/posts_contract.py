"""What every source of posts must do, against a server of ours that speaks the service's API.

class TestMine(PostsContract):
    fake = FakeMine                          # tests/sources/social_fakes.py
    scheme, account, search = "mine", "@jo", "#bread"
    secrets = {"MINE_TOKEN": "secret"}       # the environment that a search needs, "token" being the server's
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.sources.social_fakes import FakeService, Numbered, service
from textmill.corpora.corpus import Document, read_corpus
from textmill.errors import InputError, SettingsError, TextmillError
from textmill.ingest import IngestSettings, ingest, plan
from textmill.sources import guarded_session, open_source

FIRST = 1_990_000_000_000_000_000  # an id of X as it would be in 2025; the others do not mind
WORDS = [
    "old bread 🥖",
    "a reply",
    "someone else's words",
    "朝のパン",
    "old bread 🥖",
    "مرحبا 👩‍🍳",
    "newest",
]
KINDS = ["", "reply", "repost", "", "", "", ""]


def numbered(words: list[str], kinds: list[str], first: int = FIRST) -> list[Numbered]:
    return [(first + i, text, kind) for i, (text, kind) in enumerate(zip(words, kinds, strict=True))]


class PostsContract:
    fake: ClassVar[type[FakeService]]
    scheme: ClassVar[str]
    account: ClassVar[str]
    search: ClassVar[str]
    secrets: ClassVar[dict[str, str]]
    wrong_secret: ClassVar[str] = "refused-token"
    refusal: ClassVar[str] = "a loopback address; allow it by name"

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        for name in self.secrets:
            monkeypatch.delenv(name, raising=False)
        with service(self.fake, numbered(WORDS, KINDS)) as server:
            self.prepare(server, monkeypatch)
            yield server

    def prepare(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the service wants for an account's posts."""

    def log_in(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it wants for a search."""
        for name, value in self.secrets.items():
            monkeypatch.setenv(name, value)

    def address(self, fake: Any, *queries: str, **settings: object) -> str:
        value = {
            "queries": list(queries),
            "server": fake.address,
            "allow": ["127.0.0.1"],
            "delay": 0,
            "retry_wait": 0,
        }
        return f"{self.scheme}:{json.dumps(value | settings)}"

    def read(self, corpus: Path) -> list[Document]:
        return list(read_corpus(corpus, verify=True).documents())

    def texts(self, corpus: Path) -> list[str]:
        return [document.text.strip() for document in self.read(corpus)]

    def test_a_post_is_a_document_the_oldest_first_in_every_script(self, server: Any, tmp_path: Path) -> None:
        summary = ingest(self.address(server, self.account), tmp_path / "corpus")
        assert (summary["items"], summary["documents"]) == (1, 4)
        assert self.texts(tmp_path / "corpus") == ["old bread 🥖", "朝のパン", "مرحبا 👩‍🍳", "newest"]
        document = self.read(tmp_path / "corpus")[-1]
        assert document.id.startswith(f"{self.account}#")
        assert document.source == document.meta["url"]
        assert document.meta["url"].startswith("https://")
        assert document.meta["author"].startswith("@jo")
        assert document.meta["language"] == "en"
        assert document.meta["date"].startswith("2023-11-")

    def test_every_query_of_a_file_is_asked_and_is_an_item(self, server: Any, tmp_path: Path) -> None:
        queries = tmp_path / "queries.txt"
        queries.write_text(f"# who\n{self.account}\n\n{self.account}  \n@nobody\n", encoding="utf-8")
        address = self.address(server, queries_file=str(queries)).replace('"queries": [], ', "")
        summary = ingest(address, tmp_path / "corpus")
        assert (summary["items"], summary["skipped"]) == (1, 1)
        corpus = read_corpus(tmp_path / "corpus")
        assert [item["item"] for item in corpus.items] == [self.account]
        assert "nobody" in json.dumps(corpus.skipped)
        assert corpus.manifest.details["collected"]["queries"] == [self.account, "@nobody"]

    def test_a_folder_of_files_is_all_their_queries(self, server: Any, tmp_path: Path) -> None:
        (tmp_path / "queries").mkdir()
        (tmp_path / "queries" / "b.txt").write_text(f"{self.search}\n")
        (tmp_path / "queries" / "a.txt").write_text(f"# mine\n{self.account}\n{self.search}\n")
        opened: Any = open_source(f"{self.scheme}:{tmp_path}/queries/", max_bytes=1 << 20)
        assert opened.queries == [self.account, self.search]
        assert opened.label == f"{self.scheme}:queries"

    def test_replies_reposts_and_duplicates_are_settings(self, server: Any, tmp_path: Path) -> None:
        wanted = {"replies": True, "reposts": True, "duplicates": True}
        ingest(self.address(server, self.account, **wanted), tmp_path / "corpus")
        assert self.texts(tmp_path / "corpus") == WORDS
        documents = self.read(tmp_path / "corpus")
        assert [document.meta.get("reply", False) for document in documents] == [
            kind == "reply" for kind in KINDS
        ]
        assert [document.meta.get("repost", False) for document in documents] == [
            kind == "repost" for kind in KINDS
        ]
        ingest(self.address(server, self.account, reposts=True), tmp_path / "other")
        assert len(self.texts(tmp_path / "other")) == 5

    def test_a_second_run_asks_only_for_what_is_new(self, server: Any, tmp_path: Path) -> None:
        address, corpus = self.address(server, self.account), tmp_path / "corpus"
        ingest(address, corpus)
        del server.asked[:]
        assert ingest(address, corpus)["unchanged"] == 1
        assert len(self.pages(server)) == 1
        server.posts.append((FIRST + 50, "just now", ""))
        del server.asked[:]
        assert ingest(address, corpus)["changed"] == 1
        assert len(self.pages(server)) <= 2
        assert self.texts(corpus)[-2:] == ["newest", "just now"]

    def test_an_edited_post_is_seen_when_the_newest_are_asked_for_again(
        self, server: Any, tmp_path: Path
    ) -> None:
        address, corpus = self.address(server, self.account), tmp_path / "corpus"
        ingest(address, corpus)
        number, _, kind = server.posts[-1]
        server.posts[-1] = (number, "newest, edited", kind)
        assert ingest(address, corpus)["unchanged"] == 1
        del server.asked[:]
        again = self.address(server, self.account, recheck=1)
        assert ingest(again, corpus)["changed"] == 1
        assert len(self.pages(server)) == 2, "what is newer, and the newest once more"
        assert self.texts(corpus) == ["old bread 🥖", "朝のパン", "مرحبا 👩‍🍳", "newest, edited"]
        assert ingest(again, corpus)["unchanged"] == 1

    def test_the_first_run_asks_for_nothing_twice(self, server: Any, tmp_path: Path) -> None:
        ingest(self.address(server, self.account, recheck=100), tmp_path / "corpus")
        pages = [json.dumps([path, query]) for path, query, _ in self.pages(server)]
        assert len(pages) == len(set(pages))

    def pages(self, server: Any) -> list[Any]:
        return [
            asked
            for asked in server.asked
            if not {"lookup", "username", "createSession"} & set(asked[0].replace(".", "/").split("/"))
        ]

    def test_posts_that_are_gone_stay(self, server: Any, tmp_path: Path) -> None:
        address, corpus = self.address(server, self.account), tmp_path / "corpus"
        ingest(address, corpus)
        server.posts = server.posts[-1:]
        assert ingest(address, corpus)["unchanged"] == 1
        assert len(self.texts(corpus)) == 4

    def test_no_more_than_max_posts_are_taken_and_they_are_the_newest(
        self, server: Any, tmp_path: Path
    ) -> None:
        ingest(self.address(server, self.account, max_posts=2), tmp_path / "corpus")
        assert self.texts(tmp_path / "corpus") == ["مرحبا 👩‍🍳", "newest"]

    def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[float] = []
        monkeypatch.setattr(guarded_session.time, "sleep", waited.append)
        server.after, server.limited = 1, 2
        ingest(self.address(server, self.account), tmp_path / "corpus")
        assert len(self.texts(tmp_path / "corpus")) == 4
        assert [round(seconds) for seconds in waited if seconds > 0.5] in ([2, 2], [1, 1], [1, 2], [2, 1])

    def test_a_limit_that_is_too_long_leaves_what_came_and_the_next_run_goes_on(
        self, server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING, "textmill.ingest")
        address, corpus = self.address(server, self.account, max_wait=0, duplicates=True), tmp_path / "corpus"
        server.after, server.limited = 2, 1
        ingest(address, corpus)
        assert self.texts(corpus)[-1] == "newest"
        assert len(self.texts(corpus)) < 5
        assert "what came so far is taken, and the next run goes on" in caplog.text
        server.posts.append((FIRST + 60, "meanwhile", ""))
        ingest(address, corpus)
        wanted = [text for text, kind in zip(WORDS, KINDS, strict=True) if not kind]
        assert self.texts(corpus) == [*wanted, "meanwhile"]

    def test_a_kill_loses_no_page(self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        address, corpus = self.address(server, self.account), tmp_path / "corpus"
        source = type(open_source(address, max_bytes=1 << 20))
        whole, asked = source.page, []

        def killed(self: Any, *arguments: Any) -> Any:
            asked.append(arguments)
            if len(asked) == 2:
                raise KeyboardInterrupt
            return whole(self, *arguments)

        monkeypatch.setattr(source, "page", killed)
        with pytest.raises(TextmillError, match="The same command goes on from there"):
            ingest(address, corpus)
        monkeypatch.setattr(source, "page", whole)
        del server.asked[:]
        ingest(address, corpus)
        assert len(self.texts(corpus)) == 4
        (first, *_) = self.pages(server)
        assert {"max_id", "until_id", "cursor"} & first[1].keys(), "it goes on, and does not begin anew"

    def test_a_server_that_is_down_leaves_the_corpus_as_it_was(self, server: Any, tmp_path: Path) -> None:
        address, corpus = self.address(server, self.account, retries=1), tmp_path / "corpus"
        server.broken = 9
        with pytest.raises(TextmillError, match="503") as caught:
            ingest(address, corpus)
        assert "\n" not in str(caught.value)
        server.broken = 0
        ingest(address, corpus)
        server.broken = 9
        ingest(address, corpus)
        assert len(self.texts(corpus)) == 4

    def test_a_search_without_a_key_says_how_to_get_one(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in self.secrets:
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(InputError) as caught:
            ingest(self.address(server, self.search), tmp_path / "corpus")
        assert all(name in str(caught.value) for name in self.secrets)
        assert "\n" not in str(caught.value)

    def test_a_search_with_a_key_and_the_key_is_nowhere_to_be_seen(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        self.log_in(server, monkeypatch)
        ingest(self.address(server, self.search), tmp_path / "corpus")
        assert sorted(self.texts(tmp_path / "corpus")) == sorted(
            ["old bread 🥖", "朝のパン", "مرحبا 👩‍🍳", "newest"]
        )
        files = b"".join(path.read_bytes() for path in (tmp_path / "corpus").rglob("*") if path.is_file())
        secrets = [value for name, value in self.secrets.items() if "HANDLE" not in name]
        for secret in [*secrets, server.token]:
            assert secret.encode() not in files
            assert secret not in caplog.text

    def test_a_second_search_brings_what_is_new(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.log_in(server, monkeypatch)
        address, corpus = self.address(server, self.search), tmp_path / "corpus"
        ingest(address, corpus)
        assert ingest(address, corpus)["unchanged"] == 1
        server.posts.append((FIRST + 70, "found later", ""))
        ingest(address, corpus)
        assert self.texts(corpus)[-1] == "found later"
        assert len(self.texts(corpus)) == 5

    def test_a_refused_key_is_one_line_without_the_key(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in self.secrets:
            monkeypatch.setenv(name, self.wrong_secret)
        server.token = server.password = "another"
        with pytest.raises(InputError, match=r"answered 40[13]") as caught:
            ingest(self.address(server, self.search), tmp_path / "corpus")
        assert self.wrong_secret not in str(caught.value)

    def test_a_key_goes_over_https_alone(
        self, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.log_in(server, monkeypatch)
        address = self.address(server, self.search, server="http://plain.example", allow=[])
        with pytest.raises(InputError, match="is no https address"):
            ingest(address, tmp_path / "corpus")

    def test_a_private_address_is_refused_unless_it_is_allowed(self, server: Any, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=self.refusal):
            ingest(self.address(server, self.account, allow=[]), tmp_path / "corpus")
        assert server.asked == []

    def test_a_dry_run_asks_nothing(self, server: Any, tmp_path: Path) -> None:
        told = plan(self.address(server, self.account, self.search), tmp_path / "corpus").items
        assert [(each["item"], each["what"]) for each in told] == [
            (name, "new") for name in sorted([self.account, self.search])
        ]
        assert server.asked == []

    def test_wrong_settings_are_one_line_each(self, server: Any, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("# nothing\n")
        for address, line in [
            (f"{self.scheme}:{{}}", "no queries are named; give 'queries' or 'queries_file'"),
            (f"{self.scheme}:{{queries: [1]}}", "setting 'queries' lists 1, which is not a text; quote it"),
            (
                f"{self.scheme}:{{queries: [a], reply: true}}",
                "unknown setting 'reply'.*Did you mean 'replies'",
            ),
            (f"{self.scheme}:{{queries: [a], server: 'ftp://x'}}", "setting 'server' holds"),
            (f"{self.scheme}:{tmp_path}/empty.txt", "holds no query; write one a line"),
        ]:
            with pytest.raises(SettingsError, match=line):
                open_source(address, max_bytes=100)
        with pytest.raises(InputError, match="there is no file or folder"):
            open_source(f"{self.scheme}:{tmp_path}/nowhere.txt", max_bytes=100)
        with pytest.raises(InputError, match="would have one name"):
            open_source(self.address(server, "a/b", "a_b"), max_bytes=100).items()

    def test_more_than_max_bytes_is_refused(self, server: Any, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="raise max_bytes"):
            ingest(self.address(server, self.account), tmp_path / "corpus", IngestSettings(max_bytes=300))
