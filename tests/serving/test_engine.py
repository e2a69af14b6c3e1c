"""Continuous batching: the same text in any company, nothing compiled on the way, slots that are freed, bounds."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numba.core.event
import pytest

from tests.serving.running import wait_until
from textmill.serving import engine as engine_module
from textmill.serving.engine import Busy, Closed, Engine
from textmill.serving.orders import Done, Event, Failed, Order, Piece
from textmill.writing.generator import Generator
from textmill.writing.settings import GenerateSettings

CONTROLS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 0.0},
    {"top_k": 5, "temperature": 1.3},
    {"top_p": 0.8},
    {"repetition_penalty": 1.3, "top_k": 9},
]


@contextlib.contextmanager
def started(generator: Generator, **values: Any) -> Iterator[Engine]:
    engine = Engine(lambda: generator, **{"slots": 4, **values})
    engine.start()
    wait_until(lambda: engine.state != "loading", "not ready")
    assert engine.state == "ready", engine.error
    yield engine
    engine.drain()
    engine.cut("shutdown")
    assert engine.join(60)


class Asker:
    """Asks the engine and keeps what it tells."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.events = engine, []  # type: Engine, list[Event]
        self.changed = threading.Event()

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self.changed.set()

    def ask(
        self, *prompts: str, pieces: bool = False, seconds: float = 600, log_tokens: int = 0, **values: Any
    ) -> Order:
        generator = self.engine.generator
        settings = GenerateSettings.of(**{"length": 40, "stop_at_end": False, **values})
        drafts = [generator.draft(i, prompt, settings) for i, prompt in enumerate(prompts)]
        self.texts = len(drafts)
        order = Order(drafts, self.tell, time.monotonic() + seconds, pieces=pieces, log_tokens=log_tokens)
        self.engine.submit(order)
        return order

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def done(self) -> list[Any]:
        wait_until(lambda: len(self.of(Done)) == self.texts or bool(self.of(Failed)), "no end")
        assert not self.of(Failed), self.of(Failed)
        return sorted(self.of(Done), key=lambda done: done.number)

    def streamed(self) -> str:
        self.done()
        return "".join(piece.text for piece in self.of(Piece))


def offline(generator: Generator, prompt: str, **values: Any) -> str:
    settings = GenerateSettings.of(**{"length": 40, "stop_at_end": False, **values})
    return generator.generate([prompt], settings)[0].text


@pytest.fixture(scope="module", params=["characters", "words", "pairs"])
def generator(request: pytest.FixtureRequest) -> Generator:
    found: Generator = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def engine(generator: Generator) -> Iterator[Engine]:
    with started(generator) as found:
        yield found


# --- the same text


def test_a_text_is_the_offline_generators_whatever_is_written_beside_it(
    engine: Engine, generator: Generator
) -> None:
    prompts = ["ab", "", "the and the", "a" * 15]
    asked = []
    for (i, controls), prompt in itertools.product(enumerate(CONTROLS), prompts):
        asker, length = Asker(engine), 10 + 9 * i
        asker.ask(prompt, pieces=i % 2 == 0, seed=i, length=length, **controls)
        asked.append((asker, prompt, {**controls, "seed": i, "length": length}))
    for asker, prompt, values in asked:
        wanted = offline(generator, prompt, **values)
        [done] = asker.done()
        assert (asker.streamed() or done.text.text) == wanted, (prompt, values)
        assert done.text.tokens == values["length"]


def test_texts_of_one_order_are_those_of_one_offline_run(engine: Engine, generator: Generator) -> None:
    asker = Asker(engine)
    asker.ask("a", "a", "b", seed=5)
    settings = GenerateSettings.of(length=40, stop_at_end=False, seed=5)
    wanted = [text.text for text in generator.generate(["a", "a", "b"], settings)]
    assert [done.text.text for done in asker.done()] == wanted
    assert len(set(wanted)) == 3


def test_a_text_longer_than_the_context_is_the_same(engine: Engine, generator: Generator) -> None:
    asker = Asker(engine)
    asker.ask("ab", length=90, pieces=True)
    assert asker.streamed() == offline(generator, "ab", length=90)


def test_a_text_that_starts_again_in_a_larger_pool_is_told_once(engine: Engine, generator: Generator) -> None:
    """Four come one after the other, so that those who began in the pool of two move."""
    askers = [Asker(engine) for _ in range(4)]
    for i, asker in enumerate(askers):
        asker.ask("ab", pieces=True, length=600, seed=i)
        wait_until(lambda: bool(asker.events), "no piece")  # noqa: B023
    for i, asker in enumerate(askers):
        assert asker.streamed() == offline(generator, "ab", length=600, seed=i)


