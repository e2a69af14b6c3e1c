"""Text on the terminal: wrapped, endless until Ctrl-C."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.generating import character_generator, gpt2_generator, recurrent, save, transformer
from textmill.writing.play import play, wrap
from textmill.writing.settings import GenerateSettings

pytest.importorskip("tensorflow")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_wrap_breaks_lines_after_width_characters(size: int) -> None:
    text = "x" * 25 + "\n" + "y" * 10 + "\n\n" + "z" * 11
    pieces = (text[i : i + size] for i in range(0, len(text), size))
    assert (
        "".join(wrap(pieces, 10))
        == "x" * 10 + "\n" + "x" * 10 + "\n" + "x" * 5 + "\n" + "y" * 10 + "\n\n" + "z" * 10 + "\nz"
    )


def test_wrap_holds_nothing_back() -> None:
    assert list(wrap(iter("abcd"), 2)) == ["a", "b", "\nc", "d"]


class Terminal(io.StringIO):
    """Ctrl-C after so many characters."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.patience = patience

    def write(self, text: str) -> int:
        if len(self.getvalue()) > self.patience and text != "\n":
            raise KeyboardInterrupt
        return super().write(text)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    generator = character_generator()
    return save(tmp_path / "checkpoint", generator, recurrent(generator.tokenizer)[1])


def test_play_is_endless_until_ctrl_c(checkpoint: Path) -> None:
    out = Terminal(patience=3000)
    play(checkpoint, GenerateSettings.of(seed=4), out)
    lines = out.getvalue().split("\n")
    assert len(out.getvalue()) > 3000, "more than the default length"
    assert max(map(len, lines)) <= 100
    assert lines[-1] == ""


def test_play_keeps_a_length_that_is_set(checkpoint: Path) -> None:
    out = io.StringIO()
    play(checkpoint, GenerateSettings.of(length=50), out)
    assert len(out.getvalue().replace("\n", "")) <= 50


def test_a_model_with_a_context_plays_on_past_it(tmp_path: Path) -> None:
    generator = gpt2_generator()
    folder = save(tmp_path / "checkpoint", generator, transformer(generator.tokenizer)[1])
    out = Terminal(patience=400)
    play(folder, GenerateSettings.of(seed=4, temperature=0.5), out)
    assert len(out.getvalue()) > 400, "the context is 24 tokens"
