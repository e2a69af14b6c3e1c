"""An earlier corpus, brought to an empty folder: whole, the newest of several, never over another one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from click.testing import CliRunner

from tests.stores.moto_s3 import BUCKET, moto_s3
from textmill import manifest
from textmill.cli import main
from textmill.corpora.corpus import WORK, read_corpus
from textmill.errors import FolderError, InputError
from textmill.ingest import ingest, plan
from textmill.sources.earlier import bring

TEXTS = {"ann.txt": "Ann wrote this.", "bob.txt": "Bob wrote that."}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "texts" / name).write_text(text)
    return tmp_path / "texts"


@pytest.fixture
def earlier(texts: Path, tmp_path: Path) -> Path:
    """A corpus with what a source keeps, also in a file whose name begins with a dot."""
    ingest(str(texts), tmp_path / "earlier")
    (tmp_path / "earlier" / WORK / "feeds").mkdir(parents=True)
    (tmp_path / "earlier" / WORK / "feeds" / "answer").write_text("kept")
    return tmp_path / "earlier"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_corpus_and_what_its_source_keeps_come_whole(earlier: Path, tmp_path: Path) -> None:
    assert bring(str(earlier), tmp_path / "corpus")
    assert files(tmp_path / "corpus") == files(earlier)
    read_corpus(tmp_path / "corpus", verify=True)


def test_only_what_changed_is_read_again(earlier: Path, texts: Path, tmp_path: Path) -> None:
    (texts / "bob.txt").write_text("Bob wrote something else.")
    told = plan(str(texts), tmp_path / "corpus", earlier=str(earlier))
    assert {row["item"]: row["what"] for row in told.items} == {
        "ann.txt": "to be compared",
        "bob.txt": "to be compared",
    }
    assert not (tmp_path / "corpus").exists()
    summary = ingest(str(texts), tmp_path / "corpus", earlier=str(earlier))
    assert (summary["unchanged"], summary["changed"], summary["new"]) == (1, 1, 0)
    shard = {item["item"]: item["shard"] for item in read_corpus(earlier).items}["ann.txt"]
    assert (tmp_path / "corpus" / shard).read_bytes() == (earlier / shard).read_bytes()


def test_unchanged_texts_give_the_same_bytes_of_everything(
    earlier: Path, texts: Path, tmp_path: Path
) -> None:
    ingest(str(texts), tmp_path / "corpus", earlier=earlier.as_uri())
    assert files(tmp_path / "corpus") == files(earlier)


def test_a_corpus_that_stands_in_the_folder_is_newer(earlier: Path, texts: Path, tmp_path: Path) -> None:
    (texts / "cyn.txt").write_text("Cyn came later.")
    ingest(str(texts), tmp_path / "corpus")
    before = files(tmp_path / "corpus")
    assert not bring(str(earlier), tmp_path / "corpus")
    assert files(tmp_path / "corpus") == before


def test_what_a_stopped_run_kept_is_newer_too(earlier: Path, tmp_path: Path) -> None:
    kept = tmp_path / "corpus" / WORK / "feeds" / "answer"
    kept.parent.mkdir(parents=True)
    kept.write_text("newer")
    assert bring(str(earlier), tmp_path / "corpus")
    assert kept.read_text() == "newer"


def test_of_several_the_newest_whole_one_comes(earlier: Path, texts: Path, tmp_path: Path) -> None:
    for run, time in (("1", 1_000_000), ("2", 3_000_000), ("3", 2_000_000), ("4", 4_000_000)):
        (texts / "ann.txt").write_text(f"Ann wrote {run}.")
        folder = tmp_path / "runs" / run / "ingest" / "corpus"
        ingest(str(texts), folder)
        os.utime(folder / manifest.NAME, (time, time))
    shutil.rmtree(tmp_path / "runs" / "4" / "ingest" / "corpus" / "shards")  # its upload was cut
    assert bring(str(tmp_path / "runs" / "*" / "ingest" / "corpus"), tmp_path / "corpus")
    assert next(read_corpus(tmp_path / "corpus").documents()).text == "Ann wrote 2."


def test_a_place_with_a_star_may_hold_none_yet(texts: Path, tmp_path: Path) -> None:
    summary = ingest(str(texts), tmp_path / "corpus", earlier=str(tmp_path / "runs" / "*" / "corpus"))
    assert summary["new"] == 2


def test_a_kill_while_it_comes_leaves_what_the_next_call_fills(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moved = os.replace, []

    def killed(source: Any, target: Any) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr("textmill.sources.earlier.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        bring(str(earlier), tmp_path / "corpus")
    assert not (tmp_path / "corpus" / manifest.NAME).exists()
    monkeypatch.undo()
    assert bring(str(earlier), tmp_path / "corpus")
    assert files(tmp_path / "corpus") == files(earlier)


@pytest.fixture
def store() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    yield memory
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)


def test_it_comes_from_a_store(earlier: Path, texts: Path, tmp_path: Path, store: Any) -> None:
    for name, data in files(earlier).items():
        store.pipe(f"/bucket/runs/7/corpus/{name}", data)
    for place in ("memory://bucket/runs/7/corpus", "memory://bucket/runs/*/corpus/"):
        ingest(str(texts), tmp_path / "corpus", earlier=place)
        assert files(tmp_path / "corpus") == files(earlier)
        shutil.rmtree(tmp_path / "corpus")


def test_it_comes_from_s3(
    earlier: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A real S3 client and server: what two runs wrote, the newer of them not whole; and what is not there."""
    caplog.set_level("INFO", "textmill")
    with moto_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", region_name="us-east-1")
        written = files(earlier)
        for name, data in written.items():
            client.put_object(Bucket=BUCKET, Key=f"v2/artifacts/tweets/7/ingest/1/corpus/{name}", Body=data)
        cut = f"v2/artifacts/tweets/8/ingest/1/corpus/{manifest.NAME}"
        client.put_object(Bucket=BUCKET, Key=cut, Body=written[manifest.NAME])
        (texts / "bob.txt").write_text("Bob wrote something else.")
        places = (
            f"minio://{BUCKET}/v2/artifacts/tweets/*/ingest/*/corpus",
            f"s3://{BUCKET}/v2/artifacts/tweets/7/*/1/corpus",
        )
        for place in places:
            summary = ingest(str(texts), tmp_path / "corpus", earlier=place)
            assert (summary["unchanged"], summary["changed"], summary["new"]) == (1, 1, 0)
            assert "going on from the corpus at" in caplog.text
            shutil.rmtree(tmp_path / "corpus")
        assert summary["items"] == 2
        assert "8/ingest/1/corpus is not whole" in caplog.text
        ingest(str(texts), tmp_path / "corpus", earlier=f"s3://{BUCKET}/none/yet/*/corpus")
        shutil.rmtree(tmp_path / "corpus")
        with pytest.raises(
            InputError, match=f"there is no corpus at s3://{BUCKET}/nowhere: it has no manifest"
        ):
            ingest(str(texts), tmp_path / "corpus", earlier=f"s3://{BUCKET}/nowhere")
        assert not (tmp_path / "corpus").exists()


