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
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from textmill import training_log as lines
from textmill.checkpoint import (
    State,
    Tensors,
    latest_state,
    read_metrics,
    save_details,
    save_model,
    save_state,
)
from textmill.data import Streams, Tokens, evaluation_rows
from textmill.dataset import Dataset, read_dataset
from textmill.errors import InputError, Interrupted
from textmill.files import new_folder, replacing, write_bytes, write_json
from textmill.models import get_model
from textmill.models.rnn import parameter_count
from textmill.optimizers import decayed_learning_rate
from textmill.progress import Progress
from textmill.tensorboard import ScalarWriter
from textmill.train_settings import Schedule, TrainSettings, identity_of, plan

log = logging.getLogger("textmill.train")

SAMPLE_LENGTH = {"char": 400, "word": 120}
VIEW_ROWS = 8


@dataclass
class Progressed:
    """What the loop counts on its way; saved with the state."""

    best: dict[str, Any] = field(default_factory=dict)
    worse: int = 0  # validations since the best
    epoch_loss: float = 0.0  # sum over this epoch's steps of the mean loss
    epoch_steps: int = 0
    last_loss: float = 0.0
    finished: bool = False


def train(dataset: Path, checkpoint: Path, settings: TrainSettings | None = None) -> dict[str, Any]:
    """Train on the dataset folder; write the checkpoint folder; return the main figures.

    Goes on from `checkpoint`'s newest whole state if there is one. With TEXTMILL_STATE_ROOT set, the work is done in a
    folder below it named by the dataset and the settings, and copied to `checkpoint` at the end: so a pipeline that is
    run again, with a new output folder each time, goes on too.

    Raises InputError (settings, too little text, a state of another run, a loss that is not finite) and Interrupted
    (after saving) on SIGINT and SIGTERM.
    """
    settings = settings or TrainSettings()
    checkpoint = Path(checkpoint)
    source = read_dataset(Path(dataset))
    config, schedule = plan(settings, source)
    identity = identity_of(settings, config, schedule, source)
    root = os.environ.get("TEXTMILL_STATE_ROOT")
    if not root:
        return _Run(source, checkpoint, settings, config, schedule, identity).run()
    work = Path(root) / f"{settings.model}-{identity['key']}"
    figures = _Run(source, work, settings, config, schedule, identity).run()
    with new_folder(checkpoint) as beside:
        shutil.copytree(work, beside, dirs_exist_ok=True)
    return figures


