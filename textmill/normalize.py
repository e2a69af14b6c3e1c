"""corpus -> dataset: rules, duplicates, split, tokenizer, tokens; and a report of all that was changed and dropped.

Three passes, one document in memory at a time: the corpus is cleaned into a scratch file; the vocabulary is counted on
the documents that train; tokens are written. What stays in memory for each document is its id and length, 16 bytes to
tell exact and 512 bytes to tell near duplicates.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from textmill import manifest
from textmill import split as splitting
from textmill.base_tokenizer import read_base_tokenizer
from textmill.corpus import Corpus, Document, read_corpus
from textmill.dataset import JsonLinesWriter, SplitWriter, read_json_lines, token_dtype
from textmill.dataset_report import log_line, main_figures, unigram, unknown_rate
from textmill.duplicates import Duplicate, DuplicateFinder
from textmill.errors import InputError, SettingsError
from textmill.files import new_folder, write_json
from textmill.progress import Progress
from textmill.rules import Outcome, Rule, find_rules, surveyed
from textmill.settings import Settings, setting
from textmill.split import SPLITS
from textmill.tokenizers import TOKENIZERS, Tokenizer, digest, encode_document
from textmill.tokenizers.bpe import SMALLEST, SPECIAL_TOKENS, BPETokenizer

log = logging.getLogger("textmill.normalize")

MOST_DROPPED = 50  # dropped documents listed by name in the report
MOST_EXAMPLES = 5  # examples of each rule and of duplicates
MOST_UNKNOWN = 20
MOST_NAMED = 20  # documents of a split listed by name
SNIPPET = 120  # characters of an example, each side

_LISTS = ("rules", "valid_documents", "test_documents")


@dataclass(frozen=True)
class NormalizeSettings(Settings):
    """What the making of a dataset can be told. Lists may be given as lists or as text with commas."""

    rules: str = setting(
        "unicode_repair,whitespace",
        "Rule sets to apply, in this order, with commas between; parameters in parentheses: language(en de).",
    )
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
    near_duplicates: float = setting(
        0.8,
        "Drop documents of which this share of word 5-grams stood in one before (0: keep all).",
        minimum=0,
        maximum=1,
    )
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        joined = {k: _with_commas(v) if k in _LISTS else v for k, v in values.items()}
        return super().from_dict(joined, where)

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


def _with_commas(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def names(value: str) -> list[str]:
    """The names in a text with commas between them."""
    return [name.strip() for name in value.split(",") if name.strip()]


def normalize(
    corpus: Path, dataset: Path, settings: NormalizeSettings | None = None, base: Path | None = None
) -> dict[str, Any]:
    """Make the dataset folder from the corpus folder; return the main figures.

    `base` is a model to fine-tune (a checkpoint, an OpenAI or a Hugging Face folder): the dataset gets its tokenizer.
    The same corpus, base and settings give the same bytes. Raises InputError: nothing to train on, an unknown rule, a
    glob that matches nothing, a base without a tokenizer.
    """
    settings = settings or NormalizeSettings()
    settings.check()
    taken = None if base is None else _tokenizer_of(base, settings)
    settings = settings if taken is None else settings.replace(tokenizer=taken.name)
    source = read_corpus(Path(corpus))
    with new_folder(Path(dataset)) as folder:
        cleaned = _clean(source, folder / ".cleaned.jsonl.zst", settings)
        plan = _plan(cleaned, settings)
        tokenizer = taken or _train_tokenizer(plan, settings)
        (folder / "tokenizer").mkdir()
        tokenizer.save(folder / "tokenizer")
        encoded = _encode(plan, tokenizer, folder)
        cleaned.path.unlink()
        report = _report(cleaned, plan, tokenizer, encoded, "base" if taken else settings.vocabulary)
        write_json(folder / "report.json", report)
        _write_manifest(folder, source, tokenizer, encoded, settings, base)
    log.info("%s", log_line(report))
    return main_figures(report)


# --- first pass: the corpus, cleaned


@dataclass
class _RuleCount:
    """What one rule did to the corpus."""

    rule: Rule
    documents_changed: int = 0
    documents_dropped: int = 0
    changes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def apply(self, name: str, text: str) -> Outcome:
        outcome = self.rule.apply(text)
        self.documents_dropped += bool(outcome.drop)
        self.counts.update(outcome.counts)
        self.changes += outcome.changes
        if outcome.text != text:
            self.documents_changed += 1
            if len(self.examples) < MOST_EXAMPLES:
                before, after = _snippets(text, outcome.text)
                self.examples.append({"document": name, "before": before, "after": after})
        return outcome

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.rule.name,
            "documents_changed": self.documents_changed,
            "documents_dropped": self.documents_dropped,
            "changes": self.changes,
            "counts": dict(self.counts),
            "examples": self.examples,
        }


@dataclass
class _Cleaned:
    """The cleaned documents, in a scratch file, and what is known of them. Indices count the documents read."""

    path: Path
    rules: list[_RuleCount]
    ids: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    dropped_counts: Counter[str] = field(default_factory=Counter)
    dropped: list[dict[str, str]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)

    def records(self) -> Iterator[dict[str, Any]]:
        """{"index", "id", "title", "text"} of each document that is kept."""
        kept = set(self.kept)
        return (record for record in read_json_lines(self.path) if record["index"] in kept)

    def drop(self, index: int, reason: str, detail: str = "") -> None:
        self.dropped_counts[reason] += 1
        if len(self.dropped) < MOST_DROPPED:
            self.dropped.append({"document": self.ids[index], "reason": reason, "detail": detail})

    def drop_duplicate(self, found: Duplicate) -> None:
        of, like = self.ids[found.of], round(found.similarity, 3)
        detail = f"of {of}" if found.exact else f"of {of}, similarity {like}"
        self.drop(found.index, "exact duplicate" if found.exact else "near duplicate", detail)
        if len(self.duplicates) < MOST_EXAMPLES:
            self.duplicates.append({"document": self.ids[found.index], "of": of, "similarity": like})


def _clean(source: Corpus, path: Path, settings: NormalizeSettings) -> _Cleaned:
    """Apply the rules, drop what is empty or a duplicate. Raises InputError when nothing is left."""
    rules = surveyed(find_rules(settings.rules), lambda: _surveying(source))
    cleaned = _Cleaned(path, [_RuleCount(rule) for rule in rules])
    finder = DuplicateFinder(settings.exact_duplicates, settings.near_duplicates)
    total = sum(item["documents"] for item in source.items)
    with JsonLinesWriter(path) as writer, Progress("cleaning", total, unit="documents") as progress:
        for index, document in enumerate(source.documents()):
            _clean_one(index, document, cleaned, finder, writer)
            progress.advance(note=document.id)
    near = {found.index: found for found in finder.near_duplicates()}
    for found in near.values():
        cleaned.drop_duplicate(found)
    cleaned.kept = [index for index in cleaned.kept if index not in near]
    if not cleaned.ids:
        raise InputError(f"the corpus {source.folder} holds no document; ingest some text first.")
    if not cleaned.kept:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in cleaned.dropped_counts.items())
        raise InputError(
            f"nothing is left of the corpus {source.folder}: each of its {len(cleaned.ids):,} documents is empty "
            f"after the rules or dropped by them ({settings.rules or 'none'}): {reasons}."
        )
    return cleaned


def _surveying(source: Corpus) -> Iterator[str]:
    """The texts of the corpus for a rule that must see all of it first."""
    total = sum(item["documents"] for item in source.items)
    with Progress("looking for boilerplate", total, unit="documents") as progress:
        for document in source.documents():
            yield document.text
            progress.advance(note=document.id)


def _clean_one(
    index: int, document: Document, cleaned: _Cleaned, finder: DuplicateFinder, writer: JsonLinesWriter
) -> None:
    outcome = Outcome(document.text, 0)
    for rule in cleaned.rules:
        outcome = rule.apply(document.id, outcome.text)
        if outcome.drop:
            break
    text = outcome.text
    cleaned.ids.append(document.id)
    cleaned.lengths.append(len(text))
    if outcome.drop:
        cleaned.drop(index, outcome.drop, outcome.detail)
    elif not text.strip():
        cleaned.drop(index, "empty")
    elif repeated := finder.add(index, text):
        cleaned.drop_duplicate(repeated)
    else:
        cleaned.kept.append(index)
        title = str(document.meta.get("title") or document.id.rpartition("/")[2])
        writer.add({"index": index, "id": document.id, "title": title, "text": text})


def _snippets(before: str, after: str) -> tuple[str, str]:
    """Both texts where they first differ, from shortly before that place."""
    shorter = min(len(before), len(after))
    same = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    start = max(before.rfind("\n", 0, same) + 1, same - SNIPPET // 2)
    return before[start : start + SNIPPET], after[start : start + SNIPPET]


# --- split


@dataclass
class _Part:
    """A document, or a piece of the only one, and the split it goes to: the first piece begins, the last one ends."""

    split: str
    id: str
    title: str
    text: str
    begins: bool = True
    ends: bool = True


@dataclass
class _Plan:
    """Where each kept document goes; or, when there is only one, where it is cut."""

    cleaned: _Cleaned
    settings: NormalizeSettings
    splits: dict[int, str]  # by index; empty when the only document is cut
    method: str
    note: str = ""

    def parts(self) -> Iterator[_Part]:
        """Every part of the dataset in order, one in memory at a time."""
        for record in self.cleaned.records():
            if self.splits:
                yield _Part(self.splits[record["index"]], record["id"], record["title"], record["text"])
            else:
                yield from self._pieces(record)

    def _pieces(self, record: dict[str, Any]) -> Iterator[_Part]:
        text = record["text"]
        cuts = splitting.cut_points(text, self.settings.valid_fraction, self.settings.test_fraction)
        bounds = [0, *cuts, len(text)]
        for split, start, end in zip(SPLITS, bounds, bounds[1:], strict=False):
            if end > start:
                yield _Part(
                    split, record["id"], record["title"], text[start:end], start == 0, end == len(text)
                )


def _plan(cleaned: _Cleaned, settings: NormalizeSettings) -> _Plan:
    ids = [cleaned.ids[index] for index in cleaned.kept]
    if settings.split == "fraction" and len(ids) == 1:
        note = "one document: its first part trains, the next validates, the last tests"
        return _Plan(cleaned, settings, {}, "consecutive", note)
    note = ""
    if settings.split == "documents":
        found = splitting.by_name(ids, names(settings.valid_documents), names(settings.test_documents))
    elif settings.split == "validation_book":
        found = splitting.by_validation_book(ids, [cleaned.lengths[index] for index in cleaned.kept])
        note = "" if "valid" in found else "fewer than five documents: none validates"
    else:
        found = splitting.by_fraction(ids, settings.valid_fraction, settings.test_fraction, settings.seed)
    return _Plan(cleaned, settings, dict(zip(cleaned.kept, found, strict=True)), settings.split, note)


# --- second pass: the vocabulary; third pass: the tokens


def _train_tokenizer(plan: _Plan, settings: NormalizeSettings) -> Tokenizer:
    texts = (part.text for part in plan.parts() if part.split == "train" or settings.vocabulary == "all")
    kind = TOKENIZERS[settings.tokenizer]
    return kind.train(
        texts,
        alphabet=settings.alphabet,
        minimum_count=settings.minimum_count,
        vocabulary_size=settings.vocabulary_size,
        special_tokens="id" if settings.special_tokens == "auto" else settings.special_tokens,
    )


def _tokenizer_of(base: Path, settings: NormalizeSettings) -> Tokenizer:
    chosen = "" if settings.special_tokens == "auto" else settings.special_tokens
    tokenizer = read_base_tokenizer(base, chosen)
    if settings.changed().get("tokenizer", tokenizer.name) != tokenizer.name:
        raise SettingsError(
            f"setting 'tokenizer' is {settings.tokenizer!r}, but the base {base} has {tokenizer.name} tokens; a model "
            "goes on with its own."
        )
    return tokenizer


@dataclass
class _Encoded:
    """What was written of each split, and the counts that the report is made of."""

    dtype: str
    counts: dict[str, dict[str, int]]
    documents: dict[str, list[str]]  # the first ids of each split
    frequencies: dict[str, npt.NDArray[np.int64]]  # of each token, [vocabulary]
    unknown: Counter[str]  # pieces of text that are not in the vocabulary


def _encode(plan: _Plan, tokenizer: Tokenizer, folder: Path) -> _Encoded:
    dtype = token_dtype(tokenizer.size)
    frequencies = {split: np.zeros(tokenizer.size, dtype=np.int64) for split in SPLITS}
    first: dict[str, list[str]] = {split: [] for split in SPLITS}
    unknown: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder / split, dtype)) for split in SPLITS}
        progress = stack.enter_context(Progress("encoding", len(plan.cleaned.kept), unit="documents"))
        for part in plan.parts():
            ids = encode_document(tokenizer, part.text, begins=part.begins, ends=part.ends)
            np.add.at(frequencies[part.split], ids, 1)
            unknown.update(_unknown_pieces(tokenizer, part.text, ids))
            writers[part.split].add(part.id, part.title, part.text, ids)
            first[part.split] += [part.id] if len(first[part.split]) < MOST_NAMED else []
            progress.advance(part.ends)
    counts = {split: writer.counts for split, writer in writers.items()}
    return _Encoded(dtype.name, counts, first, frequencies, unknown)


def _unknown_pieces(tokenizer: Tokenizer, text: str, ids: npt.NDArray[np.integer]) -> Iterable[str]:
    if tokenizer.unknown is None:
        return ()
    unknown = ids == tokenizer.unknown
    return itertools.compress(tokenizer.pieces(text), unknown.tolist()) if unknown.any() else ()


# --- report


def _report(
    cleaned: _Cleaned, plan: _Plan, tokenizer: Tokenizer, encoded: _Encoded, vocabulary_from: str
) -> dict[str, Any]:
    def per_split(what: str) -> dict[str, int]:
        return {split: encoded.counts[split][what] for split in SPLITS}

    most = sorted(encoded.unknown.items(), key=lambda item: (-item[1], item[0]))[:MOST_UNKNOWN]
    rates = {split: unknown_rate(encoded.frequencies[split], tokenizer.unknown) for split in SPLITS}
    scored = {
        split: unigram(encoded.frequencies["train"], encoded.frequencies[split])
        for split in ("valid", "test")
    }
    return {
        "documents": {"read": len(cleaned.ids), "kept": len(cleaned.kept), **per_split("documents")},
        "characters": per_split("characters"),
        "tokens": per_split("tokens"),
        "rules": [rule.as_dict() for rule in cleaned.rules],
        "dropped_counts": dict(cleaned.dropped_counts),
        "dropped": cleaned.dropped,
        "duplicates": {
            "exact": cleaned.dropped_counts["exact duplicate"],
            "near": cleaned.dropped_counts["near duplicate"],
            "examples": cleaned.duplicates,
        },
        "split": {
            "method": plan.method,
            "note": plan.note,
            "valid": encoded.documents["valid"],
            "test": encoded.documents["test"],
        },
        "tokenizer": {
            "name": tokenizer.name,
            "size": tokenizer.size,
            "unknown": rates,
            "most_unknown": [list(item) for item in most],
        },
        "vocabulary_from": vocabulary_from,
        "unigram": {split: score for split, score in scored.items() if score},
    }


def _write_manifest(
    folder: Path,
    source: Corpus,
    tokenizer: Tokenizer,
    encoded: _Encoded,
    settings: NormalizeSettings,
    base: Path | None,
) -> None:
    rules = find_rules(settings.rules)
    details: dict[str, Any] = {
        "rules": [rule.name for rule in rules],
        "render": next((rule.render for rule in reversed(rules) if rule.render), ""),
        "splits": encoded.counts,
        "dtype": encoded.dtype,
        "tokenizer": {
            "name": tokenizer.name,
            "size": tokenizer.size,
            "digest": digest(folder / "tokenizer"),
        },
    }
    if isinstance(tokenizer, BPETokenizer):
        details["tokenizer"]["special_tokens"] = tokenizer.special_tokens
    parents = {"corpus": source.digest}
    if base is not None and (made := manifest.digest_of(base)):
        parents["base"] = made
    manifest.write(
        folder,
        "dataset",
        settings=settings.as_dict(),
        parents=parents,
        details=details,
        packages=(
            *("ftfy", "numpy", "rensa", "zstandard"),
            *(["tiktoken"] if tokenizer.name == "bpe" else []),
            *(package for rule in rules for package in rule.packages),
        ),
    )
