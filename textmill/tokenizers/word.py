"""Words as tokens, as in S1 (TensorFlow's PTB reader): split at white space, a line feed is the token <eos>."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from textmill.errors import FolderError, InputError
from textmill.files import write_json
from textmill.tokenizers.base import Ids
from textmill.tokenizers.folder import read_details

UNKNOWN = "<unk>"
NEWLINE = "<eos>"
END_OF_DOCUMENT = "<eoepisode>"

_BLOCK = (
    1 << 20
)  # characters split at a time: a list of all words of a large document takes ten times its text


class WordTokenizer:
    """A word is a token. Ids go by count, the most frequent first, then by the word; <unk> is the last id.

    Words are joined by single spaces. <eos> is shown as a line feed, unless the training text had the token itself
    (marked-up scripts, where it is a full stop as well): then as <eos>. Either way encode(decode(ids)) is `ids`.
    """

    name: ClassVar[str] = "word"

    def __init__(self, words: list[str], newline: str = "\n") -> None:
        assert words[-1] == UNKNOWN
        self.words = words
        self.newline = newline
        self.size = len(words)
        self.unknown: int | None = self.size - 1
        self._ids = {word: i for i, word in enumerate(words)}
        self.end_of_document: int | None = self._ids.get(END_OF_DOCUMENT)
        self._shown = [newline if word == NEWLINE else word for word in words]

    @classmethod
    def train(cls, texts: Iterable[str], *, minimum_count: int = 2, **_: Any) -> Self:
        """Count the words of `texts`; those rarer than `minimum_count` become <unk>."""
        counts: Counter[str] = Counter()
        newline = "\n"
        for text in texts:
            counts.update(_words(text))
            if newline == "\n" and NEWLINE in text:
                newline = NEWLINE
        del counts[UNKNOWN]
        kept = [(-n, word) for word, n in counts.items() if n >= minimum_count or word == NEWLINE]
        if not any(word != NEWLINE for _, word in kept):
            raise InputError(
                f"no word stands {minimum_count} times in the training text ({sum(counts.values()):,} words); "
                "lower minimum_count or add text."
            )
        return cls([word for _, word in sorted(kept)] + [UNKNOWN], newline)

    @classmethod
    def load(cls, folder: Path) -> Self:
        words = read_details(folder, "id_to_word.json")
        try:
            ordered = [words[str(i)] for i in range(len(words))]
        except KeyError:
            raise FolderError(f"{folder / 'id_to_word.json'} lacks an id; make the tokenizer anew.") from None
        if not ordered or ordered[-1] != UNKNOWN:
            raise FolderError(
                f"{folder / 'id_to_word.json'} does not end with {UNKNOWN}; make the tokenizer anew."
            )
        return cls(ordered, read_details(folder)["newline"])

    def save(self, folder: Path) -> None:
        write_json(folder / "tokenizer.json", {"name": self.name, "newline": self.newline})
        write_json(folder / "word_to_id.json", self._ids)
        write_json(folder / "id_to_word.json", {str(i): word for i, word in enumerate(self.words)})

    def encode(self, text: str) -> Ids:
        get, unknown = self._ids.get, self.unknown
        return np.fromiter((get(word, unknown) for word in _words(text)), dtype=np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        shown, parts, space = self._shown, [], ""
        for i in ids:
            word = shown[i]
            parts.append(word if word == "\n" else space + word)
            space = "" if word == "\n" else " "
        return "".join(parts)

    def pieces(self, text: str) -> Iterable[str]:
        return _words(text)


def _words(text: str) -> Iterator[str]:
    return chain.from_iterable(block.replace("\n", f" {NEWLINE} ").split() for block in _blocks(text))


def _blocks(text: str) -> Iterator[str]:
    """The text in parts of about _BLOCK characters, cut at line ends."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK) + 1 or len(text)
        yield text[start:end]
        start = end
