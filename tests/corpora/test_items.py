"""A corpus taken apart by its items."""

from __future__ import annotations

from pathlib import Path

import pytest

from textmill import manifest
from textmill.corpora.corpus import read_corpus
from textmill.corpora.items import ItemsSettings, ListSettings, list_items, take_items
from textmill.errors import FolderError, InputError
from textmill.ingest import ingest

FILES = {"ann.txt": "Ann wrote this.", "bob.txt": "Bob wrote that.", "a,[b]*.txt": "An odd name."}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, text in FILES.items():
        (tmp_path / "texts" / name).write_text(text)
    ingest(str(tmp_path / "texts"), tmp_path / "corpus")
    return tmp_path / "corpus"


def take(corpus: Path, items: str) -> Path:
    taken = corpus.parent / "taken"
    take_items(corpus, taken, ItemsSettings.of(items=items))
    return taken


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ("", ["a,[b]*.txt", "ann.txt", "bob.txt"]),
        ("ann.txt", ["ann.txt"]),
        ("bob.txt, ann.*", ["ann.txt", "bob.txt"]),
        ("a,[b]*.txt", ["a,[b]*.txt"]),
        ("a*", ["a,[b]*.txt", "ann.txt"]),
    ],
)
def test_items_by_name_and_glob(corpus: Path, items: str, names: list[str]) -> None:
    assert list_items(corpus, ListSettings.of(items=items)) == names
    assert [document.text for document in read_corpus(take(corpus, items)).documents()] == [
        FILES[name] for name in names
    ]


def test_each_item_makes_a_whole_corpus(corpus: Path) -> None:
    for name in list_items(corpus):
        figures = take_items(corpus, corpus.parent / "taken", ItemsSettings.of(items=name))
        assert figures == {"items": 1, "documents": 1, "characters": len(FILES[name])}
        made = manifest.read(corpus.parent / "taken", "corpus", verify=True)
        assert made.parents == {"corpus": manifest.read(corpus, "corpus").digest}
        assert len(list((corpus.parent / "taken" / "shards").iterdir())) == 1


def test_an_item_stays_the_same_when_another_one_changes(corpus: Path) -> None:
    before = manifest.read(take(corpus, "ann.txt"), "corpus").digest
    (corpus.parent / "texts" / "bob.txt").write_text("Bob wrote something else.")
    ingest(str(corpus.parent / "texts"), corpus)
    assert manifest.read(take(corpus, "ann.txt"), "corpus").digest == before
    assert manifest.read(take(corpus, "bob.txt"), "corpus").digest != before


def test_an_item_that_is_not_there_is_one_line(corpus: Path) -> None:
    with pytest.raises(
        InputError, match=r"no item of the corpus .* is named 'eve\.txt'; it has a,.*bob\.txt\."
    ):
        take(corpus, "ann.txt,eve.txt")
    with pytest.raises(InputError, match="no item"):
        list_items(corpus, ListSettings.of(items="eve*"))


def test_items_with_too_little_text_are_left_out_and_said(
    corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (corpus.parent / "texts" / "eve.txt").write_text("Eve wrote the longest.")
    ingest(str(corpus.parent / "texts"), corpus)
    assert list_items(corpus, ListSettings.of(minimum_characters=16)) == ["eve.txt"]
    assert "ann.txt is left out: it has 15 characters, fewer than 16" in caplog.text
    with pytest.raises(
        InputError, match=r"no item of .* has 1,000 characters; 'eve\.txt' has the most, 22\. "
    ):
        list_items(corpus, ListSettings.of(minimum_characters=1000))


def test_another_folder_is_not_replaced(corpus: Path) -> None:
    (corpus.parent / "taken").mkdir()
    (corpus.parent / "taken" / "letter.txt").write_text("dear")
    with pytest.raises(FolderError, match="is not a corpus"):
        take(corpus, "")
    assert (corpus.parent / "taken" / "letter.txt").exists()
