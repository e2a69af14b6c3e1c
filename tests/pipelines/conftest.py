"""A released model to fine-tune, tiny; and servers at whose answer the task that asks is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.generating import MERGES
from tests.sources.fakes import Fake
from textmill.checkpoints import openai_checkpoint
from textmill.models import gpt2
from textmill.tokenizers import BPETokenizer


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a released model as OpenAI publishes them, but tiny."""
    folder = tmp_path_factory.mktemp("mirror") / "124M"
    folder.mkdir()
    tokenizer = BPETokenizer.of(MERGES)
    tokenizer.save(folder)
    (folder / "tokenizer.json").unlink()
    config = gpt2.GPT2Config.of(
        vocabulary_size=tokenizer.size, context=32, width=16, num_heads=2, num_layers=2
    )
    openai_checkpoint.write_model(folder, 1, config, gpt2.init(config))
    return folder.parent.as_uri()


def deadly(handler: type[Fake]) -> Any:
    """The server's handler, which kills the running task at the first request that `server.fatal` picks, and answers
    nothing from then on (a child of the task may live a moment longer and ask again) until `server.fatal` is None."""

    class Deadly(handler):  # type: ignore[misc, valid-type]
        refused = False

        def answer(self, path: str, query: dict[str, str]) -> None:
            fatal: Callable[[str, dict[str, str]], bool] | None = getattr(self.server, "fatal", None)
            if fatal is not None and fatal(path, query):
                self.server.fatal = lambda path, query: True
                _kill_tasks()
                self.close_connection = self.refused = True
            else:
                super().answer(path, query)

    return Deadly


def _kill_tasks() -> None:
    """SIGKILL to the processes of tasks that this process started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == os.getpid() and b"--executor_input" in command:
                os.killpg(int(entry.name), signal.SIGKILL)  # a shell, and Python below it
