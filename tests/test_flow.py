"""docs/flow.md shows what is printed and written: the first stages run again here, on its own page."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner

from tests.sources.sites import Site, site
from textmill.cli import main

DOCUMENT = (Path(__file__).parent.parent / "docs" / "flow.md").read_text(encoding="utf-8")
FERRY = [
    "TOBY\tThe ferry is late, and so are we.",
    "MOLL\tThe river is not late. It is where it was.",
    "TOBY\tThen we shall wait where it is.",
]


def shown(verb: str) -> list[str]:
    (command,) = re.findall(rf"^    textmill ({verb} .*)$", DOCUMENT, flags=re.MULTILINE)
    return shlex.split(command)


def test_the_page_becomes_the_document_and_the_dataset_that_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (page,) = re.findall(r"```html\n(.*?)```", DOCUMENT, re.DOTALL)
    lines = re.findall(r"<p>(.*?)</p>", page)
    ferry = page.replace("<h1>The Mill", "<h1>The Ferry").replace("<title>The Mill", "<title>The Ferry")
    for old, new in zip(lines, FERRY, strict=True):
        ferry = ferry.replace(old, new)
    with site(Site) as server:
        server.files |= {"/plays/mill.html": page.encode(), "/plays/ferry.html": ferry.encode()}
        port = server.address.rpartition(":")[2]
        asked = [word.replace("8010", port) for word in shown("ingest")]
        first = CliRunner().invoke(main, asked)
        assert first.exit_code == 0, first.stderr
        assert CliRunner().invoke(main, asked).exit_code == 0
    (before, after) = re.findall(r"^(\d unchanged, .*?), in [\d.]+ s$", DOCUMENT, flags=re.MULTILINE)
    assert before in caplog.text
    assert after in caplog.text

    found = [
        zstandard.ZstdDecompressor()
        .stream_reader(path.read_bytes())
        .read()
        .decode()
        .replace(port, "8010")
        .strip()
        for path in (tmp_path / "corpus" / "shards").iterdir()
    ]
    (document,) = re.findall(r'^\{"id":"127.*$', DOCUMENT, flags=re.MULTILINE)
    assert document in found

    made = CliRunner().invoke(main, shown("normalize"))
    assert made.exit_code == 0, made.stderr
    (said,) = re.findall(r"^normalized .*? 21\.66;", DOCUMENT, flags=re.MULTILINE)
    assert said in caplog.text
    tokenizer = json.loads((tmp_path / "dataset" / "tokenizer" / "tokenizer.json").read_text("utf-8"))
    assert json.dumps(tokenizer) in DOCUMENT
    tokens = (tmp_path / "dataset" / "train" / "tokens.bin").read_bytes()
    first_tokens = " ".join(str(int.from_bytes(tokens[i : i + 2], "little")) for i in range(0, 28, 2))
    assert f"{len(tokens) // 2} numbers of 16 bits: {first_tokens} …" in DOCUMENT
    (row,) = re.findall(r"\{\"characters\":123.*$", DOCUMENT, flags=re.MULTILINE)
    kept = (tmp_path / "dataset" / "train" / "documents.jsonl").read_text("utf-8").strip()
    assert kept.replace(port, "8010") == row


def test_the_folders_that_are_shown_are_those_of_a_run() -> None:
    for stage in ("corpus", "dataset", "checkpoint"):
        assert f"\n{stage}/manifest.json" in DOCUMENT
    for command in ("train", "generate", "report", "serve"):
        assert shown(command)
