"""source -> corpus: read every item once, keep the shards of those that did not change, and say what was left out.

An ingest can be stopped at any moment: shards are named by content and written beside the old ones, a hidden journal
remembers which items are done, and only the new manifest, swapped in at the end, makes them the corpus. Shards that
it does not name are removed after that. Knows nothing of addresses (sources/) or kinds of text (sources/texts.py).
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import hashlib
import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec.utils import glob_translate

from textmill import manifest
from textmill.corpora.corpus import SHARDS, WORK, Document, ShardWriter
from textmill.corpora.journal import Journal, Kept, read_previous
from textmill.errors import InputError, Interrupted, MachineError, SettingsError
from textmill.files import sync_file, sync_folder, writing_failed
from textmill.progress import Progress
from textmill.settings import Settings, setting
from textmill.sources import BadItem, Item, Source, Unreachable, chunks_of, open_source, too_large
from textmill.sources.archive import BadArchive, archive_suffix, members
from textmill.sources.earlier import bring
from textmill.sources.texts import READERS, Reading, TextKind, read_documents, text_kind

log = logging.getLogger("textmill.ingest")

READER = 2  # raise it when the same bytes and settings give other documents: every item is then read again
LINES_REPORTED = 10  # bad lines of one file that are reported one by one; the others are counted
NO_TEXT = "no text in it"
ITEMS_SHOWN = 20  # items named in the log; the manifest has them all


@dataclass(frozen=True)
class IngestSettings(Settings):
    """What is read, and how."""

    pattern: str = setting(
        "",
        "Which files of a folder, archive or bucket: a glob such as 'plays/**/*.txt'; without a slash it is the "
        "file's name. Empty: every .txt, .csv and .jsonl, compressed or not.",
    )
    text_field: str = setting("text", "The column of a .csv, and the field of a .jsonl, that holds the text.")
    csv_header: str = setting(
        "auto",
        "Does a .csv of one column begin with a header? auto: yes when that is text_field or a single word.",
        choices=("auto", "yes", "no"),
    )
    fallback_encoding: str = setting(
        "cp1252", "The encoding of files that are not UTF-8; empty: there is none, and they are bad files."
    )
    strict: bool = setting(False, "Stop at the first bad file or line; otherwise it is reported and skipped.")
    max_bytes: int = setting(
        4 << 30, "The most bytes that one file, or one archive as a whole, may unpack to.", minimum=1
    )

    def check(self) -> None:
        if not self.text_field:
            raise SettingsError(
                "setting 'text_field' is empty; name the column or field that holds the text."
            )
        if self.fallback_encoding:
            _check_encoding(self.fallback_encoding)


def _check_encoding(name: str) -> None:
    try:
        known = codecs.lookup(name)._is_text_encoding
    except LookupError:
        known = False
    if not known:
        hint = "Python knows no such encoding; try cp1252, latin-1 or mac-roman"
        raise SettingsError(f"setting 'fallback_encoding' is {name!r}: {hint}.")


def ingest(
    source: str, corpus: Path, settings: IngestSettings = IngestSettings(), earlier: str = ""
) -> dict[str, Any]:
    """Read a source into the corpus folder, in place: only what is new or changed since the last time is read again.

    source: a file, folder, glob, archive, http(s)://, s3://, gs:// address, sample:NAME, or what crawl:, mediawiki:
        and feeds: collect by a description: a YAML file, an address, or the YAML text itself (sources/described.py).
    earlier: where the corpus of an earlier run lies, to go on from, while the folder holds none
        (textmill/sources/earlier.py).
    Returns {items, documents, characters, unchanged, new, changed, gone, skipped}, all counts; `skipped` counts the
    reports on files and lines left out, which the manifest lists with their reasons.
    Raises InputError when there is nothing to read, and under `strict` at the first bad file; the old corpus stays.
    """
    settings.check()
    corpus, began = Path(corpus), time.monotonic()
    opened = open_source(source, max_bytes=settings.max_bytes, ignore=corpus)
    with _only_writer(corpus):
        if earlier:
            bring(earlier, corpus)
        work = _Ingest(corpus, settings, opened)
        try:
            with Progress("ingest", unit="items") as progress:
                opened.tick = work.tick = lambda note: progress.advance(0, note)
                items = _listed(opened.label, opened.items)
                progress.expect(len(items))
                for item in items:
                    work.take(item)
                    progress.advance(1, item.name)
        except KeyboardInterrupt:
            done = len(work.entries)
            raise Interrupted(
                f"stopped; {done:,} items are read. The same command goes on from there."
            ) from None
        opened.taken()
        work.keep_unlisted()
        if not work.entries:
            raise InputError(_nothing_found(opened.label, items, work.skipped, settings.pattern))
        summary = work.finish()
        opened.finished()
    log.info("%s, in %.1f s", _in_words(summary), time.monotonic() - began)
    return summary


@dataclass(frozen=True)
class Plan:
    """What an ingest would do: {item, source, what} for each item by name, and lines on the whole.

    what: "new", "changed", "unchanged", "stays", "gone", "to be compared" (only its bytes tell), "asked for if a page
    leads to it", or why it is left out.
    """

    items: list[dict[str, str]]
    notes: list[str]


def plan(source: str, corpus: Path, settings: IngestSettings = IngestSettings(), earlier: str = "") -> Plan:
    """What `ingest` would do. Lists, feeds and robots.txt are fetched, but no text, and nothing is written.

    Raises InputError as `ingest` does.
    """
    settings.check()
    corpus = Path(corpus)
    opened = open_source(source, max_bytes=settings.max_bytes, ignore=corpus)
    with tempfile.TemporaryDirectory(prefix="textmill-") as scratch:
        if earlier and not (corpus / manifest.NAME).exists() and bring(earlier, Path(scratch)):
            corpus = Path(scratch)
        return _plan(opened, corpus, settings)


def _plan(opened: Source, corpus: Path, settings: IngestSettings) -> Plan:
    work = _Ingest(corpus, settings, opened)
    items = _listed(opened.label, opened.preview)
    if not items:
        raise InputError(_nothing_found(opened.label, items, [], settings.pattern))
    rows = [{"item": item.name, "source": item.source, "what": work.foreseen(item)} for item in items]
    unlisted = work.previous.items.keys() - {item.name for item in items}
    for name in unlisted:
        entry = work.previous.items[name].entry
        what = "stays" if opened.stays(name) else "gone"
        if not opened.lists_all:
            what = "asked for if a page leads to it"
        if "archive" not in entry:
            rows.append({"item": name, "source": entry["source"], "what": what})
    return Plan(sorted((row for row in rows if row["what"]), key=lambda row: row["item"]), opened.notes)


def _listed(label: str, list_items: Callable[[], list[Item]]) -> list[Item]:
    """The items by name. What goes wrong with the listing concerns all of them, and ends the stage."""
    try:
        return sorted(list_items(), key=lambda item: item.name)
    except Unreachable as error:
        raise MachineError(f"{label}: {error.reason}; try again later.") from None
    except BadItem as error:
        raise InputError(f"{label}: {error.reason}.") from None


@contextlib.contextmanager
def _only_writer(corpus: Path) -> Iterator[None]:
    """Hold the folder against a second ingest; leave no empty folder behind when nothing came of it."""
    try:
        corpus.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(corpus, os.O_RDONLY)
    except OSError as error:
        raise writing_failed(corpus, error) from error
    try:
        _lock(corpus, descriptor)
        yield
    finally:
        os.close(descriptor)
        for folder in (corpus / SHARDS, corpus / WORK, corpus):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _lock(corpus: Path, descriptor: int) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another ingest is writing {corpus}; wait for it or choose another folder."
        ) from None
    except OSError:
        log.debug("%s cannot be locked on its file system", corpus)


class _Ingest:
    """One run: takes items one by one, then makes them the corpus."""

    def __init__(self, corpus: Path, settings: IngestSettings, source: Source) -> None:
        self.corpus, self.settings, self.source = corpus, settings, source
        source.work, source.unchanged = corpus / WORK, self._will_not_open
        self.previous = read_previous(corpus)
        self.entries: dict[str, dict[str, Any]] = {}
        self.archives: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.tick: Callable[[str], None] = lambda note: None
        self._refused: set[str] = set()  # items that are listed, but can no longer be used
        self._wanted = _matcher(settings.pattern)
        self._any_suffix = bool(PurePosixPath(settings.pattern).suffix)
        self._reading = Reading(
            settings.text_field, settings.csv_header, settings.fallback_encoding, settings.max_bytes
        )
        # What a shard depends on besides its item's bytes; the other settings decide which items are read.
        depends = {k: v for k, v in dataclasses.asdict(self._reading).items() if k != "max_bytes"}
        before = {name: self.previous.settings.get(name) for name in depends}
        self._keep = before == depends and self.previous.reader == READER
        self._journal = Journal(corpus, depends | {"reader": READER})
        if self._journal.done:
            log.info("going on with an ingest that was stopped: %d items are read", len(self._journal.done))

    def take(self, item: Item) -> None:
        """Read, keep or skip one item of the source."""
        try:
            if (suffix := archive_suffix(item.name)) and not item.kind:
                self._take_archive(item, suffix)
            else:
                self._take_text(item)
        except Unreachable as error:
            self._skip(item.name, error)
            self._keep_as_before(item.name)
        except BadItem as error:
            self._skip(item.name, error, item.stamp)
        except (FileNotFoundError, PermissionError) as error:
            self._skip(item.name, BadItem(f"cannot be opened ({error.strerror})"))
        except OSError as error:
            raise MachineError(f"cannot read {item.name}: {error.strerror or error}.") from error

    def _take_text(self, item: Item, archive: str = "") -> None:
        if not item.alone and not self._wanted(item.name):
            return
        if item.problem:
            raise (Unreachable if item.passing else BadItem)(item.problem)
        kind = self._kind_of(item)
        if kind is None:
            self.skipped.append({"item": item.name, "reason": _unknown_kind(item.name)})
            return
        if item.name in self.entries:
            self._skip(item.name, BadItem("its name comes twice, and the last one counts"))
        if item.stamp and self._reuse(item, "stamp", item.stamp, archive):
            return
        if item.stamp and self._known_empty(item):
            raise _NoText(NO_TEXT)
        with item.open() as file:
            fingerprint = _fingerprint(file, self.settings.max_bytes)
            if not self._reuse(item, "fingerprint", fingerprint, archive):
                kept = self._read(file, kind, item, fingerprint)
                self._journal.add(kept)
                self._enter(kept, item, archive)

    def _kind_of(self, item: Item) -> TextKind | None:
        return text_kind(item.name, item.named or self._any_suffix, item.kind)

    def _will_not_open(self, item: Item) -> bool:
        places = [self._journal.done, self.previous.items] if self._keep else [self._journal.done]
        known = any(
            place[item.name].entry.get("stamp") == item.stamp for place in places if item.name in place
        )
        return bool(item.stamp and known) or self._known_empty(item) or not self._wanted(item.name)

    def _known_empty(self, item: Item) -> bool:
        """Was there no text in it the last time, and nothing changed since?"""
        known = {"item": item.name, "reason": NO_TEXT, "stamp": item.stamp}
        return self._keep and known in self.previous.skipped

    def keep_unlisted(self) -> None:
        """What a source no longer lists, and yet stays: old entries of a feed, pages behind one that did not answer."""
        for name in self.previous.items.keys() - self.entries.keys() - self._refused:
            if self._wanted(name) and self.source.stays(name):
                self._keep_as_before(name)

    def _keep_as_before(self, name: str) -> None:
        for place in (self._journal.done, self.previous.items):
            if name in place and name not in self.entries:
                kept = place[name]
                self.entries[name], self.files[kept.entry["shard"]] = kept.entry, kept.file
                self.skipped.extend(report for report in kept.reports if report not in self.skipped)

    def foreseen(self, item: Item) -> str:
        """What `take` would come to, as far as the listing tells; "" for what no one asked for."""
        if not item.alone and not item.kind and not archive_suffix(item.name) and not self._wanted(item.name):
            return ""
        if item.kind and not self._wanted(item.name):
            return ""
        if item.problem:
            return item.problem
        if item.stamp and self._known_empty(item):
            return NO_TEXT
        known: Kept | dict[str, Any] | None = self.previous.items.get(item.name)
        known = known.entry if isinstance(known, Kept) else self.previous.archives.get(item.name)
        if not known:
            packed = archive_suffix(item.name) and not item.kind
            return "new" if packed or self._kind_of(item) else _unknown_kind(item.name)
        if not item.stamp or "stamp" not in known:
            return "to be compared"
        same = self._keep and known["stamp"] == item.stamp and known["source"] == item.source
        return "unchanged" if same else "changed"

    def _reuse(self, item: Item, key: str, value: str, archive: str) -> bool:
        """Keep the shard of an item that did not change, with what was reported of it."""
        places = [self.previous.items] if self._keep else []
        for place in [*places, self._journal.done]:
            kept = place.get(item.name)
            if kept is None or kept.entry.get(key) != value or kept.entry.get("source") != item.source:
                continue
            if not (self.settings.strict and kept.reports):
                self._enter(kept, item, archive)
                return True
        return False

    def _read(self, file: IO[bytes], kind: TextKind, item: Item, fingerprint: str) -> Kept:
        """Write the shard of a new or changed item."""
        encoding, rows = read_documents(file, kind, item.name, item.source, self._reading)
        reports = _LineReports(item.name, self.settings.strict)
        with ShardWriter(self.corpus) as writer:
            for row in rows:
                self._add(writer, row, reports)
            if not writer.documents:
                raise reports.on_the_whole()
        if encoding == self.settings.fallback_encoding:
            log.info("%s is not UTF-8; it is read as %s", item.name, encoding)
        shard = writer.shard
        entry = {
            "item": item.name,
            "source": item.source,
            "fingerprint": fingerprint,
            "encoding": encoding,
            "shard": shard.name,
            "documents": shard.documents,
            "characters": shard.characters,
            "fetched": _now(),
        }
        entry |= {key: value for key, value in (("stamp", item.stamp), ("terms", item.terms)) if value}
        return Kept(entry, reports.listed(), {"size": shard.size, "sha256": shard.sha256})

    def _add(self, writer: ShardWriter, row: Document | BadItem, reports: _LineReports) -> None:
        if isinstance(row, BadItem):
            reports.add(row)
        elif not row.text.strip():
            reports.without_text += 1
        else:
            try:
                writer.add(row)
            except UnicodeEncodeError:  # "\ud83d" alone, as when a post was cut in the middle of an emoji
                reports.add(BadItem(f"document {row.id!r} holds half a character (a lone surrogate)"))
            if writer.documents % 10_000 == 0:
                self.tick(f"{writer.documents:,} documents of {reports.name}")

    def _enter(self, kept: Kept, item: Item, archive: str) -> None:
        entry = {k: v for k, v in kept.entry.items() if k not in ("stamp", "archive")}
        entry |= {"stamp": item.stamp} if item.stamp else {}
        entry |= {"archive": archive} if archive else {}
        self.entries[item.name] = entry
        self.files[entry["shard"]] = kept.file
        self.skipped.extend(kept.reports)

    def _take_archive(self, item: Item, suffix: str) -> None:
        if item.problem:
            raise BadItem(item.problem)
        if item.stamp and self._reuse_archive(item, "stamp", item.stamp):
            return
        with item.open() as file:
            fingerprint = _fingerprint(file, self.settings.max_bytes)
            if not self._reuse_archive(item, "fingerprint", fingerprint):
                self._read_members(item, suffix, file)
                self._enter_archive(item, fingerprint)

    def _reuse_archive(self, item: Item, key: str, value: str) -> bool:
        """An unchanged archive is not unpacked again: all that came from it stays. Here every setting counts."""
        old = self.previous.archives.get(item.name, {})
        same = self._keep and self.previous.settings == self.settings.as_dict()
        if not same or old.get(key) != value or old.get("source") != item.source:
            return False
        for name, kept in self.previous.items.items():
            if kept.entry.get("archive") == item.name:
                self.entries[name] = kept.entry
                self.files[kept.entry["shard"]] = kept.file
        prefix = _member_prefix(item)
        self.skipped += [report for report in self.previous.skipped if report["item"].startswith(prefix)]
        self._enter_archive(item, old["fingerprint"])
        return True

    def _read_members(self, item: Item, suffix: str, file: IO[bytes]) -> None:
        entries, skipped = dict(self.entries), list(self.skipped)
        try:
            for member in members(file, suffix, _member_prefix(item), item.source, self.settings.max_bytes):
                self.tick(member.name)
                if wanted := self.source.member(member):
                    self._take_member(wanted, item.name)
        except BadArchive:
            self.entries, self.skipped = entries, skipped
            raise

    def _take_member(self, member: Item, archive: str) -> None:
        try:
            self._take_text(member, archive)
        except BadArchive:
            raise
        except BadItem as error:
            self._skip(member.name, error)

    def _enter_archive(self, item: Item, fingerprint: str) -> None:
        entry = {"item": item.name, "source": item.source, "fingerprint": fingerprint}
        self.archives.append(entry | ({"stamp": item.stamp} if item.stamp else {}))

    def _skip(self, name: str, error: BadItem, stamp: str = "") -> None:
        if self.settings.strict and not isinstance(error, _NoText):
            raise InputError(f"{_shown(_report(name, error))} (strict; otherwise it is skipped).")
        if not isinstance(error, Unreachable):
            self._refused.add(name)
        empty = {"stamp": stamp} if stamp and isinstance(error, _NoText) else {}
        self.skipped.append(_report(name, error) | empty)

    def finish(self) -> dict[str, Any]:
        """Swap in the new manifest, then remove the shards that it does not name."""
        entries = [self.entries[name] for name in sorted(self.entries)]
        skipped = sorted(self.skipped, key=lambda report: (report["item"], report.get("line", 0)))
        _log_skipped(skipped)
        shards = {entry["shard"] for entry in entries}
        self._sync(shards)
        used = self.source.used()
        manifest.write(
            self.corpus,
            "corpus",
            settings=self.settings.as_dict(),
            details={
                "source": self.source.label,
                "reader": READER,
                "items": entries,
                "archives": sorted(self.archives, key=lambda entry: entry["item"]),
                "skipped": skipped,
            }
            | ({"collected": used} if used else {}),
            files=shards,
            known=self.files,
            packages=("zstandard",),
        )
        self._journal.remove()
        for path in (self.corpus / SHARDS).iterdir():
            if f"{SHARDS}/{path.name}" not in shards:
                path.unlink()
        return self._summary(entries, skipped)

    def _sync(self, shards: set[str]) -> None:
        """New shards must be on the disk before the manifest that names them."""
        old = {kept.entry["shard"] for kept in self.previous.items.values()}
        for shard in shards - old:
            sync_file(self.corpus / shard)
        sync_folder(self.corpus / SHARDS)

    def _summary(self, entries: list[dict[str, Any]], skipped: list[dict[str, Any]]) -> dict[str, Any]:
        old = {name: kept.entry["shard"] for name, kept in self.previous.items.items()}
        unchanged = sum(old.get(entry["item"]) == entry["shard"] for entry in entries)
        new = sum(entry["item"] not in old for entry in entries)
        return {
            "items": len(entries),
            "documents": sum(entry["documents"] for entry in entries),
            "characters": sum(entry["characters"] for entry in entries),
            "unchanged": unchanged,
            "new": new,
            "changed": len(entries) - unchanged - new,
            "gone": len(old.keys() - self.entries.keys()),
            "skipped": len(skipped),
        }


class _NoText(BadItem):
    """There is nothing to read in an item, but nothing is wrong with it."""


class _LineReports:
    """The bad lines of one file: the first few one by one, the rest as a count."""

    def __init__(self, name: str, strict: bool) -> None:
        self.name, self._strict = name, strict
        self.bad = self.without_text = 0
        self._first: list[BadItem] = []

    def add(self, error: BadItem) -> None:
        if self._strict:
            raise InputError(f"{_shown(_report(self.name, error))} (strict; otherwise the line is skipped).")
        self.bad += 1
        if len(self._first) < LINES_REPORTED:
            self._first.append(error)

    def listed(self) -> list[dict[str, Any]]:
        reports = [_report(self.name, error) for error in self._first]
        if more := self.bad - len(self._first):
            reports.append({"item": self.name, "reason": f"bad lines that are not listed: {more:,}"})
        if self.without_text:
            reports.append({"item": self.name, "reason": f"documents without text: {self.without_text:,}"})
        return reports

    def on_the_whole(self) -> BadItem:
        """Why nothing of the file could be used."""
        if not self._first:
            return _NoText(NO_TEXT)
        more = f" (and {self.bad - 1:,} more bad lines)" if self.bad > 1 else ""
        return BadItem(self._first[0].reason + more, self._first[0].line)


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Does a name match? A pattern without a slash is for the last part of the name, as in .gitignore."""
    if not pattern:
        return lambda name: True
    matches = re.compile(glob_translate(pattern.removeprefix("./"))).match
    if "/" in pattern:
        return lambda name: bool(matches(name))
    return lambda name: bool(matches(name.rpartition("/")[2]))