class _Run:
    """One process's share of a training run."""

    def __init__(
        self,
        source: Dataset,
        checkpoint: Path,
        settings: TrainSettings,
        config: Any,
        schedule: Schedule,
        identity: dict[str, Any],
    ) -> None:
        self.source, self.checkpoint, self.settings = source, checkpoint, settings
        self.config, self.schedule, self.identity = config, schedule, identity
        self.family = get_model(settings.model)
        self.streams = Streams(
            source.tokens("train"), schedule.batch_size, schedule.num_steps, schedule.carry
        )
        self.unit = "cps" if source.tokenizer.name == "char" else "wps"
        self.unigram = source.report.get("unigram", {})
        self.progressed = Progressed()
        self.step = 0

    # ------------------------------------------------------------------ the loop

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        previous = self._previous_state()
        self.engine = self.family.engine()(
            self.config,
            batch_size=self.schedule.batch_size,
            num_steps=self.schedule.num_steps,
            optimizer=self.schedule.optimizer,
            max_grad_norm=self.schedule.max_grad_norm,
            seed=self.settings.seed,
            precision=previous.facts["engine"]["precision"] if previous else self.settings.precision,
        )
        self._begin(previous)
        schedule, streams, now = self.schedule, self.streams, self.progressed
        per_epoch = streams.steps_per_epoch
        last_step = self.settings.max_steps or schedule.epochs * per_epoch
        log_every = schedule.log_every or max(1, per_epoch // 10)
        validate_every = schedule.validate_every or per_epoch
        sample_every = schedule.sample_every or per_epoch
        view_every = schedule.view_every or per_epoch
        scalar_every = max(1, min(log_every, per_epoch // 100))
        step_tokens = schedule.batch_size * schedule.num_steps
        window = _Window(self.step)
        saved = time.monotonic()
        deadline = started + self.settings.max_minutes * 60 if self.settings.max_minutes else math.inf
        if now.finished or self.step >= last_step:
            log.info("already trained to step %d: nothing left to do (resume=never starts afresh)", self.step)

        bar = Progress(
            "train",
            last_step * step_tokens,
            "characters" if self.unit == "cps" else "words",
            self.step * step_tokens,
        )
        with bar as self.bar, _stopping() as stop:
            while self.step < last_step and not now.finished:
                epoch, index = divmod(self.step, per_epoch)
                rate = decayed_learning_rate(
                    schedule.learning_rate, schedule.lr_decay, schedule.max_epoch, epoch
                )
                if index == 0:
                    self._begin_epoch(epoch, rate)
                x, y = streams.batch(self.step)
                view = self._view(x, y, epoch) if (self.step + 1) % view_every == 0 else ""
                loss, accuracy = self.engine.train_step(x, y, step=self.step, learning_rate=rate)
                if not math.isfinite(loss):
                    raise InputError(
                        f"the loss became {loss} at step {self.step + 1}: lower learning_rate (now {rate:g}) or set "
                        f"max_grad_norm; the states saved before it in {self.checkpoint / 'state'} are whole."
                    )
                self.step += 1
                now.epoch_loss += loss
                now.epoch_steps += 1
                now.last_loss = loss
                self.bar.advance(step_tokens, f"loss {loss:.3f}")

                if self.step % scalar_every == 0:
                    self.training_scalars.add(self.step, {"batch_loss": loss, "batch_accuracy": accuracy})
                if self.step % log_every == 0:
                    self._log(
                        (index + 1) / per_epoch, loss, accuracy, rate, window.rate(self.step, step_tokens)
                    )
                if view:
                    self._say(view)
                    self._say(lines.training_stats(index + 1, per_epoch, epoch, loss, accuracy))
                if index + 1 == per_epoch:
                    self._say(lines.epoch_end_line(epoch, "Train", now.epoch_loss / now.epoch_steps))
                out_of_time = time.monotonic() >= deadline
                if self.step % validate_every == 0 or self.step == last_step or out_of_time:
                    with window.paused():
                        self._validate(epoch)
                if self.step % sample_every == 0 or self.step == last_step:
                    with window.paused():
                        self._sample()

                due = self.settings.save_every_steps and self.step % self.settings.save_every_steps == 0
                if time.monotonic() - saved >= self.settings.save_every_minutes * 60:
                    due = True
                if due or stop.requested or out_of_time:
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
        for what in ("dataset", "tokenizer", "settings"):
            if state.facts["identity"][what] != self.identity[what] and self.settings.resume != "changed":
                raise InputError(
                    f"{self.checkpoint} holds a run with another {what}{self._difference(state, what)}. "
                    "Choose another checkpoint folder, or resume=changed to go on with the new one, or resume=never "
                    "to start afresh."
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
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        if previous is not None:
            self.engine.restore(previous.weights, previous.slots, previous.carried)
            self.step = previous.step
            self.progressed = Progressed(**previous.facts["progressed"])
            if self.settings.max_steps or self.step < self.schedule.epochs * self.streams.steps_per_epoch:
                self.progressed.finished = False
        self._cut_metrics(self.step)
        board = self.checkpoint / "tensorboard"
        self.training_scalars = ScalarWriter(board / "training", self.step)
        self.validation_scalars = ScalarWriter(board / "validation", self.step)
        self.metrics = open(self.checkpoint / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        self.parameters = parameter_count(self.config)
        tokens = {split: len(self.source.tokens(split)) for split in ("train", "valid", "test")}
        self._tokens = tokens
        log.info(
            "%s %s: %s parameters; %s",
            self.settings.model,
            self.settings.preset,
            f"{self.parameters:,}",
            _spell(self.engine.describe()),
        )
        unit = "characters" if self.unit == "cps" else "words"
        print(
            lines.text_size_line(tokens["train"], tokens["valid"], self.streams.steps_per_epoch, unit),
            flush=True,
        )
        if previous is not None:
            log.info("going on from step %s (%s)", f"{self.step:,}", self.checkpoint / "state")

    def _begin_epoch(self, epoch: int, rate: float) -> None:
        if self.step:
            if self.schedule.carry == "roll":
                self.engine.roll_state(-1)
            else:
                self.engine.reset_state()
        self.progressed.epoch_loss, self.progressed.epoch_steps = 0.0, 0
        self._say(lines.epoch_line(epoch, rate))

    # ------------------------------------------------------------------ once in a while

    def _log(self, fraction: float, loss: float, accuracy: float, rate: float, speed: float) -> None:
        now = self.progressed
        self._say(lines.progress_line(fraction, now.epoch_loss / now.epoch_steps, speed, self.unit))
        self._record("train", loss, accuracy, learning_rate=rate, tokens_per_second=speed)

    def _view(self, x: np.ndarray, y: np.ndarray, epoch: int) -> str:
        """What each stream of characters read and what the model expected next, before it learns from it."""
        if self.unit != "cps":
            return ""
        predictions, losses = self.engine.predict(x, y)
        starts = self.streams.starts(self.step)
        decode = self.source.tokenizer.decode
        rows = []
        for row in np.linspace(0, len(x) - 1, min(VIEW_ROWS, len(x))).astype(int):
            book = self.source.title_at("train", starts[row : row + 1])[0]
            rows.append(
                (int(starts[row]), book, decode(x[row]), decode(predictions[row]), float(losses[row]))
            )
        return lines.view(rows, epoch)

    def _validate(self, epoch: int) -> None:
        valid = self.source.tokens("valid")
        if len(valid) < 2:
            self._keep_model({"step": self.step})
            return
        loss, accuracy = self._score(valid, self.schedule.batch_size)
        unigram = self.unigram.get("valid", {}).get("loss")
        if self.unit == "cps":
            self._say(lines.validation_stats(loss, accuracy))
        self._say(lines.epoch_end_line(epoch, "Valid", loss, unigram, self.unit))
        self._record("valid", loss, accuracy)
        self.validation_scalars.add(self.step, {"batch_loss": loss, "batch_accuracy": accuracy})
        now = self.progressed
        if not now.best or loss < now.best["loss"]:
            now.best, now.worse = {"step": self.step, "loss": loss, "accuracy": accuracy}, 0
            self._keep_model(now.best)
        else:
            now.worse += 1
            if self.settings.patience and now.worse >= self.settings.patience:
                self._say(f"no better validation loss for {now.worse} validations: stopping early")
                now.finished = True

    def _score(self, tokens: Tokens, rows: int) -> tuple[float, float]:
        """Mean loss in nats per token and accuracy, each row from a zero state carried to its end."""
        row_length = self.schedule.validation_row or max(1, (len(tokens) - 1) // rows)
        total, right, count = 0.0, 0, 0
        chunk = max(self.schedule.num_steps, 32)
        for block in evaluation_rows(tokens, row_length):
            state = self.engine.zero_state(len(block))
            for at in range(0, block.shape[1] - 1, chunk):
                span = block[:, at : at + chunk + 1]
                loss, correct, state = self.engine.evaluate(
                    np.ascontiguousarray(span[:, :-1]), np.ascontiguousarray(span[:, 1:]), state
                )
                total, right, count = total + loss, right + correct, count + span[:, 1:].size
        return total / count, right / count

    def _sample(self) -> None:
        text = self._write_sample()
        self._say(lines.sample_box(self.step, self._tokens_seen(), text))
        name = f"step-{self.step:08d}.txt"
        write_bytes(self.checkpoint / "samples" / name, text.encode())

    def _write_sample(self) -> str:
        from textmill.generate import sample_text

        weights, _, _ = self.engine.export()
        length = SAMPLE_LENGTH[self.source.tokenizer.name]
        return sample_text(
            self.config,
            weights,
            self.source.tokenizer,
            render=self._render(),
            length=length,
            seed=self.settings.seed,
        )

    # ------------------------------------------------------------------ save, end

    def _save(self) -> None:
        weights, slots, carried = self.engine.export()
        self.metrics.flush()
        os.fsync(self.metrics.fileno())
        self.training_scalars.flush()
        self.validation_scalars.flush()
        facts = {
            "identity": self.identity,
            "engine": self.engine.describe(),
            "progressed": dataclasses.asdict(self.progressed),
        }
        save_state(self.checkpoint, State(self.step, weights, slots, carried, facts), self.settings.keep)
        if not self.progressed.best:
            self._keep_model({"step": self.step}, weights)

    def _keep_model(self, scores: dict[str, Any], weights: Tensors | None = None) -> None:
        """Make the present weights the checkpoint's model."""
        if weights is None:
            weights, _, _ = self.engine.export()
        save_model(
            self.checkpoint,
            weights,
            self._config(),
            self._details(scores),
            self.source.tokenizer,
            self._parents(),
        )

    def _finish(self, started: float, window: _Window) -> dict[str, Any]:
        from textmill.checkpoint import load_model

        self._save()
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
            "tokens_per_second": window.overall(
                self.step, self.schedule.batch_size * self.schedule.num_steps
            ),
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
        log.info(
            "trained to step %s in %.0f s; best model in %s (sha256 %s)",
            f"{self.step:,}",
            seconds,
            self.checkpoint,
            digest[:12],
        )
        return figures

    def _test(self, weights: Tensors) -> dict[str, Any]:
        """Score the test text once, with the kept weights, as one unbroken text where that takes no hours."""
        tokens = self.source.tokens("test")
        if len(tokens) < 2:
            return {}
        last = self.engine.export()
        self.engine.restore(weights, last[1], last[2])
        loss, accuracy = self._score(tokens, 1 if len(tokens) <= 200_000 else self.schedule.batch_size)
        self.engine.restore(*last)
        self._say(lines.final_line(loss, self.unigram.get("test", {}).get("loss"), self.unit))
        self._record("test", loss, accuracy)
        return {"loss": loss, "accuracy": accuracy, "perplexity": lines.perplexity(loss)}

    # ------------------------------------------------------------------ small helpers

    def _say(self, text: str) -> None:
        self.bar.write(text)

    def _record(self, kind: str, loss: float, accuracy: float, **more: float) -> None:
        record = {
            "kind": kind,
            "step": self.step,
            "epoch": self.step / self.streams.steps_per_epoch,
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
        return self.step * self.schedule.batch_size * self.schedule.num_steps

    def _render(self) -> str:
        return str(self.source.details.get("render", ""))

    def _config(self) -> dict[str, Any]:
        return {
            "model": self.settings.model,
            "preset": self.settings.preset,
            "config": self.config.as_dict(),
            "train": self.schedule.as_dict(),
            "seed": self.settings.seed,
            "render": self._render(),
            "engine": self.engine.describe(),
            "parameters": self.parameters,
        }

    def _details(self, scores: dict[str, Any]) -> dict[str, Any]:
        return {
            **scores,
            "tokens_seen": scores["step"] * self.schedule.batch_size * self.schedule.num_steps,
            "best": self.progressed.best,
            "unigram": self.unigram,
            "vocabulary_from": self.source.report.get("vocabulary_from", ""),
            "dataset": {
                "digest": self.source.digest,
                "tokenizer": self.source.tokenizer_digest,
                "tokens": self._tokens,
            },
        }

    def _parents(self) -> dict[str, str]:
        return {"dataset": self.source.digest}


class _Window:
    """Tokens a second since the last look, with the time of validations and saves left out."""

    def __init__(self, step: int) -> None:
        self._first = self._step = step
        self._since = time.monotonic()
        self._paused = 0.0
        self._busy = 0.0

    def rate(self, step: int, step_tokens: int) -> float:
        now = time.monotonic()
        elapsed = max(now - self._since - self._paused, 1e-9)
        speed = (step - self._step) * step_tokens / elapsed
        self._step, self._since, self._paused = step, now, 0.0
        self._busy += elapsed
        return speed

    def overall(self, step: int, step_tokens: int) -> float:
        self.rate(step, step_tokens)
        return (step - self._first) * step_tokens / max(self._busy, 1e-9)

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

    try:
        previous = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: its owner handles signals
        previous = {}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, key).items()}


def _spell(facts: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in facts.items())
