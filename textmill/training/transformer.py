"""What the training loop asks of GPT-2: its rows, its learning rate, how it is scored, and gpt-2-simple's lines
(textmill.train.Training says what each is for)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from textmill.datasets.dataset import Dataset
from textmill.errors import InputError, SettingsError
from textmill.models.schedules import TransformerSchedule
from textmill.training import batch_search, memory_plan
from textmill.training import log_lines as lines
from textmill.training.windows import NOTHING, DocumentRows, LineRows, RingRows, Rows, Windows, scoring_blocks

if TYPE_CHECKING:
    from textmill.checkpoints.checkpoint import Tensors
    from textmill.training.family import Progressed
    from textmill.training.settings import TrainSettings

log = logging.getLogger("textmill.train")

SAMPLE_TOP_K = 40  # gpt-2-simple's, for samples while training


class TransformerTraining:
    """Rows of packed or single documents; a learning rate by step; `[step | seconds]` lines and SAMPLE blocks."""

    def __init__(
        self, source: Dataset, config: Any, schedule: TransformerSchedule, settings: TrainSettings
    ) -> None:
        self.source, self.config, self.schedule, self.settings = source, config, schedule, settings
        self.rows = self._rows("train")
        rows_per_step = schedule.batch_size * schedule.accumulate_gradients
        self.batches = Windows(self.rows, rows_per_step, settings.seed)
        per_epoch = self.batches.steps_per_epoch
        self.horizon = schedule.steps or schedule.epochs * per_epoch
        self.last_step = self.horizon
        self.speed_unit = lines.speed_unit(source.tokenizer.name)
        self.log_every = schedule.print_every
        self.validate_every = schedule.validate_every or per_epoch
        self.sample_every = schedule.sample_every
        self.scalar_every = 1
        self._generator: Any = None
        self._told = False

    @staticmethod
    def fit(schedule: TransformerSchedule, chosen: dict[str, Any], config: Any, source: Dataset) -> Any:
        """Rows become no longer than the context, the text, and in documents mode the longest document."""
        tokens = len(source.tokens("train"))
        if tokens < 2:
            raise InputError(
                f"the training text has {tokens} tokens; there must be at least 2 to learn what follows what."
            )
        longest, why = tokens - 1, f"the training text has only {tokens:,} tokens"
        if schedule.packing == "documents":
            longest = _longest_document(source)
            why = f"the longest document has {longest:,} tokens"
        if schedule.num_steps > config.context:
            if "num_steps" in chosen:
                raise SettingsError(
                    f"setting 'num_steps' is {schedule.num_steps}; the model's context is {config.context}."
                )
            schedule = schedule.replace(num_steps=config.context)
        if schedule.num_steps > longest:
            log.warning("%s: training with num_steps %d instead of %d", why, longest, schedule.num_steps)
            schedule = schedule.replace(num_steps=longest)
        return schedule

    @staticmethod
    def settle(
        schedule: TransformerSchedule, config: Any, settings: TrainSettings, before: dict[str, Any] | None
    ) -> Any:
        """With batch_size 0 the rows of an update are split into as few batches as fit into memory, or into those that
        a search finds fastest: as they were before, if the training goes on."""
        if not schedule.batch_size and before:
            chosen = {name: before["schedule"][name] for name in memory_plan.BATCH}
            schedule = schedule.replace(batch_search=False, **chosen)
        if schedule.batch_search:
            schedule = batch_search.fastest(schedule, config, settings)
        return memory_plan.fitted(schedule, config, settings)

    def _rows(self, split: str) -> Rows:
        tokens, schedule = self.source.tokens(split), self.schedule
        if schedule.packing == "documents":
            opening = self.source.tokenizer.end_of_document
            return DocumentRows(tokens, self.source.spans(split), schedule.num_steps, opening)
        if split == "train":
            return RingRows(tokens, schedule.num_steps, self.settings.seed)
        return LineRows(tokens, schedule.num_steps)

    def engine_settings(self) -> dict[str, Any]:
        return self.schedule.engine_settings()

    def tokens_at(self, step: int) -> int:
        return self.batches.tokens_at(step)

    def learning_rate(self, step: int) -> float:
        return self.schedule.learning_rate_at(step, self.horizon)

    def model_weights(self, engine: Any) -> Tensors:
        return engine.merged()

    # ------------------------------------------------------------------ around a step

    def before(self, engine: Any, step: int, now: Progressed) -> str:
        return ""

    def look(self, engine: Any, step: int, x: np.ndarray, y: np.ndarray) -> str:
        return ""

    def after(self, step: int, now: Progressed, loss: float, accuracy: float, seen: str) -> str:
        return ""

    # ------------------------------------------------------------------ scores

    def score(self, engine: Any, split: str) -> tuple[float, float]:
        """Each row for itself, as it is trained; of the validation text validate_batches batches."""
        most = self.schedule.validate_batches if split == "valid" else 0
        total, right, count = 0.0, 0, 0
        for x, y in scoring_blocks(self._rows(split), self.schedule.batch_size, most):
            loss, correct, _ = engine.evaluate(x, y)
            total, right, count = total + loss, right + correct, count + int((y != NOTHING).sum())
        return total / count, right / count

    # ------------------------------------------------------------------ what is said

    def headline(self, tokens: dict[str, int]) -> str:
        return lines.dataset_line(
            tokens["train"],
            tokens["valid"],
            self.rows.count,
            self.schedule.num_steps,
            self.batches.steps_per_epoch,
        )

    def progress(self, step: int, now: Progressed, loss: float, speed: float, seconds: float) -> str:
        left = (self.tokens_at(self.last_step) - self.tokens_at(step)) / max(speed, 1e-9)
        if not self._told:  # the first steps' speed is that of compiling
            left, self._told = 0.0, True
        return lines.step_line(step, seconds, loss, now.average, speed, left)

    def validated(
        self, step: int, loss: float, accuracy: float, unigram: float | None, seconds: float
    ) -> str:
        return lines.step_validation(step, seconds, loss, accuracy, unigram, self.speed_unit)

    def scalars(self, loss: float, accuracy: float) -> dict[str, float]:
        return {"batch_loss": loss, "batch_accuracy": accuracy, "loss": loss}

    # ------------------------------------------------------------------ samples

    def sample(self, engine: Any, step: int) -> str:
        """sample_num texts from the start of a document, as one block each."""
        from textmill.writing.generator import Generator
        from textmill.writing.settings import GenerateSettings

        if not self.schedule.sample_num:
            return ""
        weights = self.model_weights(engine)
        if self._generator is None:
            self._generator = Generator(
                self.config,
                weights,
                self.source.tokenizer,
                render=str(self.source.details.get("render", "")),
                precision=engine.describe()["precision"],
            )
        else:
            self._generator.decoder.load(weights)
        settings = GenerateSettings.of(
            number=self.schedule.sample_num,
            length=self.schedule.sample_length,
            top_k=SAMPLE_TOP_K,
            seed=self.settings.seed,
            stop_at_end=False,
        )
        return lines.sample_blocks([text.text for text in self._generator.generate([""], settings)])

    def shown(self, step: int, text: str) -> str:
        return text


def _longest_document(source: Dataset) -> int:
    """Targets of the longest training document."""
    without = source.tokenizer.end_of_document is None
    longest = int(source.spans("train")[:, 1].max()) - without
    if longest < 1:
        raise InputError(
            "no training document has two tokens; with packing documents there must be one to learn what follows what."
        )
    return longest