def test_a_finished_text_is_finished_alike_streamed_or_not(engine: Engine, generator: Generator) -> None:
    for values in (
        {"whole_sentences": True, "recapitalize": True, "length": 120},
        {"sentences": 1, "length": 300},
        {"most_characters": 30, "include_prompt": False},
    ):
        wanted = offline(generator, "ab", **values)
        streamed, whole = Asker(engine), Asker(engine)
        streamed.ask("ab", pieces=True, **values)
        whole.ask("ab", **values)
        assert whole.done()[0].text.text == wanted
        assert streamed.streamed() == wanted
        assert streamed.done()[0].text.finish_reason == whole.done()[0].text.finish_reason


def test_a_stop_string_ends_a_text_in_the_middle_of_a_step(engine: Engine, generator: Generator) -> None:
    whole = offline(generator, "ab", length=150, render="plain", include_prompt=False)
    stop = whole[70:73]
    asker = Asker(engine)
    asker.ask("ab", pieces=True, length=150, stop=[stop], render="plain", include_prompt=False)
    assert asker.streamed() == whole[: whole.index(stop)]
    assert asker.done()[0].text.finish_reason == "stop"


# --- nothing is compiled on the way


class Compilations(numba.core.event.Listener):
    """What XLA and Numba compile while it is entered."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, event: Any) -> None:
        self.names.append(str(event.data["dispatcher"]))

    def on_end(self, event: Any) -> None:
        pass

    def _by_xla(self, name: str, seconds: float, **_: Any) -> None:
        if "backend_compile" in name:
            self.names.append(name)

    def __enter__(self) -> Compilations:
        jax.monitoring.register_event_duration_secs_listener(self._by_xla)
        numba.core.event.register("numba:compile", self)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._by_xla)
        numba.core.event.unregister("numba:compile", self)


def test_compilations_are_seen() -> None:
    with Compilations() as compiled:
        jax.jit(lambda x: x + 3.25)(1.0)
        assert len(compiled.names) == 1
        numba.njit(lambda x: x + 3.25)(1.0)
        assert len(compiled.names) == 2


def test_nothing_is_compiled_after_the_warm_up(engine: Engine) -> None:
    with Compilations() as compiled:
        askers = []
        for i, controls in enumerate(CONTROLS * 2):
            askers.append(Asker(engine))
            askers[-1].ask("the" * i, "", pieces=i % 3 == 0, log_tokens=i % 3, render="plain", **controls)
        for asker in askers:
            asker.done()
        assert not compiled.names


# --- slots, queue, time


def test_who_goes_away_frees_the_slots_at_once_and_others_go_on(engine: Engine, generator: Generator) -> None:
    gone, stays = Asker(engine), Asker(engine)
    order = gone.ask("ab", "cd", "e", length=10**6, pieces=True)
    wait_until(lambda: engine.running == 3, "not written")
    stays.ask("ab", length=3000)
    order.leave()
    wait_until(lambda: engine.running <= 1, "the slots are not freed")
    assert stays.done()[0].text.text == offline(generator, "ab", length=3000)
    assert not gone.of(Done)


def test_who_goes_away_while_waiting_is_never_written(engine: Engine) -> None:
    writing, waiting = Asker(engine), Asker(engine)
    first = writing.ask(*["ab"] * 4, length=10**6)
    wait_until(lambda: engine.running == 4, "not written")
    second = waiting.ask("cd")
    second.leave()
    first.leave()
    wait_until(lambda: engine.running == engine.waiting == 0, "not empty")
    assert not waiting.events


def test_the_deadline_cuts_a_text_and_refuses_one_that_waits(engine: Engine, generator: Generator) -> None:
    writing, waiting = Asker(engine), Asker(engine)
    writing.ask(*["ab"] * 4, length=10**5, seconds=1.0)
    wait_until(lambda: engine.running == 4, "not written")
    waiting.ask("cd", seconds=0.0)
    wait_until(lambda: bool(waiting.events), "not refused")
    assert isinstance(waiting.events[0], Failed)
    assert waiting.events[0].late
    done = writing.done()
    assert {d.text.finish_reason for d in done} == {"deadline"}
    cut = done[0].text
    assert 0 < cut.tokens < 10**5
    assert cut.text == offline(generator, "ab", length=cut.tokens)


def test_the_queue_is_bounded(generator: Generator) -> None:
    with started(generator, slots=2, queue=3) as engine:
        first = Asker(engine).ask("ab", "ab", length=10**6)
        wait_until(lambda: engine.running == 2, "not written")
        second = Asker(engine).ask("ab", "ab")
        with pytest.raises(Busy) as busy:
            Asker(engine).ask("ab", "ab")
        assert 1 <= busy.value.wait <= 60
        third = Asker(engine).ask("ab")
        for order in (first, second, third):
            order.leave()


def test_a_whole_order_may_be_larger_than_the_bound_when_nobody_waits(characters: Generator) -> None:
    with started(characters, slots=2, queue=3) as engine:
        asker = Asker(engine)
        asker.ask(*["ab"] * 5)
        assert len(asker.done()) == 5


def test_so_many_are_streamed_at_once_that_each_goes_on_well(
    monkeypatch: pytest.MonkeyPatch, characters: Generator
) -> None:
    monkeypatch.setattr(engine_module, "STREAM_GAP", 0.0)
    monkeypatch.setattr(engine_module, "STREAM_SLOWER", 0.0)
    with started(characters) as engine:
        streamed = [Asker(engine) for _ in range(3)]
        orders = [asker.ask("ab", length=10**6, pieces=True) for asker in streamed]
        whole = Asker(engine)
        orders.append(whole.ask("ab", length=10**6))
        wait_until(lambda: engine.running == 2, "not written")
        assert engine.waiting == 2
        wait_until(lambda: bool(streamed[0].events), "no piece")
        assert not streamed[1].events
        assert not streamed[2].events
        orders[0].leave()
        wait_until(lambda: bool(streamed[1].events), "no piece")
        assert not streamed[2].events
        for order in orders:
            order.leave()


def test_while_a_text_is_streamed_prompts_are_read_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, characters: Generator
) -> None:
    """It would stand still while they are read; where nobody watches, all are read at once."""
    monkeypatch.setattr(engine_module, "STREAM_READ", 1)
    with started(characters) as engine:
        seated: list[int] = []
        admit = engine._admit

        def counted() -> None:
            before = len(engine._writing)
            admit()
            seated.append(len(engine._writing) - before)

        monkeypatch.setattr(engine, "_admit", counted)
        streamed, others = Asker(engine), Asker(engine)
        order = streamed.ask("ab", length=10**6, pieces=True)
        wait_until(lambda: bool(streamed.events), "no piece")
        seated.clear()
        more = others.ask("ab", "ba", "bb", length=10**6)
        wait_until(lambda: engine.running == 4, "not written")
        assert max(seated) == 1
        order.leave()
        more.leave()
        wait_until(lambda: engine.running == 0, "not let go")
        seated.clear()
        more = others.ask("ab", "ba", "bb", length=10**6)
        wait_until(lambda: engine.running == 3, "not written")
        assert max(seated) == 3
        more.leave()


@pytest.mark.parametrize(
    ("steps", "most"),
    [((0.001, 0.01), 8), ((0.010, 0.040), 2), ((0.100, 0.110), 8), ((0.100, 0.900), 1), ((0.1, 0.275), 3)],
)
def test_more_are_streamed_while_a_step_is_short_or_hardly_longer_than_ones_own(
    characters: Generator, steps: tuple[float, float], most: int
) -> None:
    with started(characters, slots=8) as engine:
        one, all_of_them = (
            (start, seconds * engine_module.TRIED) for start, seconds in zip(steps, steps, strict=True)
        )
        engine._paces[engine._pools[0]] = engine_module._Pace((1, *one), (8, *all_of_them))
        assert engine._streamed_at_once() == most


# --- the end


def test_draining_ends_what_was_taken_and_takes_no_more(characters: Generator) -> None:
    with started(characters) as engine:
        asker = Asker(engine)
        asker.ask(*["ab"] * 7, length=500)
        engine.drain()
        with pytest.raises(Closed):
            Asker(engine).ask("ab")
        assert {done.text.tokens for done in asker.done()} == {500}
        assert engine.join(60)
        assert engine.state == "stopped"


def test_a_cut_ends_texts_where_they_are_and_refuses_the_queue(characters: Generator) -> None:
    with started(characters) as engine:
        writing, waiting = Asker(engine), Asker(engine)
        writing.ask(*["ab"] * 4, length=10**6)
        wait_until(lambda: engine.running == 4, "not written")
        waiting.ask("ab")
        engine.drain()
        engine.cut("shutdown")
        assert {done.text.finish_reason for done in writing.done()} == {"shutdown"}
        wait_until(lambda: bool(waiting.of(Failed)), "not refused")
        assert engine.join(60)


def test_a_model_that_fails_is_told_to_everyone_and_the_engine_says_so(characters: Generator) -> None:
    with started(characters) as engine:
        asker = Asker(engine)
        asker.ask("ab", length=10**6)
        wait_until(lambda: engine.running == 1, "not written")

        def fail(*_: Any) -> Any:
            raise RuntimeError("secret words of the machine")

        for slots in engine._pools:
            slots.pool.run = fail
        wait_until(lambda: bool(asker.of(Failed)), "not told")
        assert "secret" not in asker.of(Failed)[0].message
        wait_until(lambda: engine.state == "failed", "not failed")
        with pytest.raises(Closed):
            Asker(engine).ask("ab")


def test_a_model_that_cannot_be_loaded_fails(characters: Generator) -> None:
    def load() -> Generator:
        raise ValueError("no such model")

    engine, ended = Engine(load), threading.Event()
    engine.start(ended.set)
    assert ended.wait(60)
    assert engine.state == "failed"
    assert isinstance(engine.error, ValueError)
