"""The cleaned documents of one shard, by their splits: counted for the vocabulary, and written as tokens.

Both depend on the shard's part (clean.py) and on where each of its documents goes; tokens on the tokenizer too.
Memory: one document at a time, and the words that were counted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import zstandard

from textmill import workers
from textmill.datasets import split as splitting
from textmill.datasets.clean import Part
from textmill.datasets.dataset import PieceWriter, SplitWriter
from textmill.datasets.sections import LEVEL, Sections, SectionsWriter
from textmill.datasets.split import SPLITS
from textmill.tokenizers import TOKENIZERS, Ids, Tokenizer, encode_document, load_tokenizer, with_end
from textmill.tokenizers.word import WordNumbers, WordTokenizer, brings_newline, counted

DROPPED = -1  # in Placed.splits
AT_ONCE = 1 << 16  # numbers of words that are counted together


@dataclass(frozen=True)
class Text:
    """A document, or a piece of the only one, and the split it goes to: the first piece begins, the last one ends."""

    split: str
    id: str
    title: str
    text: str
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Placed:
    """A shard's part and where its documents go.

    splits: an int8 for each document of the part, an index into SPLITS or DROPPED.
    cut: the shares that validate and test, where the only document is cut.
    """

    part: Path
    splits: bytes
    cut: tuple[float, float] | None = None

    @property
    def depends(self) -> dict[str, Any]:
        """What a unit made of this depends on."""
        return {"part": self.part.name, "splits": hashlib.sha256(self.splits).hexdigest(), "cut": self.cut}

    def texts(self) -> Iterator[Text]:
        """What is not dropped, in order, one in memory at a time."""
        for (row, text), split in zip(Part(self.part).documents(), _codes(self.splits), strict=True):
            if split == DROPPED:
                continue
            if self.cut is None:
                yield Text(SPLITS[split], row.id, row.title, text)
                continue
            bounds = [0, *splitting.cut_points(text, *self.cut), len(text)]
            for name, start, end in zip(SPLITS, bounds, bounds[1:], strict=False):
                if end > start:
                    yield Text(name, row.id, row.title, text[start:end], start == 0, end == len(text))


@dataclass(frozen=True)
class CountJob:
    """Count a shard's text for the vocabulary of this tokenizer: of its training text, or of all.

    Words are counted by their numbers, which are kept for EncodeJob: sections "numbers" (int32, a zstd frame) and
    "words" (JSON), so that a text is taken apart once.
    """

    placed: Placed
    target: Path
    tokenizer: str
    all: bool

    @property
    def source(self) -> Path:
        return self.placed.part

    def run(self) -> None:
        with SectionsWriter(self.target, ("numbers", "words", "counts")) as writer:
            if self.tokenizer == WordTokenizer.name:
                counts = self._number_words(writer.sections)
            else:
                kind = counting(self.tokenizer)
                assert kind is not None
                counts = kind.count(_advancing(texts_to_learn([self.placed], self.all)))
            writer.sections["counts"].write(json.dumps(counts).encode())

    def _number_words(self, sections: dict[str, IO[bytes]]) -> dict[str, int]:
        numbers, tally, brought = WordNumbers(), _Tally(), 0
        frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        for text in self.placed.texts():
            found = numbers.of(text.text)
            sections["numbers"].write(frame.compress(np.int32(len(found)).tobytes() + found.tobytes()))
            if self.all or text.split == "train":
                tally.add(found)
                brought += brings_newline(text.text)
            workers.advance(text.ends)
        sections["numbers"].write(frame.flush())
        words = numbers.words
        sections["words"].write(json.dumps(words).encode())
        by_number = tally.total(len(words)).tolist()
        return counted({word: n for word, n in zip(words, by_number, strict=True) if n}, brought)

    def counts(self) -> dict[str, int]:
        """What was counted, once the job has run."""
        return json.loads(Sections(self.target).read("counts"))


class Counting(Protocol):
    """A tokenizer that is trained by counting, so that parts of a text can be counted apart."""

    def count(self, texts: Iterable[str]) -> dict[str, int]: ...

    def of_counts(self, counts: dict[str, int], **settings: Any) -> Tokenizer: ...


def counting(tokenizer: str) -> Counting | None:
    """The tokenizer of this name, if it is trained by counting."""
    kind: Any = TOKENIZERS[tokenizer]
    return kind if hasattr(kind, "count") else None


def texts_to_learn(placed: Iterable[Placed], all: bool) -> Iterator[str]:
    """The texts that the vocabulary is made of."""
    return (text.text for one in placed for text in one.texts() if all or text.split == "train")


@dataclass(frozen=True)
class EncodeJob:
    """Write a shard's tokens, index and text for each split: sections "<split>.tokens", ".documents" and ".text"."""

    placed: Placed
    target: Path
    tokenizer: Path
    digest: str  # of the tokenizer's files
    dtype: str
    counted: Path | None = None  # what CountJob made of the same texts, if it did

    @property
    def source(self) -> Path:
        return self.placed.part

    def run(self) -> None:
        tokenizer = _tokenizer(self.tokenizer, self.digest)
        unknown: Counter[str] = Counter()
        names = tuple(f"{split}.{what}" for split in SPLITS for what in ("tokens", "documents", "text"))
        with SectionsWriter(self.target, names) as writer:
            pieces = {split: self._piece(split, writer.sections) for split in SPLITS}
            for text, ids in self._encoded(tokenizer, unknown):
                pieces[text.split].add(text.id, text.title, text.text, ids)
                workers.advance(text.ends)
            counts = {split: piece.finish() for split, piece in pieces.items()}
            writer.summary = {"counts": counts, "unknown": dict(unknown)}

    def _encoded(self, tokenizer: Tokenizer, unknown: Counter[str]) -> Iterator[tuple[Text, Ids]]:
        """Each text and its ids; what is not in the vocabulary is counted."""
        if isinstance(tokenizer, WordTokenizer) and self.counted is not None:
            yield from self._looked_up(tokenizer, unknown, self.counted)
            return
        for text in self.placed.texts():
            ids = encode_document(tokenizer, text.text, begins=text.begins, ends=text.ends)
            unknown.update(_unknown_pieces(tokenizer, text.text, ids))
            yield text, ids

    def _looked_up(
        self, tokenizer: WordTokenizer, unknown: Counter[str], counted: Path
    ) -> Iterator[tuple[Text, Ids]]:
        """By the numbers that were given to the words when they were counted."""
        made = Sections(counted)
        words = json.loads(made.read("words"))
        ids, tally = tokenizer.ids_of(words), _Tally()
        with made.unpacked("numbers") as stream:
            for text in self.placed.texts():
                found = np.frombuffer(stream.read(4 * int.from_bytes(stream.read(4), "little")), np.int32)
                tally.add(found)
                yield text, with_end(tokenizer, ids[found], ends=text.ends)
        totals = tally.total(len(words))
        totals[ids != tokenizer.unknown] = 0
        unknown.update({words[i]: int(totals[i]) for i in np.flatnonzero(totals)})

    def _piece(self, split: str, sections: dict[str, IO[bytes]]) -> PieceWriter:
        tokens, documents, text = (sections[f"{split}.{what}"] for what in ("tokens", "documents", "text"))
        return PieceWriter(tokens, documents, text, np.dtype(self.dtype))

    def append_to(self, writers: dict[str, SplitWriter]) -> Counter[str]:
        """Put what the job wrote at the end of the splits; return the pieces of text that are not in the vocabulary."""
        made = Sections(self.target)
        for split, writer in writers.items():
            counts = made.summary["counts"][split]
            if counts["documents"]:
                made.copy(f"{split}.tokens", writer.tokens)
                made.copy(f"{split}.text", writer.text)
                writer.append(made.read(f"{split}.documents"), counts)
        return Counter(made.summary["unknown"])


