"""New text from a trained model: `Generator` (load once; prompts -> texts, in a batch or streamed) and its stage.

Knows stop rules, prompts and how a text is rendered for reading; knows nothing of the model's arithmetic (its decoder
steps slots of tokens) and of how a token is drawn (sample.py).

A text depends on its prompt, the settings and (seed, index) alone: not on the batch it is in, the chunks it is made in,
or whether it is streamed.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from textmill import manifest
from textmill.errors import InputError, SettingsError
from textmill.files import new_folder, write_json
from textmill.progress import Progress
from textmill.settings import Settings, setting

if TYPE_CHECKING:
    from textmill.checkpoint import LoadedModel
    from textmill.models.rnn_decode import Pool
    from textmill.tokenizers import Tokenizer

log = logging.getLogger("textmill.generate")

LINE_OPENERS = ("<boname>", "<open-exp>")  # tokens of a marked-up script before which a line has ended
CONTEXT = 8  # tokens decoded again to show the ones after them: a word's space depends on the word before
STREAM_STEPS = {"char": 16, "word": 4}  # tokens between two pieces of a streamed text: some 5 ms


@dataclass(frozen=True)
class GenerateSettings(Settings):
    """What is written, and how it is drawn from the model."""

    prompt: str = setting("", "Text to go on from (empty: the start of a line or document).")
    number: int = setting(1, "Texts for each prompt.", minimum=1, maximum=100_000)
    length: int = setting(1000, "Most tokens (characters or words) of each text.", minimum=1)
    length_unit: str = setting("tokens", "What length counts.", choices=("tokens", "characters"))
    temperature: float = setting(
        1.0, "Below 1 is safer, above 1 wilder; 0 takes the likeliest token.", minimum=0
    )
    top_k: int = setting(0, "Draw from the k likeliest tokens only (0: from all); S3's topn.", minimum=0)
    top_p: float = setting(
        1.0, "Draw from the fewest tokens that hold this probability together.", minimum=0, maximum=1
    )
    repetition_penalty: float = setting(
        1.0, "Above 1 makes tokens that stood in the text less likely.", minimum=0.01
    )
    seed: int = setting(0, "The same seed gives the same texts.", minimum=0, maximum=2**63 - 1)
    batch_size: int = setting(
        30, "Texts written side by side; changes the speed, not the texts.", minimum=1, maximum=32
    )
    stop: list[str] = setting([], "End a text before any of these strings.")
    stop_at_end: bool = setting(True, "End a text where the model ends the document.")
    include_prompt: bool = setting(True, "Show the prompt before the text that goes on from it.")
    render: str = setting(
        "auto",
        "How text is shown: script sets marked-up text for reading, plain shows it as it is, auto goes by the model.",
        choices=("auto", "script", "plain"),
    )
    precision: str = setting(
        "auto",
        "Number format of the matrix products: auto is bfloat16 where the CPU computes in it.",
        choices=("auto", "float32", "bfloat16"),
    )

    def check(self) -> None:
        if any(not isinstance(stop, str) or not stop for stop in self.stop):
            raise SettingsError(
                f"setting 'stop' is {self.stop!r}; it must be a list of strings that are not empty."
            )


@dataclass(frozen=True)
class Text:
    """One generated text. `completion` is what the model added; `text` is for reading, as the settings say."""

    index: int
    prompt: str
    completion: str
    text: str
    finish_reason: str  # "length" | "stop" | "end_of_document"
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


class _Draft:
    """A text being written in a slot: its prompt's ids, what it has, and whether it has ended."""

    def __init__(
        self,
        index: int,
        prompt: str,
        shown_prompt: str,
        ids: npt.NDArray[np.int32],
        settings: GenerateSettings,
        tokenizer: Tokenizer,
    ) -> None:
        self.index, self.prompt, self.shown_prompt, self.ids = index, prompt, shown_prompt, ids
        self.settings, self._tokenizer = settings, tokenizer
        self.step = 0  # tokens fed so far
        self.tokens = 0
        self.characters = 0
        self.log_probability = 0.0
        self.finish_reason = ""
        self._tail = ids[-CONTEXT:].tolist()
        self._parts: list[str] = []  # text not yet taken
        self._held = ""  # text after it, which may be the beginning of a stop string

    def prompt_left(self) -> int:
        """Prompt tokens that come before the first drawn one."""
        return max(0, len(self.ids) - 1 - self.step)

    def steps_left(self) -> int:
        """Most steps that are still to be made."""
        done = self.tokens if self.settings.length_unit == "tokens" else self.characters
        return self.prompt_left() + self.settings.length - done

    def feed(self, steps: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """For the next steps: the id that is forced, or -1, and the uniform number to draw with."""
        from textmill.sample import uniforms

        forced = np.full(steps, -1, np.int32)
        ahead = self.ids[self.step + 1 : self.step + 1 + steps]
        forced[: len(ahead)] = ahead
        positions = np.arange(self.step + 1, self.step + 1 + steps) - len(self.ids)
        return forced, uniforms(self.settings.seed, self.index, np.maximum(positions, 0))

    def take(self, tokens: npt.NDArray[np.int32], scores: npt.NDArray[np.float32]) -> None:
        """Take the tokens of the steps just made, up to where the text ends."""
        prompt = min(len(tokens), self.prompt_left())
        self.step += len(tokens)
        drawn, reason = self._up_to_end(tokens[prompt:].tolist())
        text, ended = self._text(drawn)
        if ended:  # by which token? The counts must not depend on how many were drawn at once.
            drawn = next(drawn[:n] for n in range(1, len(drawn) + 1) if self._text(drawn[:n])[1])
            text, reason = self._text(drawn)
        held = 0 if reason else self._may_stop(text)
        self.characters += len(text) - len(self._held)
        self._parts.append(text[: len(text) - held])
        self._held = text[len(text) - held :]
        self._tail = (self._tail + drawn)[-CONTEXT:]
        self.tokens += len(drawn)
        self.log_probability += float(scores[prompt : prompt + len(drawn)].sum(dtype=np.float64))
        self.finish_reason = reason

    def _up_to_end(self, drawn: list[int]) -> tuple[list[int], str]:
        """The tokens before the end of the document and within the length, and the reason to end here, or ""."""
        reason = ""
        end = self._tokenizer.end_of_document
        if self.settings.stop_at_end and end in drawn:
            drawn, reason = drawn[: drawn.index(end)], "end_of_document"
        room = self.settings.length - self.tokens
        if self.settings.length_unit == "tokens" and len(drawn) >= room:
            drawn, reason = drawn[:room], "length"
        return drawn, reason

    def _text(self, drawn: list[int]) -> tuple[str, str]:
        """What is held back and these tokens as text, up to a stop string or the length in characters; which it was."""
        shown = len(self._tokenizer.decode(self._tail))
        text = self._held + self._tokenizer.decode(self._tail + drawn)[shown:]
        places = [at for stop in self.settings.stop if (at := text.find(stop)) >= 0]
        if places:
            return text[: min(places)], "stop"
        room = self.settings.length - self.characters + len(self._held)
        if self.settings.length_unit == "characters" and len(text) >= room:
            return text[:room], "length"
        return text, ""

    def _may_stop(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = min(max(map(len, self.settings.stop), default=1) - 1, len(text))
        ends = (
            n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in self.settings.stop)
        )
        return next(ends, 0)

    def take_text(self) -> str:
        """The text that was written since the last call."""
        text = "".join(self._parts)
        self._parts.clear()
        return text


class Generator:
    """A model that stays loaded. Its memory does not grow with the number of texts or calls.

    `render` is how the model's text is set for reading: "script" or "".
    """

    def __init__(
        self,
        config: Any,
        weights: Mapping[str, np.ndarray],
        tokenizer: Tokenizer,
        *,
        render: str = "",
        precision: str = "auto",
    ) -> None:
        from textmill.models.rnn_decode import RNNDecoder

        if config.vocabulary_size != tokenizer.size:
            raise InputError(
                f"the model knows {config.vocabulary_size} tokens and its tokenizer {tokenizer.size}; "
                "the checkpoint was put together from two runs."
            )
        self.model: LoadedModel | None = None  # where it came from
        self.tokenizer, self.render = tokenizer, render
        banned = () if tokenizer.unknown is None else (tokenizer.unknown,)
        self.decoder = RNNDecoder(config, weights, precision=precision, banned=banned)
        self._pools: dict[int, Pool] = {}

    @classmethod
    def open(cls, checkpoint: Path, precision: str = "auto") -> Generator:
        """A generator of a checkpoint's model; the one opened last is kept, with what it has compiled.

        Raises FolderError for a folder that is no whole checkpoint.
        """
        from textmill.checkpoint import load_model

        model = load_model(Path(checkpoint))
        key = (model.digest, precision)
        if key not in _opened:
            _opened.clear()
            _opened[key] = cls(
                model.config, model.weights, model.tokenizer, render=model.render, precision=precision
            )
            _opened[key].model = model
        return _opened[key]

    # ------------------------------------------------------------------ what it does

    def generate(
        self,
        prompts: Sequence[str] | None = None,
        settings: GenerateSettings | None = None,
        progress: Progress | None = None,
    ) -> list[Text]:
        """`settings.number` texts for each prompt (None: the settings' one), in order, numbered through."""
        settings = settings or GenerateSettings()
        prompts = [settings.prompt] if prompts is None else prompts
        asked = [prompt for prompt in prompts for _ in range(settings.number)]
        drafts = [self._draft(i, prompt, settings) for i, prompt in enumerate(asked)]
        for draft in self._write(drafts, settings.batch_size, progress):
            log.debug("text %d: %s", draft.index, draft.finish_reason)
        return [self._finished(draft) for draft in drafts]

    def stream(
        self, prompt: str | None = None, settings: GenerateSettings | None = None, *, endless: bool = False
    ) -> Iterator[str]:
        """The text that `generate` makes for this prompt, in pieces as they are made; a script comes in whole lines.

        `endless`: no length, and on past the end of a document, in flat memory.
        """
        settings = settings or GenerateSettings()
        if endless:
            settings = settings.replace(length=2**62, stop_at_end=False)
        draft = self._draft(0, settings.prompt if prompt is None else prompt, settings)
        pieces = self._pieces(draft)
        if settings.include_prompt and draft.prompt:
            pieces = chain([draft.shown_prompt], pieces)
        yield from _rendered_lines(pieces) if self._renders(settings) else pieces

    def score(self, text: str) -> float:
        """Mean log probability of the tokens of `text` as a text's start, nats; its perplexity is exp(-score).

        Raises InputError for a text without tokens.
        """
        ids = self.tokenizer.encode(text)
        if not len(ids):
            raise InputError("there is nothing to score: the text has no token.")
        scores = self._feed(np.concatenate([start_ids(self.tokenizer), ids]).astype(np.int32))
        return float(scores[-len(ids) :].mean(dtype=np.float64))

    # ------------------------------------------------------------------ prompts and rendering

    def _draft(self, index: int, prompt: str, settings: GenerateSettings) -> _Draft:
        shown = self._as_learned(prompt)
        ids = np.concatenate([start_ids(self.tokenizer), self.tokenizer.encode(shown)]).astype(np.int32)
        return _Draft(index, prompt, shown, ids, settings, self.tokenizer)

    def _as_learned(self, prompt: str) -> str:
        return _as_markup(prompt) if self.render == "script" else prompt

    def unknown_in(self, prompt: str) -> list[str]:
        """The characters or words of a prompt that the model does not know, in order."""
        shown = _as_markup(prompt) if self.render == "script" else prompt
        ids = self.tokenizer.encode(shown)
        return [
            piece
            for piece, i in zip(self.tokenizer.pieces(shown), ids, strict=True)
            if i == self.tokenizer.unknown
        ]

    def _renders(self, settings: GenerateSettings) -> bool:
        return settings.render == "script" or (settings.render == "auto" and self.render == "script")

    def _finished(self, draft: _Draft) -> Text:
        completion = draft.take_text()
        shown = draft.shown_prompt + completion if draft.settings.include_prompt else completion
        return Text(
            index=draft.index,
            prompt=draft.prompt,
            completion=completion,
            text=_to_script(shown) if self._renders(draft.settings) else shown,
            finish_reason=draft.finish_reason,
            tokens=draft.tokens,
            characters=draft.characters,
            seed=draft.settings.seed,
            scores={"mean_log_probability": draft.log_probability / max(draft.tokens, 1)},
        )

    # ------------------------------------------------------------------ decoding

    def _pool(self, rows: int) -> Pool:
        """A pool for so many rows; the last one of each size is kept."""
        if rows not in self._pools:
            self._pools[rows] = self.decoder.pool(rows)
        return self._pools[rows]

    def _write(
        self, drafts: Sequence[_Draft], batch_size: int, progress: Progress | None = None
    ) -> Iterator[_Draft]:
        """Write all drafts, `batch_size` at a time; a slot that is free takes the next one. Yields them as they end."""
        from textmill.models.rnn_decode import CHUNK
        from textmill.sample import Controls

        if not drafts:
            return
        pool = self._pool(min(batch_size, len(drafts)))
        waiting, slots = deque(drafts), [None] * pool.slots  # type: deque[_Draft], list[_Draft | None]
        controls = Controls.neutral(pool.slots)
        while waiting or any(slots):
            fresh = _seat(waiting, slots, controls)
            writing = [draft for draft in slots if draft is not None]
            steps = min(CHUNK, max(draft.steps_left() for draft in writing))
            self._advance(pool, slots, fresh, controls, steps, progress)
            for i, draft in enumerate(slots):
                if draft is not None and draft.finish_reason:
                    slots[i] = None
                    yield draft

    def _advance(
        self,
        pool: Pool,
        slots: Sequence[_Draft | None],
        fresh: np.ndarray,
        controls: Any,
        steps: int,
        progress: Progress | None = None,
    ) -> None:
        """Make `steps` steps and give each draft its tokens."""
        first = np.zeros(pool.slots, np.int32)
        forced, u = np.full((steps, pool.slots), -1, np.int32), np.zeros((steps, pool.slots), np.float32)
        for i, draft in enumerate(slots):
            if draft is not None:
                first[i] = draft.ids[0]
                forced[:, i], u[:, i] = draft.feed(steps)
        tokens, scores = pool.run(fresh, first, forced, u, controls)
        for i, draft in enumerate(slots):
            if draft is not None:
                before = draft.tokens
                draft.take(tokens[:, i], scores[:, i])
                if progress is not None:
                    progress.advance(draft.tokens - before)

    def _pieces(self, draft: _Draft) -> Iterator[str]:
        from textmill.models.rnn_decode import CHUNK
        from textmill.sample import Controls

        pool = self.decoder.pool(1)  # its own: streams may be interleaved
        controls, slots = Controls.neutral(pool.slots), [None] * pool.slots  # type: Any, list[_Draft | None]
        fresh = _seat(deque([draft]), slots, controls)
        while not draft.finish_reason:
            ahead = draft.prompt_left() + STREAM_STEPS[self.tokenizer.name]
            steps = min(CHUNK, draft.steps_left(), ahead)
            self._advance(pool, slots, fresh, controls, steps)
            fresh = np.zeros(pool.slots, np.bool_)
            if piece := draft.take_text():
                yield piece

    def _feed(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Feed ids without drawing: the log probability of each but the first, given those before it."""
        from textmill.models.rnn_decode import CHUNK
        from textmill.sample import Controls

        pool = self._pool(1)
        controls, fresh, found = Controls.neutral(pool.slots), np.ones(pool.slots, np.bool_), []
        first = np.full(pool.slots, ids[0])
        for at in range(1, len(ids), CHUNK):
            forced = np.repeat(ids[at : at + CHUNK, None], pool.slots, axis=1)
            _, scores = pool.run(fresh, first, forced, np.zeros(forced.shape, np.float32), controls)
            fresh = np.zeros(pool.slots, np.bool_)
            found.append(scores[:, 0])
        return np.concatenate(found)


def start_ids(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """What is fed before a text: the end of a document and a line; for words what S1 feeds, id 0 and <eos>."""
    end, newline = tokenizer.end_of_document, tokenizer.encode("\n")
    if tokenizer.name == "word":
        return np.append([0], newline[newline != tokenizer.unknown]).astype(np.int32)
    if end is not None:
        # in a text of few documents their ends are rare: a line feed leads back to what the model knows well
        return np.append([end], newline[newline != tokenizer.unknown]).astype(np.int32)
    return np.where(newline == tokenizer.unknown, 0, newline).astype(np.int32)


def _seat(waiting: deque[_Draft], slots: list[_Draft | None], controls: Any) -> np.ndarray:
    """Put waiting drafts into free slots; which slots start anew, [S]. A slot left free writes on, unread."""
    fresh = np.zeros(len(slots), np.bool_)
    for i, draft in enumerate(slots):
        if draft is None and waiting:
            slots[i] = draft = waiting.popleft()
            settings = draft.settings
            controls.set(
                i,
                temperature=settings.temperature,
                top_k=settings.top_k,
                top_p=settings.top_p,
                penalty=settings.repetition_penalty,
            )
            fresh[i] = True
    return fresh


# ---------------------------------------------------------------------- the stage


def generate(
    checkpoint: Path,
    texts: Path,
    settings: GenerateSettings | None = None,
    prompts: Path | Sequence[str] | None = None,
    dataset: Path | None = None,
) -> dict[str, Any]:
    """Write texts with a checkpoint's model into the folder `texts`; return the summary.

    `prompts`: a list, or a file (.txt: one a line; .jsonl: {"prompt": ...} a line); None takes the settings' prompt.
    `dataset`: where the model learned; with it, each text says what of it stands there word for word.
    Raises InputError and FolderError before anything is computed.
    """
    settings = settings or GenerateSettings()
    _check_target(Path(texts))
    asked = read_prompts(prompts, settings.prompt)
    learned = _open_dataset(dataset)
    generator = Generator.open(Path(checkpoint), settings.precision)
    model = generator.model
    assert model is not None
    if learned and model.details.get("dataset", {}).get("digest") not in (None, learned.digest):
        log.warning(
            "%s is not the dataset that %s learned from; what was copied is sought there", dataset, checkpoint
        )
    unknown = _warn_of_unknown(generator, asked)
    total = len(asked) * settings.number * settings.length
    began = time.monotonic()
    with Progress("generate", total=total, unit=settings.length_unit) as progress:
        written = generator.generate(asked, settings, progress)
    seconds = time.monotonic() - began
    if learned is not None:
        written = _with_copied(written, learned, generator, settings)
    summary = _summary(written, unknown)
    parents = {"checkpoint": model.digest} | ({"dataset": learned.digest} if learned else {})
    _save(Path(texts), written, summary, settings, parents, generator.decoder.describe())
    speed = sum(text.tokens for text in written) / max(seconds, 1e-9)
    log.info(
        "%d texts in %.1f s, %.0f tokens/s (%s)", len(written), seconds, speed, generator.decoder.precision
    )
    return {**summary, "seconds": seconds, "tokens_per_second": speed}


def read_prompts(prompts: Path | Sequence[str] | None, default: str = "") -> list[str]:
    """The prompts of a list or a file; a .txt's empty lines are passed over. Raises InputError."""
    if prompts is None:
        return [default]
    if not isinstance(prompts, str | Path):
        return [str(prompt) for prompt in prompts] or [default]
    path = Path(prompts)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"cannot read the prompts' file {path}: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise InputError(f"the prompts' file {path} is not UTF-8 text.") from None
    numbered = [(n, line.rstrip("\r")) for n, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InputError(f"the prompts' file {path} holds no prompt.")
    if path.suffix == ".jsonl":
        return [_json_prompt(path, n, line) for n, line in numbered]
    return [line for _, line in numbered]


def _json_prompt(path: Path, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
        if isinstance(prompt, str):
            return prompt
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f'line {number} of {path} is not of the form {{"prompt": "..."}}.')


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


def _check_target(folder: Path) -> None:
    """Refuse to replace a folder that holds anything else than texts."""
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / manifest.NAME).exists()
    ):
        raise InputError(f"{folder} is there and is no texts folder; choose another output folder.")
    if (folder / manifest.NAME).exists():
        manifest.read(folder, "texts")


def _open_dataset(dataset: Path | None) -> Any:
    from textmill.dataset import read_dataset

    return None if dataset is None else read_dataset(Path(dataset))


def _warn_of_unknown(generator: Generator, prompts: Sequence[str]) -> int:
    """Say what of the prompts the model does not know; how many tokens that is in all."""
    unknown = Counter(piece for prompt in prompts for piece in generator.unknown_in(prompt))
    if unknown:
        shown = ", ".join(repr(piece) for piece, _ in unknown.most_common(5))
        what = "character" if generator.tokenizer.name == "char" else "word"
        log.warning(
            "the model does not know %d %s(s) of the prompts (%s%s); it reads them as unknown",
            unknown.total(), what, shown, ", ..." if len(unknown) > 5 else "",
        )  # fmt: skip
    return unknown.total()


def _with_copied(
    written: list[Text], dataset: Any, generator: Generator, settings: GenerateSettings
) -> list[Text]:
    """The texts with what of their completions stands in the training text, both as they are read."""
    from textmill.copied import find_copied

    script = generator._renders(settings)
    completions = [_to_script(text.completion) if script else text.completion for text in written]
    documents = _as_shown(dataset, generator.tokenizer, script)
    found = find_copied(completions, documents)
    return [
        dataclasses.replace(text, copied=copied.as_dict())
        for text, copied in zip(written, found, strict=True)
    ]


def _as_shown(dataset: Any, tokenizer: Tokenizer, script: bool) -> Iterator[tuple[str, str]]:
    """(id, text) of the documents learned from, as the model would show them."""
    if tokenizer.name == "char":
        yield from dataset.texts("train")
        return
    tokens = dataset.tokens("train")
    for document in dataset.documents("train"):
        start = document["start"]
        text = tokenizer.decode(tokens[start : start + document["tokens"]].tolist())
        yield document["id"], _to_script(text) if script else text


def _summary(written: Sequence[Text], unknown: int) -> dict[str, Any]:
    tokens = sum(text.tokens for text in written)
    scores = sum(text.scores["mean_log_probability"] * text.tokens for text in written)
    summary: dict[str, Any] = {
        "texts": len(written),
        "tokens": tokens,
        "characters": sum(text.characters for text in written),
        "mean_log_probability": scores / max(tokens, 1),
        "finish_reasons": dict(sorted(Counter(text.finish_reason for text in written).items())),
        "unknown_in_prompts": unknown,
    }
    copied = [text.copied for text in written if text.copied is not None]
    if copied:
        longest = max(copied, key=lambda c: c["longest_run"])
        shares = [c["share_8grams"] for c in copied]
        summary |= {
            "longest_copied_run": longest["longest_run"],
            "share_copied_8grams": sum(shares) / len(shares),
        }
        summary["copied"] = {**longest, "share_8grams": summary["share_copied_8grams"]}
    return summary


def _save(
    folder: Path,
    written: Sequence[Text],
    summary: Mapping[str, Any],
    settings: GenerateSettings,
    parents: Mapping[str, str],
    engine: Mapping[str, Any],
) -> None:
    """texts.jsonl, texts.txt, summary.json, manifest.json. Nothing of the clock: the same texts, the same bytes."""
    with new_folder(folder) as beside:
        with open(beside / "texts.jsonl", "w", encoding="utf-8", newline="\n") as lines:
            lines.writelines(json.dumps(text.as_dict(), ensure_ascii=False) + "\n" for text in written)
        with open(beside / "texts.txt", "w", encoding="utf-8", newline="\n", errors="replace") as plain:
            plain.writelines(_to_read(written))
        write_json(beside / "summary.json", dict(summary))
        details = {"engine": dict(engine), **{k: v for k, v in summary.items() if isinstance(v, int | float)}}
        manifest.write(
            beside,
            "texts",
            settings=settings.as_dict(),
            parents=parents,
            details=details,
            packages=["numpy", "tensorflow"],
        )


def _to_read(written: Sequence[Text]) -> Iterator[str]:
    """The texts one after the other; several get a heading each."""
    for text in written:
        if len(written) > 1:
            yield f"{'=' * 20} TEXT {text.index + 1} {'=' * 20}\n"
        yield text.text if text.text.endswith("\n") else f"{text.text}\n"


# ---------------------------------------------------------------------- marked-up scripts


def _to_script(markup: str) -> str:
    from textmill.rules.script_markup import to_script

    return to_script(markup)


def _as_markup(prompt: str) -> str:
    """A prompt in plain words or as a script is read (`HAMLET: To be`), in the markup; markup stays as it is.

    The line is left open, so that the model goes on with it.
    """
    from textmill.rules.script_markup import TOKENS, apply

    if not prompt.strip() or any(token in prompt for token in TOKENS):
        return prompt
    marked = apply(prompt).text.removesuffix("\n").removesuffix("<eoepisode>").rstrip()
    if not prompt.lstrip().startswith(("{{", "[", "(")):  # bare words are taken as words, not as a direction
        marked = marked.removeprefix("<open-exp> ").removesuffix(" <close-exp>")
    return marked


def _rendered_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Marked-up text in pieces -> its lines for reading, each as soon as the next one begins."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        end = max(waiting.rfind(opener) for opener in LINE_OPENERS)
        if end > 0:
            if shown := _to_script(waiting[:end]):
                yield shown
            waiting = waiting[end:]
    if shown := _to_script(waiting):
        yield shown
