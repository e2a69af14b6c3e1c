"""Files that cannot be half-written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from textmill import files
from textmill.errors import InputError, MachineError


def test_a_failing_block_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path, "w") as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failing_block_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with files.new_folder(path) as beside:
        (beside / "a").write_text("old")
    with pytest.raises(RuntimeError), files.new_folder(path) as beside:
        (beside / "a").write_text("new")
        raise RuntimeError
    assert (path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_new_folder_takes_the_old_ones_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for name in ("a", "b"):
        with files.new_folder(path) as beside:
            (beside / name).write_text(name)
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_has_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", {"b": 1, "a": "é"})
    files.write_json(tmp_path / "b", {"a": "é", "b": 1})
    assert (
        (tmp_path / "a").read_bytes()
        == (tmp_path / "b").read_bytes()
        == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
    )


def test_what_is_in_the_way_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="in the way"):
        files.write_bytes(tmp_path / "file" / "below", b"")


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "no permission")]
)
def test_a_full_disk_and_a_closed_one_are_the_machines_error(code: int, words: str) -> None:
    error = files.writing_failed(Path("x"), OSError(code, "…"))
    assert isinstance(error, MachineError)
    assert words in str(error)
