"""What the training loop asks of a family of models, and what it counts on its way. Protocols and plain counts only.

The families answer in recurrent.py and transformer.py; the loop is textmill/train.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from textmill.checkpoints.checkpoint import Tensors

AVERAGE_DECAY = 0.99  # of the running mean loss, gpt-2-simple's


@dataclass
class Progressed:
    """What the loop counts on its way; saved with the state."""

    best: dict[str, Any] = field(default_factory=dict)
    worse: int = 0  # validations since the best
    epoch_loss: float = 0.0  # sum over this epoch's steps of the mean loss
    epoch_steps: int = 0
    average_loss: float = (
        0.0  # sum over all steps of the mean loss, each step weighing AVERAGE_DECAY of the next
    )
    average_weight: float = 0.0  # the sum of those weights
    last_loss: float = 0.0
    finished: bool = False

    def count(self, loss: float) -> None:
        """One more step."""
        self.epoch_loss += loss
        self.epoch_steps += 1
        self.average_loss = self.average_loss * AVERAGE_DECAY + loss
        self.average_weight = self.average_weight * AVERAGE_DECAY + 1.0
        self.last_loss = loss

    @property
    def average(self) -> float:
        """The running mean of the loss; gpt-2-simple's avg."""
        return self.average_loss / self.average_weight


class Batches(Protocol):
    """The training text cut into batches, which are a function of the step."""

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets [rows, num_steps] int32."""
        ...


class Training(Protocol):
    """What the loop asks of a family (Family.training): batches, learning rate, scores and lines.

    Steps are counted from 0 before they are made and from 1 afterwards; an empty text is not said.
    """

    batches: Batches
    last_step: int  # where the schedule ends
    speed_unit: str  # a key of log_lines.UNITS
    log_every: int  # steps; 0 is never but at the end
    validate_every: int
    sample_every: int
    scalar_every: int

    def engine_settings(self) -> dict[str, Any]:
        """What the family's engine is told beside its sizes."""
        ...

    def tokens_at(self, step: int) -> int:
        """Tokens learned from in the first `step` steps."""
        ...

    def learning_rate(self, step: int) -> float: ...

    def model_weights(self, engine: Any) -> Tensors:
        """The weights that a checkpoint keeps."""
        ...

    def before(self, engine: Any, step: int, now: Progressed) -> str:
        """Prepare the engine for this step."""
        ...

    def look(self, engine: Any, step: int, x: np.ndarray, y: np.ndarray) -> str:
        """What is to be seen of the batch before it is learned."""
        ...

    def after(self, step: int, now: Progressed, loss: float, accuracy: float, seen: str) -> str:
        """`seen` and what else is to be said of this step."""
        ...

    def score(self, engine: Any, split: str) -> tuple[float, float]:
        """Mean loss in nats a token and accuracy on "valid" or "test"."""
        ...

    def sample(self, engine: Any, step: int) -> str:
        """Text of the model as it is now."""
        ...

    # lines; `seconds` since this process began to train, `speed` in tokens a second
    def headline(self, tokens: dict[str, int]) -> str: ...
    def progress(self, step: int, now: Progressed, loss: float, speed: float, seconds: float) -> str: ...
    def validated(
        self, step: int, loss: float, accuracy: float, unigram: float | None, seconds: float
    ) -> str: ...
    def shown(self, step: int, text: str) -> str:
        """How a sample is said."""
        ...

    def scalars(self, loss: float, accuracy: float) -> dict[str, float]:
        """TensorBoard's tags."""
        ...
