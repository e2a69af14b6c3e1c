"""Words as tokens, as in S1 (TensorFlow's PTB reader): split at white space, a line feed is the token <eos>."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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
        self._ids = _Ids({word: i for i, word in enumerate(words)}, self.size - 1)
        self.end_of_document: int | None = self._ids.get(END_OF_DOCUMENT)
        self._shown = [newline if word == NEWLINE else word for word in words]

    @classmethod
    def train(cls, texts: Iterable[str], *, minimum_count: int = 2, **_: Any) -> Self:
        """Count the words of `texts`; those rarer than `minimum_count` become <unk>."""
        return cls.of_counts(cls.count(texts), minimum_count=minimum_count)

    @classmethod
    def count(cls, texts: Iterable[str]) -> dict[str, int]:
        """How often each word stands in `texts`; below a line feed, how many texts bring the token <eos>."""
        counts: Counter[str] = Counter()
        brought = 0
        for text in texts:
            counts.update(_words(text))
            brought += brings_newline(text)
        return counted(counts, brought)

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], *, minimum_count: int = 2, **_: Any) -> Self:
        """The words of texts that were counted."""
        own = (UNKNOWN, "\n")
        words = ((word, n) for word, n in counts.items() if n and word not in own)
        kept = [(-n, word) for word, n in words if n >= minimum_count or word == NEWLINE]
        if not any(word != NEWLINE for _, word in kept):
            total = sum(n for word, n in counts.items() if word not in own)
            raise InputError(
                f"no word stands {minimum_count} times in the training text ({total:,} words); "
                "lower minimum_count or add text."
            )
        newline = NEWLINE if counts.get("\n") else "\n"
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
        return self.ids_of(_words(text))

    def decode(self, ids: Iterable[int]) -> str:
        shown, parts, space = self._shown, [], ""
        for i in ids:
            word = shown[i]
            parts.append(word if word == "\n" else space + word)
            space = "" if word == "\n" else " "
        return "".join(parts)

    def ids_of(self, words: Iterable[str]) -> Ids:
        """The id of each word."""
        return np.fromiter(map(self._ids.__getitem__, words), dtype=np.int32)

    def pieces(self, text: str) -> Iterable[str]:
        return _words(text)


def brings_newline(text: str) -> bool:
    """Has the text the token <eos> itself?"""
    return NEWLINE in text


def counted(counts: Mapping[str, int], brought: int) -> dict[str, int]:
    """What `WordTokenizer.count` says; `brought`: how many of the texts bring <eos>."""
    return {**counts, "\n": brought} if brought else dict(counts)


class WordNumbers:
    """Numbers words as they come: a text is taken apart once, to be counted and to become ids later."""

    def __init__(self) -> None:
        self._numbers = _Numbers()

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def words(self) -> list[str]:
        """The words, each at its number."""
        return list(self._numbers)

    def of(self, text: str) -> Ids:
        """The numbers of a text's words."""
        return np.fromiter(map(self._numbers.__getitem__, _words(text)), dtype=np.int32)


class _Numbers(dict[str, int]):
    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class _Ids(dict[str, int]):
    """Words and their ids; a word that is not there has the unknown's."""

    def __init__(self, ids: dict[str, int], unknown: int) -> None:
        super().__init__(ids)
        self._unknown = unknown

    def __missing__(self, word: str) -> int:
        return self._unknown


def _words(text: str) -> Iterator[str]:
    return chain.from_iterable(block.replace("\n", f" {NEWLINE} ").split() for block in _blocks(text))


def _blocks(text: str) -> Iterator[str]:
    """The text in parts of about _BLOCK characters, cut at line ends."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK) + 1 or len(text)
        yield text[start:end]
        start = end
