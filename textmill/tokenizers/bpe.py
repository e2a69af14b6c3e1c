"""GPT-2's byte pairs: tiktoken over the checkpoint's own two files, or a table of one's own in the same two files.

    encoder.json     {token: id}, a byte of a token written as one printable letter (openai/gpt-2, src/encoder.py)
    vocab.bpe        a line of version, then a merge a line, the earlier the stronger
    tokenizer.json   {"name": "bpe", "special_tokens": "id" or "literal"}

The ids of a text are those of OpenAI's encoder. Letters and numbers are told by tiktoken's Unicode tables; OpenAI's
encoder asks the `regex` package, which may know some characters of a newer Unicode.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from textmill.errors import FolderError, MachineError, SettingsError
from textmill.files import write_bytes, write_json
from textmill.settings import unknown_name
from textmill.tokenizers.base import Ids
from textmill.tokenizers.folder import read_details

START = "<|startoftext|>"
END = "<|endoftext|>"
SPECIAL_TOKENS = ("id", "literal")
VERSION = "#version: 0.2"
SMALLEST = 257  # the bytes and <|endoftext|>

# OpenAI's pattern and tiktoken's form of it (tiktoken_ext/openai_public.py), which finds the same and backtracks less.
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
TIKTOKEN_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

# tiktoken's pattern engine gives up (with a panic) at a million white spaces in a row that a word follows.
_SPACE = r"[^\S\x1c-\x1f]"  # `re` counts four control characters as space, the others do not
LONG_SPACE = re.compile(rf"(?<!{_SPACE}){_SPACE}{{100000,}}")

Merges = list[tuple[str, str]]

_PLAIN = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHER = [byte for byte in range(256) if byte not in _PLAIN]
BYTES = bytes([*_PLAIN, *_OTHER])  # in the order of OpenAI's ids 0 to 255
LETTERS = "".join(
    map(chr, [*_PLAIN, *range(256, 256 + len(_OTHER))])
)  # how each of them is written in the files
_BYTE_OF = dict(zip(LETTERS, BYTES, strict=True))
_LETTER_OF = str.maketrans(dict(zip(map(chr, BYTES), LETTERS, strict=True)))


class BPETokenizer:
    """Byte pairs. Any text can be written, so there is no unknown token; the text `<|endoftext|>` never becomes its id.

    special_tokens "id": a document ends with the id of <|endoftext|> (50256 of OpenAI's).
    special_tokens "literal": a document stands between <|startoftext|> and <|endoftext|> spelled out in ordinary
    pieces, as gpt-2-simple reads a .csv.
    """

    name: ClassVar[str] = "bpe"

    def __init__(self, encoder: bytes, merges: bytes, special_tokens: str = "id", where: str = "") -> None:
        """`encoder` and `merges` are the bytes of the two files; `where` is named in errors.

        Raises FolderError for files that are damaged or do not belong together.
        """
        if special_tokens not in SPECIAL_TOKENS:
            raise SettingsError(unknown_name("kind of special_tokens", special_tokens, SPECIAL_TOKENS, where))
        self.special_tokens = special_tokens
        self._files = {"encoder.json": encoder, "vocab.bpe": merges}
        self.table = _read_table(encoder, where)
        self.merges = _read_merges(merges, where)
        _check(self.table, self.merges, where)
        self.size = len(self.table)
        self.unknown: int | None = None
        self.end_of_document: int | None = self.table[END]
        shown = {i: _bytes_of(token) for token, i in self.table.items()}
        self._shown = [shown[i] for i in range(self.size)]
        # tiktoken numbers the bytes and then the merges by their strength; this is the id of each of these numbers.
        order = [*LETTERS, *(first + second for first, second in self.merges)]
        self._ids = np.array([self.table[token] for token in order], np.int32)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocabulary_size: int = 8192,
        minimum_count: int = 2,
        special_tokens: str = "id",
        **_: Any,
    ) -> Self:
        """Learn at most `vocabulary_size` - 257 merges of `texts`, each of a pair seen `minimum_count` times.

        The same texts give the same files. <|endoftext|> is the last id.
        """
        try:
            from tokenizers import Tokenizer, models, pre_tokenizers, trainers
        except ImportError:
            raise MachineError(
                "training a BPE needs the package tokenizers: pip install 'textmill[train]'."
            ) from None
        learner = Tokenizer(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        trainer = trainers.BpeTrainer(
            vocab_size=max(vocabulary_size, SMALLEST) - 1,
            min_frequency=max(minimum_count, 1),
            show_progress=False,
            initial_alphabet=list(LETTERS),
        )
        literal = special_tokens == "literal"
        learner.train_from_iterator((_writable(_wrapped(t) if literal else t) for t in texts), trainer)
        merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
        return cls.of(merges, special_tokens=special_tokens)

    @classmethod
    def of(cls, merges: Iterable[tuple[str, str]], special_tokens: str = "id") -> Self:
        """A table in OpenAI's order: the bytes, the merges, <|endoftext|>."""
        merges = list(merges)
        tokens = [*LETTERS, *(first + second for first, second in merges), END]
        encoder = json.dumps({token: i for i, token in enumerate(tokens)})
        return cls(encoder.encode(), vocab_bpe(merges), special_tokens)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls.from_openai(folder, str(read_details(folder).get("special_tokens", "id")))

    @classmethod
    def from_openai(cls, folder: Path, special_tokens: str = "id") -> Self:
        """The tokenizer of a checkpoint in OpenAI's format: its encoder.json and vocab.bpe."""
        return cls(_file(folder, "encoder.json"), _file(folder, "vocab.bpe"), special_tokens, str(folder))

    def with_delimiters(self, special_tokens: str) -> Self:
        """The same table with other delimiters."""
        return type(self)(self._files["encoder.json"], self._files["vocab.bpe"], special_tokens)

    def save(self, folder: Path) -> None:
        """The two files are written as they were read."""
        write_json(folder / "tokenizer.json", {"name": self.name, "special_tokens": self.special_tokens})
        for name, data in self._files.items():
            write_bytes(folder / name, data)

    def encode(self, text: str) -> Ids:
        return self._ids[self._numbers(_writable(text))] if text else np.empty(0, np.int32)

    def encode_document(self, text: str, *, begins: bool = True, ends: bool = True) -> Ids:
        """Ids of a document, or of a piece of one that begins or ends with it, between its delimiters."""
        if self.special_tokens == "literal":
            return self.encode(_wrapped(text, begins, ends))
        ids = self.encode(text)
        return np.append(ids, np.int32(self.table[END])) if ends else ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids. A character that is not whole yet is held back; bytes that are none become U+FFFD."""
        shown = self._shown
        return codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join([shown[i] for i in ids]))

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; it may be a part of a character."""
        return self._shown[token]

    def pieces(self, text: str) -> Iterable[str]:
        return [self._shown[i].decode("utf-8", "replace") for i in self.encode(text)]

    def _numbers(self, text: str) -> list[int]:
        """Numbers by strength (see `_ids`) of a text that is not empty."""
        if not self._as_trained:
            return self._merged_by_hand(text)
        numbers: list[int] = []
        start = 0
        for space in LONG_SPACE.finditer(text):
            # The pattern takes all of a white space but its last character, which goes with what follows, if any.
            end = space.end() if space.end() == len(text) else space.end() - 1
            numbers += self._tiktoken.encode_ordinary(text[start : space.start()])
            numbers += self._whole.encode_ordinary(text[space.start() : end])
            start = end
        return numbers + self._tiktoken.encode_ordinary(text[start:] if start else text)

    @functools.cached_property
    def _tiktoken(self) -> Any:
        return self._encoding(TIKTOKEN_PATTERN)

    @functools.cached_property
    def _whole(self) -> Any:
        """Takes all of a text as one piece."""
        return self._encoding(r"(?s:.+)")

    def _encoding(self, pattern: str) -> Any:
        try:
            import tiktoken
        except ImportError:
            raise MachineError(
                "byte pairs need the package tiktoken: pip install 'textmill[train]'."
            ) from None
        tokens = [*LETTERS, *(first + second for first, second in self.merges)]
        ranks = {_bytes_of(token): number for number, token in enumerate(tokens)}
        return tiktoken.Encoding("textmill", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    @functools.cached_property
    def _as_trained(self) -> bool:
        return as_trained(self.merges)

    def _merged_by_hand(self, text: str) -> list[int]:
        """The same by OpenAI's rule itself, for tables that no training makes. Slow."""
        import regex

        number = {token: i for i, token in enumerate(LETTERS)}
        number |= {first + second: i for i, (first, second) in enumerate(self.merges, start=256)}
        strength = {pair: i for i, pair in enumerate(self.merges)}
        found: dict[str, list[int]] = {}
        numbers: list[int] = []
        for piece in regex.findall(PATTERN, text):
            if piece not in found:
                letters = piece.encode().decode("latin-1").translate(_LETTER_OF)
                found[piece] = [number[part] for part in _merge(letters, strength)]
            numbers += found[piece]
        return numbers


def vocab_bpe(merges: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of vocab.bpe (or Hugging Face's merges.txt)."""
    return "".join([VERSION, "\n", *(f"{first} {second}\n" for first, second in merges)]).encode()


def as_trained(merges: Merges) -> bool:
    """Whether each merge's two halves are what the earlier merges alone make of its letters, as training leaves it.

    Then tiktoken, which merges any neighbours that spell a token, does what OpenAI's encoder does, which merges the
    listed pairs only. For each merge the neighbours across the border of its halves are gone through, as they grow: if
    some of them spelled a token before both were taken by merges on their own side, the border would not be there.
    """
    made: dict[str, tuple[int, str, str]] = {}
    for rank, (first, second) in enumerate(merges):
        if first + second in made or any(len(half) > 1 and half not in made for half in (first, second)):
            return False
        made[first + second] = (rank, first, second)
    never = (len(merges), "", "")
    return all(
        _border_stays(_edge(first, rank, made, 2), _edge(second, rank, made, 1), made, never)
        for rank, first, second in made.values()
    )


def _edge(token: str, gone: int, made: dict[str, tuple[int, str, str]], side: int) -> list[tuple[str, int]]:
    """(token, the merge that takes it) from a letter to the whole `token`, along its right (2) or left (1) edge."""
    edge = [(token, gone)]
    while len(token) > 1:
        rank, *halves = made[token]
        token = halves[side - 1]
        edge.append((token, rank))
    return edge[::-1]


def _border_stays(
    left: list[tuple[str, int]],
    right: list[tuple[str, int]],
    made: dict[str, tuple[int, str, str]],
    never: tuple[int, str, str],
) -> bool:
    i = j = 0
    while True:
        (first, first_gone), (second, second_gone) = left[i], right[j]
        rank = made.get(first + second, never)[0]
        if rank < first_gone and rank <= second_gone:
            return False
        if i == len(left) - 1 and j == len(right) - 1:
            return True
        if j == len(right) - 1 or (i < len(left) - 1 and first_gone <= second_gone):
            i += 1
        else:
            j += 1


def _merge(letters: str, strength: dict[tuple[str, str], int]) -> list[str]:
    """OpenAI's rule: the strongest pair that is there is merged wherever it stands, from the left; then again."""
    parts = list(letters)
    while len(parts) > 1:
        pair = min(itertools.pairwise(parts), key=lambda pair: strength.get(pair, len(strength)))
        if pair not in strength:
            break
        merged: list[str] = []
        rest: Iterator[int] = iter(range(len(parts)))
        for i in rest:
            if tuple(parts[i : i + 2]) == pair:
                merged.append(parts[i] + parts[i + 1])
                next(rest)
            else:
                merged.append(parts[i])
        parts = merged
    return parts


def _wrapped(text: str, begins: bool = True, ends: bool = True) -> str:
    """A document between its delimiters in letters; one that brings them is left as it is."""
    start = START if begins and START not in text else ""
    end = f"{END}\n" if ends and not text.rstrip().endswith(END) else ""
    return f"{start}{text}{end}"


def _writable(text: str) -> str:
    """Without surrogates that have no partner, which no bytes stand for: they become U+FFFD, as in tiktoken."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _bytes_of(token: str) -> bytes:
    """What a token of encoder.json stands for; one that is not of the files' letters (a special token) is its text."""
    try:
        return bytes([_BYTE_OF[letter] for letter in token])
    except KeyError:
        return token.encode()


def _file(folder: Path, name: str) -> bytes:
    try:
        return (Path(folder) / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FolderError(f"{folder} holds no BPE tokenizer: {name} is missing.") from None
    except OSError:
        raise FolderError(f"{Path(folder) / name} cannot be read as a tokenizer's file.") from None


def _read_table(data: bytes, where: str) -> dict[str, int]:
    file = f"{where}/encoder.json" if where else "encoder.json"
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        raise FolderError(f"{file} is not JSON (cut short?); copy it anew.") from None
    if not isinstance(table, dict) or not all(type(i) is int for i in table.values()):
        raise FolderError(f"{file} is not an encoder: it must be one JSON object of tokens and their ids.")
    if sorted(table.values()) != list(range(len(table))):
        raise FolderError(
            f"{file} is damaged: its {len(table):,} tokens do not have the ids 0 to {len(table) - 1:,}."
        )
    missing = next((letter for letter in LETTERS if letter not in table), None)
    if missing is not None:
        raise FolderError(
            f"{file} lacks the byte {_BYTE_OF[missing]} ({missing!r}); it is not a byte-level BPE's."
        )
    if END not in table:
        raise FolderError(f"{file} lacks the token {END}; it is not a GPT-2's.")
    return table


def _read_merges(data: bytes, where: str) -> Merges:
    file = f"{where}/vocab.bpe" if where else "vocab.bpe"
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        raise FolderError(f"{file} is not UTF-8; copy it anew.") from None
    if not lines[0].startswith("#version"):
        raise FolderError(f"{file} does not begin with #version; it is not OpenAI's, or damaged.")
    if lines[-1]:
        raise FolderError(f"{file} is cut short: its last line has no end; copy it anew.")
    merges: Merges = []
    for number, line in enumerate(lines[1:-1], start=2):
        halves = line.split()
        if len(halves) != 2:
            raise FolderError(f"{file} line {number} is not two tokens but {line[:40]!r}; copy it anew.")
        merges.append((halves[0], halves[1]))
    return merges


def _check(table: dict[str, int], merges: Merges, where: str) -> None:
    """The two files know the same tokens."""
    place = f" in {where}" if where else ""
    for number, (first, second) in enumerate(merges, start=2):
        for token in (first, second, first + second):
            if token not in table:
                raise FolderError(
                    f"vocab.bpe{place} line {number} needs the token {token!r}, which encoder.json lacks: "
                    "the two files do not belong together, or one is cut short."
                )
    spelled = set(LETTERS).union(first + second for first, second in merges)
    extra = [token for token in table if token not in spelled and not _special(token)]
    if extra:
        raise FolderError(
            f"encoder.json{place} has {len(extra):,} tokens that vocab.bpe does not make, such as {extra[0]!r}: "
            "the two files do not belong together, or one is cut short."
        )


def _special(token: str) -> bool:
    """Tokens that are no text, which programs add: <|endoftext|>, <pad>, [PAD]."""
    return bool(re.fullmatch(r"<.+>|\[.+\]", token)) or any(letter not in _BYTE_OF for letter in token)
