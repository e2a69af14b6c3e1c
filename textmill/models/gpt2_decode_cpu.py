"""Fast decoding of GPT-2 on a CPU: `CPUDecoder` and its `Pool`, over the kernels of gpt2_kernels.py.

A `Pool` holds the keys and values of its slots. `read` empties a slot and reads a prompt into it, many tokens at a
time; `run` goes on in all slots at once: tokens to feed (forced) or uniform numbers to draw with, and back come the
tokens with the model's log probability of each.

A text's bits depend on its own tokens alone: not on the number of slots, on its neighbours, on the number of threads,
or on whether its prompt was read or stepped through. Every sum of a row has one order (tiles.py); no trial is needed.

Knows nothing of tokenizers and text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textmill.models import decoding_cpu
from textmill.models import gpt2_kernels as kernels
from textmill.models.decoding import LARGEST
from textmill.models.draw_kernels import Drawing, drawing, of_slots
from textmill.models.gpt2 import GPT2Config
from textmill.models.sample import Controls, Floats, Likeliest, Variant

Ids = npt.NDArray[np.int32]

CHUNK = 32  # most steps of one call
POSITIONS = 256  # of each slot that a pool's memory begins with; it doubles as texts grow
READ = 96  # tokens of a prompt at a time; whole groups of attention


class CPUDecoder(decoding_cpu.CPUDecoder):
    """A GPT-2's; `precision` is float32, bfloat16, int8 (all but embeddings' places, norms and biases, a scale for each
    column) or auto."""

    config: GPT2Config
    kernels = kernels
    quantizes = True

    def pool(self, rows: int) -> Pool:
        """A pool of `rows` slots, at most LARGEST."""
        return Pool(self, max(1, min(rows, LARGEST)))

    def warm_up(self, slots: int, variants: Sequence[Variant] = (Variant(),)) -> None:
        """Compile everything: it is the same for any number of slots and any controls."""
        self.pool(1).read(0, np.zeros(2, np.int32))


class Pool:
    """The keys and values of a fixed number of slots."""

    def __init__(self, decoder: CPUDecoder, slots: int) -> None:
        self.decoder, self.slots = decoder, slots
        config = decoder.config
        self._cache = kernels.new_cache(config, slots, min(POSITIONS, config.context), decoder.precision)
        self._rows = kernels.new_rows(config, max(slots, READ), LARGEST, decoder.team.size, decoder.precision)
        self._position = np.zeros(slots, np.int32)  # tokens fed so far
        self._next = np.zeros(slots, np.int32)
        self._resting = np.zeros(slots, np.bool_)
        self._in_text = np.zeros((slots, config.vocabulary_size), np.bool_)  # fed, in the text so far
        self.likeliest: Likeliest | None = None  # of the last call, where they were asked for

    def room(self, slot: int) -> int:
        """Steps that still fit into the slot's context."""
        return int(self.decoder.config.context - self._position[slot])

    def rest(self, slot: int) -> None:
        """The slot is not stepped, and what comes back for it means nothing, until it is read again or fresh."""
        self._resting[slot] = True

    def read(
        self,
        slot: int,
        ids: npt.NDArray[np.integer],
        *,
        scored: bool = True,
        continued: bool = False,
        likeliest: int = 0,
    ) -> Floats:
        """Empty the slot and read `ids`, at most the context -> the log probabilities [len(ids)-1] of ids[1:], nats.

        The slot's next step feeds ids[-1]. Not `scored`: faster, and nothing is returned. `continued`: they are the
        end of the slot's own text, whose earlier tokens the repetition penalty goes on counting. `likeliest`: where
        scored, so many tokens that were the likeliest for each of ids[1:] are in the attribute of that name.
        """
        known: npt.NDArray[np.int32] = np.asarray(ids, np.int32)
        count = len(known) - 1
        assert 0 <= count < self.decoder.config.context, count
        if not continued:
            self._in_text[slot] = False
        self._hold(count)
        found = [
            self._read(slot, at, known[at : at + READ + 1], scored, likeliest) for at in range(0, count, READ)
        ]
        self._next[slot], self._position[slot], self._resting[slot] = known[-1], count, False
        self.likeliest = None
        if likeliest:
            none = np.zeros((0, likeliest))
            self.likeliest = Likeliest(
                np.concatenate([none.astype(np.int32), *(drawn.best[0] for drawn in found)]),
                np.concatenate([none.astype(np.float32), *(drawn.best_scores[0] for drawn in found)]),
            )
        return np.concatenate([np.zeros(0, np.float32), *(drawn.scores[0] for drawn in found if scored)])

    def _read(self, slot: int, at: int, ids: Ids, scored: bool, likeliest: int) -> Drawing:
        """Up to READ ids at position `at`, and one more, which is only scored."""
        rows, count = self._rows, len(ids) - 1
        rows.token[:count], rows.slot[:count] = ids[:-1], slot
        rows.position[:count] = np.arange(at, at + count)
        controls = Controls.neutral(count)
        controls.likeliest[:] = likeliest
        taken = self._drawing(ids[None, 1:], np.zeros((1, count), np.float32), controls)
        self._go(taken, count, kernels.GROUP, 1, scored)
        return taken

    def _hold(self, positions: int) -> None:
        """Make the cache large enough."""
        config, held = self.decoder.config, kernels.positions_of(self._cache)
        if held >= min(positions, config.context):
            return
        while held < positions:
            held *= 2
        larger = kernels.new_cache(config, self.slots, min(held, config.context), self.decoder.precision)
        kernels.copy_cache(self._cache, larger)
        self._cache = larger

    def _go(self, drawn: Drawing, *what: Any) -> None:
        """The forward pass over the rows, in all threads."""
        decoder = self.decoder
        decoder.team.run(kernels.forward, decoder._weights, self._cache, self._rows, drawn, *what)

    def _drawing(self, forced: Ids, u: Floats, controls: Controls) -> Drawing:
        return drawing(forced, u, controls, self.decoder._allowed, self._in_text, self.decoder.team.size)

    def run(
        self, fresh: npt.NDArray[np.bool_], first: Ids, forced: Ids, u: Floats, controls: Controls
    ) -> tuple[Ids, Floats]:
        """Go on by len(forced) <= CHUNK steps.

        fresh [S]: slots that start a new text, from nothing, by feeding `first` [S]; the others feed the token they
        ended with. forced [N, S]: the token to come, or -1 to draw it with u [N, S].
        Returns the tokens [N, S] and the model's log probability of each, nats [N, S]; those of a slot whose room
        has run out mean nothing. Where the controls ask for the likeliest tokens, they are in `likeliest`.
        """
        steps, rows, context = len(forced), self._rows, self.decoder.config.context
        assert steps <= CHUNK, steps
        self._position[fresh], self._in_text[fresh], self._resting[fresh] = 0, False, False
        self._next = np.where(fresh, first, self._next).astype(np.int32)
        stepped = np.flatnonzero(~self._resting)
        count = len(stepped)
        rows.token[:count], rows.slot[:count] = self._next[stepped], stepped
        rows.position[:count] = np.minimum(self._position[stepped], context - 1)
        self._hold(int(self._position[stepped].max(initial=0)) + steps)
        drawn = self._drawing(forced[:, stepped], u[:, stepped], controls.of(stepped))
        self._go(drawn, count, 1, steps, True)
        self._position[stepped] = np.minimum(self._position[stepped] + steps, context)
        self._next[stepped] = drawn.tokens[-1]
        tokens, scores = np.zeros(forced.shape, np.int32), np.zeros(forced.shape, np.float32)
        tokens[:, stepped], scores[:, stepped] = drawn.tokens, drawn.scores
        self.likeliest = of_slots(drawn, stepped, self.slots)
        return tokens, scores
