"""Many requests, among them clients that vanish, read slowly or send nonsense: every one is answered, and memory stays.

The full run (10,000 requests) is marked slow; a short one of the same kinds is in everyone's suite.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.serving.running import PATIENCE, Running, request, running
from textmill.writing.generator import Generator

AT_ONCE = 40
NONSENSE = [
    b"GET /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"\x16\x03\x01\x02\x00 nothing of the kind\r\n\r\n",
    request("/v1/completions", {"prompt": 3}),
    request("/v1/completions", {"prompt": "a", "max_tokens": -1}),
    request("/v1/completions", {"prompt": "a" * 30_000}),
    request("/v1/completions", ["a"]),
    request("/v2/models/other/generate", {"text_input": "a"}),
    request("/?sample=a&callback=alert(1)", method="GET"),
    request("/v1/completions", {"prompt": "a"}, headers="X-Large: " + "a" * 70_000 + "\r\n"),
    b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\n\r\n",
]


async def one(port: int, n: int, draw: random.Random, seen: Counter[str]) -> None:
    """One request; what became of it is counted."""
    kind = draw.choices(["whole", "stream", "vanish", "slow", "nonsense", "old"], [30, 25, 20, 5, 15, 5])[0]
    value = {
        "prompt": "abc"[: draw.randrange(4)],
        "max_tokens": draw.randrange(1, 60),
        "n": draw.choice([1, 1, 1, 2, 3]),
        "seed": n,
        "temperature": draw.choice([0, 0.7, 1.0]),
        "top_p": draw.choice([1, 0.9]),
        "stream": kind in ("stream", "slow", "vanish"),
    }
    data = request("/v1/completions", value)
    if kind == "old":
        data = request("/?sample=ab", method="GET")
    elif kind == "nonsense":
        data = draw.choice(NONSENSE)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if kind == "vanish":
            await asyncio.sleep(draw.random() * 0.02)
            writer.transport.abort()
            seen["vanished"] += 1
            return
        answer = bytearray()
        while piece := await reader.read(64 if kind == "slow" else 65536):
            answer += piece
            if kind == "slow":
                await asyncio.sleep(0.001)
        status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        if kind in ("stream", "slow") and status == 200:
            assert answer.rstrip().endswith((b"[DONE]", b"[DONE]\n\n\r\n0")), bytes(answer[-100:])
        if kind == "whole" and status == 200:
            assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["choices"]) == value["n"]
        seen[f"{kind} {status}"] += 1
    except ConnectionError:
        assert kind == "nonsense", "only an answer that says so closes a connection"
        seen["nonsense closed"] += 1
    finally:
        writer.close()


async def many(port: int, number: int, seed: int) -> Counter[str]:
    """So many requests, AT_ONCE at the same time."""
    draw, seen, waiting = random.Random(seed), Counter[str](), iter(range(number))

    async def client() -> None:
        for n in waiting:
            async with asyncio.timeout(PATIENCE):
                await one(port, n, draw, seen)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return seen


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def soak(service: Running, number: int, seed: int = 0) -> Counter[str]:
    seen = asyncio.run(many(service.port, number, seed))
    assert sum(seen.values()) == number
    for what in seen:
        kind, _, status = what.partition(" ")
        allowed = {"200", "429"} if kind in ("whole", "stream", "slow", "old") else None
        assert allowed is None or status in allowed, seen
        assert status != "500", seen
    service.until(lambda: service.engine.running == service.engine.waiting == 0, "slots are still held")
    assert service.engine.state == "ready"
    return seen


def test_every_request_is_answered_and_no_slot_is_lost(service: Running) -> None:
    seen = soak(service, 200)
    assert seen["vanished"] > 10
    assert len(seen) > 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_stays_over_ten_thousand_requests(characters: Generator) -> None:
    with running(characters, queue=1000) as service:
        soak(service, 2000, seed=1)
        before = resident()
        seen = soak(service, 10_000, seed=2)
        after = resident()
        print(
            f"{dict(seen)}\nresident {before / 2**20:.1f} MB -> {after / 2**20:.1f} MB, {after / before - 1:+.2%}"
        )
        assert after <= before * 1.01
