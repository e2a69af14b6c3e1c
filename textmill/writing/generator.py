"""New text from a trained model: `Generator`, loaded once; prompts become texts, in a batch or streamed.

A text depends on its prompt, the settings and (seed, index) alone: not on the batch it is in, the chunks it is made in,
or whether it is streamed.

Knows which pools are kept and who waits for a slot; knows nothing of slots' steps (slots.py), of how a token is drawn
(sample.py), of where a text ends (drafts.py) and of how it is shown while it is written (shown.py).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textmill.errors import InputError
from textmill.postprocess import Finish, finished
from textmill.progress import Progress
from textmill.writing.drafts import Draft, others
from textmill.writing.prompts import Ids, Prompt, as_learned, numbered, prompt_ids, start_ids, unknown_in
from textmill.writing.settings import GenerateSettings
from textmill.writing.shown import Shown, to_script
from textmill.writing.slots import Slots

if TYPE_CHECKING:
    from textmill.checkpoints.checkpoint import LoadedModel
    from textmill.models.sample import Likeliest
    from textmill.tokenizers import Tokenizer

log = logging.getLogger("textmill.generate")

STREAM_STEPS = {
    "char": 16,
    "word": 4,
    "bpe": 1,
}  # tokens between two pieces of a streamed text: some 5 to 15 ms
ENDLESS = 2**62
Scored = tuple[
    npt.NDArray[np.float32], "Likeliest | None"
]  # of some ids in a row: each one's log probability, nats
POOLS_KEPT = 2


@dataclass(frozen=True)
class Text:
    """One generated text. `completion` is what the model added; `text` is for reading, as the settings say."""

    index: int
    prompt: str
    completion: str
    text: str
    finish_reason: (
        str  # "length" | "stop" | "end_of_document"; "sentence" | "characters" where the text was cut
    )
    tokens: int
    characters: int  # of the completion
    seed: int
    scores: dict[str, float]  # mean_log_probability: nats a token, under the model itself
    copied: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `copied` only where it was measured."""
        values = dataclasses.asdict(self)
        if self.copied is None:
            del values["copied"]
        return values


@dataclass(frozen=True)
class Score:
    """How likely a model finds a text."""

    tokens: int
    log_probability: float  # of all tokens, nats

    @property
    def mean_log_probability(self) -> float:
        """Nats a token."""
        return self.log_probability / self.tokens

    @property
    def perplexity(self) -> float:
        """e to the nats a token: as unsure as a choice among so many equally likely tokens."""
        return math.exp(-self.mean_log_probability)


