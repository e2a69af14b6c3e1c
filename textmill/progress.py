"""Progress of long work: a bar on a terminal, a line now and then in a log. Knows nothing of the work."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

log = logging.getLogger("textmill.progress")

LOG_EVERY_SECONDS = 10.0


class Progress:
    """Counts `units` done of `total` (None: not known). Use as a context manager and call `advance`.

    On a terminal it draws a bar on stderr; elsewhere it writes a log line every LOG_EVERY_SECONDS, and none at all
    for work that ends sooner.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "items", initial: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = initial
        self._initial = initial
        self._started = self._said = time.monotonic()
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total,
                initial=self.done,
                desc=self.label,
                unit=f" {self.unit}",
                unit_scale=True,
                dynamic_ncols=True,
                leave=False,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, n: int = 1, note: str = "") -> None:
        """`n` more units are done; `note` is a short text shown beside the count."""
        self.done += n
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
            return
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_SECONDS:
            self._said = now
            log.info("%s", self._line(now, note))

    def expect(self, total: int) -> None:
        """The whole is known now."""
        self.total = total
        if self._bar is not None:
            self._bar.reset(total)

    def write(self, text: str) -> None:
        """Print lines to stdout without tearing the bar."""
        if self._bar is not None:
            tqdm.write(text)
        else:
            print(text, flush=True)

    def _line(self, now: float, note: str) -> str:
        rate = (self.done - self._initial) / max(now - self._started, 1e-9)
        of = f" of {self.total:,} ({self.done / self.total:.0%})" if self.total else ""
        parts = [f"{self.done:,}{of} {self.unit}"] if self.done or self.total or not note else []
        parts += [_speed(rate)] if rate else []
        parts += [f"about {duration((self.total - self.done) / rate)} left"] if self.total and rate else []
        return f"{self.label}: {', '.join([*parts, note] if note else parts)}"


def _speed(rate: float) -> str:
    """`rate` is in units a second; slow ones are those of polite collecting."""
    if rate < 1:
        return f"one each {1 / rate:,.1f} s"
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )
