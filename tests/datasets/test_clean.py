"""Parts of a corpus on their way to the reduce: a survey comes back as it was, and nothing else is unpickled."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from textmill.datasets.clean import SECTIONS, Part
from textmill.datasets.sections import SectionsWriter
from textmill.errors import FolderError
from textmill.rules.boilerplate import Boilerplate, Shared

LINE = "This line stands in every document of the corpus."


class Run:
    """Unpickled by an ordinary unpickler, it runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def part(folder: Path, survey: bytes) -> Part:
    path = folder / "unit.part"
    with SectionsWriter(path, SECTIONS) as writer:
        writer.sections["survey"].write(survey)
        writer.summary = {"rows": 0}
    return Part(path)


def test_a_survey_comes_back_as_it_was(tmp_path: Path) -> None:
    survey = Boilerplate(Shared.of(share=0.1, documents=2))
    for _ in range(3):
        survey.add(LINE)
    found = part(tmp_path, pickle.dumps(survey)).survey(Boilerplate)
    assert isinstance(found, Boilerplate)
    assert found.learnt() == survey.learnt()
    assert found.apply(LINE).text == ""


def test_a_pickle_that_would_run_something_is_refused_before_it_does(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-pickle"
    with pytest.raises(FolderError, match="holds no survey of Boilerplate"):
        part(tmp_path, pickle.dumps(Run(made))).survey(Boilerplate)
    assert not made.exists()


@pytest.mark.parametrize(
    "name", ["hashlib.new", "re.compile", "Settings", "_parts", "apply", "Boilerplate.add", "nothing"]
)
def test_names_of_the_module_that_are_no_classes_of_its_own_are_refused(tmp_path: Path, name: str) -> None:
    asked = b"\x80\x04c" + f"textmill.rules.boilerplate\n{name}\n".encode() + b"."
    with pytest.raises(FolderError, match="holds no survey"):
        part(tmp_path, asked).survey(Boilerplate)


@pytest.mark.parametrize("data", [b"", b"\x80", b"not a pickle", pickle.dumps(3), pickle.dumps(Shared())])
def test_what_is_no_survey_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FolderError, match="holds no survey of Boilerplate"):
        part(tmp_path, data).survey(Boilerplate)
