"""README.md: short, its pictures are there and are those of the code, and what it names exists."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from textmill.pipeline_file import read_pipeline

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_shows_before_it_explains() -> None:
    lines = README.splitlines()
    assert len(lines) <= 110
    assert max(len(line) for line in lines) <= 200
    for shown in ("docs/pictures/quickstart.svg", "docs/pictures/report.png", "    MERREN  "):
        assert README.index(shown) < README.index("## Two commands")


def test_pictures_are_there_small_and_described() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", README)
    assert len(pictures) == 2
    for described, path in pictures:
        assert len(described) > 20, "what a person hears who does not see it"
        assert (ROOT / path).stat().st_size < 200_000
    head = (ROOT / "docs/pictures/report.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert 600 <= width <= 1000
    assert height < 2 * width


def test_the_picture_is_of_the_pipeline_that_make_run_runs() -> None:
    assert "pipelines/compiled/quickstart.yaml" in (ROOT / "Makefile").read_text("utf-8")
    tasks = read_pipeline("quickstart").tasks
    (described,) = re.findall(r"!\[The pipeline quickstart: ([^\]]+), and what", README)
    assert described.split(", ") == tasks
    title = re.findall(r"<title[^>]*>([^<]+)", (ROOT / "docs/pictures/quickstart.svg").read_text("utf-8"))
    assert title == ["The pipeline quickstart: " + ", then ".join(tasks)]


def test_the_end_of_a_run_is_what_a_run_says() -> None:
    """tests/local/test_running.py holds a run to these lines."""
    shown = re.findall(r"^      (\w+) +(out/\S+)$", README, flags=re.MULTILINE)
    assert shown == [
        ("text", "out/generate/texts/texts.txt"),
        ("report", "out/report.html"),
        ("checkpoint", "out/train/checkpoint"),
    ]


def test_files_and_folders_that_it_names_exist() -> None:
    tree = README[README.index("- **The tree**") :]
    named = re.findall(r"`(\w+/)`", tree)
    assert {"textmill/", "components/", "pipelines/", "samples/", "tests/"} <= set(named)
    for name in named:
        assert (ROOT / name).is_dir(), name


def test_the_versions_of_python_are_those_of_the_project() -> None:
    assert "Python 3.11, 3.12 or 3.13" in README
    assert 'requires-python = ">=3.11,<3.14"' in (ROOT / "pyproject.toml").read_text("utf-8")
