"""Finishing a text: whole sentences, so many sentences, so many characters, capitals and spaces put right.

Pure functions of the text: however it comes in pieces, the result is the same, and what was given out is never taken
back. A sentence's end is known when the next one begins, so a piece may wait for it.

Knows sentences and characters; knows nothing of tokens, models and markup.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import regex

# A full sentence ends with one of these (and with quotes or brackets that close), before white space; set-apart
# punctuation, as in a corpus of lower-case words, counts like any other.
STOPS = ".!?…"
CLOSERS = "\"'”’»)\\]"
WIDE_STOPS = "。！？"  # no white space follows these
WIDE_CLOSERS = "」』”’）"
END = regex.compile(
    rf"[{STOPS}]++(?:\s++[{STOPS}]++)*+(?P<closed>[{CLOSERS}]*+)(?=\s+(?P<next>\S))"
    rf"|[{WIDE_STOPS}]++[{WIDE_CLOSERS}]*+(?=\s*+(?P<next>\S))"
)
ENDS = regex.compile(rf"(?:[{STOPS}][{CLOSERS}]*|[{WIDE_STOPS}][{WIDE_CLOSERS}]*)\s*\Z")
TITLE = regex.compile(
    r"\b(?:(?i:Mr|Mrs|Ms|Dr|St|Prof|Capt|Sgt|Jr|Sr|vs)|[A-HJ-Z])\s*\.\Z"
)  # no sentence ends here
UNSETTLED = regex.compile(rf"[\s,;:)\]{STOPS}]+\Z")  # what comes next decides how this is shown
SET_APART = regex.compile(rf"[^\S\n]+(?=[,;:)\]{STOPS}](?!\w))|(?<=[(\[])[^\S\n]+")
FIRST_LETTER = regex.compile(r"(?:\A|\n)[^\p{L}\p{N}\n]*\K\p{Ll}")
LINES_FIRST_LETTER = regex.compile(r"\n[^\p{L}\p{N}\n]*\K\p{Ll}")
CHARACTER = regex.compile(r"\X")

LONGEST_SENTENCE = 4000  # characters; what goes on longer is given out in parts


class Finish(NamedTuple):
    """What is done to a text; all off by default. Anything that is on also takes white space off both ends."""

    sentences: int = 0  # most full sentences
    whole_sentences: bool = False  # cut after the last full one
    most_characters: int = 0
    recapitalize: bool = (
        False  # S5's page: ` . ` becomes `. `, ` , ` becomes `, `, sentences start with a capital
    )

    @property
    def limits(self) -> bool:
        """Whether a text can be complete before its model has ended it."""
        return self.sentences > 0 or self.most_characters > 0


def finished(text: str, finish: Finish, prompt: int = 0) -> tuple[str, str]:
    """The finished text, and "sentence" or "characters" where that ended it, else "".

    The first `prompt` characters are a prompt: sentences that end in it are not counted, and it is not cut into for
    whole sentences. It does count as characters.
    """
    finisher = Finisher(finish, prompt)
    return finisher.feed(text) + finisher.close(), finisher.reason


def in_sentences(text: str) -> str:
    """What S5's page did to a text for reading: punctuation joined to its words, sentences begun with a capital."""
    return finished(text, Finish(recapitalize=True))[0]


def count_characters(text: str) -> int:
    """Characters as a person counts them: an emoji of several code points, or a letter with its accents, is one."""
    return len(text) if text.isascii() and "\r" not in text else len(CHARACTER.findall(text))


def _upper(found: regex.Match[str]) -> str:
    upper = found[0].upper()
    return upper if len(upper) == 1 else found[0]  # ß has no capital of its own


