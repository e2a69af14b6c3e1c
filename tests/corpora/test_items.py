"""A corpus taken apart by its items."""

from __future__ import annotations

from pathlib import Path

import pytest

from textmill import manifest
from textmill.corpora.corpus import read_corpus
from textmill.corpora.items import ListSettings, list_items, name_of, take_apart
from textmill.errors import InputError
from textmill.ingest import ingest

FILES = {"ann.txt": "Ann wrote this.", "bob.txt": "Bob wrote that.", "a,[b]*.txt": "An odd name."}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, text in FILES.items():
        (tmp_path / "texts" / name).write_text(text)
    ingest(str(tmp_path / "texts"), tmp_path / "corpus")
    return tmp_path / "corpus"


def apart(corpus: Path, **settings: object) -> dict[str, Path]:
    """Each item's corpus, by the item's name."""
    parts = corpus.parent / "parts"
    return {name_of(name): parts / name for name in take_apart(corpus, parts, ListSettings.of(**settings))}


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
    assert list(apart(corpus, items=items)) == names


def test_each_item_makes_a_whole_corpus(corpus: Path) -> None:
    for name, part in apart(corpus).items():
        made = manifest.read(part, "corpus", verify=True)
        assert made.parents == {"corpus": manifest.read(corpus, "corpus").digest}
        assert [document.text for document in read_corpus(part).documents()] == [FILES[name]]
        assert len(list((part / "shards").iterdir())) == 1


def test_an_items_folder_stays_the_same_when_another_one_changes(corpus: Path) -> None:
    before = apart(corpus)
    (corpus.parent / "texts" / "bob.txt").write_text("Bob wrote something else.")
    ingest(str(corpus.parent / "texts"), corpus)
    after = apart(corpus)
    assert after["ann.txt"] == before["ann.txt"]
    assert after["bob.txt"] != before["bob.txt"]
    assert not before["bob.txt"].exists(), "the folder is made anew"


def test_the_same_text_under_two_names_makes_two_corpora(corpus: Path) -> None:
    (corpus.parent / "texts" / "bob.txt").write_text(FILES["ann.txt"])
    ingest(str(corpus.parent / "texts"), corpus)
    assert len(set(apart(corpus).values())) == len(FILES)


@pytest.mark.parametrize(
    "name", ["..", ".", "@jo@soil.example", "#bread", "a/b c.txt", "100%~", "Zoë", "ö" * 300]
)
def test_a_label_is_one_part_of_an_address_and_names_its_item(name: str) -> None:
    from textmill.corpora.items import _label

    label = _label(name)
    assert label not in ("", ".", "..")
    assert not set(label) & set("/%#? ")
    assert len(label) < 200
    assert name.startswith(name_of(f"minio://bucket/shelf/0123/{label}"))
    assert len(name) > 200 or name_of(f"/tmp/shelf/0123/{label}/") == name


def test_an_item_that_is_not_there_is_one_line(corpus: Path) -> None:
    with pytest.raises(
        InputError, match=r"no item of the corpus .* is named 'eve\.txt'; it has a,.*bob\.txt\."
    ):
        apart(corpus, items="ann.txt,eve.txt")
    with pytest.raises(InputError, match="no item"):
        list_items(corpus, ListSettings.of(items="eve*"))


def test_items_with_too_little_text_are_left_out_and_said(
    corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (corpus.parent / "texts" / "eve.txt").write_text("Eve wrote the longest.")
    ingest(str(corpus.parent / "texts"), corpus)
    assert list(apart(corpus, minimum_characters=16)) == ["eve.txt"]
    assert "ann.txt is left out: it has 15 characters, fewer than 16" in caplog.text
    with pytest.raises(
        InputError, match=r"no item of .* has 1,000 characters; 'eve\.txt' has the most, 22\. "
    ):
        list_items(corpus, ListSettings.of(minimum_characters=1000))
