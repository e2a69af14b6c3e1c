"""How a text is shown while it is written: a script in whole lines, a finished text in whole sentences, others at once.

However it comes in pieces, what is shown is the same. Knows script markup and finishing (postprocess.py); knows nothing
of tokens and models.
"""

from __future__ import annotations

from textmill.postprocess import Finish, Finisher

LINE_OPENERS = ("<boname>", "<open-exp>")  # tokens of a marked-up script before which a line has ended


class Shown:
    """Takes what the model writes in pieces and gives out what is shown of it. `before` is shown first.

    `reason` is set ("sentence" | "characters") when nothing more will come.
    """

    def __init__(self, before: str, finish: Finish, *, script: bool = False) -> None:
        self._coming = before
        self._script = script
        self._finisher = Finisher(finish, 0 if script else len(before))

    @property
    def reason(self) -> str:
        return self._finisher.reason

    def feed(self, piece: str) -> str:
        """Take a piece; give out what is final."""
        self._coming += piece
        return self._finisher.feed(self._ready())

    def close(self) -> str:
        """There are no more pieces: give out the rest."""
        rest, self._coming = self._coming, ""
        return self._finisher.feed(to_script(rest) if self._script else rest) + self._finisher.close()

    def _ready(self) -> str:
        """Of what has come, the lines that are whole."""
        if not self._script:
            ready, self._coming = self._coming, ""
            return ready
        end = max(self._coming.rfind(opener) for opener in LINE_OPENERS)
        if end < 1:
            return ""
        ready, self._coming = self._coming[:end], self._coming[end:]
        return to_script(ready)


def to_script(markup: str) -> str:
    """Marked-up text for reading."""
    from textmill.rules.script_markup import to_script

    return to_script(markup)
