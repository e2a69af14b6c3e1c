"""The stage checkpoint -> texts: prompts from a list or a file, new texts, and what of them was copied.

Knows the texts folder and its figures; knows nothing of how a text is made (generator.py).

    texts/manifest.json    kind "texts"; what they were made with
    texts/texts.jsonl      a text a line: prompt, completion and text apart, why it ended, tokens, seed, scores, copied
    texts/texts.txt        to read: a heading before each of several texts, or settings.delimiter after each
    texts/summary.json     the figures
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.errors import InputError
from textmill.files import new_folder, write_json
from textmill.progress import Progress
from textmill.tokenizers import Tokenizer
from textmill.writing.generator import Generator, Score, Text, sample_text
from textmill.writing.prompts import Prompt, read_prompts
from textmill.writing.settings import GenerateSettings

__all__ = ["GenerateSettings", "Generator", "Score", "Text", "generate", "sample_text", "score"]

log = logging.getLogger("textmill.generate")


def generate(
    checkpoint: Path,
    texts: Path,
    settings: GenerateSettings | None = None,
    prompts: Path | Sequence[str | Prompt] | None = None,
    dataset: Path | None = None,
) -> dict[str, Any]:
    """Write texts with a checkpoint's model into the folder `texts`; return the summary.

    `prompts`: a list, or a file (.txt: one a line; .jsonl: {"prompt": ...} a line, with settings of its own such as
    "length" and "seed" beside it); None takes the settings' prompt.
    `dataset`: where the model learned; with it, each text says what of it stands there word for word.
    Raises InputError and FolderError before anything is computed.
    """
    settings = settings or GenerateSettings()
    check_target(Path(texts))
    asked = read_prompts(prompts, settings.prompt)
    learned = _open_dataset(dataset)
    generator = Generator.open(Path(checkpoint), settings.precision)
    model = generator.model
    assert model is not None
    if learned and model.details.get("dataset", {}).get("digest") not in (None, learned.digest):
        log.warning(
            "%s is not the dataset that %s learned from; what was copied is sought there", dataset, checkpoint
        )
    unknown = warn_of_unknown(generator, asked)
    total = sum(own.number * own.length for own in (prompt.settings(settings) for prompt in asked))
    began = time.monotonic()
    with Progress("generate", total=total, unit=settings.length_unit) as progress:
        written = generator.generate(asked, settings, progress)
    seconds = time.monotonic() - began
    if learned is not None:
        written = _with_copied(written, learned, generator, settings)
    summary = summarize(written, unknown)
    parents = {"checkpoint": model.digest} | ({"dataset": learned.digest} if learned else {})
    save_texts(Path(texts), written, summary, settings, parents, {"engine": generator.decoder.describe()})
    speed = sum(text.tokens for text in written) / max(seconds, 1e-9)
    log.info(
        "%d texts in %.1f s, %.0f tokens/s (%s)", len(written), seconds, speed, generator.decoder.precision
    )
    return {**summary, "seconds": seconds, "tokens_per_second": speed}


def score(checkpoint: Path, texts: Sequence[str], precision: str = "float32") -> list[Score]:
    """How likely a checkpoint's model finds each of the texts. Raises InputError for a text without tokens."""
    generator = Generator.open(Path(checkpoint), precision)
    return [generator.score(text) for text in texts]


def check_target(folder: Path) -> None:
    """Refuse to replace a folder that holds anything else than texts."""
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / manifest.NAME).exists()
    ):
        raise InputError(f"{folder} is there and is no texts folder; choose another output folder.")
    if (folder / manifest.NAME).exists():
        manifest.read(folder, "texts")


def _open_dataset(dataset: Path | None) -> Any:
    from textmill.datasets.dataset import read_dataset

    return None if dataset is None else read_dataset(Path(dataset))


