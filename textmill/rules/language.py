"""Keeps documents in the wanted languages. The guess is py3langid's (BSD, 97 languages and more, its model inside)."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from textmill.errors import MachineError, SettingsError
from textmill.rules.base import Outcome, Rule
from textmill.settings import Settings, setting, unknown_name

SAMPLE = 4000  # characters looked at, from the middle: the beginning of a text is often a title or a head
FEWEST_LETTERS = 20  # nobody can tell the language of less
_NOT_WORDS = re.compile(r"https?://\S+|[@#]\w+|\d+")  # of no language, and in posts often the greater part


@dataclass(frozen=True)
class Wanted(Settings):
    """What `language` can be told."""

    languages: str = setting("en", "Codes of ISO 639-1 with spaces between, such as 'en de'.")
    minimum: float = setting(
        0.5, "The least probability, of all wanted languages together.", minimum=0, maximum=1
    )

    def check(self) -> None:
        if not self.languages.split():
            raise SettingsError("rule 'language' names no language; write language(en), or language(en de).")
        known = _identifier().labels
        for code in self.languages.split():
            if code not in known:
                raise SettingsError(unknown_name("language", code, sorted(known), "rule language"))


def apply(text: str, parameters: Wanted = Wanted()) -> Outcome:
    """Drop a text in another language. One with fewer than FEWEST_LETTERS letters is kept: length is another rule."""
    start = max(0, (len(text) - SAMPLE) // 2)
    sample = " ".join(_NOT_WORDS.sub(" ", text[start : start + SAMPLE]).split())
    if sum(map(str.isalpha, sample)) < FEWEST_LETTERS:
        return Outcome(text, 0)
    ranked = _identifier().rank(sample)
    wanted = parameters.languages.split()
    if sum(probability for code, probability in ranked if code in wanted) >= parameters.minimum:
        return Outcome(text, 0)
    code, probability = ranked[0]
    return Outcome(text, 0, drop="in another language", detail=f"{code}, probability {probability:.2f}")


@functools.cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MachineError(
            "the rule language needs the package py3langid: pip install 'textmill[language]'."
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


RULE = Rule(
    "language",
    "Keeps documents in these languages: language(en de, minimum=0.5).",
    apply,
    parameters=Wanted,
    packages=("py3langid",),
)
