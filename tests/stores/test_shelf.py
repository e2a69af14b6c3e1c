"""Folders that a pipeline's runs share: one address in all runs, written once; and what happens without a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from textmill.stores import Refused, memory, open_store, shelf

NAMES = ["aa/ann", "bb/bob"]
RUN = "memory://bucket/v2/artifacts/tweets-gpt2/{run}/list-items/8d1f/shelf"
SHELF = "memory://bucket/v2/artifacts/tweets-gpt2/shelf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name / "shards").mkdir(parents=True)
        (tmp_path / name / "shards" / "0.zst").write_text(f"texts of {name}")
        (tmp_path / name / "manifest.json").write_text("{}")
    return tmp_path


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is written to the store, in order."""
    names: list[str] = []
    write = memory.MemoryStore.write

    def noted(self: memory.MemoryStore, name: str, data: bytes | Path) -> None:
        names.append(name)
        write(self, name, data)

    monkeypatch.setattr(memory.MemoryStore, "write", noted)
    for name in [name for name, _ in open_store(SHELF).list()]:
        open_store(SHELF).delete(name)
    return names


def test_every_run_gets_the_same_addresses_and_writes_only_what_is_new(
    folder: Path, written: list[str]
) -> None:
    first = shelf.keep(folder, RUN.format(run="one"), NAMES[:1])
    assert first == [f"{SHELF}/aa/ann"]
    assert written == ["aa/ann/shards/0.zst", "aa/ann/manifest.json"], "the manifest last"
    (folder / "aa/ann/shards").mkdir(parents=True)
    (folder / "aa/ann/shards/0.zst").write_text("texts of aa/ann")
    (folder / "aa/ann/manifest.json").write_text('{"made": "later"}')
    del written[:]
    assert shelf.keep(folder, RUN.format(run="two"), NAMES) == [*first, f"{SHELF}/bb/bob"]
    assert written == ["bb/bob/shards/0.zst", "bb/bob/manifest.json"]


def test_what_is_on_the_shelf_is_not_taken_along_again_but_its_addresses(
    folder: Path, written: list[str]
) -> None:
    addresses = shelf.keep(folder, RUN.format(run="one"), NAMES)
    assert [path.name for path in folder.iterdir()] == ["folders.json"]
    assert json.loads((folder / "folders.json").read_text()) == dict(zip(NAMES, addresses, strict=True))


def test_a_folder_that_is_not_whole_is_written_again(folder: Path, written: list[str]) -> None:
    store = open_store(SHELF)
    store.write("aa/ann/manifest.json", b"{}")
    store.write("bb/bob/shards/0.zst", (folder / "bb/bob/shards/0.zst").read_bytes())
    del written[:]
    shelf.keep(folder, RUN.format(run="one"), NAMES)
    assert [name for name in written if name.endswith("manifest.json")] == [
        f"{n}/manifest.json" for n in NAMES
    ]


@pytest.mark.parametrize("error", [Refused("no credentials."), shelf.TextmillError("it is down.")])
def test_without_a_store_the_folders_stay_with_the_run_and_it_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(memory.MemoryStore, "list", refuse)
    uri = RUN.format(run="one")
    assert shelf.keep(folder, uri, NAMES) == [f"{uri}/{name}" for name in NAMES]
    assert "the next one works on every item anew" in caplog.text
    assert all((folder / name / "manifest.json").exists() for name in NAMES)


def test_on_one_machine_the_folders_stay_where_they_are(folder: Path) -> None:
    assert shelf.keep(folder, str(folder), NAMES) == [f"{folder}/{name}" for name in NAMES]
    assert all((folder / name / "manifest.json").exists() for name in NAMES)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("minio://mlpipeline/v2/artifacts/tweets-gpt2/3f/list-items/8d/shelf", "minio://mlpipeline/v2/artifacts/tweets-gpt2/shelf"),
        ("gs://bucket/tweets-gpt2/3f/list-items/8d/shelf", "gs://bucket/tweets-gpt2/shelf"),
        (
            "s3://bucket/tweets-gpt2/3f/list-items/8d/shelf?endpoint=store:9000",
            "s3://bucket/tweets-gpt2/shelf?endpoint=store:9000",
        ),
        ("s3://bucket/shelf", ""),
        ("/home/ann/out/list-items/shelf", ""),
    ],
)  # fmt: skip
def test_the_shelf_lies_beside_the_pipelines_runs(uri: str, expected: str) -> None:
    assert shelf.shelf_of(uri) == expected
