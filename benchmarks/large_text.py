"""A corpus of any size out of a folder of texts: their lines, drawn at random, with variations. For measuring only.

    python -m benchmarks.large_text OUT --texts FOLDER --megabytes 1000 --shard 64 --processes 2

Documents are of 1 to 16 kB. Of 100, two are copies of the one before, two are nearly copies, ten have what rules
repair: broken encodings, curly quotes, odd and doubled spaces, addresses of mail and pages. Every tenth line has a
number put into it, so documents share few word 5-grams unless they are copies. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from textmill import manifest
from textmill.corpora.corpus import Document, ShardWriter
from textmill.workers import run_in_processes

DIRT = (
    "\u201cquoted\u201d \u2018words\u2019 \u2014 and\u00a0so on",
    "Ã©tÃ© Ã  la mode",
    "two  spaces   and a tab\t ",
    "&quot;entities&quot; &amp; more",
    "write to ann.miller@example.org or call 020 7946 0958",
    "see https://example.org/plays?act=1 @moll #mill",
)
NOTICE = "This text may be copied and given to others."


def documents(lines: list[str], number: int, size: int) -> Iterator[Document]:
    """The documents of one shard, until they hold `size` characters."""
    rng = random.Random(number)
    written, index, before = 0, 0, ""
    while written < size:
        chance = rng.random()
        if chance < 0.02 and before:
            text = before
        elif chance < 0.04 and before:
            text = before.replace("\n", f" {rng.randrange(10**6)}\n", 1)
        else:
            text = _text(rng, lines, dirty=chance < 0.14)
        yield Document(f"{number:05}.jsonl#{index}", text, f"large:{number}", {"title": f"Text {index}"})
        written, index, before = written + len(text), index + 1, text


def _text(rng: random.Random, lines: list[str], dirty: bool) -> str:
    chosen = rng.choices(lines, k=rng.randrange(20, 350))
    for place in range(0, len(chosen), 10):
        chosen[place] = f"{chosen[place]} {rng.randrange(1000)}"
    if dirty:
        for dirt in DIRT:
            chosen[rng.randrange(len(chosen))] += f" {dirt}"
    if rng.random() < 0.5:
        chosen.append(NOTICE)
    return "\n".join(chosen) + "\n"


def lines_of(folder: Path) -> list[str]:
    """The lines of a folder's texts, without those that are empty."""
    found = [
        line.strip()
        for path in sorted(folder.rglob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    if not found:
        sys.exit(f"large_text: {folder} holds no .txt files with text.")
    return found


def write_shard(job: tuple[str, str, int, int]) -> dict[str, object]:
    """Write one shard; its entry in the manifest."""
    out, texts, number, size = job
    with ShardWriter(Path(out)) as writer:
        for document in documents(lines_of(Path(texts)), number, size):
            writer.add(document)
    made = writer.shard
    return {
        "item": f"{number:05}.jsonl",
        "shard": made.name,
        "documents": made.documents,
        "characters": made.characters,
        "file": {"size": made.size, "sha256": made.sha256},
    }


def make(out: Path, texts: Path, megabytes: float, shard: float, processes: int = 1) -> int:
    """Write the corpus; return its characters."""
    count = max(1, round(megabytes / shard))
    jobs = [(str(out), str(texts), number, round(megabytes * 1e6 / count)) for number in range(count)]
    entries = dict(run_in_processes(write_shard, jobs, processes, lambda n: None))
    items = [entries[index] for index in range(count)]
    files = {item["shard"]: item.pop("file") for item in items}
    manifest.write(out, "corpus", details={"items": items, "skipped": []}, files=files, known=files)
    return sum(item["characters"] for item in items)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--shard", type=float, default=64)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    characters = make(given.out, given.texts, given.megabytes, given.shard, given.processes)
    print(f"{characters:,} characters in {given.out}")


if __name__ == "__main__":
    main()
