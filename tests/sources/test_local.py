"""Files, folders and globs on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.contracts.source_contract import FolderContract, Place, content, listing
from textmill.errors import InputError


class TestLocal(FolderContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        def put(files: Mapping[str, bytes]) -> str:
            shutil.rmtree(tmp_path / "texts", ignore_errors=True)
            for name, data in files.items():
                path = tmp_path / "texts" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return str(tmp_path / "texts")

        return put

    @pytest.fixture
    def missing(self, tmp_path: Path) -> str:
        return str(tmp_path / "hamlett.txt")


def test_a_mistyped_name_is_told_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "hamlet.txt").write_text("words")
    with pytest.raises(InputError, match=r"Did you mean 'hamlet.txt'"):
        listing(str(tmp_path / "hamlett.txt"))
    with pytest.raises(InputError, match="nowhere does not exist"):
        listing(str(tmp_path / "nowhere" / "hamlet.txt"))


def test_file_addresses_and_names_with_glob_letters_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a [1].txt").write_text("one")
    assert list(listing(str(tmp_path / "a [1].txt"))) == ["a [1].txt"]
    assert list(listing(f"file://{tmp_path}/a%20[1].txt")) == ["a [1].txt"]


def test_links_are_followed_but_not_in_a_circle_and_a_broken_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "play.txt").write_text("words")
    (tmp_path / "play.txt").symlink_to("..data/play.txt")  # as Kubernetes mounts a ConfigMap
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "lost.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    items = listing(str(tmp_path))
    assert sorted(items) == ["lost.txt", "pipe.txt", "play.txt"]
    assert content(items["play.txt"]) == b"words"
    assert items["lost.txt"].problem == "a link to nothing"
    assert items["pipe.txt"].problem == "not a regular file"


def test_names_are_nfc_and_bytes_that_are_no_text_are_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "caf\u0065\u0301.txt").write_text("decomposed, as macOS writes it")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("not UTF-8")
    assert sorted(listing(str(tmp_path))) == ["caf\\xe9.txt", "caf\u00e9.txt"]
