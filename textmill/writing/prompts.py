"""Prompts: read from a list or a file, set as the model learned text, and turned into the tokens that are fed.

Knows tokenizers' habits (what stands before a text) and script markup; knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textmill.errors import InputError, SettingsError
from textmill.tokenizers import Tokenizer
from textmill.writing.settings import GenerateSettings

Ids = npt.NDArray[np.int32]

START_MARK, END_MARK = "<|startoftext|>", "<|endoftext|>"  # what gpt-2-simple's users put around each text
NOT_OF_A_PROMPT = ("prompt", "batch_size", "delimiter", "render", "precision")  # settings of a whole run


@dataclass(frozen=True)
class Prompt:
    """Text to go on from, and the settings that are its own: {"length": 40, "seed": 3}."""

    text: str
    own: dict[str, Any] = field(default_factory=dict)

    def settings(self, common: GenerateSettings) -> GenerateSettings:
        """The settings of its texts. Raises SettingsError."""
        return common.replace(**self.own) if self.own else common


class Asked(NamedTuple):
    """What is asked for with a prompt."""

    prompt: Prompt
    settings: GenerateSettings
    first: int  # number of its first text
    numbers: range  # of its texts that are wanted


def numbered(prompts: Sequence[Prompt], common: GenerateSettings, only: range | None = None) -> list[Asked]:
    """The texts of all prompts, numbered through; `only`: those of them that are wanted (None: all)."""
    own = [prompt.settings(common) for prompt in prompts]
    *firsts, end = accumulate((settings.number for settings in own), initial=0)
    only = range(end) if only is None else only
    return [
        Asked(prompt, settings, at, range(max(at, only.start), min(at + settings.number, only.stop)))
        for prompt, settings, at in zip(prompts, own, firsts, strict=True)
    ]


def read_prompts(prompts: Path | Sequence[str | Prompt] | None, default: str = "") -> list[Prompt]:
    """The prompts of a list or a file: .txt, one a line, empty ones passed over; .jsonl, {"prompt": ...} a line, with
    settings of its own beside it. None, or an empty list: `default`. Raises InputError.
    """
    if prompts is None:
        return [Prompt(default)]
    if not isinstance(prompts, str | Path):
        given = [prompt if isinstance(prompt, Prompt) else Prompt(str(prompt)) for prompt in prompts]
        return given or [Prompt(default)]
    path = Path(prompts)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"cannot read the prompts' file {path}: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise InputError(f"the prompts' file {path} is not UTF-8 text.") from None
    numbered = [(n, line.rstrip("\r")) for n, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InputError(f"the prompts' file {path} holds no prompt.")
    if path.suffix == ".jsonl":
        return [_json_prompt(path, n, line) for n, line in numbered]
    return [Prompt(line) for _, line in numbered]


def _json_prompt(path: Path, number: int, line: str) -> Prompt:
    try:
        values = json.loads(line)
        text = values.pop("prompt")
    except (ValueError, KeyError, TypeError, AttributeError):
        text = None
    if not isinstance(text, str):
        raise InputError(f'line {number} of {path} is not of the form {{"prompt": "..."}}.')
    for name in NOT_OF_A_PROMPT:
        if name in values:
            raise SettingsError(
                f"line {number} of {path}: {name!r} holds for all prompts; set it for the run."
            )
    GenerateSettings.from_dict(values, where=f"line {number} of {path}")
    return Prompt(text, values)


# ---------------------------------------------------------------------- as the model learned


def prompt_ids(tokenizer: Tokenizer, text: str) -> Ids:
    """What is fed for a prompt: what stands before a text, then the prompt."""
    if _marks(tokenizer):  # encoded as one: there the mark and what follows it were one text
        return tokenizer.encode(text if text.startswith(START_MARK) else START_MARK + text)
    return np.concatenate([start_ids(tokenizer), tokenizer.encode(text)]).astype(np.int32)


def start_ids(tokenizer: Tokenizer) -> Ids:
    """What is fed before a text: the end of the document before.

    For characters a line feed too: in a text of few documents their ends are rare, and a line feed leads back to what
    the model knows well. For words what S1 feeds, id 0 and <eos>. For byte pairs with gpt-2-simple's marks, that mark.
    """
    if tokenizer.name == "bpe":
        return (
            tokenizer.encode(START_MARK)
            if _marks(tokenizer)
            else np.array([tokenizer.end_of_document], np.int32)
        )
    end, newline = tokenizer.end_of_document, tokenizer.encode("\n")
    if tokenizer.name == "word" or end is not None:
        first = 0 if tokenizer.name == "word" else end
        return np.append([first], newline[newline != tokenizer.unknown]).astype(np.int32)
    return np.where(newline == tokenizer.unknown, 0, newline).astype(np.int32)


def end_marks(tokenizer: Tokenizer) -> list[str]:
    """Texts by which the model ends a document, beside its end-of-document token."""
    return [END_MARK] if _marks(tokenizer) else []


def _marks(tokenizer: Tokenizer) -> bool:
    """Whether documents lie between gpt-2-simple's marks, which are ordinary pieces there."""
    return getattr(tokenizer, "special_tokens", "id") == "literal"


def unknown_in(tokenizer: Tokenizer, text: str) -> list[str]:
    """The characters or words of a text that the tokenizer does not know, in order."""
    if tokenizer.unknown is None:
        return []
    ids = tokenizer.encode(text)
    return [piece for piece, i in zip(tokenizer.pieces(text), ids, strict=True) if i == tokenizer.unknown]


def as_learned(prompt: str, render: str) -> str:
    """A prompt as the text looked that the model learned; `render` is how that text is set for reading."""
    if render == "script":
        return as_markup(prompt)
    if render == "sentences":
        from textmill.rules.episode_cleanup import spaced_punctuation

        return spaced_punctuation(prompt).text
    return prompt


def as_markup(prompt: str) -> str:
    """A prompt in plain words or as a script is read (`HAMLET: To be`), in the markup; markup stays as it is.

    The line is left open, so that the model goes on with it.
    """
    from textmill.rules.script_markup import TOKENS, apply

    if not prompt.strip() or any(token in prompt for token in TOKENS):
        return prompt
    marked = apply(prompt).text.removesuffix("\n").removesuffix("<eoepisode>").rstrip()
    if not prompt.lstrip().startswith(("{{", "[", "(")):  # bare words are taken as words, not as a direction
        marked = marked.removeprefix("<open-exp> ").removesuffix(" <close-exp>")
    return marked