def warn_of_unknown(generator: Generator, prompts: Sequence[Prompt]) -> int:
    """Say what of the prompts the model does not know; how many tokens that is in all."""
    unknown = Counter(piece for prompt in prompts for piece in generator.unknown_in(prompt.text))
    if unknown:
        shown = ", ".join(repr(piece) for piece, _ in unknown.most_common(5))
        what = "character" if generator.tokenizer.name == "char" else "word"
        log.warning(
            "the model does not know %d %s(s) of the prompts (%s%s); it reads them as unknown",
            unknown.total(), what, shown, ", ..." if len(unknown) > 5 else "",
        )  # fmt: skip
    return unknown.total()


def _with_copied(
    written: list[Text], dataset: Any, generator: Generator, settings: GenerateSettings
) -> list[Text]:
    """The texts with what of their completions stands in the training text, both as they are read."""
    from textmill.writing.copied import find_copied

    completions = [generator.as_read(text.completion, settings) for text in written]
    learned = _learned(dataset, generator.tokenizer)
    documents = ((name, generator.as_read(text, settings)) for name, text in learned)
    found = find_copied(completions, documents)
    return [
        dataclasses.replace(text, copied=copied.as_dict())
        for text, copied in zip(written, found, strict=True)
    ]


def _learned(dataset: Any, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """(id, text) of the documents learned from, as the model writes them."""
    if tokenizer.name != "word":
        yield from dataset.texts("train")
        return
    tokens = dataset.tokens("train")
    for document in dataset.documents("train"):
        start = document["start"]
        yield document["id"], tokenizer.decode(tokens[start : start + document["tokens"]].tolist())


def summarize(written: Sequence[Text], unknown: int) -> dict[str, Any]:
    """The figures of texts; `unknown`: tokens of their prompts that the model does not know."""
    tokens = sum(text.tokens for text in written)
    scores = sum(text.scores["mean_log_probability"] * text.tokens for text in written)
    summary: dict[str, Any] = {
        "texts": len(written),
        "tokens": tokens,
        "characters": sum(text.characters for text in written),
        "mean_log_probability": scores / max(tokens, 1),
        "finish_reasons": dict(sorted(Counter(text.finish_reason for text in written).items())),
        "unknown_in_prompts": unknown,
    }
    copied = [text.copied for text in written if text.copied is not None]
    if copied:
        longest = max(copied, key=lambda c: c["longest_run"])
        shares = [c["share_8grams"] for c in copied]
        summary |= {
            "longest_copied_run": longest["longest_run"],
            "share_copied_8grams": sum(shares) / len(shares),
        }
        summary["copied"] = {**longest, "share_8grams": summary["share_copied_8grams"]}
    return summary


def save_texts(
    folder: Path,
    written: Sequence[Text],
    summary: Mapping[str, Any],
    settings: GenerateSettings,
    parents: Mapping[str, str],
    details: Mapping[str, Any],
) -> None:
    """texts.jsonl, texts.txt, summary.json, manifest.json. Nothing of the clock but what `details` has of it: the same
    texts, the same bytes."""
    with new_folder(folder) as beside:
        with open(beside / "texts.jsonl", "w", encoding="utf-8", newline="\n") as lines:
            lines.writelines(json.dumps(text.as_dict(), ensure_ascii=False) + "\n" for text in written)
        with open(beside / "texts.txt", "w", encoding="utf-8", newline="\n", errors="replace") as plain:
            plain.writelines(_to_read(written, settings.delimiter))
        write_json(beside / "summary.json", dict(summary))
        figures = {k: v for k, v in summary.items() if isinstance(v, int | float)}
        manifest.write(
            beside,
            "texts",
            settings=settings.as_dict(),
            parents=parents,
            details={**details, **figures},
            packages=["numpy", "jax"],
        )


def _to_read(written: Sequence[Text], delimiter: str | None) -> Iterator[str]:
    """The texts one after the other; of several, each has a heading, or the delimiter after it."""
    for text in written:
        if len(written) > 1 and delimiter is None:
            yield f"{'=' * 20} TEXT {text.index + 1} {'=' * 20}\n"
        yield _line(text.text)
        if len(written) > 1 and delimiter:
            yield _line(delimiter)


def _line(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"
