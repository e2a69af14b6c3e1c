"""corpus -> dataset: rules, duplicates, split, tokenizer, tokens; and a report of all that was changed and dropped.

A map and a reduce. Each shard of the corpus is cleaned by itself, in parallel processes (clean.py); what is global is
made of the parts: duplicates, split, vocabulary; each shard is then written as tokens by itself (encode.py), and the
pieces are put together in the corpus's order. So the same bytes come out whatever worked side by side, and what was
made of a shard is kept for the next time (work_folder.py).

Memory: in each process one document at a time; in this one, for each document its id, 40 bytes and, while near
duplicates are looked for, another 100; and the vocabulary's counts. Signatures, 512 bytes each, lie in a file.

In a pipeline the map runs in pods of its own: `normalize_shards` on groups of shards, `normalize_merge` does the rest.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from textmill import manifest
from textmill.checkpoints.base_tokenizer import read_base_tokenizer
from textmill.corpora.corpus import Corpus, read_corpus
from textmill.datasets import split as splitting
from textmill.datasets.clean import CleanJob, Part, legs, merged_rules, teach
from textmill.datasets.counts import log_line, main_figures, unigram, unknown_rate
from textmill.datasets.dataset import SplitWriter, token_dtype
from textmill.datasets.duplicates import PERMUTATIONS, exact_duplicates, near_duplicates
from textmill.datasets.encode import DROPPED, CountJob, EncodeJob, Placed, counting, texts_to_learn
from textmill.datasets.parts import PartsFolder, read_parts, write_parts
from textmill.datasets.settings import GroupsSettings, NormalizeSettings, ShardsSettings, names
from textmill.datasets.split import SPLITS
from textmill.datasets.work_folder import WorkFolder, processes_for
from textmill.devices import available_cores
from textmill.errors import InputError, SettingsError
from textmill.files import new_folder, write_json
from textmill.progress import Progress
from textmill.rules import find_rules, split_names
from textmill.tokenizers import TOKENIZERS, Tokenizer, digest
from textmill.tokenizers.bpe import BPETokenizer

__all__ = [
    "GroupsSettings",
    "NormalizeSettings",
    "ShardsSettings",
    "normalize",
    "normalize_merge",
    "normalize_shards",
    "shard_groups",
]

log = logging.getLogger("textmill.normalize")

MOST_DROPPED = 50  # dropped documents listed by name in the report
MOST_EXAMPLES = 5  # examples of duplicates
MOST_UNKNOWN = 20
MOST_NAMED = 20  # documents of a split listed by name
# Groups where their number is left to us: of so many bytes of shards, which hold about 3 GB of text, some minutes of
# work for two cores; and no more than work side by side in the recipe, since each reads the whole corpus first.
GROUP_BYTES = 1 << 30
MOST_GROUPS = 16


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
    tokenizer = None if base is None else _tokenizer_of(base, settings)
    source = read_corpus(Path(corpus))
    shards = _shards(source, source.items)
    with _work_folder(Path(dataset), settings, (shard.size for shard in shards)) as work:
        parts = _clean(shards, settings, work)
        what = f"the corpus {source.folder}"
        return _reduce(parts, what, source.digest, Path(dataset), settings, base, tokenizer, work)


def shard_groups(corpus: Path, settings: GroupsSettings | None = None) -> list[str]:
    """The corpus's items in groups of neighbours of about the same size.

    A group is named by its range, "12:40". No group is empty. Raises FolderError for a corpus that is none.
    """
    groups = (settings or GroupsSettings()).groups
    source = read_corpus(Path(corpus))
    ends = np.cumsum([shard.size for shard in _shards(source, source.items)] or [0])
    fitting = min(-(-int(ends[-1]) // GROUP_BYTES), MOST_GROUPS)
    wanted = min(groups or fitting, len(source.items)) or 1
    bounds = [0]
    for number, target in enumerate(np.linspace(0, ends[-1], wanted + 1)[1:-1], start=1):
        cut = int(np.searchsorted(ends, target)) + 1
        bounds.append(min(max(cut, bounds[-1] + 1), len(source.items) - (wanted - number)))
    return [f"{start}:{end}" for start, end in itertools.pairwise([*bounds, len(source.items)])]


def normalize_shards(corpus: Path, parts: Path, settings: ShardsSettings | None = None) -> dict[str, Any]:
    """The map alone: clean a group of the corpus's shards into a parts folder.

    Of the rules those run that come before the first that must see the whole corpus. Raises InputError for a group
    that the corpus does not have, and for an unknown rule.
    """
    settings, parts = settings or ShardsSettings(), Path(parts)
    settings.check()
    source = read_corpus(Path(corpus))
    start, end = _range(settings.group, len(source.items))
    shards = _shards(source, source.items[start:end])
    with _work_folder(parts, settings, (shard.size for shard in shards)) as work:
        made = _clean(shards, settings, work, only_first_leg=True)
        write_parts(parts, source, start, [part.path for part in made], settings.rules)
        work.clear(settings.keep_work)
    figures = {"items": len(made), "documents": sum(part.documents for part in made), **work.figures()}
    log.info("cleaned items %d to %d of %d: %s", start, end, len(source.items), work.in_words())
    return figures


def normalize_merge(
    parts: Sequence[Any], dataset: Path, settings: NormalizeSettings | None = None, base: Path | None = None
) -> dict[str, Any]:
    """The reduce alone: what `normalize` makes of a corpus, of the parts folders of all its groups, in any order.

    `parts` are folders, or what has one as its `path`, as an artifact.
    Raises InputError when parts lack a group, or were made of other corpora, rules or code.
    """
    settings = settings or NormalizeSettings()
    settings.check()
    tokenizer = None if base is None else _tokenizer_of(base, settings)
    found = read_parts([Path(getattr(part, "path", part)) for part in parts], settings.rules)
    shards = [_Shard(path, path.stem, path.stat().st_size, documents) for path, documents in found.units]
    with _work_folder(Path(dataset), settings, (shard.size for shard in shards)) as work:
        _check_code(found, settings, work)
        made = _clean(shards, settings, work, first_leg_done=True)
        what = "the corpus"
        return _reduce(made, what, found.corpus, Path(dataset), settings, base, tokenizer, work)


def _work_folder(
    output: Path, settings: NormalizeSettings | ShardsSettings, sizes: Iterable[int]
) -> WorkFolder:
    return WorkFolder(output, processes_for(sum(sizes), settings.processes, available_cores()))


def _reduce(
    parts: list[_Shard],
    what: str,
    corpus_digest: str,
    dataset: Path,
    settings: NormalizeSettings,
    base: Path | None,
    tokenizer: Tokenizer | None,
    work: WorkFolder,
) -> dict[str, Any]:
    """From the cleaned parts to the dataset."""
    cleaned = _without_duplicates(parts, settings, work)
    _check_anything_is_left(cleaned, what, settings)
    plan = _plan(cleaned, settings)
    vocabulary_from = "base" if tokenizer else settings.vocabulary
    tokenizer = tokenizer or _train_tokenizer(plan, settings, work)
    settings = settings.replace(tokenizer=tokenizer.name)
    with new_folder(dataset) as folder:
        (folder / "tokenizer").mkdir()
        tokenizer.save(folder / "tokenizer")
        encoded = _encode(plan, tokenizer, settings, folder, work)
        report = _report(cleaned, plan, tokenizer, encoded, vocabulary_from)
        write_json(folder / "report.json", report)
        _write_manifest(folder, corpus_digest, tokenizer, encoded, settings, base)
    work.clear(settings.keep_work)
    log.info("%s; %s", log_line(report), work.in_words())
    return {**main_figures(report), **work.figures()}


# --- the map: shards, cleaned


@dataclass(frozen=True)
class _Shard:
    """A shard of the corpus, or the part that was made of it. `digest`: of all that its bytes depend on."""

    path: Path
    digest: str
    size: int
    documents: int


def _shards(source: Corpus, items: Sequence[dict[str, Any]]) -> list[_Shard]:
    files = source.manifest.files
    return [
        _Shard(source.folder / name, files[name]["sha256"], files[name]["size"], item["documents"])
        for item in items
        for name in [item["shard"]]
    ]


def _clean(
    shards: list[_Shard],
    settings: NormalizeSettings | ShardsSettings,
    work: WorkFolder,
    *,
    only_first_leg: bool = False,
    first_leg_done: bool = False,
) -> list[_Shard]:
    """Each shard's part after the last leg of the rules."""
    made = shards
    for number, leg in enumerate(legs(split_names(settings.rules), settings.near_duplicates > 0)):
        if number == 0 and first_leg_done:
            continue
        if number > 0:
            learnt = teach(leg.rules[0], (Part(part.path) for part in made))
            leg = replace(leg, learnt=work.file("learnt", learnt))
        made = [replace(shard, path=_part(shard, leg, work)) for shard in made]
        made = [replace(shard, digest=shard.path.stem) for shard in made]
        jobs = [CleanJob(before.path, after.path, leg) for before, after in zip(shards, made, strict=True)]
        work.make("cleaned", jobs, [shard.documents for shard in shards])
        if only_first_leg:
            break
        shards = made
    return made


