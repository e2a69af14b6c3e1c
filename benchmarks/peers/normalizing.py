"""One side of benchmarks/normalizing.py: a corpus cleaned, its near duplicates dropped, its words counted; again and
again. `textmill` makes the whole dataset (split, vocabulary, tokens); `datatrove` the cleaned text and a count.

    python -m benchmarks.peers.normalizing textmill|datatrove|datatrove-split CORPUS [--cold]

datatrove-split takes words apart at blanks, as Textmill does, in the place of datatrove's tokenizer (spaCy).
Datatrove's interpreter has no textmill: only the standard library and benchmarks.common are imported here.
"""

from __future__ import annotations

import contextlib
import io
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import serve

MOST_MEMORY = 8 << 30  # a side that takes more fails alone, and not the machine

# Textmill's rule `whitespace`, as a formatter.
STEPS = (
    (re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]"), "\n"),
    (re.compile("[\u200b\u2060\ufeff\u00ad]"), ""),
    (re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]"), " "),
    (re.compile(r"[ \t]+(?=\n|\Z)"), ""),
    (re.compile(r" (?<=[^ \t\n] ) +(?=[^ \t\n])"), " "),
    (re.compile(r"\n\n\n+"), "\n\n"),
)


def textmill(corpus: Path) -> Callable[[Path], int]:
    """The whole of normalize, in one process."""
    from textmill.datasets.dataset import read_dataset
    from textmill.normalize import NormalizeSettings, normalize

    settings = NormalizeSettings.of(tokenizer="word", processes=1, keep_work=False)

    def once(folder: Path) -> int:
        normalize(corpus, folder / "dataset", settings)
        report = read_dataset(folder / "dataset").report
        return report["documents"]["kept"]

    return once


def datatrove(corpus: Path, split: bool) -> Callable[[Path], int]:
    """Reader, formatters and signatures; buckets; clusters; filter, count, writer: as in its MinHash example."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.base import PipelineStep
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.formatters import FTFYFormatter
    from datatrove.pipeline.formatters.base import BaseFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    class Whitespace(BaseFormatter):
        name = "whitespace"

        def format(self, text: str) -> str:
            for pattern, replacement in STEPS:
                text = pattern.sub(replacement, text)
            return text.strip("\n") + "\n"

    class CountWords(PipelineStep):
        type, name = "count", "words"
        kept = 0

        def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
            for document in data:
                document.metadata["token_count"] = len(document.text.split())
                CountWords.kept += 1
                yield document

    class Split:
        @staticmethod
        def word_tokenize(text: str) -> list[str]:
            return text.split()

    def once(folder: Path) -> int:
        config = MinhashConfig(num_buckets=16, hashes_per_bucket=8)
        signing = MinhashDedupSignature(output_folder=str(folder / "signatures"), config=config)
        if split:
            signing.word_tokenizer = Split()
        reader = JsonlReader(str(corpus / "shards"), compression="zstd", glob_pattern="*.jsonl.zst")
        cleaned = str(folder / "cleaned")
        writing = JsonlWriter(cleaned, output_filename="${rank}.jsonl.zst", compression="zstd")
        formatters = [
            FTFYFormatter(
                uncurl_quotes=True, fix_latin_ligatures=True, fix_character_width=True, normalization="NFC"
            ),
            Whitespace(),
        ]
        finding = MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config)
        joining = MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"), config=config)
        kept = JsonlWriter(str(folder / "out"), output_filename="${rank}.jsonl.zst", compression="zstd")
        again = JsonlReader(cleaned, compression="zstd", glob_pattern="*.jsonl.zst")
        dropping = MinhashDedupFilter(str(folder / "remove"))
        for number, (steps, tasks) in enumerate(
            [
                ([reader, *formatters, writing, signing], 1),
                ([finding], config.num_buckets),
                ([joining], 1),
                ([again, dropping, CountWords(), kept], 1),
            ]
        ):
            LocalPipelineExecutor(
                steps, tasks=tasks, workers=1, logging_dir=str(folder / f"log{number}"), skip_completed=False
            ).run()
        found, CountWords.kept = CountWords.kept, 0
        return found

    return once


def main() -> None:
    name, corpus = sys.argv[1], Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    once = textmill(corpus) if name == "textmill" else datatrove(corpus, split=name.endswith("split"))
    size = int((corpus / "size").read_text())
    about: dict[str, int] = {}

    def work() -> int:
        folder = Path(tempfile.mkdtemp(prefix="normalizing-"))
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # datatrove says a lot
                about["documents kept"] = once(folder)
        finally:
            shutil.rmtree(folder)
        return size

    serve(work, about, warm_up=0 if "--cold" in sys.argv else 1)


if __name__ == "__main__":
    main()
