"""Continuous batching: one thread, one resident model, and a pool of slots that requests join and leave between steps.

Where shapes are fixed (on a GPU) slots at rest cost time too, and there are pools of several sizes: a request alone is
written in the smallest, many in the largest. A text never changes its pool while it is written, but one that has hardly
begun starts again where the others are: the same seed gives the same text, and what was told of it is not told twice.

Everything is compiled before the engine is ready, for each pool and each set of controls (controls.py). A text depends
on its order alone, not on the pool, the controls and the company it is written in (models/*_decode.py and sample.py see
to that).

Knows slots, queues and time; knows nothing of HTTP.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from textmill.errors import TextmillError
from textmill.serving.metrics import Metrics
from textmill.serving.orders import Done, Event, Failed, Order, Piece, Writing
from textmill.serving.token_log import TokenLog
from textmill.writing.drafts import Draft, Kept
from textmill.writing.generator import Generator
from textmill.writing.slots import Slots

log = logging.getLogger("textmill.serving")

SMALL_POOLS = (2, 8, 16)  # slots; beside the largest pool, where slots at rest cost time
STREAM_SECONDS = 0.010  # of steps between two looks at what has come and gone, where a text is streamed
STEP_SECONDS = 0.080  # and where none is,
SETTLED = 0.030  # and none began within so many seconds: who asks seldom comes alone
STREAM_SHARE, STEP_SHARE = 1 / 3, 1 / 8  # most of that time that starting the steps may take
LONGEST_TURN = 0.25  # seconds, whatever starting the steps takes
STREAM_GAP = 0.018  # seconds a step; more texts are streamed side by side while it takes less,
STREAM_SLOWER = 1.6  # or while it takes less than this times the step of a text alone
READ_TOKENS = 2048  # most of prompts read before those who are writing go on
STREAM_READ = 16  # the same while texts are streamed, which would stand still meanwhile; one prompt at least
YOUNG = 0.5  # seconds since its first step in which a text may start again in a larger pool
TRIED = 8  # steps run to see what one costs
NEUTRAL: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "penalty": 1.0}
SLOWEST_GUESS = 60  # seconds that a client is told to wait at most


class Busy(Exception):
    """The queue is full; `wait`: seconds until it may not be."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


class Closed(Exception):
    """The engine takes no orders: it is loading, draining or has failed."""


class _Pace:
    """How many steps to make in one turn. `few` and `many`: slots, and the seconds that 1 and TRIED steps of them take;
    what they take between the two lies between."""

    def __init__(self, few: tuple[int, float, float], many: tuple[int, float, float]) -> None:
        self._few, self._many = few, many

    def steps(self, slots: int, often: bool) -> int:
        step, start = self._seconds(slots)
        seconds, share = (STREAM_SECONDS, STREAM_SHARE) if often else (STEP_SECONDS, STEP_SHARE)
        wanted = max(seconds - start, start * (1 - share) / share)
        return max(1, int(min(wanted, LONGEST_TURN) / step))

    def step(self, slots: int) -> float:
        """Seconds of one."""
        return self._seconds(slots)[0]

    def _seconds(self, slots: int) -> tuple[float, float]:
        """A step, and starting some."""
        (least, *few), (most, *many) = self._few, self._many
        part = (slots - least) / max(1, most - least)
        one, several = (a + part * (b - a) for a, b in zip(few, many, strict=True))
        step = max((several - one) / (TRIED - 1), 1e-5)
        return step, max(one - step, 0.0)


