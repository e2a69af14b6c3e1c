"""Small models that write: recurrent ones and a GPT-2, and a decoder with a context that is easy to follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from textmill.checkpoints.checkpoint import save_model
from textmill.models import gpt2, rnn
from textmill.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer
from textmill.writing.generator import Generator

MARKUP = (
    "<boname> MOLL <eoname> Who knocks so softly <question> <eos>\n"
    "<open-exp> The wheel turns <close-exp> <eos>\n"
    "<boname> TOBY <eoname> It is the rain <exclamation> <eoepisode>\n"
)
CHARACTERS = "abcdefghij .\n"
MERGES = [
    ("t", "h"),
    ("th", "e"),
    ("Ġ", "the"),
    ("a", "n"),
    ("an", "d"),
    ("Ġ", "and"),
    ("<", "|"),
    ("|", ">"),
]


def recurrent(tokenizer: Any) -> tuple[rnn.RNNConfig, dict[str, np.ndarray]]:
    """A small model with peaked guesses, which never ends a document."""
    word = {"cell": "lstm", "embedding": "learned"}
    kind = word if tokenizer.name == "word" else {"cell": "gru"}
    config = rnn.RNNConfig.of(vocabulary_size=tokenizer.size, num_layers=1, hidden_size=12, **kind)
    weights = {name: 2 * value for name, value in rnn.init(config, 3).items()}
    if tokenizer.end_of_document is not None:
        weights["output/bias"][tokenizer.end_of_document] = -30
    return config, weights


def transformer(tokenizer: Any, context: int = 24) -> tuple[gpt2.GPT2Config, dict[str, np.ndarray]]:
    """A GPT-2 of two small blocks, with peaked guesses."""
    config = gpt2.GPT2Config.of(
        vocabulary_size=tokenizer.size, context=context, width=16, num_heads=2, num_layers=2
    )
    weights = {name: value * (8 if value.ndim == 2 else 1) for name, value in gpt2.init(config, 3).items()}
    return config, weights


def character_generator() -> Generator:
    tokenizer = CharTokenizer.train([CHARACTERS])
    return Generator(*recurrent(tokenizer), tokenizer, precision="float32")


def word_generator() -> Generator:
    tokenizer = WordTokenizer.train([MARKUP], minimum_count=1)
    return Generator(*recurrent(tokenizer), tokenizer, render="script", precision="float32")


def gpt2_generator(special_tokens: str = "id") -> Generator:
    tokenizer = BPETokenizer.of(MERGES, special_tokens)
    return Generator(*transformer(tokenizer), tokenizer, precision="float32")


# ---------------------------------------------------------------------- a decoder to follow by hand

CHUNK = 8


class FollowedDecoder:
    """Each token is made from all tokens in the context and the uniform number; what was read is kept."""

    fixed_shapes = False

    def __init__(
        self, config: Any, weights: Any, *, precision: str = "auto", banned: tuple[int, ...] = ()
    ) -> None:
        self.config, self.precision = config, precision
        self.reads: list[list[int]] = []

    def pool(self, rows: int) -> FollowedPool:
        return FollowedPool(self, rows)

    def describe(self) -> dict[str, Any]:
        return {}

    def next_token(self, seen: list[int], u: float) -> int:
        return (sum(7 * i * token for i, token in enumerate(seen, 1)) + int(u * 50)) % 256


class FollowedPool:
    def __init__(self, decoder: FollowedDecoder, slots: int) -> None:
        self.decoder, self.slots = decoder, slots
        self.seen: list[list[int]] = [[] for _ in range(slots)]
        self.next = [0] * slots

    def room(self, slot: int) -> int:
        return int(self.decoder.config.context) - len(self.seen[slot])

    def rest(self, slot: int) -> None:
        self.seen[slot] = []

    def read(
        self,
        slot: int,
        ids: np.ndarray,
        *,
        scored: bool = True,
        continued: bool = False,
        likeliest: int = 0,
    ) -> np.ndarray:
        assert 1 <= len(ids) <= self.decoder.config.context
        self.decoder.reads.append([int(i) for i in ids])
        from textmill.models.sample import Likeliest

        shape = len(ids) - 1, likeliest
        self.likeliest = Likeliest(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
        self.seen[slot], self.next[slot] = [int(i) for i in ids[:-1]], int(ids[-1])
        return np.array([self.score(list(ids[:i]), int(ids[i])) for i in range(1, len(ids))], np.float32)

    def run(
        self, fresh: np.ndarray, first: np.ndarray, forced: np.ndarray, u: np.ndarray, controls: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        assert len(forced) <= CHUNK
        assert not fresh.any(), "prompts are read as blocks"
        tokens, scores = np.zeros(forced.shape, np.int32), np.zeros(forced.shape, np.float32)
        for step, slot in np.ndindex(*forced.shape):
            if len(self.seen[slot]) < self.decoder.config.context:  # another slot that writes on, unread
                self.seen[slot].append(self.next[slot])
            assert forced[step, slot] == -1
            self.next[slot] = self.decoder.next_token(self.seen[slot], float(u[step, slot]))
            tokens[step, slot] = self.next[slot]
            scores[step, slot] = self.score(self.seen[slot], self.next[slot])
        return tokens, scores

    def score(self, before: list[int], token: int) -> float:
        return -float(len(before)) - token / 1000


def followed_generator() -> Generator:
    """A generator whose texts are made by FollowedDecoder; a context of 4,000."""
    tokenizer = BPETokenizer.of(MERGES)
    config = gpt2.GPT2Config.of(vocabulary_size=tokenizer.size, context=4000)
    return Generator(config, {}, tokenizer, decoder=FollowedDecoder)


class ScriptedDecoder(FollowedDecoder):
    """Writes `script`, whatever the prompt; then <|endoftext|> for ever."""

    script: tuple[int, ...] = ()
    end = 0

    def pool(self, rows: int) -> ScriptedPool:
        return ScriptedPool(self, rows)


class ScriptedPool(FollowedPool):
    def read(self, slot: int, ids: np.ndarray, **how: Any) -> np.ndarray:
        self.written = [0] * self.slots
        return super().read(slot, ids, **how)

    def run(
        self, fresh: np.ndarray, first: np.ndarray, forced: np.ndarray, u: np.ndarray, controls: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        script, at = type(self.decoder).script, self.written  # type: ignore[attr-defined]
        rows = [
            [
                script[at[slot] + n] if at[slot] + n < len(script) else self.decoder.end
                for slot in range(self.slots)
            ]
            for n in range(len(forced))
        ]
        self.written = [done + len(forced) for done in at]
        return np.array(rows, np.int32), np.zeros(forced.shape, np.float32)


def scripted_generator(script: str, special_tokens: str = "id") -> Generator:
    """A generator that always writes `script`."""
    tokenizer = BPETokenizer.of(MERGES, special_tokens)
    ids = tuple(tokenizer.encode(script).tolist())
    kind = type("Scripted", (ScriptedDecoder,), {"script": ids, "end": tokenizer.end_of_document})
    kind.__module__ = __name__
    config = gpt2.GPT2Config.of(vocabulary_size=tokenizer.size, context=4000)
    return Generator(config, {}, tokenizer, decoder=kind)


# ---------------------------------------------------------------------- checkpoints


def save(folder: Path, generator: Generator, weights: dict[str, np.ndarray]) -> Path:
    """A checkpoint of the generator's model."""
    model = {"char": "char-gru", "word": "word-lstm", "bpe": "gpt2"}[generator.tokenizer.name]
    said = {"model": model, "preset": "tiny", "config": generator.decoder.config.as_dict(), "render": ""}
    folder.mkdir()
    save_model(folder, weights, said, {"step": 1}, generator.tokenizer, {"dataset": "0" * 64})
    return folder
