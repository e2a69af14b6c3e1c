"""What a tokenizer is: text to ids and back, trained on texts, kept in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


class Tokenizer(Protocol):
    """The contract (tests/contracts/tokenizer_contract.py).

    `decode` is prefix-stable: decode(ids[:n]) begins decode(ids[:n + 1]), so that text can be shown as it is made.
    `encode` takes any text: what is not in the vocabulary becomes `unknown`, if there is one.
    """

    name: ClassVar[str]
    size: int
    unknown: int | None
    end_of_document: int | None

    @classmethod
    def train(cls, texts: Iterable[str], **settings: Any) -> Self:
        """A tokenizer of what stands in the texts; `settings` are those of its kind."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The one that `save` kept. Raises FolderError."""
        ...

    def save(self, folder: Path) -> None:
        """Keep it in a folder, which is made; the same tokenizer, the same bytes."""
        ...

    def encode(self, text: str) -> Ids:
        """The ids of a text, [tokens]; no marks of its start or end are added."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text that ids stand for."""
        ...

    def pieces(self, text: str) -> Iterable[str]:
        """The pieces of text that the ids of `encode` stand for, one each."""
        ...
