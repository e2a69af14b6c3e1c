"""The other engine: the package gpt-2-simple fine-tunes on a dataset, in a child process.

    checkpoint/                        as any GPT-2's: manifest.json, config.json, tokenizer/, weights in OpenAI's
                                       format, metrics.jsonl, samples/, tensorboard/, run.json
    checkpoint/state/gpt-2-simple/     the child's working folder: models/base/ (where it starts), tokens.npz,
                                       checkpoint/run1/ (its own checkpoints and counter), samples/run1/

The package is TensorFlow 1: importing it turns eager mode off, it prints and knows no callback. So it runs by itself
(`python -m textmill.training.gpt2_simple JOB.json`), is fed the dataset's token ids as they are (.npz), and its lines
are shown as they come and read for the losses, which it prints with two decimals. It validates nothing and saves no
optimizer state: a run that was stopped starts again from its weights.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from textmill.checkpoints import openai_checkpoint
from textmill.checkpoints.base_model import BaseModel, open_base
from textmill.checkpoints.checkpoint import read_metrics, save_model
from textmill.datasets.dataset import Dataset, read_dataset
from textmill.errors import InputError, Interrupted, MachineError, SettingsError
from textmill.files import new_folder, replacing, write_json
from textmill.holding import on_signals
from textmill.models import get_model
from textmill.models.gpt2 import GPT2Config, init, parameter_count
from textmill.models.schedules import TransformerSchedule
from textmill.tokenizers.bpe import BPETokenizer
from textmill.training.log_lines import perplexity
from textmill.training.settings import TrainSettings, identity_of, plan

log = logging.getLogger("textmill.train")

ROW = 1024  # tokens of each row: it samples no other length
RUN = "run1"
SAVE_EVERY = 1000  # its own default
HEARD = 5.0  # seconds after which a child that was asked to stop trains no more
PATIENCE = 120.0  # seconds without an end or another line, until a child that was asked to stop is killed
LINE = re.compile(r"\[(\d+) \| ([\d.]+)\] loss=(\S+) avg=(\S+)")
# What it cannot do: setting of the schedule -> the one value that it has.
FIXED: dict[str, Any] = {
    "num_steps": ROW,
    "packing": "packed",
    "warmup_steps": 0,
    "decay": "constant",
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "lora_rank": 0,
    "gradient_checkpointing": False,
}


def train_with_gpt2_simple(
    dataset: Path, checkpoint: Path, settings: TrainSettings, base: Path | None = None
) -> dict[str, Any]:
    """What `textmill.train.train` does, by gpt-2-simple: same arguments, folder and figures, as far as it has them.

    The schedule's steps (or epochs), batch_size, accumulate_gradients, learning_rate, optimizer (adam, sgd),
    only_train_transformer_layers, print_every, sample_every, sample_length and sample_num are its options of these
    names; save_every_steps is its save_every, keep its max_checkpoints, resume never its restore_from "fresh". Without
    a base it begins with fresh weights of `settings`' sizes; the context must be 1,024.

    Raises MachineError (the package is not installed, or ended by itself), SettingsError (a setting that it has not),
    InputError (fewer than 1,025 tokens, a loss that is no number) and Interrupted (after it saved).
    """
    if importlib.util.find_spec("gpt_2_simple") is None:
        raise MachineError("engine gpt-2-simple needs the package: pip install 'textmill[gpt2-simple]'.")
    start = base or settings.base
    family = get_model(settings.model)
    if family.name != "gpt2":
        raise SettingsError(f"engine gpt-2-simple trains model gpt2, not {family.name}.")
    source = read_dataset(Path(dataset))
    model = open_base(Path(start), family) if start else None
    config, schedule = plan(settings, source, model)
    _check(config, settings, source)
    return _Run(source, Path(checkpoint), settings, config, _its_own(schedule), model).run()


def _its_own(schedule: TransformerSchedule) -> TransformerSchedule:
    """The schedule with what a preset says and gpt-2-simple does not have left out."""
    optimizer = "adam" if schedule.optimizer == "adamw" else schedule.optimizer
    plain = schedule.replace(**FIXED, optimizer=optimizer, batch_size=schedule.batch_size or 1)
    before, after = schedule.as_dict(), plain.as_dict()
    if changed := [f"{k} {after[k]} instead of {before[k]}" for k in after if after[k] != before[k]]:
        log.info("gpt-2-simple trains with %s", ", ".join(changed))
    return plain


def _check(config: GPT2Config, settings: TrainSettings, source: Dataset) -> None:
    if not isinstance(source.tokenizer, BPETokenizer):
        raise InputError(
            f"the dataset has {source.tokenizer.name} tokens; gpt-2-simple knows byte pairs alone (tokenizer bpe)."
        )
    if config.context != ROW:
        raise SettingsError(f"the model's context is {config.context}; gpt-2-simple's is always {ROW}.")
    asked = {k: v for k, v in settings.overrides.items() if k in FIXED and v != FIXED[k]}
    asked |= {
        k: v for k, v in settings.overrides.items() if (k, v) in (("optimizer", "adamw"), ("batch_size", 0))
    }
    asked |= {"precision": settings.precision} if settings.precision == "bfloat16" else {}
    asked |= {k: getattr(settings, k) for k in ("patience", "max_minutes") if getattr(settings, k)}
    if asked:
        name, value = next(iter(asked.items()))
        raise SettingsError(
            f"setting {name!r} is {value!r}, which gpt-2-simple does not have; leave it, or use engine textmill."
        )
    tokens = len(source.tokens("train"))
    if tokens <= ROW:
        raise InputError(
            f"the training text has {tokens:,} tokens; gpt-2-simple needs more than {ROW:,}. Add text, or use engine "
            "textmill."
        )


@dataclass
class _Run:
    source: Dataset
    checkpoint: Path
    settings: TrainSettings
    config: GPT2Config
    schedule: TransformerSchedule
    base: BaseModel | None

    def __post_init__(self) -> None:
        self.work = self.checkpoint / "state" / "gpt-2-simple"
        self.folder = self.work / "checkpoint" / RUN
        self.tokens = len(self.source.tokens("train"))
        self.per_step = ROW * self.schedule.batch_size * self.schedule.accumulate_gradients
        whole = self.schedule.steps or math.ceil(self.schedule.epochs * self.tokens / self.per_step)
        self.last_step = self.settings.max_steps or whole
        self.last_loss = math.nan
        self.identity = identity_of(self.settings, self.config, self.schedule, self.source, self.base)

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        step = begun = self._begin()
        self._cut_metrics(step)
        if step < self.last_step:
            step = self._finetune(step)
        config, weights, step = openai_checkpoint.read_model(self.folder)
        assert config == self.config
        self._collect_samples()
        self._collect_events()
        digest = save_model(
            self.checkpoint,
            weights,
            self._config(),
            self._details(step),
            self.source.tokenizer,
            {"dataset": self.source.digest} | ({"base": self.base.digest} if self.base else {}),
        )
        openai_checkpoint.remove_model(self.work / "models" / "base", 0)  # it goes on from its own checkpoint
        if step < self.last_step:
            raise Interrupted(
                f"stopped at step {step:,} of {self.last_step:,}; saved in {self.checkpoint}. Give the same command "
                "again to go on from these weights."
            )
        seconds = time.monotonic() - started
        figures: dict[str, Any] = {
            "step": step,
            "tokens_seen": step * self.per_step,
            "parameters": parameter_count(config),
            "seconds": seconds,
        }
        if step > begun:
            figures["tokens_per_second"] = (step - begun) * self.per_step / seconds
        if math.isfinite(self.last_loss):
            figures["train_loss"] = self.last_loss
        write_json(self.checkpoint / "run.json", figures)
        log.info(
            "gpt-2-simple trained to step %s in %.0f s; model in %s (sha256 %s)",
            f"{step:,}",
            seconds,
            self.checkpoint,
            digest[:12],
        )
        return figures

    # ------------------------------------------------------------------ its working folder

    def _begin(self) -> int:
        """Make the working folder, or find one to go on with; the step it stands at."""
        there = self.work / "identity.json"
        if self.settings.resume == "never":
            for name in ("state", "tensorboard", "samples", "tokenizer"):
                shutil.rmtree(self.checkpoint / name, ignore_errors=True)
            (self.checkpoint / "metrics.jsonl").unlink(missing_ok=True)
        elif there.exists() and (self.folder / "counter").exists():
            if self.settings.resume != "changed" and json.loads(there.read_bytes()) != self.identity:
                raise InputError(
                    f"{self.checkpoint} holds a run with another dataset, base or settings. Choose another checkpoint "
                    "folder, or resume=changed to go on with the new ones, or resume=never to start afresh."
                )
            step = openai_checkpoint.find_model(self.folder)[1]
            (self.folder / "counter").write_text(f"{step}\n")  # a kill can leave it behind the weights
            log.info("going on from step %s: its weights, without the optimizer's state", f"{step:,}")
            write_json(there, self.identity)
            return step
        with new_folder(self.work) as beside:
            weights = self.base.weights() if self.base else init(self.config, self.settings.seed)
            (beside / "tokenizer").mkdir()
            self.source.tokenizer.save(beside / "tokenizer")
            openai_checkpoint.write_model(
                beside / "models" / "base", 0, self.config, weights, beside / "tokenizer"
            )
            np.savez(beside / "tokens.npz", tokens=np.asarray(self.source.tokens("train"), np.int32))
            write_json(beside / "identity.json", self.identity)
        return 0

    # ------------------------------------------------------------------ the child

    def _finetune(self, step: int) -> int:
        """Run the child to the last step; show its lines and note its losses. The step that it saved at."""
        schedule = self.schedule
        job = {
            "seed": self.settings.seed + step,  # going on draws other rows than at the start
            "finetune": {
                "dataset": "tokens.npz",
                "steps": self.last_step - step,
                "model_name": "base",
                "batch_size": schedule.batch_size,
                "learning_rate": schedule.learning_rate,
                "accumulate_gradients": schedule.accumulate_gradients,
                "restore_from": "latest",
                "run_name": RUN,
                "sample_every": schedule.sample_every if schedule.sample_num else 0,
                "sample_length": min(schedule.sample_length, ROW - 1),
                "sample_num": max(schedule.sample_num, 1),
                "save_every": self.settings.save_every_steps or SAVE_EVERY,
                "print_every": schedule.print_every,
                "max_checkpoints": self.settings.keep,
                "only_train_transformer_layers": schedule.only_train_transformer_layers,
                "optimizer": schedule.optimizer,
            },
        }
        write_json(self.work / "job.json", job)
        command = [sys.executable, "-m", "textmill.training.gpt2_simple", "job.json"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        said = self.work / "stderr.txt"
        with open(said, "wb") as errors:
            child = subprocess.Popen(
                command,
                cwd=self.work,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C comes to us alone, and we pass it on
            )
            assert child.stdout is not None
            with _passing_signals_to(child) as asked:
                try:
                    self._listen(child.stdout, functools.partial(_ask_again, child, asked))
                finally:
                    if child.poll() is None and sys.exc_info()[0] is not None:
                        child.kill()
                    code = child.wait()
        if code and not (asked and openai_checkpoint.is_openai(self.folder)):
            lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
            if asked:
                raise Interrupted("stopped before gpt-2-simple had anything to save.")
            reason = lines[-1][:300] if lines else f"exit code {code}"
            raise MachineError(f"gpt-2-simple ended by itself: {reason} (all it said: {said}).")
        return openai_checkpoint.find_model(self.folder)[1]

    def _listen(self, output: IO[bytes], still_training: Callable[[], None]) -> None:
        with open(self.checkpoint / "metrics.jsonl", "a", encoding="utf-8") as metrics:
            last_seconds, last_step = 0.0, None
            for raw in output:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                print(line, flush=True)
                found = LINE.match(line)
                if not found:
                    continue
                still_training()
                step, seconds, loss = int(found[1]), float(found[2]), float(found[3])
                if not math.isfinite(loss):
                    raise InputError(f"the loss became {loss} at step {step}: lower learning_rate.")
                record = {
                    "kind": "train",
                    "step": step,
                    "epoch": step * self.per_step / self.tokens,
                    "tokens_seen": step * self.per_step,
                    "loss": loss,
                    "perplexity": min(perplexity(loss), 1e300),
                    "learning_rate": self.schedule.learning_rate,
                }
                if last_step is not None and seconds > last_seconds:
                    record["tokens_per_second"] = (
                        (step - last_step) * self.per_step / (seconds - last_seconds)
                    )
                last_seconds, last_step, self.last_loss = seconds, step, loss
                metrics.write(json.dumps(record) + "\n")
                metrics.flush()

    # ------------------------------------------------------------------ what it leaves

    def _collect_samples(self) -> None:
        for path in sorted((self.work / "samples" / RUN).glob("samples-*")):
            step = int(path.name.rpartition("-")[2]) - 1  # it counts the step to come
            target = self.checkpoint / "samples" / f"step-{step:08d}.txt"
            with replacing(target) as file:
                file.write(path.read_bytes())

    def _collect_events(self) -> None:
        """Its TensorBoard events (tag loss) where ours would be."""
        for path in sorted(self.folder.glob("events*")):
            with replacing(self.checkpoint / "tensorboard" / "training" / path.name) as file:
                file.write(path.read_bytes())

    def _cut_metrics(self, step: int) -> None:
        """Forget what was noted of steps that will be done again."""
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        path = self.checkpoint / "metrics.jsonl"
        if path.exists():
            kept = [record for record in read_metrics(self.checkpoint) if record["step"] <= step]
            with replacing(path, "w") as file:
                file.writelines(json.dumps(record) + "\n" for record in kept)

    def _config(self) -> dict[str, Any]:
        version = importlib.metadata.version("gpt-2-simple")
        return {
            "model": self.settings.model,
            "preset": self.settings.preset,
            "config": self.config.as_dict(),
            "train": self.schedule.as_dict(),
            "seed": self.settings.seed,
            "render": str(self.source.details.get("render", "")),
            "engine": {"backend": f"gpt-2-simple {version}", "precision": "float32"},
            "parameters": parameter_count(self.config),
        }

    def _details(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "last_step": step,
            "tokens_seen": step * self.per_step,
            "best": {},
            "test": {},
            "unigram": self.source.report.get("unigram", {}),
            "vocabulary_from": self.source.report.get("vocabulary_from", ""),
            "dataset": {
                "digest": self.source.digest,
                "tokenizer": self.source.tokenizer_digest,
                "tokens": {split: len(self.source.tokens(split)) for split in ("train", "valid", "test")},
            },
        }


@contextlib.contextmanager
def _passing_signals_to(child: subprocess.Popen[bytes]) -> Iterator[list[float]]:
    """SIGINT and SIGTERM become the child's Ctrl-C, on which it saves; the list holds when it was asked to, seconds."""
    asked: list[float] = []

    def pass_on(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(time.monotonic())
        log.warning("stopping gpt-2-simple, which saves; once more stops at once")
        child.send_signal(signal.SIGINT)
        threading.Thread(target=_end, args=(child, asked), daemon=True).start()

    with on_signals(pass_on):
        yield asked


def _end(child: subprocess.Popen[bytes], asked: list[float]) -> None:
    """End a child that was asked to stop and hangs, as TensorFlow 1 may at its end; what it has saved is there."""
    while child.poll() is None:
        if time.monotonic() - asked[-1] > PATIENCE:
            child.kill()
            return
        time.sleep(0.5)


def _ask_again(child: subprocess.Popen[bytes], asked: list[float]) -> None:
    """Of a child that goes on training: its Ctrl-C was lost, as Python drops one that comes inside of a destructor."""
    if asked and time.monotonic() - asked[-1] > HEARD:
        asked.append(time.monotonic())
        child.send_signal(signal.SIGINT)


def _child(job: dict[str, Any]) -> None:
    """The child's whole work, in its working folder."""
    import random

    def end_with_the_parent() -> None:
        os.read(0, 1)  # comes back when the parent is gone
        os._exit(1)

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    import gpt_2_simple
    import tensorflow as tf

    random.seed(job["seed"])
    np.random.seed(job["seed"])
    tf.compat.v1.set_random_seed(job["seed"])
    options = job["finetune"]
    options["sample_every"] = options["sample_every"] or sys.maxsize
    gpt_2_simple.finetune(gpt_2_simple.start_tf_sess(), **options)


if __name__ == "__main__":
    _child(json.loads(Path(sys.argv[1]).read_bytes()))
