"""The models that are served, made once: what they have compiled is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import generating
from textmill.writing.generator import Generator

pytest.importorskip("starlette")
pytest.importorskip("jax")


@pytest.fixture(scope="session")
def characters() -> Generator:
    return generating.character_generator()


@pytest.fixture(scope="session")
def words() -> Generator:
    """A model of a marked-up script."""
    return generating.word_generator()


@pytest.fixture(scope="session")
def pairs() -> Generator:
    """A GPT-2 with a context of 24 byte pairs."""
    return generating.gpt2_generator()


@pytest.fixture(scope="module")
def service(characters: Generator) -> Iterator[object]:
    from tests.serving.running import running

    with running(characters) as found:
        yield found
