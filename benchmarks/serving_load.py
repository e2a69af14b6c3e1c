"""Clients for a service: so many at the same time, each asking anew as soon as it has its answer; what they saw.

Plain sockets, so that the clients cost little on a machine that the service runs on too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from urllib.parse import quote


@dataclasses.dataclass
class Seen:
    """One request: seconds to its first piece, between its pieces, and in all; `whole` is False where it was not over
    when the time was up: then `total` is what had passed."""

    first: float
    between: list[float]
    total: float
    whole: bool = True


@dataclasses.dataclass(frozen=True)
class Target:
    """A service: `path` gets a JSON body with POST, or, where `body` is None, the prompt in its query with GET."""

    port: int
    path: str
    body: dict[str, object] | None

    def request(self, prompt: str) -> bytes:
        """The bytes of one request."""
        head = "Host: 127.0.0.1\r\nConnection: close\r\n"
        if self.body is None:
            return f"GET {self.path}{quote(prompt)} HTTP/1.1\r\n{head}\r\n".encode()
        body = json.dumps({**self.body, "prompt": prompt}).encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"POST {self.path} HTTP/1.1\r\n{head}{kind}\r\n".encode() + body


async def ask(target: Target, prompt: str) -> Seen:
    """One request. Raises RuntimeError where the answer is an error."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(target.request(prompt))
    times: list[float] = []
    try:
        line = await reader.readline()
        if b" 200 " not in line:
            raise RuntimeError(f"the service answered {line!r}: {(await reader.read())[-300:]!r}")
        while line := await reader.readline():
            if line.startswith(b"data: {") and _text(line):
                times.append(time.perf_counter())
    finally:
        writer.close()
    ended = time.perf_counter()
    first = times[0] if times else ended
    between = [b - a for a, b in itertools.pairwise(times)]
    return Seen(first - started, between, ended - started)


def _text(line: bytes) -> str:
    choices = json.loads(line[6:]).get("choices", ())
    return choices[0].get("text", "") if choices else ""


async def load(
    target: Target, prompts: Sequence[str], clients: int, seconds: float
) -> tuple[list[Seen], float]:
    """Ask all prompts, `clients` at a time, for at most `seconds`; what was seen, and how long it took."""
    waiting = list(reversed(prompts))
    seen: list[Seen] = []
    started = time.perf_counter()

    async def client() -> None:
        while waiting:
            prompt, asked = waiting.pop(), time.perf_counter()
            try:
                async with asyncio.timeout(started + seconds - asked):
                    seen.append(await ask(target, prompt))
            except TimeoutError:
                passed = time.perf_counter() - asked
                seen.append(Seen(passed, [], passed, whole=False))
                return

    await asyncio.gather(*(client() for _ in range(clients)))
    return seen, time.perf_counter() - started


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))] if ordered else float("nan")
    )


def summary(seen: Sequence[Seen], seconds: float, tokens: int) -> dict[str, object]:
    """Throughput, and p50, p95, p99 of each time, in seconds."""
    whole = [one for one in seen if one.whole]
    found: dict[str, object] = {
        "requests": len(seen),
        "whole": len(whole),
        "seconds": seconds,
        "tokens_per_second": len(whole) * tokens / seconds,
    }
    kinds = {
        "first": [one.first for one in seen],
        "between": [gap for one in seen for gap in one.between],
        "total": [one.total for one in seen],
    }
    for name, values in kinds.items():
        found[name] = {f"p{round(100 * share)}": percentile(values, share) for share in (0.5, 0.95, 0.99)}
    found["mean_total"] = statistics.fmean(one.total for one in seen)
    return found
