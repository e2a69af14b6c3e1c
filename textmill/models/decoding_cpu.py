"""What the decoders of both families share on a CPU: weights, laid out for kernels, and the threads that run these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from textmill.models.decoding import choose_precision
from textmill.models.team import Team


class CPUDecoder:
    """A model's weights, laid out for decoding.

    `precision` is of the matrices. `banned` token ids are never drawn (they may be fed). `threads`: by themselves as
    many as there are cores.
    """

    fixed_shapes = False  # slots at rest take no time, and prompts of any length are compiled for
    kernels: Any  # the module that lays the weights out
    quantizes = False  # whether its kernels take int8

    def __init__(
        self,
        config: Any,
        weights: Mapping[str, npt.NDArray[np.float32]],
        *,
        precision: str = "auto",
        banned: tuple[int, ...] = (),
        threads: int = 0,
    ) -> None:
        self.config = config
        self.precision = choose_precision(precision, quantizes=self.quantizes)
        self.banned = banned
        self.team = Team(threads)
        self._allowed = np.ones(config.vocabulary_size, np.bool_)
        self._allowed[list(banned)] = False
        self.load(weights)

    def load(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take other weights of the same configuration; nothing is compiled again."""
        self._weights = self.kernels.lay_out(self.config, weights, self.precision)

    def describe(self) -> dict[str, Any]:
        """What computes, for the log line and the manifest."""
        return {"backend": f"numba {numba.__version__}", "precision": self.precision, "device": "cpu"}