class Finisher:
    """Takes a text in pieces and gives out what is final of it. `reason` is set when nothing more will come."""

    def __init__(self, finish: Finish, prompt: int = 0) -> None:
        self.finish = finish
        self.reason = ""  # "sentence" | "characters"
        self._prompt = prompt  # characters of it that are still to come out
        self._waiting = ""
        self._characters = 0  # given out
        self._sentences = 0  # full ones given out that ended behind the prompt
        self._in_sentence = False

    def copy(self) -> Finisher:
        """Another one in the same state."""
        return copy.copy(self)

    def feed(self, piece: str) -> str:
        """Take a piece; give out what is final."""
        if self.finish == Finish():
            return piece
        if self.reason:
            return ""
        self._waiting = self._waiting + piece
        if not (self._characters or self._in_sentence):
            blank = len(self._waiting) - len(self._waiting.lstrip())
            self._waiting, self._prompt = self._waiting[blank:], max(0, self._prompt - blank)
        given = []
        while not self.reason:
            if end := self._next_end():
                given.append(self._take(end, full=True))
                if self.finish.sentences and self._sentences >= self.finish.sentences and not self.reason:
                    self.reason = "sentence"  # another one begins
            elif part := self._settle():
                given.append(part)
            else:
                break
        return "".join(given)

    def close(self) -> str:
        """There are no more pieces: give out the rest."""
        if self.reason or not (rest := self._waiting.rstrip()):
            return ""
        full = bool(ENDS.search(rest)) and not TITLE.search(rest)
        if self.finish.whole_sentences and self._sentences and not full:
            self.reason = "sentence"
            return ""
        return self._take(len(rest), full=full)

    def _next_end(self) -> int:
        """Where the first sentence that waits ends, when that is known; else 0."""
        for found in END.finditer(self._waiting):
            spoken = found["closed"] and found["next"].islower()  # "Where?" she said.
            if not spoken and not TITLE.search(self._waiting, 0, found.end()):
                return found.end() if self._whole(found.end()) else 0
        return 0

    def _whole(self, length: int) -> bool:
        return length <= LONGEST_SENTENCE or self.finish.whole_sentences

    def _take(self, end: int, *, full: bool) -> str:
        """Give out the first `end` characters that wait, or as much of them as there is room for."""
        raw, self._waiting = self._waiting[:end], self._waiting[end:]
        shown = self._shown(raw)
        count = count_characters(shown) if self.finish.most_characters else len(shown)
        if self._room() < count:
            return self._words(shown)
        self._characters += count
        self._sentences += full and end > self._prompt
        self._prompt = max(0, self._prompt - end)
        self._in_sentence = not full
        return shown

    def _shown(self, raw: str) -> str:
        if not self.finish.recapitalize:
            return raw
        first = LINES_FIRST_LETTER if self._in_sentence else FIRST_LETTER
        return first.sub(_upper, SET_APART.sub("", raw))

    def _room(self) -> float:
        most = self.finish.most_characters
        return most - self._characters if most else float("inf")

    def _settle(self) -> str:
        """Of a sentence that goes on: its beginning if it is too long for the room, or to wait for."""
        settled = UNSETTLED.sub("", self._waiting)
        if self.finish.most_characters and len(settled) > self._room():
            shown = self._shown(settled)
            if count_characters(shown) > self._room():
                return self._words(shown)
        if self._whole(len(settled)):
            return ""
        space = max(settled.rfind(" ", 0, LONGEST_SENTENCE), settled.rfind("\n", 0, LONGEST_SENTENCE))
        return self._take(space if space > 0 else LONGEST_SENTENCE, full=False)

    def _words(self, shown: str) -> str:
        """The last of the text: whole words; nothing where the sentences that were given out fill half of the room."""
        self.reason = "characters"
        room, most = int(self._room()), self.finish.most_characters
        if self._characters * 2 >= most or (self.finish.whole_sentences and self._sentences):
            return ""
        characters = CHARACTER.findall(shown)
        cut = next((at for at in range(room, 0, -1) if characters[at].isspace()), 0)
        if not cut and not self._characters:
            cut = room  # one word that is longer than all the room
        return "".join(characters[:cut]).rstrip()
