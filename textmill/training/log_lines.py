"""The lines that a training run prints, in the words its users know. Pure functions from values to text.

Perplexity lines: the PTB word language model (TensorFlow's `ptb_word_lm.py`). STATS lines and boxes:
martin-gorner/tensorflow-rnn-shakespeare (`my_txtutils.py`). `[step | seconds]` lines and SAMPLE heads: gpt-2-simple
(`gpt_2.py`, finetune).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from textmill.progress import duration

WIDTH = 104

UNITS = {"cps": "characters", "wps": "words", "tps": "tokens"}  # speed -> what is counted


def speed_unit(tokenizer: str) -> str:
    """What the speed is said in: characters, words or tokens a second."""
    return {"char": "cps", "word": "wps"}.get(tokenizer, "tps")


def perplexity(loss: float) -> float:
    """exp(loss), nats per token; infinite instead of an overflow."""
    return math.exp(loss) if loss < 700 else math.inf


def epoch_line(epoch: int, learning_rate: float) -> str:
    return f"Epoch: {epoch + 1} Learning rate: {learning_rate:.{3 if learning_rate >= 0.01 else 6}f}"


def progress_line(fraction: float, loss: float, tokens_per_second: float, unit: str) -> str:
    """`fraction` of the epoch; `loss` is the mean since the epoch began, nats a token."""
    return f"{fraction:.3f} perplexity: {perplexity(loss):.3f} speed: {tokens_per_second:.0f} {unit}"


def epoch_end_line(
    epoch: int, split: str, loss: float, unigram: float | None = None, unit: str = "wps"
) -> str:
    return f"Epoch: {epoch + 1} {split} Perplexity: {perplexity(loss):.3f}{_beside(unigram, unit)}"


def final_line(loss: float, unigram: float | None = None, unit: str = "wps") -> str:
    return f"Test Perplexity: {perplexity(loss):.3f}{_beside(unigram, unit)}"


def _beside(unigram: float | None, unit: str) -> str:
    """The counting baseline: how well the frequency of each word (or character, or token) alone does."""
    return "" if unigram is None else f" (counting {UNITS[unit]} alone: {perplexity(unigram):.3f})"


def training_stats(batch: int, batches: int, epoch: int, loss: float, accuracy: float) -> str:
    return (
        f"TRAINING STATS: batch {batch}/{batches} in epoch {epoch}, "
        f"batch loss: {loss:.5f}, batch accuracy: {accuracy:.5f}"
    )


def validation_stats(loss: float, accuracy: float) -> str:
    return f"VALIDATION STATS: loss: {loss:.5f}, accuracy: {accuracy:.5f}"


def text_size_line(train: int, valid: int, steps_per_epoch: int, unit: str) -> str:
    return (
        f"Training text size is {train:,} {unit} with {valid:,} set aside for validation. "
        f"There will be {steps_per_epoch:,} batches per epoch"
    )


def view(rows: Sequence[tuple[int, str, str, str, float]], epoch: int) -> str:
    """Side by side what was read and what was predicted: (index, book, input, predicted, loss) a row, boxed."""
    lines = []
    for index, book, given, predicted, loss in rows:
        where = f"{index:7d} (epoch {epoch}) {_cell(book, 24)}"
        lines.append(f"{where} │ {_cell(given, 30)} │ {_cell(predicted, 30)} │ loss: {loss:.5f}")
    width = max(map(len, lines), default=WIDTH)
    head = (
        f"{'INDEX':>7} {'':9} {'BOOK NAME':24} │ {'TRAINING SEQUENCE':30} │ {'PREDICTED SEQUENCE':30} │ LOSS"
    )
    return "\n".join([*lines, "└" + "─" * (width - 2) + "┘", head])


def sample_box(step: int, tokens_seen: int, text: str) -> str:
    head = f"──── text after step {step:,} ({tokens_seen:,} tokens seen) "
    return f"{head:─<{WIDTH}}\n{text.rstrip()}\n{'── end of text ':─<{WIDTH}}"


def dataset_line(train: int, valid: int, rows: int, num_steps: int, steps_per_epoch: int) -> str:
    return (
        f"dataset has {train:,} tokens, {valid:,} more are set aside for validation; an epoch is {rows:,} rows of "
        f"{num_steps:,} tokens in {steps_per_epoch:,} steps\nTraining..."
    )


def step_line(step: int, seconds: float, loss: float, average: float, speed: float, left: float) -> str:
    """`seconds` since the training began, `average` of the losses so far, `left` seconds until the last step."""
    time = f", about {duration(left)} left" if left > 0 else ""
    return (
        f"[{step} | {seconds:.2f}] loss={loss:.2f} avg={average:.2f} perplexity: {perplexity(loss):.3f} "
        f"speed: {speed:.0f} tps{time}"
    )


def step_validation(
    step: int, seconds: float, loss: float, accuracy: float, unigram: float | None, unit: str
) -> str:
    return (
        f"[{step} | {seconds:.2f}] validation loss={loss:.3f} accuracy={accuracy:.3f} "
        f"perplexity: {perplexity(loss):.3f}{_beside(unigram, unit)}"
    )


def sample_blocks(texts: Sequence[str]) -> str:
    return "\n".join(f"======== SAMPLE {i + 1} ========\n{text}\n" for i, text in enumerate(texts))


def _cell(text: str, width: int) -> str:
    """Exactly `width` characters: line feeds shown as a backslash, tabs as a space, the rest made printable."""
    shown = text.replace("\n", "\\").replace("\t", " ")
    shown = "".join(c if c.isprintable() else "·" for c in shown)
    return f"{shown[:width]:{width}}"
