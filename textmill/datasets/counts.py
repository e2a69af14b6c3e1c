"""What is counted and said of a dataset: rates, the counting baseline, the log line, the figures for a pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from textmill.datasets.split import SPLITS

Counts = npt.NDArray[np.int64]  # of each token, [vocabulary]


def unknown_rate(counts: Counts, unknown: int | None) -> float:
    """The share of unknown tokens; 0 where there is no token at all."""
    total = int(counts.sum())
    return float(counts[unknown]) / total if total and unknown is not None else 0.0


def unigram(train: Counts, scored: Counts) -> dict[str, float]:
    """Loss (nats a token) and perplexity of counting: each token's share of the training tokens, one added to each.

    Empty when there is nothing to score.
    """
    if not scored.sum():
        return {}
    log_probability = np.log((train + 1) / (train.sum() + len(train)))
    loss = -float(scored @ log_probability) / int(scored.sum())
    return {"loss": loss, "perplexity": math.exp(loss)}


def main_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers worth a place among a pipeline's metrics."""
    documents, tokens = report["documents"], report["tokens"]
    figures: dict[str, Any] = {
        "documents": documents["kept"],
        "dropped": documents["read"] - documents["kept"],
        **{f"{split}_tokens": tokens[split] for split in SPLITS},
        "vocabulary_size": report["tokenizer"]["size"],
    }
    for split, score in report["unigram"].items():
        figures[f"unigram_perplexity_{split}"] = score["perplexity"]
        figures[f"out_of_vocabulary_{split}"] = report["tokenizer"]["unknown"][split]
    return figures


def log_line(report: Mapping[str, Any]) -> str:
    """The main numbers of a dataset's report in one line."""
    documents, tokens, tokenizer = report["documents"], report["tokens"], report["tokenizer"]
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in sorted(report["dropped_counts"].items()))
    splits = ", ".join(f"{split} {tokens[split]:,}" for split in SPLITS)
    valid = report["unigram"].get("valid")
    scores = "no validation text"
    if valid:
        unknown = tokenizer["unknown"]["valid"]
        scores = f"valid: {unknown:.2%} unknown, counting alone gives perplexity {valid['perplexity']:.2f}"
    return (
        f"normalized {documents['kept']:,} of {documents['read']:,} documents"
        + (f" (dropped: {dropped})" if dropped else "")
        + f"; {tokenizer['name']} tokens: {splits}; vocabulary {tokenizer['size']:,} from {report['vocabulary_from']}; "
        + scores
    )
