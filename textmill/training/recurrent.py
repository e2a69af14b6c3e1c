"""What the training loop asks of the recurrent families: their streams, their learning rate, how they are scored, and
their lines (textmill.train.Training says what each is for)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from textmill.datasets.dataset import Dataset
from textmill.errors import InputError
from textmill.models.optimizers import decayed_learning_rate
from textmill.models.schedules import RecurrentSchedule
from textmill.training import log_lines as lines
from textmill.training.data import Streams, evaluation_rows, largest_batch

if TYPE_CHECKING:
    from textmill.checkpoints.checkpoint import Tensors
    from textmill.training.family import Progressed
    from textmill.training.settings import TrainSettings

log = logging.getLogger("textmill.train")

SAMPLE_LENGTH = {"char": 400}  # tokens; others take the length of words
SAMPLE_LENGTH_WORDS = 120
VIEW_ROWS = 8
LONGEST_UNBROKEN_TEST = 200_000  # tokens of test text that are scored as one text


class RecurrentTraining:
    """Streams that carry a hidden state from step to step; epochs; perplexity lines and side-by-side views."""

    def __init__(
        self, source: Dataset, config: Any, schedule: RecurrentSchedule, settings: TrainSettings
    ) -> None:
        self.source, self.config, self.schedule, self.settings = source, config, schedule, settings
        self.batches = Streams(
            source.tokens("train"), schedule.batch_size, schedule.num_steps, schedule.carry
        )
        self.per_epoch = self.batches.steps_per_epoch
        self.last_step = schedule.epochs * self.per_epoch
        self.speed_unit = lines.speed_unit(source.tokenizer.name)
        self.log_every = schedule.log_every or max(1, self.per_epoch // 10)
        self.validate_every = schedule.validate_every or self.per_epoch
        self.sample_every = schedule.sample_every or self.per_epoch
        self.view_every = schedule.view_every or self.per_epoch
        self.scalar_every = max(1, min(self.log_every, self.per_epoch // 100))

    @staticmethod
    def fit(schedule: RecurrentSchedule, chosen: dict[str, Any], config: Any, source: Dataset) -> Any:
        """A preset's batch is made smaller for a text too small for it; a batch that the user chose is not."""
        tokens = len(source.tokens("train"))
        if tokens < 2:
            raise InputError(
                f"the training text has {tokens} tokens; there must be at least 2 to learn what follows what."
            )
        if "batch_size" in chosen or "num_steps" in chosen:
            return schedule
        batch, steps = largest_batch(tokens, schedule.batch_size, schedule.num_steps, schedule.carry)
        if (batch, steps) == (schedule.batch_size, schedule.num_steps):
            return schedule
        log.warning(
            "the training text has only %s tokens: training with batch_size %d and num_steps %d instead of %d and %d",
            f"{tokens:,}",
            batch,
            steps,
            schedule.batch_size,
            schedule.num_steps,
        )
        return schedule.replace(batch_size=batch, num_steps=steps)

    @staticmethod
    def settle(
        schedule: RecurrentSchedule, config: Any, settings: TrainSettings, before: dict[str, Any] | None
    ) -> Any:
        return schedule

    def engine_settings(self) -> dict[str, Any]:
        return {"optimizer": self.schedule.optimizer, "max_grad_norm": self.schedule.max_grad_norm}

    def tokens_at(self, step: int) -> int:
        return step * self.schedule.batch_size * self.schedule.num_steps

    def learning_rate(self, step: int) -> float:
        schedule = self.schedule
        return decayed_learning_rate(
            schedule.learning_rate, schedule.lr_decay, schedule.max_epoch, step // self.per_epoch
        )

    def model_weights(self, engine: Any) -> Tensors:
        return engine.export()[0]

    # ------------------------------------------------------------------ around a step

    def before(self, engine: Any, step: int, now: Progressed) -> str:
        """An epoch's beginning: the hidden state is reset or rolled."""
        if step % self.per_epoch:
            return ""
        if step:
            if self.schedule.carry == "roll":
                engine.roll_state(-1)
            else:
                engine.reset_state()
        now.epoch_loss, now.epoch_steps = 0.0, 0
        return lines.epoch_line(step // self.per_epoch, self.learning_rate(step))

    def look(self, engine: Any, step: int, x: np.ndarray, y: np.ndarray) -> str:
        """What each stream of characters read and what the model expected next, before it learns from it."""
        if self.speed_unit != "cps" or (step + 1) % self.view_every:
            return ""
        predictions, losses = engine.predict(x, y)
        starts = self.batches.starts(step)
        decode = self.source.tokenizer.decode
        rows = []
        for row in np.linspace(0, len(x) - 1, min(VIEW_ROWS, len(x))).astype(int):
            book = self.source.title_at("train", starts[row : row + 1])[0]
            rows.append(
                (int(starts[row]), book, decode(x[row]), decode(predictions[row]), float(losses[row]))
            )
        return lines.view(rows, step // self.per_epoch)

    def after(self, step: int, now: Progressed, loss: float, accuracy: float, seen: str) -> str:
        """The view with its figures, and an epoch's end."""
        epoch, index = divmod(step - 1, self.per_epoch)
        said = []
        if seen:
            said += [seen, lines.training_stats(index + 1, self.per_epoch, epoch, loss, accuracy)]
        if index + 1 == self.per_epoch:
            said.append(lines.epoch_end_line(epoch, "Train", now.epoch_loss / now.epoch_steps))
        return "\n".join(said)

    # ------------------------------------------------------------------ scores

    def score(self, engine: Any, split: str) -> tuple[float, float]:
        """Each row from a zero state carried to its end; a short test text is one row."""
        tokens = self.source.tokens(split)
        unbroken = split == "test" and len(tokens) <= LONGEST_UNBROKEN_TEST
        rows = 1 if unbroken else self.schedule.batch_size
        row_length = self.schedule.validation_row or max(1, (len(tokens) - 1) // rows)
        total, right, count = 0.0, 0, 0
        chunk = max(self.schedule.num_steps, 32)
        for block in evaluation_rows(tokens, row_length):
            state = engine.zero_state(len(block))
            for at in range(0, block.shape[1] - 1, chunk):
                span = block[:, at : at + chunk + 1]
                loss, correct, state = engine.evaluate(
                    np.ascontiguousarray(span[:, :-1]), np.ascontiguousarray(span[:, 1:]), state
                )
                total, right, count = total + loss, right + correct, count + span[:, 1:].size
        return total / count, right / count

    # ------------------------------------------------------------------ what is said

    def headline(self, tokens: dict[str, int]) -> str:
        return lines.text_size_line(
            tokens["train"], tokens["valid"], self.per_epoch, lines.UNITS[self.speed_unit]
        )

    def progress(self, step: int, now: Progressed, loss: float, speed: float, seconds: float) -> str:
        fraction = ((step - 1) % self.per_epoch + 1) / self.per_epoch
        return lines.progress_line(fraction, now.epoch_loss / now.epoch_steps, speed, self.speed_unit)

    def validated(
        self, step: int, loss: float, accuracy: float, unigram: float | None, seconds: float
    ) -> str:
        said = [lines.validation_stats(loss, accuracy)] if self.speed_unit == "cps" else []
        epoch = (step - 1) // self.per_epoch
        return "\n".join([*said, lines.epoch_end_line(epoch, "Valid", loss, unigram, self.speed_unit)])

    def scalars(self, loss: float, accuracy: float) -> dict[str, float]:
        return {"batch_loss": loss, "batch_accuracy": accuracy}

    # ------------------------------------------------------------------ samples

    def sample(self, engine: Any, step: int) -> str:
        from textmill.generate import sample_text

        return sample_text(
            self.config,
            self.model_weights(engine),
            self.source.tokenizer,
            render=str(self.source.details.get("render", "")),
            length=SAMPLE_LENGTH.get(self.source.tokenizer.name, SAMPLE_LENGTH_WORDS),
            seed=self.settings.seed,
        )

    def shown(self, step: int, text: str) -> str:
        return lines.sample_box(step, self.tokens_at(step), text)
