"""textmill's generator, or its service over it, as a side: the same texts offline, or asked for by so many clients.

python -m benchmarks.peers.textmill_serving generator|service CHECKPOINT BATCH LENGTH
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import serve
from benchmarks.serving_load import Target, load


def offline(checkpoint: Path, batch: int, length: int) -> Callable[[], int]:
    """Work that writes BATCH texts with the generator."""
    from benchmarks.serve import prompts
    from textmill.writing.generator import Generator
    from textmill.writing.settings import GenerateSettings

    generator = Generator.open(checkpoint)
    settings = GenerateSettings.of(length=length, stop_at_end=False, batch_size=max(batch, 1))
    asked = prompts(batch)
    return lambda: sum(text.tokens for text in generator.generate(asked, settings))


@contextlib.contextmanager
def online(checkpoint: Path, batch: int, length: int) -> Iterator[Callable[[], int]]:
    """Work that asks the service for BATCH texts at once, not streamed."""
    from benchmarks.serve import prompts

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "textmill.cli", "-q", "serve", str(checkpoint), "--port", str(port)]
    process = subprocess.Popen(command)
    target = Target(port, "/v1/completions", {"max_tokens": length, "stop_at_end": False, "seed": 0})
    asked = prompts(batch)

    def work() -> int:
        seen, _ = asyncio.run(load(target, asked, batch, 600))
        return length * sum(one.whole for one in seen)

    try:
        while True:
            with contextlib.suppress(OSError, RuntimeError):
                work()
                break
            if process.poll() is not None:
                raise SystemExit(f"the service ended with status {process.returncode}")
            time.sleep(0.2)
        yield work
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    way, checkpoint, batch, length = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if way == "generator":
        serve(offline(checkpoint, batch, length), warm_up=1)
        return
    with online(checkpoint, batch, length) as work:
        serve(work, warm_up=1)


if __name__ == "__main__":
    main()
