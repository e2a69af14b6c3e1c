"""What the service is told, and that the documents say it."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner

from textmill.cli import main
from textmill.serving import parameters
from textmill.serving.settings import ServeSettings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_the_document_has_every_setting_and_no_other() -> None:
    table = DOCUMENT[DOCUMENT.index("| setting |") : DOCUMENT.index("**Tokens**")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(ServeSettings.kinds())


def test_the_document_has_every_parameter() -> None:
    for name in parameters.completion(ServeSettings())["properties"]:
        if name not in ("user", "frequency_penalty", "presence_penalty"):
            assert f"`{name}`" in DOCUMENT, name


def test_no_option_takes_a_token() -> None:
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    assert "--token-file" in text
    assert "--token " not in text
    assert "--max-tokens" in text