class Engine:
    """`load` makes the generator, in the engine's own thread. `post` carries a call to the thread of those who listen;
    by default they are called from the engine's thread.

    `state` is "new", "loading", "ready", "draining", "stopped" or "failed".
    """

    def __init__(
        self,
        load: Callable[[], Generator],
        *,
        slots: int = 32,
        queue: int = 100,
        metrics: Metrics | None = None,
        post: Callable[[Callable[[], None]], Any] = lambda call: call(),
    ) -> None:
        self.state = "new"
        self.error: BaseException | None = None
        self.metrics = metrics or Metrics("")
        self._load, self._most, self._bound, self._post = load, slots, queue, post
        self._generator: Generator | None = None
        self._queue: deque[Writing] = deque()
        self._changed = threading.Condition()
        self._pools: list[Slots] = []
        self._writing: dict[Draft, Writing] = {}
        self._paces: dict[Slots, _Pace] = {}
        self._most_streamed = slots
        self._usual = 1.0  # seconds a text, for guesses
        self._cut = ""  # why everything is to end now
        self._news: list[tuple[Order, Event]] = []
        self._thread = threading.Thread(target=self._live, name="engine", daemon=True)

    # ------------------------------------------------------------------ for other threads

    @property
    def generator(self) -> Generator:
        """The generator, once the engine is ready."""
        assert self._generator is not None
        return self._generator

    def start(self, ended: Callable[[], None] | None = None) -> None:
        """Load and warm up in the background; `ended` is posted when the state has become "ready" or "failed"."""
        self.state, self._ended = "loading", ended or (lambda: None)
        self._thread.start()

    def submit(self, order: Order) -> None:
        """Queue an order. Raises Busy and Closed."""
        with self._changed:
            if self.state != "ready":
                raise Closed(self.state)
            if self._queue and len(self._queue) + len(order.drafts) > self._bound:
                raise Busy(self._guess())
            for number, draft in enumerate(order.drafts):
                self._queue.append(Writing(order, number, draft))
            self._changed.notify()

    def drain(self) -> None:
        """Take no more orders; end when those that were taken are done."""
        with self._changed:
            if self.state in ("loading", "ready"):
                self.state = "draining"
            self._changed.notify()

    def cut(self, reason: str) -> None:
        """End all texts where they are, and refuse those that wait; for an engine that drains."""
        with self._changed:
            self._cut = reason
            self._changed.notify()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Texts in slots."""
        return len(self._writing)

    def _guess(self) -> int:
        rounds = 1 + len(self._queue) / max(1, self._pools[-1].size)
        return int(min(SLOWEST_GUESS, max(1.0, rounds * self._usual)))

    # ------------------------------------------------------------------ the thread

    def _live(self) -> None:
        try:
            self._generator = self._load()
            self._warm_up()
            with self._changed:
                if self.state == "loading":
                    self.state = "ready"
            self._post(self._ended)
            while self._wait():
                self._turn()
            self.state = "stopped"
        except BaseException as error:
            self.error, self.state = error, "failed"
            if not isinstance(error, TextmillError):
                log.error("the model has failed", exc_info=error)
            self._fail_all()
            self._post(self._ended)

    def _wait(self) -> bool:
        """Until there is something to do; False: there is nothing more, ever."""
        with self._changed:
            while not self._queue and not self._writing:
                if self.state == "draining":
                    return False
                self._changed.wait()
        return True

    def _turn(self) -> None:
        """Let go of what has gone, admit what fits, make some steps, and tell."""
        self._drop()
        self._admit()
        for slots in self._pools:
            if slots.writing:
                self._step(slots)
        self._tell()
        self.metrics.occupied(len(self._writing), len(self._queue))

    def _warm_up(self) -> None:
        """Make the pools and compile everything that a request can need."""
        from textmill.models.sample import MOST_LIKELIEST
        from textmill.serving.controls import ServedControls

        started = time.monotonic()
        generator = self.generator
        small = SMALL_POOLS if generator.decoder.fixed_shapes else ()
        sizes = [size for size in small if size < self._most] + [self._most]
        pools = {slots.size: slots for slots in (generator.slots(size) for size in sizes)}
        for slots in pools.values():
            slots.controls = ServedControls.neutral(slots.size)
            self._compile(slots)
        self._pools = sorted(pools.values(), key=lambda slots: slots.size)
        self._most = min(self._most, self._pools[-1].size)  # more in the small ones would slow all down
        self._most_streamed = self._streamed_at_once()
        for length in self._lengths():  # prompts are scored in a pool of their own
            for most in (0, MOST_LIKELIEST):
                generator.likeliest(np.zeros(length, np.int32), most)
        sizes_made = ", ".join(str(slots.size) for slots in self._pools)
        seconds = time.monotonic() - started
        log.info(
            "warmed up pools of %s slots in %.1f s; streaming %d texts at once",
            sizes_made,
            seconds,
            self._most_streamed,
        )

    def _streamed_at_once(self) -> int:
        """Most texts that are streamed side by side: with more, each would be written too slowly. The others wait; on a
        processor that is busy with these already they would not be done later."""
        steps = {}
        for count in range(1, self._most + 1):
            slots = next(slots for slots in self._pools if slots.size >= count)
            steps[count] = self._paces[slots].step(count)
        slowest = max(STREAM_GAP, STREAM_SLOWER * steps[1])
        return max((count for count, seconds in steps.items() if seconds <= slowest), default=1)

    def _compile(self, slots: Slots) -> None:
        from textmill.serving.controls import VARIANTS

        pool, size = slots.pool, slots.size
        for length in self._lengths() if self.generator.context else ():
            pool.read(0, np.zeros(length, np.int32), scored=False)
        none = np.zeros(size, np.bool_), np.zeros(size, np.int32)
        for variant in VARIANTS:
            slots.controls.set(
                0,
                temperature=0.5,
                top_k=int(variant.top_k),
                top_p=0.5 if variant.top_p else 1.0,
                penalty=2.0 if variant.penalised else 1.0,
                likeliest=int(variant.likeliest),
            )
            forced, u = np.full((1, size), -1, np.int32), np.zeros((1, size), np.float32)
            pool.run(*none, forced, u, slots.controls)
            slots.controls.set(0, **NEUTRAL)
        few, many = ((count, *self._timed(slots, count)) for count in (1, size))
        self._paces[slots] = _Pace(few, many)

    def _lengths(self) -> Iterator[int]:
        """Of prompts, so that all that they need is compiled."""
        generator, length = self.generator, 2
        yield length
        while generator.decoder.fixed_shapes and length < generator.context:
            length = min(2 * length, generator.context)
            yield length

    def _timed(self, slots: Slots, count: int) -> tuple[float, float]:
        """Seconds that 1 and TRIED steps in so many slots take: the best of three."""
        size, pool = slots.size, slots.pool
        found: dict[int, list[float]] = {1: [], TRIED: []}
        fresh, first = np.zeros(size, np.bool_), np.zeros(size, np.int32)
        for steps in list(found) * 3:
            for slot in range(count):
                if self.generator.context:
                    pool.read(slot, first[:1], scored=False)
                else:
                    fresh[slot] = True
            forced, u = np.full((steps, size), -1, np.int32), np.zeros((steps, size), np.float32)
            started = time.perf_counter()
            pool.run(fresh, first, forced, u, slots.controls)
            found[steps].append(time.perf_counter() - started)
        for slot in range(size):
            pool.rest(slot)
        return min(found[1]), min(found[TRIED])

    # ------------------------------------------------------------------ joining and leaving

    def _drop(self) -> None:
        """Free the slots of those who went away, and end what is too late."""
        now = time.monotonic()
        for slots in self._pools:
            for i, draft in slots.writing:
                writing = self._writing[draft]
                if writing.order.gone:
                    self._release(slots, i)
                    self.metrics.ended("gone")
                elif self._cut or now > writing.order.deadline:
                    draft.end(self._cut or "deadline")
                    self._finish(slots, i, writing)
        if not self._queue:
            return
        with self._changed:
            kept = [w for w in self._queue if not self._refused(w, now)]
            self._queue.clear()
            self._queue.extend(kept)

    def _refused(self, writing: Writing, now: float) -> bool:
        """Whether a text that waits is not to be written any more; its order is told."""
        order = writing.order
        if order.gone:
            return True
        if not self._cut and now <= order.deadline:
            return False
        order.gone = True
        why = "the service is shutting down" if self._cut else "no slot became free in time"
        self._news.append((order, Failed(f"{why}; try again later.", late=True)))
        self.metrics.ended("refused")
        return True

    def _admit(self) -> None:
        """Give free slots to those who wait, first come, first served; of prompts so many tokens at most."""
        read, most = 0, STREAM_READ if self._streamed else READ_TOKENS
        with self._changed:
            waiting = [writing.order.pieces for writing in self._queue]
        more = min(sum(waiting), max(0, self._most_streamed - self._streamed)) + waiting.count(False)
        wanted = len(self._writing) + more
        target = next((s.size for s in self._pools if s.size >= wanted), self._pools[-1].size)
        if self._queue:
            self._gather(target)
        while self._queue and read < most:
            free = [slots for slots in self._pools if slots.free]
            if not free or len(self._writing) >= self._most:
                return
            slots = min(free, key=lambda slots: (slots.size != target, -slots.size))
            writing = self._next()
            if writing is None:
                return
            read += len(writing.draft.ids)
            self._seat(slots, writing)

    def _next(self) -> Writing | None:
        """The one that has waited longest, without those that would be streamed while enough are."""
        enough = self._streamed >= self._most_streamed
        with self._changed:
            for writing in self._queue:
                if not (writing.order.pieces and enough):
                    self._queue.remove(writing)
                    return writing
        return None

    @property
    def _streamed(self) -> int:
        """Texts in slots that are streamed."""
        return sum(writing.order.pieces for writing in self._writing.values())

    def _gather(self, target: int) -> None:
        """Let those who have hardly begun in a smaller pool start again with the others, in the one of `target`."""
        now = time.monotonic()
        again: list[Writing] = []
        room = next(slots.free for slots in self._pools if slots.size == target)
        for slots in self._pools:
            for i, draft in slots.writing if slots.size < target else ():
                writing = self._writing[draft]
                if len(again) < room and now - writing.seated < YOUNG and writing.log is None:
                    self._release(slots, i)
                    again.append(writing)
        for writing in reversed(again):
            writing.skip, writing.taken = writing.skip + writing.taken, 0
            writing.draft = self._anew(writing.draft)
            with self._changed:
                self._queue.appendleft(writing)

    def _anew(self, draft: Draft) -> Draft:
        return self.generator.draft(draft.index, draft.prompt, draft.settings)

    def _seat(self, slots: Slots, writing: Writing) -> None:
        order, draft, now = writing.order, writing.draft, time.monotonic()
        if order.log_tokens:
            self._open_log(writing)
        if order.pieces and writing.shown is None:
            writing.shown = self.generator.shown(draft)
        slots.seat(draft)
        self._writing[draft] = writing
        if not writing.seated:
            self.metrics.started(now - order.arrived, len(draft.ids))
            writing.seated = time.monotonic()

    def _open_log(self, writing: Writing) -> None:
        draft, with_prompt = writing.draft, writing.order.log_tokens == 2
        draft.kept = Kept(writing.order.likeliest)
        writing.log = TokenLog(self.generator.tokenizer, draft.ids, draft.kept, with_prompt)
        if with_prompt:
            scores, others = self.generator.likeliest(draft.ids, draft.kept.likeliest)
            writing.tokens = writing.log.prompt(scores.tolist(), others)

    def _release(self, slots: Slots, slot: int) -> None:
        draft = slots.drafts[slot]
        assert draft is not None
        slots.release(slot)
        slots.controls.set(slot, **NEUTRAL)
        del self._writing[draft]

    # ------------------------------------------------------------------ stepping

    def _step(self, slots: Slots) -> None:
        drafts = [draft for _, draft in slots.writing]
        writings, settled = [self._writing[draft] for draft in drafts], time.monotonic() - SETTLED
        often = any(writing.order.pieces or writing.seated > settled for writing in writings)
        most = self._paces[slots].steps(len(drafts), often)
        if not self.generator.context:
            most = max(most, *(draft.prompt_left() for draft in drafts))
        drawn = slots.advance(most)
        self.metrics.stepped(drawn)
        for i, draft in slots.writing:
            self._tell_of(slots, i, self._writing[draft])

    def _tell_of(self, slots: Slots, slot: int, writing: Writing) -> None:
        order, draft, now = writing.order, writing.draft, time.monotonic()
        if draft.tokens and not writing.skip:
            if writing.told:
                self.metrics.between(now - writing.told)
            else:
                self.metrics.first(now - order.arrived)
            writing.told = now
        if writing.shown is not None:
            piece = self._take(writing)
            text = writing.shown.feed(piece) if piece else ""
            if text and not order.score_only:
                self._news.append((order, Piece(writing.number, text, self._tokens_told(writing))))
            if writing.shown.reason and not draft.finish_reason:
                draft.end(writing.shown.reason)
        if draft.finish_reason:
            self._finish(slots, slot, writing)

    def _take(self, writing: Writing) -> str:
        """The text that came since the last time, without what was told before a new start."""
        text = writing.draft.take_text()
        writing.taken += len(text)
        if writing.skip:
            over = min(writing.skip, len(text))
            text, writing.skip = text[over:], writing.skip - over
        return text

    def _tokens_told(self, writing: Writing, last: bool = False) -> Sequence[Any]:
        if writing.log is None:
            return ()
        before = len(writing.draft.shown_prompt) if writing.order.log_tokens == 2 else 0
        first, writing.tokens = writing.tokens, []
        if writing.order.score_only:
            return first
        characters = writing.draft.characters if last else writing.taken
        return [*first, *writing.log.told(before + characters, last=last)]

    def _finish(self, slots: Slots, slot: int, writing: Writing) -> None:
        """A text has ended: free its slot and tell its order."""
        order, draft = writing.order, writing.draft
        self._release(slots, slot)
        if writing.shown is not None and not writing.shown.reason:
            rest = writing.shown.feed(self._take(writing)) + writing.shown.close()
            if rest and not order.score_only:
                self._news.append((order, Piece(writing.number, rest)))
        tokens = self._tokens_told(writing, last=True)
        text = self.generator.finished(draft)
        if writing.shown is not None:
            text = replace(text, finish_reason=writing.shown.reason or draft.finish_reason)
        if order.score_only:
            before = draft.shown_prompt if draft.settings.include_prompt else ""
            if order.pieces and before:
                self._news.append((order, Piece(writing.number, before)))
            text = replace(text, completion="", text=before, tokens=0, finish_reason="length")
        self._news.append((order, Done(writing.number, text, len(draft.ids), tokens)))
        seconds = time.monotonic() - order.arrived
        self._usual += 0.1 * (seconds - self._usual)
        self.metrics.ended(text.finish_reason, seconds)

    def _tell(self) -> None:
        news, self._news = self._news, []
        if news:
            self._post(lambda: _hand_out(news))

    def _fail_all(self) -> None:
        self._tell()
        with self._changed:
            orders = {w.order for w in (*self._writing.values(), *self._queue) if not w.order.gone}
            self._queue.clear()
        self._writing.clear()
        self._news = [
            (order, Failed("the model has failed; the service's log says why.")) for order in orders
        ]
        self._tell()


def _hand_out(news: list[tuple[Order, Event]]) -> None:
    for order, event in news:
        order.tell(event)