def _part(shard: _Shard, leg: Any, work: WorkFolder) -> Path:
    learnt = leg.learnt.name if leg.learnt else ""
    depends = {"rules": leg.rules, "learnt": learnt, "survey": leg.survey, "near": leg.near}
    return work.unit("part", source=shard.digest, **depends)


def _check_code(found: PartsFolder, settings: NormalizeSettings, work: WorkFolder) -> None:
    """The parts are what this program, with these settings, would have made."""
    leg = legs(split_names(settings.rules), settings.near_duplicates > 0)[0]
    for (path, documents), shard in zip(found.units, found.shards, strict=True):
        if path.name != _part(_Shard(path, shard, 0, documents), leg, work).name:
            raise InputError(
                f"the parts in {path.parent} were made by another version of textmill or other settings "
                "(near_duplicates); make them anew with these."
            )


def _range(group: str, items: int) -> tuple[int, int]:
    start, colon, end = group.partition(":")
    try:
        found = (int(start), int(end)) if group else (0, items)
    except ValueError:
        found = (-1, -1)
    if not 0 <= found[0] <= found[1] <= items or (group and not colon):
        raise InputError(f"group {group!r} is no range of the corpus's {items} items, such as 0:{items}.")
    return found


# --- the reduce: duplicates


@dataclass
class _Cleaned:
    """What is known of all documents. Indices count the documents read, over all parts."""

    parts: list[_Shard]
    bounds: list[int] = field(default_factory=lambda: [0])  # where each part's documents begin and end
    ids: list[str] = field(default_factory=list)
    characters: array[int] = field(default_factory=lambda: array("q"))
    kept: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    dropped_counts: Counter[str] = field(default_factory=Counter)
    dropped: list[dict[str, str]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """Of the documents that are kept."""
        return np.flatnonzero(self.kept)


def _without_duplicates(parts: list[_Shard], settings: NormalizeSettings, work: WorkFolder) -> _Cleaned:
    """Read what the parts say of their documents; drop what stood before."""
    cleaned = _Cleaned(parts)
    keys, kept = bytearray(), bytearray()
    first: list[tuple[int, str, str]] = []  # of the dropped: (index, reason, detail)
    for part in parts:
        for row in Part(part.path).rows():
            if row.reason:
                cleaned.dropped_counts[row.reason] += 1
                if len(first) < MOST_DROPPED:
                    first.append((len(cleaned.ids), row.reason, row.detail))
            kept.append(not row.reason)
            keys += bytes.fromhex(row.key) if row.key else bytes(16)
            cleaned.ids.append(row.id)
            cleaned.characters.append(row.characters)
        cleaned.bounds.append(len(cleaned.ids))
    cleaned.kept = np.frombuffer(kept, np.uint8).astype(bool)
    signed = cleaned.kept.copy()
    copies = _exact(cleaned, keys) if settings.exact_duplicates else []
    del keys
    cleaned.dropped_counts["exact duplicate"] += len(copies)
    for index, of in copies[:MOST_DROPPED]:
        first.append((index, "exact duplicate", f"of {cleaned.ids[of]}"))
    first.sort(key=lambda entry: entry[0])
    alike = _near(cleaned, signed, settings.near_duplicates, work) if settings.near_duplicates else []
    cleaned.dropped_counts["near duplicate"] += len(alike)
    for index, of, like in alike[:MOST_DROPPED]:
        first.append((index, "near duplicate", f"of {cleaned.ids[of]}, similarity {round(like, 3)}"))
    cleaned.dropped = [
        {"document": cleaned.ids[index], "reason": reason, "detail": detail}
        for index, reason, detail in first[:MOST_DROPPED]
    ]
    cleaned.dropped_counts = +cleaned.dropped_counts
    found = [*((i, of, 1.0) for i, of in copies[:MOST_EXAMPLES]), *alike[:MOST_EXAMPLES]][:MOST_EXAMPLES]
    cleaned.duplicates = [
        {"document": cleaned.ids[index], "of": cleaned.ids[of], "similarity": round(like, 3)}
        for index, of, like in found
    ]
    return cleaned


def _exact(cleaned: _Cleaned, keys: bytearray) -> list[tuple[int, int]]:
    """(index, index of what stays) of the documents that repeat one; they are kept no longer."""
    indices = cleaned.indices
    first = exact_duplicates(np.frombuffer(keys, np.uint8).reshape(-1, 16)[indices])
    copies = np.flatnonzero(first != np.arange(len(indices)))
    cleaned.kept[indices[copies]] = False
    return list(zip(indices[copies].tolist(), indices[first[copies]].tolist(), strict=True))


def _near(
    cleaned: _Cleaned, signed: npt.NDArray[np.bool_], threshold: float, work: WorkFolder
) -> list[tuple[int, int, float]]:
    """(index, index of what stays, similarity) of the documents that are like one; they are kept no longer."""
    indices = cleaned.indices
    if not len(indices):
        return []
    with tempfile.TemporaryFile(dir=work.folder) as file:
        _write_signatures(cleaned, signed, file)
        signatures = np.memmap(file, np.uint32, "r", shape=(len(indices), PERMUTATIONS))
        found = near_duplicates(signatures, threshold)
        del signatures
    cleaned.kept[indices[[row for row, _, _ in found]]] = False
    return [(int(indices[row]), int(indices[of]), like) for row, of, like in found]


def _write_signatures(cleaned: _Cleaned, signed: npt.NDArray[np.bool_], file: IO[bytes]) -> None:
    """The signatures of the documents that are still kept, in order. `signed` are those that have one."""
    for part, start, end in zip(cleaned.parts, cleaned.bounds, cleaned.bounds[1:], strict=False):
        kept = cleaned.kept[start:end][signed[start:end]]
        signatures = Part(part.path).mapped("signatures", np.dtype("<u4")).reshape(-1, PERMUTATIONS)
        for block in range(0, len(kept), 1 << 15):
            file.write(signatures[block : block + (1 << 15)][kept[block : block + (1 << 15)]].tobytes())
    file.flush()


def _check_anything_is_left(cleaned: _Cleaned, what: str, settings: NormalizeSettings) -> None:
    if not cleaned.ids:
        raise InputError(f"{what} holds no document; ingest some text first.")
    if not cleaned.kept.any():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in cleaned.dropped_counts.items())
        raise InputError(
            f"nothing is left of {what}: each of its {len(cleaned.ids):,} documents is empty "
            f"after the rules or dropped by them ({settings.rules or 'none'}): {reasons}."
        )


