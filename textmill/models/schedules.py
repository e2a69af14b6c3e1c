"""How a family of models trains: batches, optimizer, learning rate, and when to look. Plain settings, no machinery.

A preset of textmill.models names one of these; its fields can be overridden one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from textmill.errors import SettingsError
from textmill.settings import Settings, setting


@dataclass(frozen=True)
class Schedule(Settings):
    """What every family's schedule is. Steps are updates of the weights."""

    FREE: ClassVar[tuple[str, ...]] = ()  # fields that may change between two runs of one training

    batch_size: int = setting(1, "Rows of text learned from side by side.", minimum=0)
    num_steps: int = setting(1, "Tokens of each row.", minimum=1)

    def identity(self) -> dict[str, Any]:
        """The fields that must be equal for a resume to be exact."""
        return {name: value for name, value in self.as_dict().items() if name not in self.FREE}


@dataclass(frozen=True)
class RecurrentSchedule(Schedule):
    """How a recurrent preset trains. Counts of 0 mean what the help says."""

    FREE: ClassVar[tuple[str, ...]] = (
        "epochs",
        "log_every",
        "validate_every",
        "sample_every",
        "view_every",
        "validation_row",
    )

    epochs: int = setting(10, "Passes over the training text.", minimum=1)
    batch_size: int = setting(20, "Parallel streams of text.", minimum=1)
    num_steps: int = setting(20, "Tokens of each stream in one step (truncated back-propagation).", minimum=1)
    optimizer: str = setting("adam", "sgd or adam.", choices=("sgd", "adam"))
    learning_rate: float = setting(1e-3, "Learning rate of the first epochs.", minimum=0)
    lr_decay: float = setting(
        1.0, "Factor on the learning rate for each epoch after max_epoch.", minimum=0, maximum=1
    )
    max_epoch: int = setting(0, "Epochs at the full learning rate.", minimum=0)
    max_grad_norm: float = setting(0.0, "Clip gradients to this global norm (0: never).", minimum=0)
    carry: str = setting(
        "epoch",
        "epoch zeroes the hidden state at each epoch; roll carries it across epochs by rolling the streams.",
        choices=("epoch", "roll"),
    )
    log_every: int = setting(0, "Steps between progress lines (0: ten lines an epoch).", minimum=0)
    validate_every: int = setting(0, "Steps between validations (0: at each epoch's end).", minimum=0)
    sample_every: int = setting(0, "Steps between sample texts (0: at each epoch's end).", minimum=0)
    view_every: int = setting(0, "Steps between side-by-side views (0: at each epoch's end).", minimum=0)
    validation_row: int = setting(
        0,
        "Score validation and test text in rows of this many tokens (0: as batch_size long rows).",
        minimum=0,
    )


