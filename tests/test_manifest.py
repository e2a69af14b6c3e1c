"""manifest.json: a folder that is half-written, altered or foreign is refused with one line."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from textmill import manifest
from textmill.corpora.corpus import read_corpus
from textmill.datasets.parts import read_parts
from textmill.errors import FolderError

PARTS = {"first": 0, "of": 1, "rules": "", "items": ["a"], "shards": ["0"], "documents": [1]}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "a").write_bytes(b"abc")
    manifest.write(folder, "corpus", settings={"strict": False}, parents={}, details={"items": []})
    return folder


def test_what_is_written_is_read(corpus: Path) -> None:
    found = manifest.read(corpus, "corpus", verify=True)
    assert found.files == {
        "shards/a": {"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    }
    assert found.settings == {"strict": False}
    assert found.versions["textmill"]


def test_the_digest_depends_on_content_alone(corpus: Path) -> None:
    before = manifest.read(corpus, "corpus").digest
    assert before == manifest.write(corpus, "corpus", details={"else": 1}).digest
    (corpus / "shards" / "a").write_bytes(b"abd")
    assert before != manifest.write(corpus, "corpus").digest


def test_each_way_to_be_wrong_has_its_line(corpus: Path, tmp_path: Path) -> None:
    def message(folder: Path, kind: str = "corpus", verify: bool = True) -> str:
        with pytest.raises(FolderError) as caught:
            manifest.read(folder, kind, verify=verify)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such folder" in message(tmp_path / "nowhere")
    assert "is not a corpus: it has no manifest.json" in message(tmp_path)
    assert "holds a corpus; a dataset is wanted" in message(corpus, "dataset")
    (corpus / "shards" / "a").write_bytes(b"abd")
    assert "was altered: its SHA-256" in message(corpus)
    (corpus / "shards" / "a").write_bytes(b"ab")
    assert "has 2 bytes, its manifest says 3" in message(corpus, verify=False)
    (corpus / "shards" / "a").unlink()
    assert "lacks shards/a" in message(corpus, verify=False)
    value = json.loads((corpus / "manifest.json").read_text())
    value["files"] = {}
    (corpus / "manifest.json").write_text(json.dumps(value))
    assert "was altered" in message(corpus)
    value["version"] = 99
    (corpus / "manifest.json").write_text(json.dumps(value))
    assert "newer textmill" in message(corpus)
    (corpus / "manifest.json").write_text("{}")
    assert "not a textmill manifest" in message(corpus)


def test_a_path_out_of_the_folder_is_refused(corpus: Path) -> None:
    (corpus.parent / "secret").write_bytes(b"abc")
    manifest.write(corpus, "corpus", files=["../secret"])
    with pytest.raises(FolderError, match="out of the folder"):
        manifest.read(corpus, "corpus")


@pytest.mark.parametrize(
    "damage",
    [
        {"files": []},
        {"files": {"shards/a": {"sha256": "ab"}}},
        {"files": {"shards/a": {"sha256": 7, "size": 3}}},
        {"files": {"shards/a": {"sha256": "ab", "size": 3.5}}},
        {"files": {"shards/a": "ab"}},
        {"version": "1"},
    ],
    ids=str,
)
def test_a_manifest_that_a_stranger_wrote_is_one_line(damage: dict[str, Any], corpus: Path) -> None:
    value = json.loads((corpus / "manifest.json").read_text()) | damage
    (corpus / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(FolderError, match="is not a textmill manifest"):
        manifest.read(corpus, "corpus")


def test_a_manifest_that_is_nested_without_end_is_one_line(corpus: Path) -> None:
    (corpus / "manifest.json").write_text("[" * 200_000)
    assert manifest.kind_of(corpus) == ""
    with pytest.raises(FolderError, match="is not a textmill manifest"):
        manifest.read(corpus, "corpus")


def test_what_the_details_name_is_one_of_the_files_that_were_checked(corpus: Path) -> None:
    (corpus.parent / "secret").write_bytes(b"abc")
    items = [{"item": "a", "shard": "../secret"}]
    manifest.write(corpus, "corpus", details={"items": items})
    with pytest.raises(FolderError, match=r"names '\.\./secret', which is none of its files"):
        read_corpus(corpus)
    manifest.write(corpus, "parts", parents={"corpus": "0"}, details=PARTS | {"units": ["../secret"]})
    with pytest.raises(FolderError, match="which is none of its files"):
        read_parts([corpus], "")


def test_a_cpu_build_counts_as_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorflow-cpu": "2.21.0"}

    def version(name: str) -> str:
        try:
            return installed[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr("importlib.metadata.version", version)
    assert manifest.version_of("tensorflow") == "2.21.0"
    with pytest.raises(PackageNotFoundError):
        manifest.version_of("keras")