# --- the reduce: split


@dataclass
class _Plan:
    """Where each kept document goes; or, when there is only one, where it is cut."""

    placed: list[Placed]  # the parts of which something is kept
    documents: list[int]  # how many of each
    first: dict[str, list[str]]  # the first ids of each split
    method: str
    note: str = ""


def _plan(cleaned: _Cleaned, settings: NormalizeSettings) -> _Plan:
    indices = cleaned.indices
    codes = np.full(len(cleaned.ids), DROPPED, np.int8)
    cut, method, note = None, settings.split, ""
    if settings.split == "fraction" and len(indices) == 1:
        method, note = (
            "consecutive",
            "one document: its first part trains, the next validates, the last tests",
        )
        cut = (settings.valid_fraction, settings.test_fraction)
        codes[indices] = 0
    else:
        found = _split([cleaned.ids[index] for index in indices], indices, cleaned, settings)
        note = "fewer than five documents: none validates" if method == "validation_book" else ""
        note = "" if "valid" in found else note
        number = {name: code for code, name in enumerate(SPLITS)}
        codes[indices] = np.fromiter((number[name] for name in found), np.int8, len(found))
    placed, documents = [], []
    for part, start, end in zip(cleaned.parts, cleaned.bounds, cleaned.bounds[1:], strict=False):
        if kept := int(cleaned.kept[start:end].sum()):
            placed.append(Placed(part.path, codes[start:end].tobytes(), cut))
            documents.append(kept)
    first = {
        name: [cleaned.ids[i] for i in np.flatnonzero(codes == code)[:MOST_NAMED]]
        for code, name in enumerate(SPLITS)
    }
    return _Plan(placed, documents, first, method, note)


