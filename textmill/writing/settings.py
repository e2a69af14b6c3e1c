"""What a generating run is told: prompts, lengths, how tokens are drawn, where a text ends and how it is finished.

gpt-2-simple's options and what they are called here (docs/gpt_2_simple.md has the table with every case):
prefix prompt, truncate stop, include_prefix include_prompt, nsamples number, sample_delim delimiter, and length,
temperature, top_k, top_p, seed, batch_size as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from textmill.devices import WRITING_PRECISIONS
from textmill.errors import SettingsError
from textmill.postprocess import Finish
from textmill.settings import Settings, setting


@dataclass(frozen=True)
class GenerateSettings(Settings):
    """What is written, and how it is drawn from the model."""

    prompt: str = setting("", "Text to go on from (empty: the start of a line or document).")
    number: int = setting(1, "Texts for each prompt.", minimum=1, maximum=100_000)
    length: int = setting(1000, "Most tokens (characters, words or pieces of words) of each text.", minimum=1)
    length_unit: str = setting("tokens", "What length counts.", choices=("tokens", "characters"))
    temperature: float = setting(
        1.0, "Below 1 is safer, above 1 wilder; 0 takes the likeliest token.", minimum=0
    )
    top_k: int = setting(0, "Draw from the k likeliest tokens only (0: from all); S3's topn.", minimum=0)
    top_p: float = setting(
        1.0, "Draw from the fewest tokens that hold this probability together.", minimum=0, maximum=1
    )
    repetition_penalty: float = setting(
        1.0, "Above 1 makes tokens that stood in the text less likely.", minimum=0.01
    )
    seed: int = setting(0, "The same seed gives the same texts.", minimum=0, maximum=2**63 - 1)
    batch_size: int = setting(
        30, "Texts written side by side; changes the speed, not the texts.", minimum=1, maximum=256
    )
    stop: list[str] = setting([], "End a text before any of these strings.")
    stop_at_end: bool = setting(True, "End a text where the model ends the document.")
    include_prompt: bool = setting(True, "Show the prompt before the text that goes on from it.")
    sentences: int = setting(0, "End a text after so many full sentences (0: no limit).", minimum=0)
    whole_sentences: bool = setting(
        False, "Cut a text after its last full sentence; one without a full sentence is kept whole."
    )
    most_characters: int = setting(
        0,
        "Most characters of a text, counted as a person counts; cut at a sentence's or word's end (0: no limit).",
        minimum=0,
    )
    recapitalize: bool = setting(
        False, "Close the space before punctuation and begin sentences with a capital letter."
    )
    delimiter: str | None = setting(
        None,
        "What follows each text in texts.txt, on lines of its own (not set: a heading before each of several texts).",
    )
    render: str = setting(
        "auto",
        "How text is shown: script sets marked-up text for reading, sentences recapitalizes, plain shows it as it is, "
        "auto goes by the model.",
        choices=("auto", "script", "sentences", "plain"),
    )
    precision: str = setting(
        "auto",
        "Number format of the model's matrices: auto is bfloat16 where the CPU computes in it. int8, for GPT-2 on a "
        "CPU, is faster for few texts at a time, and less exact.",
        choices=WRITING_PRECISIONS,
    )

    def check(self) -> None:
        if any(not isinstance(stop, str) or not stop for stop in self.stop):
            raise SettingsError(
                f"setting 'stop' is {self.stop!r}; it must be a list of strings that are not empty."
            )

    @property
    def finish(self) -> Finish:
        """What is done to a text that is written."""
        return Finish(self.sentences, self.whole_sentences, self.most_characters, self.recapitalize)
