"""The recipes' pictures show the compiled pipelines, and a picture that is not current is told."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from tools import pictures

NAMES = sorted(path.stem for path in pictures.COMPILED.glob("*.yaml"))


def compiled(name: str) -> dict:
    return next(yaml.safe_load_all((pictures.COMPILED / f"{name}.yaml").read_bytes()))


def test_every_recipe_has_its_picture_and_it_is_current() -> None:
    assert sorted(path.stem for path in pictures.PICTURES.glob("*.svg")) == NAMES
    for name in NAMES:
        assert (pictures.PICTURES / f"{name}.svg").read_text("utf-8") == pictures.draw(compiled(name)), name


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_an_svg_that_names_each_task_once(name: str) -> None:
    spec = compiled(name)
    root = ElementTree.fromstring(pictures.draw(spec))
    shown = [
        text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "name"
    ]
    assert sorted(shown) == sorted(pictures.tasks_of(spec))
    assert not re.search(r"https?://(?!www\.w3\.org)", pictures.draw(spec)), "nothing is fetched"


def test_the_quickstart_is_one_row_in_the_order_of_the_text() -> None:
    tasks = pictures.tasks_of(compiled("quickstart"))
    assert {name: task.column for name, task in tasks.items()} == {
        "ingest": 0, "normalize": 1, "train": 2, "generate": 3, "report": 4,
    }  # fmt: skip
    assert tasks["ingest"].from_source
    assert tasks["generate"].reads == [("normalize", "dataset"), ("train", "checkpoint")]


def test_what_a_loop_reads_from_outside_is_drawn_to_its_tasks() -> None:
    tasks = pictures.tasks_of(compiled("tweets_gpt2"))
    assert ("importer", "artifact") in tasks["normalize"].reads
    assert ("pull", "base") in tasks["train"].reads
    assert tasks["train"].frame
    assert not tasks["ingest"].frame
    merged = pictures.tasks_of(compiled("batch_generate"))["merge-texts"]
    assert merged.reads == [("generate-group", "texts")]


def test_a_condition_says_what_it_asks() -> None:
    assert "if serve_name is given" in pictures.draw(compiled("episodes_gpt2"))


def test_no_two_boxes_overlap() -> None:
    for name in NAMES:
        places = [(task.column, task.row) for task in pictures.tasks_of(compiled(name)).values()]
        assert len(places) == len(set(places)), name


def test_check_names_a_picture_that_is_not_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "ROOT", tmp_path)
    monkeypatch.setattr(pictures, "PICTURES", tmp_path / "docs" / "pictures")
    assert pictures.main([]) == 0
    assert pictures.main(["--check"]) == 0
    drawn = tmp_path / "docs" / "pictures" / "quickstart.svg"
    drawn.write_text(drawn.read_text("utf-8").replace(">train<", ">learn<"), "utf-8")
    capsys.readouterr()
    assert pictures.main(["--check"]) == 1
    assert "docs/pictures/quickstart.svg is not current; run: make compile" in capsys.readouterr().err
