"""Where a description comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
import yaml

from tests.sources.sites import site
from textmill.errors import InputError, SettingsError
from textmill.settings import setting
from textmill.sources.described import PoliteSettings, read_description


@dataclass(frozen=True)
class Mill(PoliteSettings):
    """Settings of a source that is not there."""

    stones: list = setting([], "Stones.")
    TEXTS: ClassVar[tuple[str, ...]] = (*PoliteSettings.TEXTS, "stones")


def read(rest: str) -> tuple[Mill, str]:
    return read_description(Mill, f"mill:{rest}", url=lambda url: {"stones": [url]}, lines="stones")


def test_yaml_and_json_on_one_line_or_many() -> None:
    for text in ('{"stones": ["a"], "delay": 2}', "{stones: [a], delay: 2}", "\nstones:\n  - a\ndelay: 2\n"):
        found, label = read(text)
        assert (found.stones, found.delay, label) == (["a"], 2.0, "mill:{…}")


def test_a_file_here_or_at_any_address_that_is_read(tmp_path: Path) -> None:
    text = b"stones: [a]\n"
    (tmp_path / "mill.yml").write_bytes(text)
    fsspec.filesystem("memory").pipe("/bucket/mill.yaml", text)
    assert read(str(tmp_path / "mill.yml"))[1] == "mill:mill.yml"
    assert read("memory://bucket/mill.yaml")[0].stones == ["a"]
    with site() as server:
        server.files["/mill.json"] = b'{"stones": ["b"]}'
        found, label = read(f"{server.address}/mill.json")
        assert (found.stones, label) == (["b"], f"mill:{server.address}/mill.json")
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_a_list_and_an_address(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# stones\n\n a \nb\n")
    assert read(str(tmp_path / "list.txt"))[0].stones == ["a", "b"]
    assert read("{stones: a}")[0].stones == ["a"], "one entry, as it stands"
    assert read("https://example.org/x?key=secret") == (
        Mill(stones=["https://example.org/x?key=secret"]),
        "mill:https://example.org/x",
    )


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"stones: [a", "mill.yaml is not valid YAML, line 1: expected ',' or ']', but got '<stream end>'."),
        (b"- a\n", "mill.yaml must hold settings, `key: value`, not list."),
        (b"", "mill.yaml must hold settings, `key: value`, not NoneType."),
        (b"stone: [a]\n", "unknown setting 'stone' in mill:mill.yaml. Did you mean 'stones'? Known: "),
        (b"stones: 3\n", "setting 'stones' (mill:mill.yaml) is 3, which is not of type list."),
        (b"stones: [2]\n", "setting 'stones' lists 2, which is not a text; quote it."),
        (b"\xff\xfe\xff", "mill.yaml is not UTF-8 text."),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, data: bytes, line: str) -> None:
    (tmp_path / "mill.yaml").write_bytes(data)
    with pytest.raises(SettingsError) as caught:
        read(str(tmp_path / "mill.yaml"))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(InputError, match=r"folder\.yaml is not one file"):
        read(str(tmp_path / "folder.yaml"))
    with pytest.raises(InputError, match=r"there is no file or folder .*none\.yaml"):
        read(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="is described itself"):
        read("crawl:x.yaml")


def test_the_digest_tells_what_makes_another_text() -> None:
    one = Mill(stones=["a"])
    assert one.digest() == Mill(stones=["a"], delay=9.0, allow=["x"], contact="y").digest()
    assert one.digest() != Mill(stones=["b"]).digest()
    assert one.digest("stones") == Mill(stones=["b"]).digest("stones")


def test_the_documentation_names_every_setting_with_its_default() -> None:
    pytest.importorskip("lxml")
    from textmill.sources.crawl import CrawlSettings
    from textmill.sources.feeds import FeedsSettings
    from textmill.sources.mediawiki import MediaWikiSettings

    text = (Path(__file__).parents[2] / "docs" / "collecting.md").read_text()
    common = PoliteSettings.kinds()
    for title, cls in {
        "What every description may say": PoliteSettings,
        "crawl": CrawlSettings,
        "mediawiki": MediaWikiSettings,
        "feeds": FeedsSettings,
    }.items():
        part = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", part, re.MULTILINE)
        default = cls()
        shown = {
            name: getattr(default, name)
            for name in cls.kinds()
            if cls is PoliteSettings or name not in common
        }
        assert {name: yaml.safe_load(value) for name, value in rows} == shown
