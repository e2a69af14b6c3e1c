"""One shard of a corpus, cleaned: the rules applied to each document, and what the reduce must know of it.

A rule that must see the whole corpus first (a survey, as boilerplate does) cuts the rules into legs: a leg cleans each
shard by its rules and counts for the survey that begins the next one. What a leg leaves of a shard is a part:

    texts        the documents that are kept, UTF-8 one after the other, a zstd frame
    documents    a line for each document, kept or not (Row)
    signatures   [kept, 128] uint32, of the last leg where near duplicates are looked for
    survey       what this shard adds to the next leg's survey, pickled
    (summary)    what each rule did, as in the dataset's report.json

Parts depend on their shard, the rules and the code alone, so they are kept (work_folder.py). Memory: one document at a
time.
"""

from __future__ import annotations

import io
import itertools
import json
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import zstandard

from textmill import workers
from textmill.corpora.corpus import read_shard
from textmill.datasets.duplicates import content_key, signature
from textmill.datasets.sections import LEVEL, Sections, SectionsWriter
from textmill.errors import FolderError
from textmill.rules import Outcome, Rule, Survey, find_rules

MOST_EXAMPLES = 5  # examples of each rule in the report
SNIPPET = 120  # characters of an example, each side

SECTIONS = ("texts", "documents", "signatures", "survey")


class Row(NamedTuple):
    """What a part says of one document: `key` tells its text from others; `reason` why it was dropped, or ""."""

    id: str
    title: str
    characters: int
    size: int  # bytes in `texts`
    key: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Leg:
    """A run of rules that needs no more of the corpus than `learnt`: a file, what the first of the rules was taught.

    rules: as they are written in the settings. survey: the rule that comes next and must see the corpus, or "".
    near: make signatures, in the last leg.
    """

    rules: tuple[str, ...]
    learnt: Path | None = None
    survey: str = ""
    near: bool = False

    @property
    def last(self) -> bool:
        return not self.survey


def legs(rules: Sequence[str], near: bool) -> list[Leg]:
    """The rules, cut before each that must see the corpus first."""
    found = find_rules(rules)
    cuts = [0, *(i for i, rule in enumerate(found) if rule.survey is not None), len(rules)]
    made = []
    for number, (start, end) in enumerate(itertools.pairwise(cuts), start=1):
        last = number == len(cuts) - 1
        made.append(Leg(tuple(rules[start:end]), None, "" if last else rules[end], near and last))
    return made


@dataclass(frozen=True)
class CleanJob:
    """Make the part `target` of a corpus's shard, or of the part that the leg before made of it."""

    source: Path
    target: Path
    leg: Leg

    def run(self) -> None:
        with SectionsWriter(self.target, SECTIONS) as writer:
            writer.summary = _clean(self._documents(), self.leg, writer.sections)
            writer.summary["rules"] = self._earlier_rules() + writer.summary["rules"]

    @property
    def _begins(self) -> bool:
        return self.source.suffix == ".zst"

    def _documents(self) -> Iterator[tuple[Row, str]]:
        if not self._begins:
            yield from Part(self.source).documents()
            return
        for document in read_shard(self.source):
            title = str(document.meta.get("title") or document.id.rpartition("/")[2])
            yield Row(document.id, title, len(document.text), 0, ""), document.text

    def _earlier_rules(self) -> list[dict[str, Any]]:
        return [] if self._begins else Part(self.source).summary["rules"]


class Part(Sections):
    """A part, opened."""

    def rows(self) -> Iterator[Row]:
        """Every document, also those that were dropped."""
        with self.unpacked("documents") as lines:
            for line in lines:
                yield Row(*json.loads(line.decode("utf-8", "surrogatepass")))

    def documents(self) -> Iterator[tuple[Row, str]]:
        """Every document and its text ("" of those that were dropped), one in memory at a time."""
        with self.unpacked("texts") as stream:
            for row in self.rows():
                data = stream.read(row.size)
                if len(data) != row.size:
                    raise FolderError(
                        f"{self.path} is damaged: a text is cut short; remove it and start again."
                    )
                yield row, data.decode("utf-8", "surrogatepass")

    def survey(self, kind: type[Survey]) -> Survey:
        """What this shard adds to the survey of that kind. Raises FolderError for anything else than one."""
        try:
            found = _SurveyReader(io.BytesIO(self.read("survey")), kind.__module__).load()
        except (pickle.UnpicklingError, AttributeError, EOFError, IndexError, TypeError, ValueError) as error:
            raise FolderError(
                f"{self.path} holds no survey of {kind.__name__}; remove it and start again."
            ) from error
        if not isinstance(found, kind):
            raise FolderError(f"{self.path} holds no survey of {kind.__name__}; remove it and start again.")
        return found