def _split(
    ids: list[str], indices: npt.NDArray[np.int64], cleaned: _Cleaned, settings: NormalizeSettings
) -> list[str]:
    if settings.split == "documents":
        return splitting.by_name(ids, names(settings.valid_documents), names(settings.test_documents))
    if settings.split == "validation_book":
        return splitting.by_validation_book(ids, [cleaned.characters[index] for index in indices])
    return splitting.by_fraction(ids, settings.valid_fraction, settings.test_fraction, settings.seed)


# --- the reduce: the vocabulary; the second map: tokens


def _train_tokenizer(plan: _Plan, settings: NormalizeSettings, work: WorkFolder) -> Tokenizer:
    of_all = settings.vocabulary == "all"
    kind, options = TOKENIZERS[settings.tokenizer], _options(settings)
    if settings.tokenizer == "char" and settings.alphabet != "text":
        return kind.train((), **options)
    counted = counting(settings.tokenizer)
    if counted is None:
        with Progress("learning the tokens", sum(plan.documents), unit="documents") as progress:
            return kind.train(_counted(texts_to_learn(plan.placed, of_all), progress), **options)
    jobs = [_count_job(placed, settings, work) for placed in plan.placed]
    work.make("counted", jobs, plan.documents)
    counts: Counter[str] = Counter()
    for job in jobs:
        counts.update(job.counts())
    return counted.of_counts(counts, **options)