@dataclass(frozen=True)
class TransformerSchedule(Schedule):
    """How a GPT-2 preset trains. One step is one update: accumulate_gradients batches of batch_size rows.

    gpt-2-simple's finetune options have their names here, but for: save_every is the training setting
    save_every_steps, max_checkpoints is keep, restore_from is resume (latest: auto, fresh: never) and base (a path, or
    the released model that "fresh" starts from), model_name is the preset or base.
    """

    FREE: ClassVar[tuple[str, ...]] = (
        "batch_search",
        "print_every",
        "validate_every",
        "validate_batches",
        "sample_every",
        "sample_length",
        "sample_num",
    )

    steps: int = setting(0, "Updates in all (0: as many as epochs needs).", minimum=0)
    epochs: int = setting(1, "Passes over the training text, where steps is 0.", minimum=1)
    batch_size: int = setting(
        1,
        "Rows of text computed side by side; 0 takes the largest number that fits into memory and divides "
        "accumulate_gradients, which then counts the rows of one update.",
        minimum=0,
    )
    batch_search: bool = setting(
        False,
        "With batch_size 0: try the batches that should fit, each in a process of its own, and take the fastest.",
    )
    accumulate_gradients: int = setting(1, "Batches whose mean gradient makes one update.", minimum=1)
    num_steps: int = setting(1024, "Tokens of each row, at most the model's context.", minimum=1)
    packing: str = setting(
        "packed",
        "packed puts documents one after the other and cuts rows anywhere; documents gives each its own rows, padded.",
        choices=("packed", "documents"),
    )
    optimizer: str = setting("adam", "adam, adamw or sgd.", choices=("adam", "adamw", "sgd"))
    learning_rate: float = setting(1e-4, "Learning rate after the warm-up.", minimum=0)
    warmup_steps: int = setting(0, "Updates in which the learning rate rises from 0.", minimum=0)
    decay: str = setting(
        "constant",
        "The learning rate after the warm-up: constant, or falling to min_factor along a line or a half cosine.",
        choices=("constant", "linear", "cosine"),
    )
    min_factor: float = setting(
        0.0, "Where the decay ends, as a factor on learning_rate.", minimum=0, maximum=1
    )
    weight_decay: float = setting(0.0, "Weight decay of adamw, on matrices alone.", minimum=0)
    max_grad_norm: float = setting(0.0, "Clip gradients to this global norm (0: never).", minimum=0)
    only_train_transformer_layers: bool = setting(
        False, "Leave the token and position tables and the last layer norm as they are."
    )
    lora_rank: int = setting(
        0, "Train low-rank updates of this rank instead of the weights (0: the weights).", minimum=0
    )
    lora_alpha: float = setting(0.0, "Scale of the low-rank updates, times 1/rank (0: 2 * rank).", minimum=0)
    gradient_checkpointing: bool = setting(
        False, "Compute each block twice instead of keeping what it computed: less memory, slower."
    )
    print_every: int = setting(1, "Steps between lines with the loss.", minimum=1)
    validate_every: int = setting(0, "Steps between validations (0: at each epoch's end).", minimum=0)
    validate_batches: int = setting(
        0, "Score so many batches, spread over the validation text (0: all of it).", minimum=0
    )
    sample_every: int = setting(100, "Steps between sample texts (0: at the end alone).", minimum=0)
    sample_length: int = setting(1023, "Tokens of a sample text.", minimum=1)
    sample_num: int = setting(1, "Sample texts each time (0: none).", minimum=0, maximum=100)

    def check(self) -> None:
        if self.weight_decay and self.optimizer != "adamw":
            raise SettingsError(
                f"setting 'weight_decay' is {self.weight_decay:g} with the optimizer {self.optimizer}; "
                "choose optimizer adamw."
            )
        if self.batch_search and self.batch_size:
            raise SettingsError(
                f"setting 'batch_search' looks for a batch_size, which is {self.batch_size}: set batch_size 0 too."
            )
        if self.lora_rank and self.only_train_transformer_layers:
            raise SettingsError(
                "settings 'lora_rank' and 'only_train_transformer_layers' exclude each other: with LoRA nothing of "
                "the weights is trained."
            )

    def engine_settings(self) -> dict[str, Any]:
        """What the engine is told of the schedule, beside the batch's shape."""
        return {
            "optimizer": self.optimizer,
            "max_grad_norm": self.max_grad_norm,
            "accumulate": self.accumulate_gradients,
            "weight_decay": self.weight_decay,
            "trained": "transformer_layers" if self.only_train_transformer_layers else "all",
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_alpha,
            "checkpointing": self.gradient_checkpointing,
        }

    def identity(self) -> dict[str, Any]:
        """The length of the training counts only where the learning rate depends on it."""
        found = super().identity()
        if self.decay == "constant":
            del found["steps"], found["epochs"]
        return found

    def learning_rate_at(self, step: int, last_step: int) -> float:
        """Learning rate of update `step` (0-based) of `last_step`; beyond the last it stays where it ended."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return self.learning_rate
        share = min(1.0, (step - self.warmup_steps) / max(last_step - 1 - self.warmup_steps, 1))
        left = 1.0 - share if self.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))
        return self.learning_rate * (self.min_factor + (1.0 - self.min_factor) * left)
