"""What a generated text copied from the text its model learned from.

Two measures: the longest run of characters that stands there word for word, with its document, and the share of the
text's 8-grams of words that stand there. The corpus is read once, in blocks, so that memory does not grow with it.

Runs are found by hashes of windows: which windows of a block stand in a text is decided for windows of WINDOW
characters, then of twice as many, as long as there are some, then by bisection between the two last sizes. Hashes are
polynomials modulo 2^64 (Rabin and Karp), which numpy computes for all windows at once; a run that is found is compared.

Knows nothing of models and tokenizers.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

GRAM = 8  # words
WINDOW = 16  # characters; runs that are shorter are looked for only where none of this length is found
BLOCK = 1 << 20  # characters of the corpus in memory at a time
BETWEEN = "\U0010ffff"  # stands between two documents of a block; no text has it (Unicode: not a character)

BASE = 0x9E3779B97F4A7C15  # odd: it has an inverse modulo 2^64
FILTER_BITS = 20


@dataclass(frozen=True)
class Copied:
    """What one text copied."""

    longest_run: int  # characters
    longest_run_text: str
    document: str  # id of the first document that has it; "" if there is none
    share_8grams: float  # of the text's 8-grams of words; 0 for a text with fewer words

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_copied(texts: Sequence[str], documents: Iterable[tuple[str, str]]) -> list[Copied]:
    """For each text, what of it stands in the documents, (id, text) each."""
    runs = [_Run(text) for text in texts]
    grams = [np.unique(gram_hashes(text.split())) for text in texts]
    wanted = np.unique(np.concatenate([*grams, np.empty(0, np.uint64)]))
    found = np.zeros(len(wanted), np.bool_)
    longest = max(map(len, texts), default=0)
    for block in _blocks(documents, longest):
        _mark(found, wanted, gram_hashes(block.text.replace(BETWEEN, f" {BETWEEN} ").split()))
        _search(runs, block)
    shares = [float(found[np.searchsorted(wanted, own)].mean()) if len(own) else 0.0 for own in grams]
    return [
        Copied(run.length, run.shown, run.document, share) for run, share in zip(runs, shares, strict=True)
    ]


# ---------------------------------------------------------------------- blocks of the corpus


@dataclass(frozen=True)
class _Block:
    """A part of the corpus: documents, or pieces of them, with BETWEEN in between."""

    text: str
    names: list[str]
    starts: list[int]

    def document_at(self, place: int) -> str:
        return self.names[bisect.bisect_right(self.starts, place) - 1]


def _blocks(documents: Iterable[tuple[str, str]], overlap: int) -> Iterator[_Block]:
    """The corpus in blocks of about BLOCK characters; pieces of a long document overlap by `overlap`."""
    names: list[str] = []
    starts: list[int] = []
    parts: list[str] = []
    size = 0
    for name, text in documents:
        for at in range(0, max(len(text) - overlap, 1), BLOCK):
            piece = text[at : at + BLOCK + overlap]
            names.append(name)
            starts.append(size)
            parts += [piece, BETWEEN]
            size += len(piece) + len(BETWEEN)
            if size >= BLOCK:
                yield _Block("".join(parts), names, starts)
                names, starts, parts, size = [], [], [], 0
    if parts:
        yield _Block("".join(parts), names, starts)


# ---------------------------------------------------------------------- 8-grams


def gram_hashes(words: Sequence[str]) -> Hashes:
    """A hash of each 8-gram of words, [words - 7]."""
    if len(words) < GRAM:
        return np.empty(0, np.uint64)
    codes = np.fromiter((hash(word) for word in words), np.int64, len(words)).view(np.uint64)
    made = np.zeros(len(words) - GRAM + 1, np.uint64)
    for i in range(GRAM):
        made = made * np.uint64(BASE) + codes[i : i + len(made)]
    return made


def _mark(found: npt.NDArray[np.bool_], wanted: Hashes, present: Hashes) -> None:
    if not len(wanted):
        return
    places = np.searchsorted(wanted, present)
    places[places == len(wanted)] = 0
    found[places[wanted[places] == present]] = True


# ---------------------------------------------------------------------- runs


class Windows:
    """The hashes of a text's windows, of any length, at any places."""

    def __init__(self, text: str) -> None:
        self.text = text
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64) + np.uint64(
            1
        )
        powers, self._inverses = _powers(len(codes))
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * powers, dtype=np.uint64)])

    def at(self, length: int, places: npt.NDArray[np.int64] | None = None) -> Hashes:
        """Hashes of the windows of `length` characters that begin at `places` (None: at all), which must fit."""
        if places is None:
            count = max(0, len(self.text) - length + 1)
            return (self._sums[length : length + count] - self._sums[:count]) * self._inverses[:count]
        return (self._sums[places + length] - self._sums[places]) * self._inverses[places]

    def fitting(self, length: int, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of the places at which a window of this length fits."""
        return places[places + length <= len(self.text)]


class _Run:
    """The longest run of one text found so far."""

    def __init__(self, text: str) -> None:
        self.windows = Windows(text)
        self.length, self.shown, self.document = 0, "", ""

    def places(
        self, length: int, block: Windows, places: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.int64]:
        """The places (of those given, None: of all) where a window of the block stands in the text."""
        if length > len(self.windows.text) or length > len(block.text):
            return np.empty(0, np.int64)
        own = self.windows.at(length)
        if places is None:
            return _among(block.at(length), own)
        places = block.fitting(length, places)
        return places[_among(block.at(length, places), own)]

    def extend(self, source: _Block, block: Windows, length: int, places: npt.NDArray[np.int64]) -> None:
        """Make the run as long as the block allows, from places where `length` characters are known to stand."""
        best, held = length, places
        above = length
        while len(held):
            best, places, above = above, held, 2 * above
            held = self.places(above, block, places)
        while above - best > 1:
            middle = (best + above) // 2
            held = self.places(middle, block, places)
            if len(held):
                best, places = middle, held
            else:
                above = middle
        run = block.text[places[0] : places[0] + best]
        if best > self.length and run in self.windows.text:
            self.length, self.shown = best, run
            self.document = source.document_at(int(places[0]))


def _search(runs: Sequence[_Run], source: _Block) -> None:
    """Look for longer runs of every text in one block."""
    block = Windows(source.text)
    common = _candidates(runs, block)
    for run in runs:
        if run.length >= len(run.windows.text):
            continue
        start = max(WINDOW, run.length + 1)
        places = run.places(start, block, common)
        if len(places):
            run.extend(source, block, start, places)
        elif run.length < WINDOW - 1:
            places = run.places(run.length + 1, block, None)
            if len(places):
                run.extend(source, block, run.length + 1, places)


def _candidates(runs: Sequence[_Run], block: Windows) -> npt.NDArray[np.int64]:
    """Places of the block at which a window of WINDOW characters stands in any of the texts."""
    own = [run.windows.at(WINDOW) for run in runs if len(run.windows.text) >= WINDOW]
    if not own or len(block.text) < WINDOW:
        return np.empty(0, np.int64)
    return _among(block.at(WINDOW), np.concatenate(own))


def _among(hashes: Hashes, wanted: Hashes) -> npt.NDArray[np.int64]:
    """Indices of the hashes that are among the wanted ones."""
    shift = np.uint64(64 - FILTER_BITS)
    possible = np.zeros(1 << FILTER_BITS, np.bool_)  # lets most hashes be passed over without a search
    possible[wanted >> shift] = True
    places = np.flatnonzero(possible[hashes >> shift])
    ordered = np.unique(wanted)
    at = np.searchsorted(ordered, hashes[places])
    at[at == len(ordered)] = 0
    return places[ordered[at] == hashes[places]]


_tables: list[Hashes] = [np.empty(0, np.uint64), np.empty(0, np.uint64)]


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """BASE^i and its inverse modulo 2^64 for i < count; kept for the next call."""
    if len(_tables[0]) < count:
        for place, base in enumerate((BASE, pow(BASE, -1, 1 << 64))):
            factors = np.full(count, base, np.uint64)
            factors[0] = 1
            _tables[place] = np.cumprod(factors, dtype=np.uint64)
    return _tables[0][:count], _tables[1][:count]