def _count_job(placed: Placed, settings: NormalizeSettings, work: WorkFolder) -> CountJob:
    of_all = settings.vocabulary == "all"
    unit = work.unit("counts", tokenizer=settings.tokenizer, all=of_all, **placed.depends)
    return CountJob(placed, unit, settings.tokenizer, of_all)


def _options(settings: NormalizeSettings) -> dict[str, Any]:
    return {
        "alphabet": settings.alphabet,
        "minimum_count": settings.minimum_count,
        "vocabulary_size": settings.vocabulary_size,
        "special_tokens": "id" if settings.special_tokens == "auto" else settings.special_tokens,
    }


def _counted(texts: Iterable[str], progress: Progress) -> Iterator[str]:
    for text in texts:
        yield text
        progress.advance()


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
    frequencies: dict[str, npt.NDArray[np.int64]]  # of each token, [vocabulary]
    unknown: Counter[str]  # pieces of text that are not in the vocabulary


def _encode(
    plan: _Plan, tokenizer: Tokenizer, settings: NormalizeSettings, folder: Path, work: WorkFolder
) -> _Encoded:
    dtype = token_dtype(tokenizer.size)
    by, jobs = digest(folder / "tokenizer"), []
    for placed in plan.placed:
        unit = work.unit("tokens", tokenizer=by, **placed.depends)
        counted = _count_job(placed, settings, work).target
        jobs.append(
            EncodeJob(
                placed, unit, folder / "tokenizer", by, dtype.name, counted if counted.exists() else None
            )
        )
    # Units that are not kept give their room back as soon as they can; those that two equal shards share, at the end.
    of = Counter(job.target for job in jobs)
    passing = {target for target, times in of.items() if times == 1 and not settings.keep_work}
    work.make("encoded", jobs, plan.documents, lambda job: (job.counted,) if job.target in passing else ())
    unknown: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder / split, dtype)) for split in SPLITS}
        for job in jobs:
            unknown.update(job.append_to(writers))
            if job.target in passing:
                work.drop(job.target, job.counted)
    counts = {split: writer.counts for split, writer in writers.items()}
    frequencies = {
        split: _frequencies(folder / split / "tokens.bin", dtype, tokenizer.size) for split in SPLITS
    }
    return _Encoded(dtype.name, counts, frequencies, unknown)


