"""normalize: characters a second of one core, each rule's and the whole's, against datatrove doing the same steps.

    python -m benchmarks.normalizing --texts FOLDER [--megabytes 16] [--rounds 5] [--without-spacy] [--out report.json]

The corpus is made of the lines of texts (benchmarks/large_text.py), or of the embedded samples. The whole is
read, ftfy, white space, exact and near duplicates by MinHash, words counted, written. Bar: 1.5 x datatrove with words
taken apart at blanks, which is cheaper than its own tokenizer.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import ROOT, Report, Row, Side, measure, peer_python, rows
from benchmarks.large_text import make
from textmill.corpora.corpus import read_corpus
from textmill.datasets.duplicates import signature
from textmill.rules import find_rules, surveyed
from textmill.tokenizers import TOKENIZERS

BAR = 1.5
PEER = (
    "datatrove[io]==0.10.0",
    "ftfy==6.3.1",
    "spacy",
    "orjson",
    "xxhash<3.6",
    "zstandard",
    "regex",
    "tokenizers",
)
RULES = (
    "unicode_repair",
    "whitespace",
    "tweet_cleanup",
    "episode_cleanup",
    "script_markup",
    "mask_personal",
    "min_length",
    "max_length",
    "language",
    "boilerplate",
)


def rates_of_rules(corpus: Path, rounds: int) -> list[Row]:
    """Each rule, the signatures and the tokenizers, on 2 MB of documents, in alternation."""
    texts: list[str] = []
    for document in read_corpus(corpus).documents():
        texts.append(document.text)
        if sum(map(len, texts)) > 2e6:
            break
    size = sum(map(len, texts))
    work: dict[str, Callable[[str], object]] = {}
    for name in RULES:
        try:
            work[name] = surveyed(find_rules(name), lambda: texts)[0].apply
            work[name](texts[0])
        except Exception as error:  # a package that is not installed
            print(f"left out: {name}: {error}", file=sys.stderr)
    work["(near duplicates: signature)"] = signature
    for name, options in (("char", {}), ("word", {}), ("bpe", {"vocabulary_size": 1000})):
        work[f"(tokens: {name})"] = TOKENIZERS[name].train(texts, **options).encode
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _, (name, function) in itertools.product(range(rounds), work.items()):
        start = time.process_time()
        for text in texts:
            function(text)
        rates[name].append(size / (time.process_time() - start))
    base = rates["unicode_repair"]
    return [_row(name, found, base) for name, found in rates.items()]


def _row(name: str, found: list[float], base: list[float]) -> Row:
    ratio = statistics.median(mine / other for mine, other in zip(found, base, strict=True))
    return Row(name, statistics.median(found), min(found), max(found), ratio, ratio, ratio, 0, {})


def whole(corpus: Path, rounds: int, seconds: float, spacy: bool) -> list[Row]:
    """Textmill and datatrove, whole, a process each."""
    python = peer_python("datatrove", PEER)
    module = ["-m", "benchmarks.peers.normalizing"]
    sides = [Side("textmill", [sys.executable, *module, "textmill", str(corpus)])]
    for name in ("datatrove-split", "datatrove") if spacy else ("datatrove-split",):
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        sides.append(Side(name, [python, *module, name, str(corpus)], environment))
    return rows(measure(sides, rounds=rounds, seconds=seconds), "datatrove-split")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, default=ROOT / "samples")
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=0.1, help="of a window at least; a whole run is the least"
    )
    parser.add_argument("--rules-only", action="store_true", help="without datatrove")
    parser.add_argument(
        "--without-spacy", action="store_true", help="without datatrove's own tokenizer, a slow one"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    report = Report("Normalizing, one core")
    met = True
    with tempfile.TemporaryDirectory(prefix="normalizing-") as folder:
        corpus = Path(folder) / "corpus"
        characters = make(corpus, given.texts, given.megabytes, shard=4)
        (corpus / "size").write_text(str(characters))
        report.table("Rules", "characters a second", rates_of_rules(corpus, given.rounds), "unicode_repair")
        if not given.rules_only:
            made = whole(corpus, given.rounds, given.seconds, spacy=not given.without_spacy)
            report.table("The whole", "characters a second", made, "datatrove-split")
            ours = next(row for row in made if row.name == "textmill")
            met = report.check("the whole, times datatrove with words split at blanks", ours.ratio, BAR)
    report.write(given.out)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
