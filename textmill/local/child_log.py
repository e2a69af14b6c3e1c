"""What a task's process prints, made fit for a person: its own lines and bars pass, KFP's are left out.

Knows KFP's log format, tqdm's bars (carriage returns) and Python's tracebacks. Knows nothing of pipelines.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from typing import TextIO

KFP_PREFIX = re.compile(r"\[KFP Executor [\d\-:, ]+ (?P<level>[A-Z]+)\]: ")
KFP_NOISE = (
    "--component_module_path is",
    "Looking for component ",
    "Loading KFP component ",
    "Wrote executor output file to ",
    "Did not write output file",
)
INDENT = "      "
TRACEBACK = "Traceback (most recent call last):"
BETWEEN = ("The above exception was", "During handling of the above")
EXCEPTION = re.compile(r"(?P<name>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$", re.DOTALL)


class Screen:
    """Where a person looks: whole lines, and at most one bar below them that is drawn anew after each line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bar = ""
        self.is_terminal = out.isatty()

    def line(self, text: str) -> None:
        """Write one line above the bar."""
        clear = "\r\x1b[K" if self._bar else ""
        self._write(f"{clear}{text}\n{self._bar}")

    def bar(self, text: str) -> None:
        """Draw (or with blanks, remove) the bar."""
        if self.is_terminal:
            self._bar = text.rstrip()
            self._write(f"\r\x1b[K{self._bar}")

    def channel(self) -> tuple[int, int]:
        """Descriptors to read and to write: a pipe, or on a terminal another terminal, so that a task draws bars."""
        if not self.is_terminal:
            return os.pipe()
        import fcntl
        import pty
        import termios
        import tty

        reading, writing = pty.openpty()
        tty.setraw(writing)
        with contextlib.suppress(OSError):
            rows, columns, *pixels = struct.unpack(
                "4H", fcntl.ioctl(self._out.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
            )
            size = struct.pack("4H", rows, max(20, columns - len(INDENT)), *pixels)
            fcntl.ioctl(writing, termios.TIOCSWINSZ, size)
        return reading, writing

    def _write(self, text: str) -> None:
        # A terminal that is gone does not stop the work; neither does a signal in the middle of a line (RuntimeError).
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            try:
                self._out.write(text)
            except UnicodeEncodeError:
                encoding = self._out.encoding or "ascii"
                self._out.write(text.encode(encoding, "replace").decode(encoding))
            self._out.flush()


class LabelledScreen(Screen):
    """The screen of one of several tasks that work side by side: its lines are marked, and it draws no bars."""

    def __init__(self, screen: Screen, label: str) -> None:
        self._screen, self._label = screen, label
        self.is_terminal = False

    def line(self, text: str) -> None:
        self._screen.line(f"{INDENT}{self._label}: {text.removeprefix(INDENT)}")

    def bar(self, text: str) -> None:
        pass


class ChildLog:
    """Takes a process's output as it comes; shows it on `screen`; keeps a traceback back until the end is known."""

    def __init__(self, screen: Screen, *, verbatim: bool = False) -> None:
        self._screen, self._verbatim = screen, verbatim
        self._pending = b""
        self._in_bar = False
        self._in_input = False
        self._held: list[str] = []

    def feed(self, data: bytes) -> None:
        """The next piece of output, cut anywhere."""
        *pieces, self._pending = re.split(rb"([\r\n])", self._pending + data)
        for text, end in zip(pieces[::2], pieces[1::2], strict=True):
            if end == b"\n":
                self._line(text.decode("utf-8", "replace"))
            elif text:
                self._draw(text)
            self._in_bar = end == b"\r"
        if self._in_bar and self._pending:
            self._draw(self._pending)
            self._pending, self._in_bar = b"", False

    def close(self) -> None:
        """The process has ended: show what is left of its last line, and no bar any more."""
        if self._pending:
            self._line(self._pending.decode("utf-8", "replace"))
            self._pending = b""
        self._screen.bar("")

    def exception(self) -> tuple[str, str]:
        """(class, message) of the exception that ended the process, ("", "") if there was none. One line each."""
        self.close()
        last = [
            line for line in self._held if line and not line[0].isspace() and not line.startswith(BETWEEN)
        ]
        if not last or last[-1] == TRACEBACK:
            return "", ""
        found = EXCEPTION.match(last[-1])
        return (found["name"], found["message"] or "") if found else ("", "")

    def show_held(self) -> None:
        """Show the traceback that was kept back."""
        for line in self._held:
            self._screen.line(INDENT + line)
        self._held = []

    def _draw(self, text: bytes) -> None:
        self._screen.bar(INDENT + text.decode("utf-8", "replace") if text.strip() else "")

    def _line(self, line: str) -> None:
        if self._held or line == TRACEBACK:
            self._hold(line)
        else:
            self._show(line)

    def _hold(self, line: str) -> None:
        """Lines from a traceback on. Another line after its end means that the process went on: then it is shown."""
        ended = len(self._held) > 1 and bool(self._held[-1]) and not self._held[-1][0].isspace()
        joined = ended and self._held[-1].startswith((TRACEBACK, *BETWEEN))
        goes_on = not line or line[0].isspace() or line.startswith((TRACEBACK, *BETWEEN))
        if ended and not joined and not goes_on:
            self.show_held()
            self._show(line)
        else:
            self._held.append(line)
            if self._verbatim:
                self._screen.line(INDENT + line)

    def _show(self, line: str) -> None:
        if self._verbatim:
            self._screen.line(INDENT + line)
            return
        if self._in_input:
            self._in_input = line != "}"
            return
        if found := KFP_PREFIX.search(line):
            before, line = line[: found.start()], line[found.end() :]
            if line.startswith("Got executor_input:"):
                self._in_input = True
                return
            if line.startswith(KFP_NOISE):
                return
            line = before + line
        self._screen.line((INDENT + line).rstrip())