def _frequencies(tokens: Path, dtype: np.dtype[Any], size: int) -> npt.NDArray[np.int64]:
    """How often each id stands in a file of them, [vocabulary]."""
    found = np.zeros(size, np.int64)
    with open(tokens, "rb") as file:
        while len(ids := np.fromfile(file, dtype, 1 << 20)):
            found += np.bincount(ids, minlength=size)
    return found


# --- report


def _report(
    cleaned: _Cleaned, plan: _Plan, tokenizer: Tokenizer, encoded: _Encoded, vocabulary_from: str
) -> dict[str, Any]:
    def per_split(what: str) -> dict[str, int]:
        return {split: encoded.counts[split][what] for split in SPLITS}

    def named(split: str) -> list[str]:
        if plan.method == "consecutive":
            return plan.first["train"] if encoded.counts[split]["documents"] else []
        return plan.first[split]

    most = sorted(encoded.unknown.items(), key=lambda item: (-item[1], item[0]))[:MOST_UNKNOWN]
    rates = {split: unknown_rate(encoded.frequencies[split], tokenizer.unknown) for split in SPLITS}
    scored = {
        split: unigram(encoded.frequencies["train"], encoded.frequencies[split])
        for split in ("valid", "test")
    }
    return {
        "documents": {"read": len(cleaned.ids), "kept": len(cleaned.indices), **per_split("documents")},
        "characters": per_split("characters"),
        "tokens": per_split("tokens"),
        "rules": merged_rules(Part(part.path) for part in cleaned.parts),
        "dropped_counts": dict(cleaned.dropped_counts),
        "dropped": cleaned.dropped,
        "duplicates": {
            "exact": cleaned.dropped_counts["exact duplicate"],
            "near": cleaned.dropped_counts["near duplicate"],
            "examples": cleaned.duplicates,
        },
        "split": {"method": plan.method, "note": plan.note, "valid": named("valid"), "test": named("test")},
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
    corpus_digest: str,
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
    parents = {"corpus": corpus_digest}
    if base is not None and (made := manifest.digest_of(base)):
        parents["base"] = made
    manifest.write(
        folder,
        "dataset",
        settings=settings.content,
        parents=parents,
        details=details,
        packages=(
            *("ftfy", "numpy", "rensa", "zstandard"),
            *(["tiktoken"] if tokenizer.name == "bpe" else []),
            *(package for rule in rules for package in rule.packages),
        ),
    )
