"""What normalize can be told. Knows names and ranges, nothing of the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from textmill.errors import SettingsError
from textmill.rules import find_rules
from textmill.settings import Settings, setting
from textmill.tokenizers import TOKENIZERS
from textmill.tokenizers.bpe import SMALLEST, SPECIAL_TOKENS

_LISTS = ("rules", "valid_documents", "test_documents")
_RULES = setting(
    "unicode_repair,whitespace",
    "Rule sets to apply, in this order, with commas between; parameters in parentheses: language(en de).",
)
_NEAR = setting(
    0.8,
    "Drop documents of which this share of word 5-grams stood in one before (0: keep all).",
    minimum=0,
    maximum=1,
)
_PROCESSES = setting(
    0, "Processes that work on shards side by side (0: as many as cores, fewer for little text).", minimum=0
)
_KEEP_WORK = setting(
    True, "Keep what was made of each shard beside the output, so that only what changed is made anew."
)
_HOW = ("processes", "keep_work")  # how the work is done, not what comes of it


@dataclass(frozen=True)
class NormalizeSettings(Settings):
    """What the making of a dataset can be told. Lists may be given as lists or as text with commas."""

    rules: str = _RULES
    tokenizer: str = setting("char", "What a token is.", choices=tuple(TOKENIZERS))
    alphabet: str = setting(
        "text",
        "Character tokenizer: the alphabet of the text, or the fixed one of tabs, ASCII and line feeds.",
        choices=("text", "ascii98"),
    )
    vocabulary: str = setting(
        "train", "Count the vocabulary on the training documents or on all.", choices=("train", "all")
    )
    minimum_count: int = setting(
        2, "Word tokenizer: rarer words become <unk>; byte pairs: rarer pairs are not merged.", minimum=1
    )
    vocabulary_size: int = setting(
        8192,
        "Byte pairs: most tokens to learn, where no base brings its own.",
        minimum=SMALLEST,
        maximum=1 << 20,
    )
    special_tokens: str = setting(
        "auto",
        "Byte pairs: a document ends with the id of <|endoftext|>, or stands between literal <|startoftext|> and "
        "<|endoftext|> as in gpt-2-simple; auto: as the base has it, or id.",
        choices=("auto", *SPECIAL_TOKENS),
    )
    exact_duplicates: bool = setting(True, "Drop documents whose cleaned text stood before.")
    near_duplicates: float = _NEAR
    split: str = setting(
        "fraction",
        "How validation and test documents are chosen: a share of them, by name, or by S3's rule (last books).",
        choices=("fraction", "documents", "validation_book"),
    )
    valid_fraction: float = setting(0.05, "Share of the documents to validate on.", minimum=0, maximum=0.9)
    test_fraction: float = setting(0.05, "Share of the documents to test on.", minimum=0, maximum=0.9)
    valid_documents: str = setting(
        "", "Split by documents: ids or globs to validate on, with commas between."
    )
    test_documents: str = setting("", "Split by documents: ids or globs to test on, with commas between.")
    seed: int = setting(0, "Another seed chooses other documents.", minimum=0)
    processes: int = setting(
        0,
        "Processes that work on shards side by side (0: as many as cores, fewer for little text).",
        minimum=0,
    )
    keep_work: bool = setting(
        True, "Keep what was made of each shard beside the dataset, so that only what changed is made anew."
    )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        joined = {k: _with_commas(v) if k in _LISTS else v for k, v in values.items()}
        return super().from_dict(joined, where)

    @property
    def content(self) -> dict[str, Any]:
        """The settings that the dataset's bytes depend on."""
        return {name: value for name, value in self.as_dict().items() if name not in _HOW}

    def check(self) -> None:
        find_rules(self.rules)
        if self.valid_fraction + self.test_fraction > 0.9:
            raise SettingsError(
                f"settings 'valid_fraction' {self.valid_fraction} and 'test_fraction' {self.test_fraction} leave too "
                "little to train on; together they must be at most 0.9."
            )
        named = names(self.valid_documents) + names(self.test_documents)
        if self.split == "documents" and not named:
            raise SettingsError("split 'documents' needs the setting valid_documents or test_documents.")
        if self.split != "documents" and named:
            raise SettingsError("valid_documents and test_documents need the setting split: documents.")


@dataclass(frozen=True)
class GroupsSettings(Settings):
    """How a corpus is divided for normalize_shards."""

    groups: int = setting(0, "How many groups (0: one for each 3 GB of text or so, at most 16).", minimum=0)


@dataclass(frozen=True)
class ShardsSettings(Settings):
    """What normalize_shards can be told: what of NormalizeSettings concerns it, and which shards."""

    group: str = setting("", "Items of the corpus to clean, a range such as 12:40 (empty: all).")
    rules: str = _RULES
    near_duplicates: float = _NEAR
    processes: int = _PROCESSES
    keep_work: bool = _KEEP_WORK

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        joined = {k: _with_commas(v) if k in _LISTS else v for k, v in values.items()}
        return super().from_dict(joined, where)

    def check(self) -> None:
        find_rules(self.rules)


def _with_commas(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def names(value: str) -> list[str]:
    """The names in a text with commas between them."""
    return [name.strip() for name in value.split(",") if name.strip()]
