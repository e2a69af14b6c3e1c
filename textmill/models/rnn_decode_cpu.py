"""Fast decoding of the recurrent family on a CPU: `CPUDecoder` and its `Pool`, over the kernels of rnn_kernels.py.

A `Pool` holds the state of its slots. `run` takes the next tokens to feed in each slot (forced, as in a prompt) and a
uniform number for each token to be drawn, and returns what was fed or drawn with the model's log probability of it.
Slots are independent: each can start, read its prompt and draw at its own time (continuous batching).

A text's bits depend on its own tokens alone: every sum of a slot has one order, whatever the number of slots and
threads (tiles.py). Knows nothing of tokenizers and text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from textmill.models import decoding_cpu
from textmill.models import rnn_kernels as kernels
from textmill.models.decoding import LARGEST
from textmill.models.draw_kernels import drawing, of_slots
from textmill.models.rnn import RNNConfig
from textmill.models.sample import Controls, Floats, Likeliest

Ids = npt.NDArray[np.int32]

CHUNK = 64  # most steps of one call: long enough to hide its cost, short enough to show progress


class CPUDecoder(decoding_cpu.CPUDecoder):
    """A recurrent model's; `precision` is float32, bfloat16 or auto."""

    config: RNNConfig
    kernels = kernels

    @property
    def _steps(self) -> Any:
        return kernels.gru_steps if self.config.cell == "gru" else kernels.lstm_steps

    def pool(self, rows: int) -> Pool:
        """A pool of `rows` slots, at most LARGEST."""
        return Pool(self, max(1, min(rows, LARGEST)))


class Pool:
    """The state of a fixed number of slots. Those that are stepped lie in the first rows of the kernels' arrays, in any
    order; those that rest behind them."""

    def __init__(self, decoder: CPUDecoder, slots: int) -> None:
        self.decoder, self.slots = decoder, slots
        self._state = kernels.new_slots(decoder.config, slots, decoder.team.size, decoder.precision)
        self._parity = 0
        self._in_text = np.zeros(
            (slots, decoder.config.vocabulary_size), np.bool_
        )  # [row, V] fed, in the text so far
        self._slot_in = np.arange(slots)  # [row]
        self._stepped = slots  # rows
        self.likeliest: Likeliest | None = None  # of the last call, where they were asked for

    def rest(self, slot: int) -> None:
        """The slot is not stepped, and what comes back for it means nothing, until it is fresh."""
        row = int(np.flatnonzero(self._slot_in == slot)[0])
        if row < self._stepped:
            self._stepped -= 1
            self._move(self._stepped, row)

    def _wake(self, slot: int) -> None:
        """The slot is stepped again; its state is not worth anything."""
        row = int(np.flatnonzero(self._slot_in == slot)[0])
        if row >= self._stepped:
            self._slot_in[[row, self._stepped]] = self._slot_in[[self._stepped, row]]
            self._stepped += 1

    def _move(self, row: int, into: int) -> None:
        """A row takes the place of one that is not needed any more."""
        kernels.copy_row(self._state, row, into)
        self._in_text[into] = self._in_text[row]
        self._slot_in[[row, into]] = self._slot_in[[into, row]]

    def run(
        self, fresh: npt.NDArray[np.bool_], first: Ids, forced: Ids, u: Floats, controls: Controls
    ) -> tuple[Ids, Floats]:
        """Go on by len(forced) <= CHUNK steps.

        fresh [S]: slots that start a new text, from a zero state, by feeding `first` [S]; the others feed the token
        they ended with. forced [N, S]: the token to come, or -1 to draw it with u [N, S].
        Returns the tokens [N, S] and the model's log probability of each, nats [N, S]. Where the controls ask for the
        likeliest tokens, they are in `likeliest`.
        """
        steps, team = len(forced), self.decoder.team
        assert steps <= CHUNK, steps
        config = self.decoder.config
        for slot in np.flatnonzero(fresh):
            self._wake(int(slot))
        stepped = self._slot_in[: self._stepped]
        state = kernels.of_rows(self._state, self._stepped)
        started = np.flatnonzero(fresh[stepped])
        kernels.empty(state, started)
        self._in_text[started] = False
        state.token[started] = first[stepped[started]]
        drawn = drawing(
            forced[:, stepped],
            u[:, stepped],
            controls.of(stepped),
            self.decoder._allowed,
            self._in_text,
            team.size,
        )
        one_hot, parity = config.embedding == "one_hot", self._parity if config.cell == "lstm" else 0
        team.run(self.decoder._steps, self.decoder._weights, state, drawn, steps, parity, one_hot)
        self._parity = (self._parity + steps) % 2
        tokens, scores = np.zeros(forced.shape, np.int32), np.zeros(forced.shape, np.float32)
        tokens[:, stepped], scores[:, stepped] = drawn.tokens, drawn.scores
        self.likeliest = of_slots(drawn, stepped, self.slots)
        return tokens, scores
