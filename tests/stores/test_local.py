"""The store that is a folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.contracts.store_contract import StoreContract
from textmill.stores import Refused, StoreError, open_store


class TestLocal(StoreContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return str(tmp_path / "store")


class TestFileAddress(StoreContract):
    @pytest.fixture
    def uri(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/a%20store"


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(Refused):
        open_store(str(tmp_path / "store")).write("a", b"1")


def test_a_full_disk_may_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("textmill.files.os.replace", full)
    with pytest.raises(StoreError, match="no space left"):
        open_store(str(tmp_path)).write("a", b"1")
    assert list(open_store(str(tmp_path)).list()) == []


def test_folders_that_hold_nothing_any_more_go_too(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.write("a/b/c", b"1")
    store.delete("a/b/c")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_never_given_back_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textmill.stores.local.PATIENCE", 0.1)
    store = open_store(str(tmp_path))
    with open(tmp_path / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="is held by a process that stands still"):
            store.write_if_unchanged("pointer", b"1", "")
    assert store.write_if_unchanged("pointer", b"1", "")
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["pointer"]
