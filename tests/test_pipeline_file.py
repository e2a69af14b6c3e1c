"""What is read of a compiled pipeline beside its parameters (those: tests/local/test_running.py)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from textmill.cli import main
from textmill.pipeline_file import NO_IMAGE, PipelineFile, read_pipeline

PUSHED = "registry.example/team/textmill-python-cpu@sha256:" + 64 * "7"


@pytest.fixture
def unpushed(tmp_path: Path) -> PipelineFile:
    """A pipeline whose images are the placeholder, whatever images/digests.json holds now."""
    found = read_pipeline("quickstart")
    text, image = found.path.read_text("utf-8"), found.parameters["image"].default
    path = tmp_path / "quickstart.yaml"
    path.write_text(text.replace(image, "localhost:5000/textmill-python-cpu" + NO_IMAGE), "utf-8")
    return read_pipeline(path)


def test_images_that_were_never_pushed_are_named(unpushed: PipelineFile) -> None:
    assert unpushed.unpushed({}) == ["image", "train_image"]
    assert unpushed.unpushed({"image": PUSHED}) == ["train_image"]
    assert unpushed.unpushed({"image": PUSHED, "train_image": PUSHED}) == []


def test_submit_says_that_no_task_can_start(unpushed: PipelineFile, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = ["--endpoint", "http://127.0.0.1:9"]
    with caplog.at_level(logging.WARNING, "textmill"):
        CliRunner().invoke(main, ["submit", str(unpushed.path), *nowhere])
        assert "image, train_image: no image that was pushed is named" in caplog.text
        assert "--param image=…" in caplog.text
        caplog.clear()
        given = ["--param", f"image={PUSHED}", "--param", f"train_image={PUSHED}"]
        CliRunner().invoke(main, ["submit", str(unpushed.path), *nowhere, *given])
        assert "no image" not in caplog.text
