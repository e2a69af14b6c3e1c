"""A checkpoint's layout: save, verify, load, resume, prune. The only file that knows it.

    checkpoint/
      manifest.json           covers the model's files; its details say which weights, at which step, with what scores
      config.json             what the weights are: model, its config, how it was trained, how its text is read
      weights-<step>.safetensors   the best weights by validation loss (the last ones where there is no validation)
      tokenizer/              the tokenizer's files, so that a text can be written with nothing else
      metrics.jsonl tensorboard/ samples/ run.json     what the run said on its way (not needed to load)
      state/step-<step>/      all that an exact resume needs, each with a manifest of its own
        weights.safetensors slots.safetensors carried.safetensors state.json manifest.json

A GPT-2's weights lie in OpenAI's format instead, so that gpt-2-simple and every other reader load the folder as it is:

      hparams.json model-<step>.index model-<step>.data-00000-of-00001 model-<step>.meta
      encoder.json vocab.bpe  the tokenizer's, once more
      checkpoint              names the newest model-<step>; not in the manifest, which names the model by itself

Tensors are float32 safetensors (https://huggingface.co/docs/safetensors): no code runs on load.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from textmill import manifest
from textmill.errors import FolderError
from textmill.files import new_folder, replacing, write_json
from textmill.tokenizers import Tokenizer, load_tokenizer

log = logging.getLogger("textmill.checkpoint")

Tensors = dict[str, npt.NDArray[np.float32]]

STEP_FOLDER = re.compile(r"step-(\d{8})$")
GROWING = ("metrics.jsonl", "tensorboard/")  # written to in place; all other files are only ever replaced


@dataclass(frozen=True)
class State:
    """All that the next training step depends on. `facts` is plain JSON."""

    step: int
    weights: Tensors
    slots: Tensors
    carried: Tensors
    facts: dict[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to write text: `config` is the model family's settings object."""

    name: str
    config: Any
    weights: Tensors  # whoever has laid them out otherwise may clear them
    parameters: int  # how many numbers the weights are
    tokenizer: Tokenizer
    details: dict[str, Any]
    digest: str

    @property
    def render(self) -> str:
        """How its text is set for reading: "script" or ""."""
        return str(self.details.get("render", ""))


def save_state(checkpoint: Path, state: State, keep: int) -> Path:
    """Write state/step-<step> whole or not at all, then remove all but the newest `keep`."""
    folder = checkpoint / "state" / f"step-{state.step:08d}"
    with new_folder(folder) as beside:
        known = {}
        for name in ("weights", "slots", "carried"):
            with open(beside / f"{name}.safetensors", "wb") as file:
                known[f"{name}.safetensors"] = _write_tensors(file, getattr(state, name))
        write_json(beside / "state.json", {"step": state.step, **state.facts})
        manifest.write(beside, "state", known=known)
    for _, old in list(_states(checkpoint))[keep:]:
        shutil.rmtree(old)
    return folder


def latest_state(checkpoint: Path) -> State | None:
    """The newest state whose files have the hashes of its manifest; damaged ones are passed over with a warning."""
    _remove_leftovers(checkpoint)
    for step, folder in _states(checkpoint):
        try:
            manifest.read(folder, "state", verify=True)
            facts = json.loads((folder / "state.json").read_bytes())
            tensors = [
                _read_tensors(folder / f"{name}.safetensors") for name in ("weights", "slots", "carried")
            ]
        except (FolderError, OSError, ValueError) as error:
            log.warning("passing over a damaged state: %s", error)
            continue
        return State(step, tensors[0], tensors[1], tensors[2], facts)
    return None


def newest_step(checkpoint: Path) -> int | None:
    """The step of the newest state whose files have their hashes, without keeping its tensors; None without one."""
    for step, folder in _states(checkpoint):
        with contextlib.suppress(FolderError):
            manifest.read(folder, "state", verify=True)
            return step
    return None