class Generator:
    """A model that stays loaded. Its memory does not grow with the number of texts or calls.

    `render` is how the model's text is set for reading: "script", "sentences" or "". `decoder` is for tests; the family
    of the model has one.
    """

    def __init__(
        self,
        config: Any,
        weights: Mapping[str, np.ndarray],
        tokenizer: Tokenizer,
        *,
        render: str = "",
        precision: str = "auto",
        decoder: type[Any] | None = None,
    ) -> None:
        if config.vocabulary_size != tokenizer.size:
            raise InputError(
                f"the model knows {config.vocabulary_size} tokens and its tokenizer {tokenizer.size}; "
                "the checkpoint was put together from two runs."
            )
        self.model: LoadedModel | None = None  # where it came from
        self.tokenizer, self.render = tokenizer, render
        banned = () if tokenizer.unknown is None else (tokenizer.unknown,)
        kind = decoder or _decoder_of(config)
        self.decoder = kind(config, weights, precision=precision, banned=banned)
        self._chunk: int = sys.modules[kind.__module__].CHUNK
        self._context: int = getattr(
            config, "context", 0
        )  # most tokens seen at once; 0: the model carries a state
        self._pools: dict[int, Any] = {}
        self._streaming: list[Any] = []  # pools of streams that have ended

    @classmethod
    def open(cls, checkpoint: Path, precision: str = "auto") -> Generator:
        """A generator of a checkpoint's model; the one opened last is kept, with what it has compiled.

        Raises FolderError for a folder that is no whole checkpoint.
        """
        from textmill.checkpoints.checkpoint import load_model

        model = load_model(Path(checkpoint))
        key = (model.digest, precision)
        if key not in _opened:
            _opened.clear()
            _opened[key] = cls(
                model.config, model.weights, model.tokenizer, render=model.render, precision=precision
            )
            _opened[key].model = model
        model.weights.clear()  # the decoder has its own, laid out as it needs them
        return _opened[key]

    # ------------------------------------------------------------------ what it does

    def generate(
        self,
        prompts: Sequence[str | Prompt] | None = None,
        settings: GenerateSettings | None = None,
        progress: Progress | None = None,
        numbers: range | None = None,
    ) -> list[Text]:
        """`settings.number` texts for each prompt (None: the settings' one), in order, numbered through.

        `numbers`: only those of them; a text is the same whatever others are written.
        """
        settings = settings or GenerateSettings()
        given = [settings.prompt] if prompts is None else prompts
        asked = numbered([p if isinstance(p, Prompt) else Prompt(p) for p in given], settings, numbers)
        drafts = [self.draft(i, each.prompt.text, each.settings) for each in asked for i in each.numbers]
        self._say_cut(drafts)
        for draft in self._write(drafts, settings.batch_size, progress):
            log.debug("text %d: %s", draft.index, draft.finish_reason)
        return [self.finished(draft) for draft in drafts]

    def stream(
        self, prompt: str | None = None, settings: GenerateSettings | None = None, *, endless: bool = False
    ) -> Iterator[str]:
        """The text that `generate` makes for this prompt, in pieces as they are made; a script comes in whole lines,
        and a text that is finished (settings.finish) in whole sentences.

        `endless`: no length, and on past the end of a document, in flat memory.
        """
        settings = settings or GenerateSettings()
        if endless:
            settings = settings.replace(length=ENDLESS, stop_at_end=False)
        draft = self.draft(0, settings.prompt if prompt is None else prompt, settings)
        self._say_cut([draft])
        shown = self.shown(draft)
        for piece in self._pieces(draft):
            if given := shown.feed(piece):
                yield given
            if shown.reason:
                return
        if given := shown.close():
            yield given

    def score(self, text: str) -> Score:
        """How likely `text` is as a text's start; in a text longer than the context each token is seen after at least
        half a context.

        Raises InputError for a text without tokens.
        """
        ids = prompt_ids(self.tokenizer, text)
        scored = len(ids) - len(start_ids(self.tokenizer))
        if scored < 1:
            raise InputError("there is nothing to score: the text has no token.")
        return Score(scored, float(self.token_scores(ids)[-scored:].sum(dtype=np.float64)))

    def token_scores(self, ids: Ids) -> npt.NDArray[np.float32]:
        """The log probability of each id but the first, nats."""
        return self.likeliest(ids, 0)[0]

    def likeliest(
        self, ids: Ids, count: int
    ) -> tuple[npt.NDArray[np.float32], list[list[tuple[int, float]]]]:
        """The log probability of each id but the first, and the `count` likeliest ids in the place of each, best first,
        with theirs, nats."""
        if len(ids) < 2:
            return np.zeros(0, np.float32), []
        parts = list(self._read(ids, count) if self._context else self._feed(ids, count))
        found = [others(noted, count) for _, noted in parts if noted is not None]
        return np.concatenate([scores for scores, _ in parts]), list(itertools.chain(*found))

    @property
    def context(self) -> int:
        """Most tokens that the model sees at once; 0 where it carries a state instead."""
        return self._context

    # ------------------------------------------------------------------ prompts and rendering

    def draft(self, index: int, prompt: str, settings: GenerateSettings) -> Draft:
        """Text `index` of a run with these settings, before its first token."""
        shown = as_learned(prompt, self.render)
        ids = prompt_ids(self.tokenizer, shown)
        finish = None if self._render(settings) == "script" else self._finish(settings)
        return Draft(
            index, prompt, shown, ids, settings, self.tokenizer, context=self._context, finish=finish
        )

    def unknown_in(self, prompt: str) -> list[str]:
        """The characters or words of a prompt that the model does not know, in order."""
        return unknown_in(self.tokenizer, as_learned(prompt, self.render))

    def as_read(self, text: str, settings: GenerateSettings) -> str:
        """Text as the model writes it, set for reading; nothing is cut."""
        if self._render(settings) == "script":
            return to_script(text)
        return finished(text, Finish(recapitalize=self._finish(settings).recapitalize))[0]

    def _render(self, settings: GenerateSettings) -> str:
        return self.render if settings.render == "auto" else settings.render

    def _finish(self, settings: GenerateSettings) -> Finish:
        sentences = self._render(settings) == "sentences"
        return settings.finish._replace(recapitalize=True) if sentences else settings.finish

    def shown(self, draft: Draft) -> Shown:
        """What shows a draft's text while it is written."""
        before = draft.shown_prompt if draft.settings.include_prompt else ""
        script = self._render(draft.settings) == "script"
        return Shown(before, self._finish(draft.settings), script=script)

    def finished(self, draft: Draft) -> Text:
        """The text of a draft that has ended, or is to end where it is; its text must not have been taken."""
        settings, completion = draft.settings, draft.take_text()
        before = draft.shown_prompt if settings.include_prompt else ""
        script = self._render(settings) == "script"
        shown = to_script(before + completion) if script else before + completion
        shown, reason = finished(shown, self._finish(settings), 0 if script else len(before))
        return Text(
            index=draft.index,
            prompt=draft.prompt,
            completion=completion,
            text=shown,
            finish_reason=reason or draft.finish_reason,
            tokens=draft.tokens,
            characters=draft.characters,
            seed=settings.seed,
            scores={"mean_log_probability": draft.log_probability / max(draft.tokens, 1)},
        )

    def _say_cut(self, drafts: Sequence[Draft]) -> None:
        cut = {draft.prompt: len(draft.ids) for draft in drafts if draft.cut}
        if cut:
            log.info(
                "%d prompt(s) of up to %d tokens do not fit into the context of %d: their last part is read",
                len(cut), max(cut.values()), self._context,
            )  # fmt: skip

    # ------------------------------------------------------------------ decoding

    def slots(self, rows: int, controls: Any = None) -> Slots:
        """Empty slots of a pool of their own; `rows` is bounded as the decoder bounds it."""
        return Slots(self.decoder.pool(rows), self._context, self._chunk, controls)

    def _pool(self, rows: int) -> Any:
        """A pool for so many rows; the two that were used last are kept, since a pool may hold gigabytes."""
        pool = self._pools.pop(rows, None) or self.decoder.pool(rows)
        self._pools[rows] = pool
        while len(self._pools) > POOLS_KEPT:
            del self._pools[next(iter(self._pools))]
        return pool

    def _write(
        self, drafts: Sequence[Draft], batch_size: int, progress: Progress | None = None
    ) -> Iterator[Draft]:
        """Write all drafts, `batch_size` at a time; a slot that is free takes the next one. Yields them as they end."""
        if not drafts:
            return
        rows = 1 << (len(drafts) - 1).bit_length()  # of few sizes: each one is compiled for
        slots = Slots(self._pool(min(batch_size, rows)), self._context, self._chunk)
        waiting = deque(drafts)
        while waiting or slots.writing:
            while waiting and slots.free:
                slots.seat(waiting.popleft())
            drawn = slots.advance(self._chunk)
            if progress is not None:
                progress.advance(drawn)
            for i, draft in slots.writing:
                if draft.finish_reason:
                    slots.release(i)
                    yield draft

    def _pieces(self, draft: Draft) -> Iterator[str]:
        # its own pool: streams may be interleaved
        pool = self._streaming.pop() if self._streaming else self.decoder.pool(1)
        try:
            slots = Slots(pool, self._context, self._chunk)
            slots.seat(draft)
            while not draft.finish_reason:
                ahead = draft.prompt_left() if not self._context else 0
                slots.advance(ahead + STREAM_STEPS[self.tokenizer.name])
                if piece := draft.take_text():
                    yield piece
        finally:
            if not self._streaming:
                self._streaming.append(pool)

    def _read(self, ids: Ids, count: int) -> Iterator[Scored]:
        """Each id but the first, for a model with a context: in blocks that overlap by half."""
        pool, context = self._pool(1), self._context
        half, noted = max(1, context // 2), {"likeliest": count} if count else {}
        yield pool.read(0, ids[:context], **noted), pool.likeliest if count else None
        for start in range(half, len(ids) - (context - half), half):
            new = min(half, len(ids) - start - (context - half))
            scores = pool.read(0, ids[start : start + context], **noted)
            yield scores[-new:], pool.likeliest.of(slice(-new, None)) if count else None

    def _feed(self, ids: Ids, count: int) -> Iterator[Scored]:
        """The same for a model that carries a state: fed without drawing."""
        from textmill.models.sample import Controls

        pool = self._pool(1)
        controls, fresh = Controls.neutral(pool.slots), np.ones(pool.slots, np.bool_)
        controls.likeliest[:] = count
        first = np.full(pool.slots, ids[0])
        for at in range(1, len(ids), self._chunk):
            forced = np.repeat(ids[at : at + self._chunk, None], pool.slots, axis=1)
            _, scores = pool.run(fresh, first, forced, np.zeros(forced.shape, np.float32), controls)
            fresh = np.zeros(pool.slots, np.bool_)
            yield scores[:, 0], pool.likeliest.of(slice(None), 0) if count else None


def _decoder_of(config: Any) -> type[Any]:
    """The decoder of the family that has such a configuration."""
    from textmill.models import MODELS

    kind: type[Any] = next(f for f in MODELS.values() if f.config_class is type(config)).decoder()
    return kind


def sample_text(
    config: Any,
    weights: Mapping[str, np.ndarray],
    tokenizer: Tokenizer,
    *,
    render: str = "",
    length: int = 1000,
    seed: int = 0,
) -> str:
    """One text of a model in training. The decoder of the last call is used again: only its weights are new."""
    kept = _sampler.get("generator")
    if (
        kept is None
        or kept.decoder.config != config
        or kept.tokenizer is not tokenizer
        or kept.render != render
    ):
        _sampler["generator"] = kept = Generator(
            config, weights, tokenizer, render=render, precision="float32"
        )
    else:
        kept.decoder.load(weights)
    return kept.generate([""], GenerateSettings(length=length, seed=seed, stop_at_end=False))[0].text


_sampler: dict[str, Generator] = {}
_opened: dict[tuple[str, str], Generator] = {}