def _fingerprint(file: IO[bytes], max_bytes: int) -> str:
    """SHA-256 of the raw bytes, packed as they are."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks_of(file):
        digest.update(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
    file.seek(0)
    return digest.hexdigest()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _member_prefix(archive: Item) -> str:
    """An archive that is the whole source is like a folder; one among others gives its name to its members."""
    return "" if archive.alone else archive.name + "/"


def _unknown_kind(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return f"of unknown kind ({suffix or 'no suffix'})"


def _report(name: str, error: BadItem) -> dict[str, Any]:
    return {"item": name, "reason": error.reason} | ({"line": error.line} if error.line else {})


def _shown(report: dict[str, Any]) -> str:
    line = f", line {report['line']}" if "line" in report else ""
    return f"{report['item']}{line}: {report['reason']}"


def _log_skipped(skipped: list[dict[str, Any]]) -> None:
    """A line for each bad file, one line for all those of an unknown kind."""
    unknown = Counter(
        report["reason"] for report in skipped if report["reason"].startswith("of unknown kind")
    )
    bad = [report for report in skipped if report["reason"] not in unknown]
    for report in bad[:ITEMS_SHOWN]:
        log.warning("skipped %s", _shown(report))
    if len(bad) > ITEMS_SHOWN:
        log.warning("skipped %d more; they are in the manifest", len(bad) - ITEMS_SHOWN)
    for reason, count in unknown.most_common(ITEMS_SHOWN):
        log.info("left out %d files %s; a pattern can choose them", count, reason)


def _nothing_found(label: str, items: list[Item], skipped: list[dict[str, Any]], pattern: str) -> str:
    kinds = ", ".join(suffix for suffix in READERS if suffix[0] == ".")
    wanted = f" Wanted are {kinds}, or archives of them."
    if not items:
        return f"no text in {label}: it holds no files.{wanted}"
    if not skipped:
        what = (
            f"none of its files matches the pattern {pattern!r}" if pattern else "its archives hold no texts"
        )
        return f"no text in {label}: {what} ({len(items):,} found, the first is {items[0].name})."
    shown = "; ".join(_shown(report) for report in skipped[:3])
    if len(items) == 1 and items[0].alone:
        shown = shown.removeprefix(f"{items[0].name}: ").removeprefix(f"{items[0].name}, ")
    more = f"; and {len(skipped) - 3:,} more" if len(skipped) > 3 else ""
    return f"no text in {label}: {shown}{more}." + ("" if all(item.kind for item in items) else wanted)


def _in_words(summary: dict[str, Any]) -> str:
    told = "{unchanged:,} unchanged, {new:,} new, {changed:,} changed, {gone:,} gone"
    sizes = "{items:,} items, {documents:,} documents, {characters:,} characters, {skipped:,} skipped"
    return f"{told}: {sizes}".format(**summary)
