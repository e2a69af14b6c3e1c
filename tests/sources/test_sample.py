"""The embedded samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from textmill.corpora.corpus import read_corpus
from textmill.errors import InputError
from textmill.ingest import ingest
from textmill.sources import open_source


@pytest.mark.parametrize("name", ["play", "posts", "episodes"])
def test_every_sample_is_a_good_corpus(name: str, tmp_path: Path) -> None:
    summary = ingest(f"sample:{name}", tmp_path / "corpus")
    assert summary["skipped"] == 0
    assert summary["characters"] > 20_000
    assert read_corpus(tmp_path / "corpus").manifest.details["source"] == f"sample:{name}"


def test_an_unknown_sample_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown sample 'plays'. Did you mean 'play'"):
        open_source("sample:plays", max_bytes=1)
