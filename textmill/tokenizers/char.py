"""Characters as tokens: S3's fixed alphabet of 98 codes, or the alphabet of the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from textmill.files import write_json
from textmill.tokenizers.base import Ids
from textmill.tokenizers.folder import read_details

REPLACEMENT = "\ufffd"  # how an unknown character is shown; S3 showed chr(0)

# S3's codes 1 to 97, in order: tab, the printable ASCII characters, line feed. Code 0 is anything else.
ASCII98 = "\t" + "".join(map(chr, range(32, 127))) + "\n"


class CharTokenizer:
    """A character is a token.

    alphabet "ascii98": S3's 98 codes; unknown 0; no end of document, as S3 had none.
    alphabet "text": unknown 0, end of document 1, then the characters of the training text in code point order.
    """

    name: ClassVar[str] = "char"

    def __init__(self, alphabet: str, characters: str) -> None:
        self.alphabet = alphabet
        self.characters = characters
        self.unknown: int | None = 0
        self.end_of_document: int | None = None if alphabet == "ascii98" else 1
        first = 1 if alphabet == "ascii98" else 2
        self.size = first + len(characters)
        self._shown = [REPLACEMENT, *([""] * (first - 1)), *characters]
        codes = _codes(characters)
        # Ids by code point, up to the highest known one; the place after it is for all that are higher.
        self._ids = np.zeros(int(codes.max(initial=0)) + 2, dtype=np.int32)
        self._ids[codes] = np.arange(first, self.size)

    @classmethod
    def train(cls, texts: Iterable[str], *, alphabet: str = "text", **_: Any) -> Self:
        """The alphabet of `texts`, or S3's (then `texts` is not read)."""
        return cls.of_counts({} if alphabet == "ascii98" else cls.count(texts), alphabet=alphabet)

    @classmethod
    def count(cls, texts: Iterable[str]) -> dict[str, int]:
        """The texts that have each character."""
        found: Counter[str] = Counter()
        for text in texts:
            found.update(set(text))
        return dict(found)

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], *, alphabet: str = "text", **_: Any) -> Self:
        """The alphabet of texts that were counted."""
        return cls(alphabet, ASCII98 if alphabet == "ascii98" else "".join(sorted(counts)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        details = read_details(folder)
        return cls(details["alphabet"], details["characters"])

    def save(self, folder: Path) -> None:
        details = {"name": self.name, "alphabet": self.alphabet, "characters": self.characters}
        write_json(folder / "tokenizer.json", details)

    def encode(self, text: str) -> Ids:
        return self._ids[np.minimum(_codes(text), len(self._ids) - 1)]

    def decode(self, ids: Iterable[int]) -> str:
        shown = self._shown
        return "".join([shown[i] for i in ids])

    def pieces(self, text: str) -> Iterable[str]:
        return text


def _codes(text: str) -> np.ndarray:
    """Code points, uint32. Surrogates without a partner, which cannot be written, are kept as they are."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
