"""dataset -> checkpoint: the training loop, one file, read from top to bottom.

Everything that the next step depends on lies in a `State` (weights, optimizer slots, carried hidden state, step and a
few facts); the batch of a step and its dropout masks are functions of (seed, step). So a run that is killed at any
moment and started again ends with the same losses and the same weights, bit for bit, on the same machine.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from textmill import manifest
from textmill.checkpoints.base_model import BaseModel, open_base
from textmill.checkpoints.checkpoint import (
    State,
    Tensors,
    latest_state,
    load_model,
    newest_step,
    read_metrics,
    save_details,
    save_model,
    save_state,
)
from textmill.checkpoints.published import continue_from
from textmill.checkpoints.publishing import Publishes, open_publisher
from textmill.datasets.dataset import Dataset, read_dataset
from textmill.errors import InputError, Interrupted
from textmill.files import new_folder, replacing, write_bytes, write_json
from textmill.holding import on_signals
from textmill.models import get_model
from textmill.progress import Progress
from textmill.stores import open_store
from textmill.training import log_lines as lines
from textmill.training.family import Progressed, Training
from textmill.training.settings import TrainSettings, identity_of, plan
from textmill.training.tensorboard import ScalarWriter

log = logging.getLogger("textmill.train")


def train(
    dataset: Path,
    checkpoint: Path,
    settings: TrainSettings | None = None,
    base: Path | None = None,
    resume_from: Path | None = None,
) -> dict[str, Any]:
    """Train on the dataset folder; write the checkpoint folder; return the main figures.

    Goes on from `checkpoint`'s newest whole state, or from a newer one that was published below settings.publish_uri;
    where there is none, from the newest state of `resume_from` (or settings.resume_from). A new training starts from
    the model in `base` (or settings.base), or from fresh weights. With TEXTMILL_STATE_ROOT set, the work is done in a
    folder below it named by the dataset and the settings, and copied to `checkpoint` at the end: so a pipeline that is
    run again, with a new output folder each time, goes on too.

    Raises InputError (settings, too little text, too little memory, a base of another tokenizer, a state of another
    run, a loss that is not finite) and Interrupted (after saving) on SIGINT and SIGTERM.
    """
    told = settings or TrainSettings()
    checkpoint = Path(checkpoint)
    source = read_dataset(Path(dataset))
    start = base or told.base
    model = open_base(Path(start), get_model(told.model)) if start else None
    config, schedule = plan(told, source, model)
    identity = identity_of(told, config, schedule, source, model)

    def run(folder: Path) -> dict[str, Any]:
        if told.engine == "gpt-2-simple":
            from textmill.training.gpt2_simple import train_with_gpt2_simple

            if told.publish_uri or told.resume_from or resume_from:
                log.warning(
                    "engine gpt-2-simple neither publishes nor goes on from another checkpoint's state"
                )
            return train_with_gpt2_simple(Path(dataset), folder, told, base)
        with open_publisher(told.publish_uri, folder, told.keep) as publisher:
            publisher.begin(afresh=told.resume == "never")
            earlier = _bring_earlier(str(resume_from or told.resume_from), folder, told)
            return _Run(source, folder, told, config, schedule, identity, model, publisher, earlier).run()

    root = os.environ.get("TEXTMILL_STATE_ROOT")
    if not root:
        return run(checkpoint)
    work = Path(root) / f"{told.model}-{identity['key']}"
    figures = run(work)
    with new_folder(checkpoint) as beside:
        shutil.copytree(work, beside, dirs_exist_ok=True)
    return figures


def _bring_earlier(place: str, checkpoint: Path, settings: TrainSettings) -> dict[str, str]:
    """Copy an earlier run's newest state to a folder that has none of its own; return what it was.

    Raises FolderError where the place holds none.
    """
    if not place or settings.resume == "never" or newest_step(checkpoint) is not None:
        return {}
    store = open_store(place)
    continue_from(store, checkpoint)
    found = {"sha256": manifest.digest_of(checkpoint)}
    log.info("going on from the checkpoint in %s (sha256 %s)", store.label, found["sha256"][:12])
    return {**found, "uri": store.label} if "://" in place else found


class _Run:
    """One process's share of a training run."""

    def __init__(
        self,
        source: Dataset,
        checkpoint: Path,
        settings: TrainSettings,
        config: Any,
        schedule: Any,
        identity: dict[str, Any],
        base: BaseModel | None,
        publisher: Publishes,
        earlier: dict[str, str],
    ) -> None:
        self.source, self.checkpoint, self.settings = source, checkpoint, settings
        self.publisher, self.earlier = publisher, earlier
        self.config, self.schedule, self.identity, self.base = config, schedule, identity, base
        self.family = get_model(settings.model)
        self.unigram = source.report.get("unigram", {})
        self.progressed = Progressed()
        self.step = 0

    # ------------------------------------------------------------------ the loop

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        self._begin(self._previous_state())
        training, now = self.training, self.progressed
        last_step = self.settings.max_steps or training.last_step
        window = _Window(training.tokens_at(self.step))
        saved = self.began = time.monotonic()
        deadline = started + self.settings.max_minutes * 60 if self.settings.max_minutes else math.inf
        if now.finished or self.step >= last_step:
            log.info("already trained to step %d: nothing left to do (resume=never starts afresh)", self.step)

        def due(every: int) -> bool:
            return bool(every) and self.step % every == 0

        unit = lines.UNITS[training.speed_unit]
        bar = Progress("train", training.tokens_at(last_step), unit, training.tokens_at(self.step))
        with bar as self.bar, _stopping() as stop:
            while self.step < last_step and not now.finished:
                self._say(training.before(self.engine, self.step, now))
                rate = training.learning_rate(self.step)
                x, y = training.batches.batch(self.step)
                seen = training.look(self.engine, self.step, x, y)
                loss, accuracy = self.engine.train_step(x, y, step=self.step, learning_rate=rate)
                if not math.isfinite(loss):
                    raise InputError(
                        f"the loss became {loss} at step {self.step + 1}: lower learning_rate (now {rate:g}) or set "
                        f"max_grad_norm; the states saved before it in {self.checkpoint / 'state'} are whole."
                    )
                self.step += 1
                now.count(loss)
                self.bar.advance(self._tokens_seen() - training.tokens_at(self.step - 1), f"loss {loss:.3f}")

                if due(training.scalar_every):
                    self.training_scalars.add(self.step, training.scalars(loss, accuracy))
                if due(training.log_every):
                    self._log(loss, accuracy, rate, window.rate(self._tokens_seen()))
                self._say(training.after(self.step, now, loss, accuracy, seen))
                out_of_time = time.monotonic() >= deadline
                if due(training.validate_every) or self.step == last_step or out_of_time:
                    with window.paused():
                        self._validate()
                if due(training.sample_every) or self.step == last_step:
                    with window.paused():
                        self._sample()

                save = due(self.settings.save_every_steps)
                if save or stop.requested or out_of_time or self._minutes(saved):
                    with window.paused():
                        self._save()
                    saved = time.monotonic()
                if stop.requested:
                    raise Interrupted(
                        f"stopped at step {self.step:,} of {last_step:,}; saved in {self.checkpoint}. "
                        "Give the same command again to go on from there."
                    )
                if out_of_time:
                    log.info("max_minutes is over: stopping at step %d of %d", self.step, last_step)
                    break
            return self._finish(started, window)

    # ------------------------------------------------------------------ begin, go on

    def _previous_state(self) -> State | None:
        if self.settings.resume == "never":
            for name in ("state", "tensorboard", "samples", "tokenizer"):
                shutil.rmtree(self.checkpoint / name, ignore_errors=True)
            (self.checkpoint / "metrics.jsonl").unlink(missing_ok=True)
            return None
        state = latest_state(self.checkpoint)
        if state is None:
            return None
        there = state.facts["identity"]
        for what in ("dataset", "tokenizer", "base", "settings"):
            if there.get(what) != self.identity.get(what) and self.settings.resume != "changed":
                other = (
                    f"{'other' if what == 'settings' else 'another'} {what}{self._difference(state, what)}"
                )
                raise InputError(
                    f"{self.checkpoint} holds a run with {other}. Choose another checkpoint folder, or resume=changed "
                    "to go on with what is here, or resume=never to start afresh."
                )
        return state

    def _difference(self, state: State, what: str) -> str:
        if what != "settings":
            return ""
        old, new = _flat(state.facts["identity"][what]), _flat(self.identity[what])
        changed = [
            f"{k}: {old.get(k)} there, {new.get(k)} here"
            for k in sorted(old | new)
            if old.get(k) != new.get(k)
        ]
        return f" ({'; '.join(changed)})"

    def _begin(self, previous: State | None) -> None:
        kind, before = self.family.training(), previous.facts if previous else None
        self.schedule = kind.settle(self.schedule, self.config, self.settings, before)
        self.training: Training = kind(self.source, self.config, self.schedule, self.settings)
        self.engine = self.family.engine(self.settings.backend)(
            self.config,
            batch_size=self.schedule.batch_size,
            num_steps=self.schedule.num_steps,
            seed=self.settings.seed,
            precision=previous.facts["engine"]["precision"] if previous else self.settings.precision,
            **self.training.engine_settings(),
        )
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        if previous is not None:
            self.engine.restore(previous.weights, previous.slots, previous.carried)
            self.step = previous.step
            self.progressed = Progressed(**previous.facts["progressed"])
            self.earlier = self.earlier or previous.facts.get("earlier", {})
            if previous.facts["identity"]["dataset"] != self.identity["dataset"]:
                # The scores of another text compare with nothing here.
                self.progressed.best, self.progressed.worse = {}, 0
            if self.settings.max_steps or self.step < self.training.last_step:
                self.progressed.finished = False
        elif self.base is not None:
            self.engine.restore(self.base.weights())
        self._cut_metrics(self.step)
        board = self.checkpoint / "tensorboard"
        self.training_scalars = ScalarWriter(board / "training", self.step)
        self.validation_scalars = ScalarWriter(board / "validation", self.step)
        self.metrics = open(self.checkpoint / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.parameters = self.family.parameter_count(self.config)
        self._tokens = {split: len(self.source.tokens(split)) for split in ("train", "valid", "test")}
        log.info(
            "%s %s: %s parameters; %s",
            self.settings.model,
            self.settings.preset,
            f"{self.parameters:,}",
            _spell(self.engine.describe()),
        )
        print(self.training.headline(self._tokens), flush=True)
        if previous is not None:
            log.info("going on from step %s (%s)", f"{self.step:,}", self.checkpoint / "state")
        elif self.base is not None:
            log.info("starting from %s (sha256 %s)", self.base.folder, self.base.digest[:12])
        if previous is not None and self.earlier != previous.facts.get("earlier", {}):
            self._save()  # another run's state, from here on this one's

    # ------------------------------------------------------------------ once in a while

    def _log(self, loss: float, accuracy: float, rate: float, speed: float) -> None:
        now = self.progressed
        self._say(self.training.progress(self.step, now, loss, speed, self._seconds()))
        self._record("train", loss, accuracy, learning_rate=rate, tokens_per_second=speed)

    def _validate(self) -> None:
        if self._tokens["valid"] < 2:
            self._keep_model({"step": self.step})
            return
        loss, accuracy = self.training.score(self.engine, "valid")
        unigram = self.unigram.get("valid", {}).get("loss")
        self._say(self.training.validated(self.step, loss, accuracy, unigram, self._seconds()))
        self._record("valid", loss, accuracy)
        self.validation_scalars.add(self.step, self.training.scalars(loss, accuracy))
        now = self.progressed
        if not now.best or loss < now.best["loss"]:
            now.best, now.worse = {"step": self.step, "loss": loss, "accuracy": accuracy}, 0
            self._keep_model(now.best)
        else:
            now.worse += 1
            if self.settings.patience and now.worse >= self.settings.patience:
                self._say(f"no better validation loss for {now.worse} validations: stopping early")
                now.finished = True

    def _sample(self) -> None:
        text = self.training.sample(self.engine, self.step)
        if text:
            self._say(self.training.shown(self.step, text))
            write_bytes(self.checkpoint / "samples" / f"step-{self.step:08d}.txt", text.encode())

    # ------------------------------------------------------------------ save, end

    def _save(self, publish: bool = True) -> None:
        self.metrics.flush()
        os.fsync(self.metrics.fileno())
        self.training_scalars.flush()
        self.validation_scalars.flush()
        facts = {
            "identity": self.identity,
            "schedule": self.schedule.as_dict(),
            "engine": self.engine.describe(),
            "progressed": dataclasses.asdict(self.progressed),
        }
        if self.earlier:
            facts["earlier"] = self.earlier
        weights, slots, carried = self.engine.export()
        save_state(self.checkpoint, State(self.step, weights, slots, carried, facts), self.settings.keep)
        del weights, slots, carried
        if not self.progressed.best:
            self._keep_model({"step": self.step})
        if publish:
            self.publisher.offer(self.step)

    def _keep_model(self, scores: dict[str, Any]) -> None:
        """Make the present weights the checkpoint's model."""
        save_model(
            self.checkpoint,
            self.training.model_weights(self.engine),
            self._config(),
            self._details(scores),
            self.source.tokenizer,
            self._parents(),
        )

    def _finish(self, started: float, window: _Window) -> dict[str, Any]:
        self._save(publish=False)
        model = load_model(self.checkpoint)
        scores: dict[str, Any] = {
            k: model.details[k] for k in ("step", "loss", "accuracy") if k in model.details
        }
        test = self._test(model.weights)
        details = {
            **self._details(scores),
            "weights": model.details["weights"],
            "test": test,
            "last_step": self.step,
        }
        digest = save_details(self.checkpoint, details, self._parents())
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        figures = {
            "step": self.step,
            "tokens_seen": self._tokens_seen(),
            "parameters": self.parameters,
            "train_loss": self.progressed.last_loss,
            "tokens_per_second": window.overall(self._tokens_seen()),
            "seconds": seconds,
            "peak_memory_bytes": peak,
        }
        best = self.progressed.best
        if best:
            figures |= {
                "best_step": best["step"],
                "valid_loss": best["loss"],
                "valid_accuracy": best["accuracy"],
            }
            figures |= {"valid_perplexity": lines.perplexity(best["loss"])}
        if "valid" in self.unigram and best:
            figures["unigram_valid_perplexity"] = self.unigram["valid"]["perplexity"]
        if test:
            figures |= {"test_loss": test["loss"], "test_perplexity": test["perplexity"]}
        write_json(self.checkpoint / "run.json", figures)
        for open_file in (self.metrics, self.training_scalars, self.validation_scalars):
            open_file.close()
        self.publisher.finish(self.step)
        log.info(
            "trained to step %s in %.0f s; best model in %s (sha256 %s)",
            f"{self.step:,}",
            seconds,
            self.checkpoint,
            digest[:12],
        )
        return figures

    def _test(self, weights: Tensors) -> dict[str, Any]:
        """Score the test text once, with the kept weights; the engine, already saved, keeps them."""
        if self._tokens["test"] < 2:
            return {}
        slots = {name: np.zeros_like(slot) for name, slot in self.engine.export()[1].items()}
        self.engine.restore(weights, slots)  # zero: LoRA's updates lie among them
        loss, accuracy = self.training.score(self.engine, "test")
        unigram = self.unigram.get("test", {}).get("loss")
        self._say(lines.final_line(loss, unigram, self.training.speed_unit))
        self._record("test", loss, accuracy)
        return {"loss": loss, "accuracy": accuracy, "perplexity": lines.perplexity(loss)}

    # ------------------------------------------------------------------ small helpers

    def _say(self, text: str) -> None:
        if text:
            self.bar.write(text)

    def _seconds(self) -> float:
        """Since this process began to train."""
        return time.monotonic() - self.began

    def _minutes(self, saved: float) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - saved >= self.settings.save_every_minutes * 60

    def _record(self, kind: str, loss: float, accuracy: float, **more: float) -> None:
        record = {
            "kind": kind,
            "step": self.step,
            "epoch": self.step / self.training.batches.steps_per_epoch,
            "tokens_seen": self._tokens_seen(),
            "loss": loss,
            "accuracy": accuracy,
            "perplexity": min(lines.perplexity(loss), 1e300),
            **more,
        }
        self.metrics.write(json.dumps(record) + "\n")
        self.metrics.flush()

    def _cut_metrics(self, step: int) -> None:
        """Forget the records that a killed run wrote after its last saved state: they will be written again."""
        path = self.checkpoint / "metrics.jsonl"
        if path.exists():
            kept = [r for r in read_metrics(self.checkpoint) if r["step"] <= step and r["kind"] != "test"]
            with replacing(path, "w") as file:
                file.writelines(json.dumps(r) + "\n" for r in kept)

    def _tokens_seen(self) -> int:
        return self.training.tokens_at(self.step)

    def _config(self) -> dict[str, Any]:
        return {
            "model": self.settings.model,
            "preset": self.settings.preset,
            "config": self.config.as_dict(),
            "train": self.schedule.as_dict(),
            "seed": self.settings.seed,
            "render": str(self.source.details.get("render", "")),
            "engine": self.engine.describe(),
            "parameters": self.parameters,
        }

    def _details(self, scores: dict[str, Any]) -> dict[str, Any]:
        return {
            **scores,
            "tokens_seen": self.training.tokens_at(scores["step"]),
            "best": self.progressed.best,
            "unigram": self.unigram,
            **({"parent_uri": self.earlier["uri"]} if "uri" in self.earlier else {}),
            "vocabulary_from": self.source.report.get("vocabulary_from", ""),
            "dataset": {
                "digest": self.source.digest,
                "tokenizer": self.source.tokenizer_digest,
                "tokens": self._tokens,
            },
        }

    def _parents(self) -> dict[str, str]:
        parents = {"dataset": self.source.digest}
        if self.base:
            parents["base"] = self.base.digest
        if self.earlier:
            parents["earlier"] = self.earlier["sha256"]
        return parents


class _Window:
    """Tokens a second since the last look, with the time of validations and saves left out."""

    def __init__(self, tokens: int) -> None:
        self._first = self._tokens = tokens
        self._since = time.monotonic()
        self._paused = 0.0
        self._busy = 0.0

    def rate(self, tokens: int) -> float:
        now = time.monotonic()
        elapsed = max(now - self._since - self._paused, 1e-9)
        speed = (tokens - self._tokens) / elapsed
        self._tokens, self._since, self._paused = tokens, now, 0.0
        self._busy += elapsed
        return speed

    def overall(self, tokens: int) -> float:
        self.rate(tokens)
        return (tokens - self._first) / max(self._busy, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._paused += time.monotonic() - before


class _Stop:
    requested = False


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Turn the first SIGINT or SIGTERM into a request that the loop sees after the step; the second is immediate."""
    stop = _Stop()

    def request(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        log.warning("stopping after this step and saving; once more stops at once")

    with on_signals(request):
        yield stop


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, key).items()}


def _spell(facts: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in facts.items())
