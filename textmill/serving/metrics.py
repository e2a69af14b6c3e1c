"""Figures of the service for Prometheus. Each service has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)  # seconds
LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What happens in the engine and in HTTP, counted. `model` labels everything."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._running = self._gauge("requests_running", "Texts that are being written.")
        self._waiting = self._gauge("requests_waiting", "Texts that wait for a slot.")
        self._open = self._gauge("http_open", "HTTP requests that are being answered.")
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts read.")
        self._drawn = self._counter("generation_tokens", "Tokens drawn.")
        self._ended = self._counter("texts", "Texts that ended, by reason.", "reason")
        self._answers = self._counter("http_requests", "HTTP requests answered.", "route", "status")
        self._queue = self._histogram("queue_seconds", "From a request's arrival to its slot.", LONG)
        self._first = self._histogram("time_to_first_token_seconds", "From arrival to the first token.", LONG)
        self._between = self._histogram("time_between_tokens_seconds", "Between two looks at a text.", SHORT)
        self._whole = self._histogram("text_seconds", "From a request's arrival to a text's end.", LONG)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"textmill_{name}", help, ["model"], registry=self.registry).labels(self._model)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        made = Counter(f"textmill_{name}", help, ["model", *labels], registry=self.registry)
        return made if labels else made.labels(self._model)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(f"textmill_{name}", help, ["model"], registry=self.registry, buckets=buckets)
        return made.labels(self._model)

    # ------------------------------------------------------------------ the engine's

    def occupied(self, running: int, waiting: int) -> None:
        self._running.set(running)
        self._waiting.set(waiting)

    def started(self, waited: float, prompt_tokens: int) -> None:
        self._queue.observe(waited)
        self._prompt.inc(prompt_tokens)

    def stepped(self, tokens: int) -> None:
        self._drawn.inc(tokens)

    def first(self, seconds: float) -> None:
        self._first.observe(seconds)

    def between(self, seconds: float) -> None:
        self._between.observe(seconds)

    def ended(self, reason: str, seconds: float | None = None) -> None:
        self._ended.labels(self._model, reason).inc()
        if seconds is not None:
            self._whole.observe(seconds)

    # ------------------------------------------------------------------ HTTP's

    def opened(self) -> None:
        self._open.inc()

    def answered(self, route: str, status: int) -> None:
        self._open.dec()
        self._answers.labels(self._model, route, str(status)).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return bytes(generate_latest(self.registry))
