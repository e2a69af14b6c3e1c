"""What the decoders of both families share where XLA compiles them: weights, and the numbers of slots that are safe.

A text must not depend on how many others are written beside it, but libraries sum a product's row in another order for
another number of rows: one row is a product of its own kind, so the smallest pool has two slots, and matrices stored by
row may be cut in other places for many rows than for few, so they are stored by column where that is seen. Nothing
rests on this being so elsewhere: `_equal` compares the bits of every slot, with the real weights, before a number of
slots is used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from textmill import devices
from textmill.models.decoding import LARGEST, choose_precision
from textmill.models.sample import Floats

jax = devices.jax()

log = logging.getLogger("textmill.models.decoding_jax")

Arrays = dict[str, Any]

SMALLEST = 2  # slots of a pool
FEWER = (16, 8, 4, SMALLEST)  # tried where a number of slots would change a text's bits


class JaxDecoder:
    """A model's weights, laid out for decoding, and its compiled functions.

    `banned` token ids are never drawn (they may be fed).
    """

    fixed_shapes = True  # slots at rest take time too, and each length of prompts is compiled for

    def __init__(
        self,
        config: Any,
        weights: Mapping[str, npt.NDArray[np.float32]],
        *,
        precision: str = "auto",
        banned: tuple[int, ...] = (),
    ) -> None:
        self.config = config
        self.precision = choose_precision(precision)
        self.banned = banned
        self._functions: dict[Any, Any] = {}  # compiled, by what they are compiled for
        self._safe: dict[int, int] = {}
        self._by_column = False
        self.load(weights)
        if not self._equal_products(LARGEST):
            self._by_column = True
            self.load(weights)

    def load(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take other weights of the same configuration; nothing is compiled again."""
        self._arrays: Arrays
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What computes, for the log line and the manifest."""
        return {
            "backend": f"jax {jax.__version__}",
            "precision": self.precision,
            "device": devices.jax_platform(),
        }

    def _multiply(self, arrays: Arrays, x: Any, name: str) -> Any:
        """x [R, K] times a weight matrix [K, N], summed in float32 -> [R, N]."""
        raise NotImplementedError

    def _inputs(self) -> dict[str, int]:
        """Matrices whose products are tried, one of each shape, with their K."""
        raise NotImplementedError

    def _compiled(self, key: Any, function: Any, **options: Any) -> Any:
        """The function, compiled once for each key."""
        if key not in self._functions:
            self._functions[key] = jax.jit(function, **options)
        return self._functions[key]

    def _allowed(self) -> Floats:
        """[V]: -inf where a token is never drawn."""
        allowed = np.zeros(self.config.vocabulary_size, np.float32)
        allowed[list(self.banned)] = -np.inf
        return allowed

    def _slots_for(self, rows: int) -> int:
        """The slots of a pool for so many rows, within SMALLEST and LARGEST: the most at which a text has the same bits
        as in the smallest pool."""
        slots = max(SMALLEST, min(rows, LARGEST))
        if slots not in self._safe:
            sizes = [slots, *(size for size in FEWER if size < slots)]
            self._safe[slots] = next(size for size in sizes if size == SMALLEST or self._equal(size))
            if self._safe[slots] < slots:
                log.info("%d slots would change a text's bits here; using %d", slots, self._safe[slots])
        return self._safe[slots]

    def _equal(self, slots: int) -> bool:
        """Whether every slot gives the bits that the smallest number of slots gives."""
        return self._equal_products(slots)

    def _equal_products(self, slots: int) -> bool:
        """The same of every product."""
        draw, inputs = np.random.default_rng(0), self._inputs()
        one = [draw.uniform(-1, 1, (1, size)).astype(np.float32) for size in inputs.values()]

        @jax.jit
        def products(arrays: Arrays, left: list[Any]) -> list[Any]:
            return [self._multiply(arrays, x, name) for x, name in zip(left, inputs, strict=True)]

        few, many = (
            [np.asarray(out) for out in products(self._arrays, [np.repeat(x, rows, axis=0) for x in one])]
            for rows in (SMALLEST, slots)
        )
        return all((b == a[:1]).all() for a, b in zip(few, many, strict=True))