class _Tally:
    """Counts numbers, many at a time."""

    def __init__(self) -> None:
        self._total = np.zeros(0, np.int64)
        self._waiting: list[Ids] = []
        self._size = 0

    def add(self, numbers: Ids) -> None:
        self._waiting.append(numbers)
        self._size += len(numbers)
        if self._size >= AT_ONCE:
            self._count()

    def _count(self) -> None:
        counts = np.bincount(
            np.concatenate([np.zeros(0, np.int32), *self._waiting]), minlength=len(self._total)
        )
        counts[: len(self._total)] += self._total
        self._total, self._waiting, self._size = counts, [], 0

    def total(self, size: int) -> npt.NDArray[np.int64]:
        """How often each number below `size` was added, [size]."""
        self._count()
        return np.pad(self._total, (0, size - len(self._total)))


def _codes(splits: bytes) -> list[int]:
    return np.frombuffer(splits, np.int8).tolist()


def _advancing(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield text
        workers.advance()


def _unknown_pieces(tokenizer: Tokenizer, text: str, ids: npt.NDArray[np.integer]) -> Iterable[str]:
    if tokenizer.unknown is None:
        return ()
    unknown = ids == tokenizer.unknown
    return itertools.compress(tokenizer.pieces(text), unknown.tolist()) if unknown.any() else ()


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, digest: str) -> Tokenizer:
    return load_tokenizer(folder)
