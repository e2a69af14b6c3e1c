"""gpt-2-simple's options under our names: each case of docs/gpt_2_simple_options.md."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from tests.generating import scripted_generator
from textmill.writing.settings import GenerateSettings

pytest.importorskip("tensorflow")

DOCUMENT = (Path(__file__).parents[2] / "docs" / "gpt_2_simple_options.md").read_text(encoding="utf-8")
CASES = [
    tuple(cell[0] or cell[1] for cell in re.findall(r"(?:`([^`]*)`|(true|false|·))(?= \|)", line))
    for line in DOCUMENT[DOCUMENT.index("## Prefix") :].splitlines()
    if line.startswith(("| `", "| ·"))
]


def test_the_table_is_read() -> None:
    assert len(CASES) == 17
    assert {len(case) for case in CASES} == {5}


@pytest.mark.parametrize(("prefix", "truncate", "include_prefix", "adds", "text"), CASES)
def test_prefix_and_truncate(prefix: str, truncate: str, include_prefix: str, adds: str, text: str) -> None:
    settings = GenerateSettings.of(
        prompt="" if prefix == "·" else prefix,
        stop=[] if truncate == "·" else [truncate],
        include_prompt=include_prefix == "true",
    )
    generator = scripted_generator(adds)
    [made] = generator.generate(None, settings)
    assert made.text == text
    assert made.prompt == settings.prompt
    assert made.completion == text.removeprefix(settings.prompt if settings.include_prompt else "")
    found = truncate in adds
    assert made.finish_reason == ("stop" if found else "end_of_document")
    assert "".join(generator.stream(None, settings)) == text


def test_every_option_of_gpt_2_simple_is_in_the_table() -> None:
    package = importlib.util.find_spec("gpt_2_simple")
    if package is None or package.origin is None:
        pytest.skip("gpt-2-simple is not installed")
    source = (Path(package.origin).parent / "gpt_2.py").read_text(encoding="utf-8")
    head = re.search(r"^def generate\((.*?)\):", source, re.MULTILINE | re.DOTALL)
    assert head is not None
    options = set(re.findall(r"(\w+)\s*=", head[1])) - {"model_dir", "sample_dir"}
    rows = [
        line.split("|")
        for line in DOCUMENT[: DOCUMENT.index("## Prefix")].splitlines()
        if line.startswith("| `")
    ]
    theirs, ours = ({name for row in rows for name in re.findall(r"`([a-z_]+)`", row[n])} for n in (1, 2))
    assert options == theirs
    assert ours == {"prompt", "stop", "include_prompt", "number", "batch_size", "length", "temperature",
                    "top_k", "top_p", "seed", "delimiter"}  # fmt: skip
    assert ours <= {field.name for field in dataclasses.fields(GenerateSettings)}
