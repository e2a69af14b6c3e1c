"""What every store must do. A new store's test class inherits StoreContract and supplies one fixture.

class TestMine(StoreContract):
    @pytest.fixture
    def uri(self) -> str: ...        # a URI below which there is nothing yet; every store opened there sees the same
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from textmill import stores
from textmill.errors import InputError
from textmill.files import sha256_of
from textmill.stores import Changed, Missing, Store, download, open_store, read_bytes


class StoreContract:
    parts_on_condition = True  # the stand-in knows conditions of what goes up in parts

    @pytest.fixture
    def store(self, uri: str) -> Store:
        return open_store(uri)

    def test_what_is_written_is_read(self, store: Store) -> None:
        store.write("a/b.bin", b"\0\xffbytes")
        data, version = read_bytes(store, "a/b.bin")
        assert data == b"\0\xffbytes"
        assert version

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.write("empty", b"")
        assert read_bytes(store, "empty")[0] == b""
        assert list(store.list()) == [("empty", 0)]

    def test_writing_again_replaces_the_object_and_its_version(self, store: Store) -> None:
        store.write("a", b"one")
        before = read_bytes(store, "a")[1]
        store.write("a", b"two")
        data, after = read_bytes(store, "a")
        assert (data, after != before) == (b"two", True)

    def test_a_file_goes_up_and_down_in_parts(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Larger than two parts and no whole number of them."""
        part = 5 << 20  # S3 takes no smaller one
        for module in ("s3", "gcs"):
            monkeypatch.setattr(f"textmill.stores.{module}.PART", part)
        path = tmp_path / "large"
        with open(path, "wb") as file:
            for i in range(11):
                file.write(bytes([i]) * (1 << 20))
            file.write(b"end")
        store.write("large", path)
        there = hashlib.sha256(path.read_bytes()).hexdigest()
        assert download(store, "large", tmp_path / "back") == there
        assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == there
        assert dict(store.list()) == {"large": path.stat().st_size}

    def test_a_small_file_goes_up(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "small").write_bytes(b"small")
        store.write("small", tmp_path / "small")
        assert read_bytes(store, "small")[0] == b"small"

    def test_what_is_not_there_is_missing(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(Missing):
            store.read("nothing")
        with pytest.raises(Missing):
            download(store, "nothing", tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()

    def test_listing_is_by_prefix_in_the_order_of_names(self, store: Store) -> None:
        assert list(store.list()) == []
        for name in ("state/2/w", "state/10/w", "state.json", "other"):
            store.write(name, b"x" * len(name))
        assert [name for name, _ in store.list()] == ["other", "state.json", "state/10/w", "state/2/w"]
        assert list(store.list("state/")) == [("state/10/w", 10), ("state/2/w", 9)]
        assert list(store.list("nothing")) == []

    def test_stores_below_one_another_share_objects_but_not_names(self, store: Store, uri: str) -> None:
        open_store(f"{uri}/run").write("a", b"1")
        open_store(f"{uri}/run2").write("b", b"2")
        assert [name for name, _ in store.list()] == ["run/a", "run2/b"]
        assert [name for name, _ in open_store(f"{uri}/run").list()] == ["a"]

    def test_deleting_twice_is_no_error(self, store: Store) -> None:
        store.write("folder/a", b"1")
        store.write("folder/b", b"2")
        store.delete("folder/a")
        store.delete("folder/a")
        assert list(store.list()) == [("folder/b", 1)]

    def test_the_first_write_needs_that_nothing_is_there(self, store: Store) -> None:
        version = store.write_if_unchanged("pointer", b"one", "")
        assert read_bytes(store, "pointer") == (b"one", version)
        with pytest.raises(Changed):
            store.write_if_unchanged("pointer", b"two", "")
        assert read_bytes(store, "pointer")[0] == b"one"

    def test_a_swap_needs_the_version_that_was_read(self, store: Store) -> None:
        first = store.write_if_unchanged("pointer", b"one", "")
        second = store.write_if_unchanged("pointer", b"two", first)
        assert second != first
        with pytest.raises(Changed):
            store.write_if_unchanged("pointer", b"three", first)
        assert read_bytes(store, "pointer") == (b"two", second)

    def test_a_plain_write_changes_the_version_too(self, store: Store) -> None:
        version = store.write_if_unchanged("pointer", b"one", "")
        store.write("pointer", b"in between")
        with pytest.raises(Changed):
            store.write_if_unchanged("pointer", b"two", version)

    def test_what_was_deleted_cannot_be_swapped(self, store: Store) -> None:
        version = store.write_if_unchanged("pointer", b"one", "")
        store.delete("pointer")
        with pytest.raises(Changed):
            store.write_if_unchanged("pointer", b"two", version)
        with pytest.raises(Missing):
            store.read("pointer")

    @pytest.mark.parametrize("size", [5, 11 << 20])
    def test_a_file_is_swapped_like_bytes(
        self, size: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("s3", "gcs"):
            monkeypatch.setattr(f"textmill.stores.{module}.PART", 5 << 20)
        for letter in "abcd":
            (tmp_path / letter).write_bytes(letter.encode() * size)
        assert store.version("folder/a") == ""
        store.write_file_if_unchanged("folder/a", tmp_path / "a", "")
        first = store.version("folder/a")
        assert first == store.read("folder/a").version
        store.write_file_if_unchanged("folder/a", tmp_path / "b", first)
        second = store.version("folder/a")
        assert second != first
        if size > 5 << 20 and not self.parts_on_condition:
            return
        for stale in ("", first):
            with pytest.raises(Changed):
                store.write_file_if_unchanged("folder/a", tmp_path / "c", stale)
        assert store.version("folder/a") == second
        assert download(store, "folder/a", tmp_path / "back") == sha256_of(tmp_path / "b")
        store.delete("folder/a")
        with pytest.raises(Changed):
            store.write_file_if_unchanged("folder/a", tmp_path / "d", second)
        assert store.version("folder/a") == ""

    def test_of_many_that_swap_at_once_one_wins_each_round(self, store: Store, uri: str) -> None:
        store.write_if_unchanged("pointer", b"0", "")
        wins: list[int] = []
        versions = [read_bytes(store, "pointer")[1]]
        others = [open_store(uri) for _ in range(3)]
        for turn in range(5):
            barrier = threading.Barrier(len(others))

            def swap(number: int, turn: int = turn, barrier: threading.Barrier = barrier) -> None:
                mine = others[number]
                barrier.wait()
                try:
                    versions.append(
                        mine.write_if_unchanged("pointer", b"%d %d" % (turn, number), versions[turn])
                    )
                    wins.append(turn)
                except Changed:
                    pass

            threads = [threading.Thread(target=swap, args=(n,)) for n in range(len(others))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wins == [0, 1, 2, 3, 4], "more or fewer than one swap succeeded in some round"
        assert read_bytes(store, "pointer")[1] == versions[-1]

    @pytest.mark.parametrize("name", ["../up", "/root", "a/../../b", ""])
    def test_a_name_that_leads_out_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(InputError):
            store.write(name, b"x")
        with pytest.raises(InputError):
            store.read(name)

    def test_the_label_has_no_secrets_and_no_slash_at_its_end(self, store: Store) -> None:
        assert stores.label_of(store.label) == store.label
        assert not store.label.endswith("/")