class _SurveyReader(pickle.Unpickler):
    """Makes objects of one module's own classes, and Counters. Parts come to the reduce through an object store, and an
    ordinary pickle of someone else's could run any program."""

    def __init__(self, file: IO[bytes], module: str) -> None:
        super().__init__(file)
        self._module = module

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "Counter"):
            return Counter
        found = vars(sys.modules[self._module]).get(name) if module == self._module else None
        if not isinstance(found, type) or found.__module__ != module:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a survey")
        return found


def merged_rules(parts: Iterable[Sections]) -> list[dict[str, Any]]:
    """What the rules did to all the parts, which come in their order."""
    rules: list[dict[str, Any]] = []
    for part in parts:
        of_part = part.summary["rules"]
        if not rules:
            rules = [{**rule, "counts": Counter(rule["counts"])} for rule in of_part]
            continue
        for rule, more in zip(rules, of_part, strict=True):
            for name in ("documents_changed", "documents_dropped", "changes"):
                rule[name] += more[name]
            rule["counts"].update(more["counts"])
            rule["examples"] = (rule["examples"] + more["examples"])[:MOST_EXAMPLES]
    return [{**rule, "counts": dict(rule["counts"])} for rule in rules]


def teach(rule: str, parts: Iterable[Part]) -> bytes:
    """What a surveying rule learns from the shards' parts, which come in their order: a pickle for `Leg.learnt`."""
    make = find_rules([rule])[0].survey
    assert make is not None
    survey = make()
    for part in parts:
        survey.merge(part.survey(type(survey)))
    return pickle.dumps(survey.learnt())


def _clean(documents: Iterator[tuple[Row, str]], leg: Leg, sections: dict[str, IO[bytes]]) -> dict[str, Any]:
    counts = [_RuleCount(rule) for rule in _rules(leg)]
    survey = _survey(leg)
    rows = 0
    frames = {
        n: zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj() for n in SECTIONS[:2]
    }
    for row, text in documents:
        if not row.reason:
            row, data = _clean_one(row, text, counts, leg, survey, sections["signatures"])
            sections["texts"].write(frames["texts"].compress(data))
        sections["documents"].write(frames["documents"].compress(_line(row)))
        rows += 1
        workers.advance()
    for name, frame in frames.items():
        sections[name].write(frame.flush())
    if survey is not None:
        sections["survey"].write(pickle.dumps(survey))
    return {"rows": rows, "rules": [count.as_dict() for count in counts]}


def _clean_one(
    row: Row, text: str, counts: list[_RuleCount], leg: Leg, survey: Survey | None, signatures: IO[bytes]
) -> tuple[Row, bytes]:
    outcome = Outcome(text, 0)
    for rule in counts:
        outcome = rule.apply(row.id, outcome.text)
        if outcome.drop:
            break
    text = outcome.text
    reason = outcome.drop or ("empty" if leg.last and not text.strip() else "")
    if reason:
        return row._replace(characters=len(text), size=0, reason=reason, detail=outcome.detail), b""
    if survey is not None and text:
        survey.add(text)
    data = text.encode("utf-8", "surrogatepass")
    key = ""
    if leg.last:
        key = content_key(data).hex()
        if leg.near:
            signatures.write(signature(text).tobytes())
    return row._replace(characters=len(text), size=len(data), key=key), data


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def _survey(leg: Leg) -> Survey | None:
    make = find_rules([leg.survey])[0].survey if leg.survey else None
    return make() if make else None


@lru_cache(maxsize=2)
def _rules(leg: Leg) -> tuple[Rule, ...]:
    rules = find_rules(leg.rules)
    if leg.learnt is not None:
        apply: Callable[[str], Outcome] = pickle.loads(leg.learnt.read_bytes())
        rules[0] = replace(rules[0], apply=apply)
    return tuple(rules)


@dataclass
class _RuleCount:
    """What one rule did to a shard."""

    rule: Rule
    documents_changed: int = 0
    documents_dropped: int = 0
    changes: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def apply(self, name: str, text: str) -> Outcome:
        outcome = self.rule.apply(text)
        self.documents_dropped += bool(outcome.drop)
        if outcome.counts:
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


def _snippets(before: str, after: str) -> tuple[str, str]:
    """Both texts where they first differ, from shortly before that place."""
    shorter = min(len(before), len(after))
    same = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    start = max(before.rfind("\n", 0, same) + 1, same - SNIPPET // 2)
    return before[start : start + SNIPPET], after[start : start + SNIPPET]
