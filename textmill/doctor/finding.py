"""What an examination finds: one line each."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, WRONG = "ok", "note", "wrong"


@dataclass(frozen=True)
class Finding:
    """`what` was looked at, and how it stands in `text`.

    state: OK; NOTE for what is not there and may not be needed; WRONG for what will fail. `do` tells what to do then.
    """

    what: str
    state: str
    text: str
    do: str = ""

    def line(self) -> str:
        """For a terminal or a log."""
        mark = {OK: "OK   ", NOTE: "note ", WRONG: "WRONG"}[self.state]
        return f"{mark}  {self.what}: {self.text}" + (
            f" {self.do[0].upper()}{self.do[1:]}." if self.do else ""
        )