# Place made of the earlier corpus, and the line that is said of it.
WRONG = [
    (
        "nowhere",
        r"there is no corpus at .*nowhere: it has no manifest\.json; name the corpus of an earlier run",
    ),
    ("cut", r"the corpus at .*cut is not whole: of shards/\w+\.jsonl\.zst, \d+ bytes, nothing is there"),
    ("short", r"is not whole: of shards/\w+\.jsonl\.zst, \d+ bytes, 3 bytes is there"),
    ("altered", r"was altered: its SHA-256 is not the manifest's"),
    ("other", r"holds a dataset; a corpus is wanted here"),
    ("garbled", r"is not a textmill manifest"),
    ("escaping", r"a path out of the folder; do not use it"),
]


@pytest.mark.parametrize(("how", "line"), WRONG)
def test_what_is_no_whole_corpus_is_one_line_and_nothing_is_left(
    earlier: Path, texts: Path, tmp_path: Path, how: str, line: str
) -> None:
    place = tmp_path / how
    if how != "nowhere":
        shutil.copytree(earlier, place)
    said = place / manifest.NAME
    shard = next((place / "shards").glob("*"), None) if how != "nowhere" else None
    if how == "cut":
        shutil.rmtree(place / "shards")
    elif how == "short":
        assert shard
        shard.write_bytes(b"abc")
    elif how == "altered":
        assert shard
        shard.write_bytes(bytes(shard.stat().st_size))
    elif how == "other":
        said.write_text(said.read_text().replace("textmill/corpus", "textmill/dataset"))
    elif how == "garbled":
        said.write_bytes(b"\xff{")
    elif how == "escaping":
        (tmp_path / "out.txt").write_bytes(b"abc")
        value = json.loads(said.read_bytes())
        value["files"]["../out.txt"] = {"size": 3, "sha256": "0" * 64}
        said.write_text(json.dumps(value))
    with pytest.raises((InputError, FolderError), match=line) as caught:
        ingest(str(texts), tmp_path / "corpus", earlier=str(place))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "corpus" / manifest.NAME).exists()
    ended = CliRunner().invoke(
        main, ["ingest", str(texts), "-o", str(tmp_path / "corpus"), "--earlier", str(place)]
    )
    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)


def test_a_scheme_that_holds_no_folders_is_refused(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder, or lies at s3:// or gs://, not at https://"):
        ingest(str(texts), tmp_path / "corpus", earlier="https://example.org/corpus")