def snapshot(checkpoint: Path, step: int, folder: Path) -> dict[str, dict[str, Any] | None]:
    """Hold fast in `folder` all that going on from `step` needs, as it is now, however the run goes on.

    What a later save only ever replaces is linked, which costs no space and no time; what grows is copied. Returns
    path -> the entry of the manifest that names it, None where no manifest does.
    """
    state = f"state/step-{step:08d}"
    known: dict[str, dict[str, Any]] = {}
    for part in ("", state):
        if (path := checkpoint / part / manifest.NAME).is_file():
            entries = json.loads(path.read_bytes())["files"]
            known |= {f"{part}/{name}".lstrip("/"): entry for name, entry in entries.items()}
    held: dict[str, dict[str, Any] | None] = {}
    for path in sorted(checkpoint.rglob("*")):
        name = path.relative_to(checkpoint).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if hidden or not path.is_file() or (name.startswith("state/") and not name.startswith(f"{state}/")):
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(GROWING) or not _linked(path, target):
            shutil.copyfile(path, target)
        held[name] = known.get(name)
    return held


def _linked(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        return False
    return True


def save_model(
    checkpoint: Path,
    weights: Mapping[str, npt.NDArray[np.float32]],
    config: Mapping[str, Any],
    details: Mapping[str, Any],
    tokenizer: Tokenizer,
    parents: Mapping[str, str],
) -> str:
    """Make `weights` the checkpoint's model and return its digest. `details` must hold their "step".

    The weights' files are new for each step and the manifest that names them is swung last: a kill at any moment
    leaves the old model or the new one.
    """
    step, kind = details["step"], _weights_of(config)
    if not (checkpoint / "tokenizer").exists():
        with new_folder(checkpoint / "tokenizer") as beside:
            tokenizer.save(beside)
    known = kind.write(checkpoint, step, config, weights)
    write_json(checkpoint / "config.json", config)
    digest = save_details(checkpoint, {**details, "weights": kind.name(step)}, parents, known)
    kind.remove_others(checkpoint, step)
    return digest


def save_details(
    checkpoint: Path,
    details: Mapping[str, Any],
    parents: Mapping[str, str],
    known: Mapping[str, dict[str, Any]] | None = None,
) -> str:
    """Write the manifest over the model's files, with `details` (which hold the weights' "step"); return the digest.

    `known` are entries of files whose hashes are known already.
    """
    tokenizer = [
        p.relative_to(checkpoint).as_posix() for p in (checkpoint / "tokenizer").rglob("*") if p.is_file()
    ]
    kind = _weights_of(json.loads((checkpoint / "config.json").read_bytes()))
    files = [*kind.files(checkpoint, details["step"]), "config.json", *tokenizer]
    return manifest.write(
        checkpoint,
        "checkpoint",
        parents=parents,
        details=details,
        files=files,
        packages=["numpy"],
        known=known,
    ).digest


def read_details(checkpoint: Path) -> dict[str, Any]:
    """config.json and the manifest's details together, without reading the weights."""
    found = manifest.read(checkpoint, "checkpoint")
    return {**json.loads((checkpoint / "config.json").read_bytes()), **found.details, "digest": found.digest}


def read_metrics(checkpoint: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a last line that a kill cut short is left out."""
    records = []
    for line in (checkpoint / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def load_model(checkpoint: Path) -> LoadedModel:
    """Read and verify a checkpoint. Raises FolderError with one line if it is missing, half-copied or altered."""
    from textmill import extensions
    from textmill.models import MODELS, Family

    checkpoint = Path(checkpoint)
    found = manifest.read(checkpoint, "checkpoint", verify=True)
    details = read_details(checkpoint)
    family = extensions.look_up(MODELS, "models", details["model"], Family)
    if family is None:
        raise FolderError(
            f"{checkpoint} holds a model {details['model']!r}, which this textmill does not know; upgrade it, "
            "or install the package that brings it."
        )
    config = family.config_class.from_dict(details["config"], where=str(checkpoint))
    weights = WEIGHTS[family.weights_format].read(checkpoint, details["step"])
    return LoadedModel(
        name=details["model"],
        config=config,
        weights=weights,
        parameters=sum(int(weight.size) for weight in weights.values()),
        tokenizer=load_tokenizer(checkpoint / "tokenizer"),
        details=details,
        digest=found.digest,
    )


def _states(checkpoint: Path) -> Iterator[tuple[int, Path]]:
    """(step, folder) of each state that was written whole, newest first."""
    folder = checkpoint / "state"
    names = sorted((p.name for p in folder.iterdir()), reverse=True) if folder.is_dir() else []
    for name in names:
        if match := STEP_FOLDER.match(name):
            yield int(match[1]), folder / name


def _remove_leftovers(checkpoint: Path) -> None:
    """What a killed run left half-written: hidden `.part` and `.old` names beside the real ones."""
    for folder in (checkpoint, checkpoint / "state"):
        for path in folder.glob(".*.part") if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in folder.glob(".*.old") if folder.is_dir() else ():
            shutil.rmtree(path)


class Weights(Protocol):
    """How a checkpoint keeps a model's weights."""

    def name(self, step: int) -> str:
        """What the manifest's details call them."""
        ...

    def files(self, checkpoint: Path, step: int) -> list[str]:
        """The files that hold them, relative to the checkpoint."""
        ...

    def write(
        self, checkpoint: Path, step: int, config: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Write the files beside those of other steps; return the manifest's entries of those hashed on the way."""
        ...

    def read(self, checkpoint: Path, step: int) -> Tensors: ...

    def remove_others(self, checkpoint: Path, step: int) -> None:
        """Remove the files of every other step."""
        ...


class _Safetensors:
    """weights-<step>.safetensors"""

    def name(self, step: int) -> str:
        return f"weights-{step:08d}.safetensors"

    def files(self, checkpoint: Path, step: int) -> list[str]:
        return [self.name(step)]

    def write(
        self, checkpoint: Path, step: int, config: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        with replacing(checkpoint / self.name(step)) as file:
            return {self.name(step): _write_tensors(file, weights)}

    def read(self, checkpoint: Path, step: int) -> Tensors:
        return _read_tensors(checkpoint / self.name(step))

    def remove_others(self, checkpoint: Path, step: int) -> None:
        for old in checkpoint.glob("weights-*.safetensors"):
            if old.name != self.name(step):
                old.unlink()


class _OpenAI:
    """model-<step>.{index,data-00000-of-00001,meta} and what OpenAI's and gpt-2-simple's readers want beside them."""

    def name(self, step: int) -> str:
        return f"model-{step}"

    def files(self, checkpoint: Path, step: int) -> list[str]:
        from textmill.checkpoints import openai_checkpoint

        return [name for name in openai_checkpoint.files_of(checkpoint, step) if name != "checkpoint"]

    def write(
        self, checkpoint: Path, step: int, config: Mapping[str, Any], weights: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        from textmill.checkpoints import openai_checkpoint
        from textmill.models.gpt2 import GPT2Config

        openai_checkpoint.write_model(checkpoint, step, GPT2Config.from_dict(config["config"]), weights)
        return {name: manifest.entry(checkpoint / name) for name in self.files(checkpoint, step)}

    def read(self, checkpoint: Path, step: int) -> Tensors:
        from textmill.checkpoints import openai_checkpoint

        return openai_checkpoint.read_model(checkpoint, step)[1]

    def remove_others(self, checkpoint: Path, step: int) -> None:
        for old in checkpoint.glob("model-*.*"):
            if old.name.partition(".")[0] != self.name(step):
                old.unlink()


WEIGHTS: dict[str, Weights] = {"safetensors": _Safetensors(), "openai": _OpenAI()}


def _weights_of(config: Mapping[str, Any]) -> Weights:
    from textmill.models import get_model

    return WEIGHTS[get_model(config["model"]).weights_format]


def _write_tensors(file: IO[bytes], tensors: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Any]:
    """Write safetensors, one array in memory at a time; return the file's entry in a manifest."""
    header: dict[str, Any] = {}
    end = 0
    for name in sorted(tensors):
        start, end = end, end + 4 * int(np.size(tensors[name]))
        header[name] = {"dtype": "F32", "shape": list(np.shape(tensors[name])), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    digest = hashlib.sha256()

    def put(data: Any) -> None:
        digest.update(data)
        file.write(data)

    put(len(head).to_bytes(8, "little") + head)
    for name in sorted(tensors):
        put(np.ascontiguousarray(tensors[name], "<f4").reshape(-1).view(np.uint8).data)
    return {"size": 8 + len(head) + end, "sha256": digest.hexdigest()}


def _read_tensors(path: Path) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise FolderError(f"{path} is not a whole safetensors file: {error}.") from error
