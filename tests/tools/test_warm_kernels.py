"""tools/warm_kernels.py: what it compiled is all that a model of any size needs on the same processor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRITE = """
from textmill.writing.settings import GenerateSettings
from tests.generating import CHARACTERS, MARKUP, MERGES, recurrent, transformer
from textmill.writing.generator import Generator
from textmill.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer

settings = GenerateSettings.of(number=3, length=12, top_k=5, top_p=0.9)
for tokenizer, model in (
    (CharTokenizer.train([CHARACTERS]), recurrent),
    (WordTokenizer.train([MARKUP], minimum_count=1), recurrent),
    (BPETokenizer.of(MERGES), transformer),
):
    for precision in ("auto", "float32"):
        print(len(Generator(*model(tokenizer), tokenizer, precision=precision).generate(None, settings)))
"""


def kernels(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.suffix == ".nbc"}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute of compiling where nothing else runs
def test_nothing_is_compiled_that_was_not_there(tmp_path: Path) -> None:
    brought, own = tmp_path / "brought", tmp_path / "own"
    tool = [sys.executable, str(ROOT / "tools" / "warm_kernels.py"), str(brought)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(tool, check=True, env=environment)
    environment |= {"XDG_CACHE_HOME": str(own), "TEXTMILL_KERNELS": str(brought)}
    made = subprocess.run(
        [sys.executable, "-c", WRITE], check=True, env=environment, capture_output=True, text=True
    )
    assert made.stdout.split() == ["3"] * 6
    assert len(kernels(brought)) in (3, 6), "one of each model and number format"
    assert kernels(own) == kernels(brought)
