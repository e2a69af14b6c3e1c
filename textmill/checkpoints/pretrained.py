"""Fetching a released model into a folder: OpenAI's GPT-2 from its public bucket, or any mirror's, or Hugging Face's.

    <folder>/    the files as they are published, and manifest.json (kind "model") with their sizes and SHA-256

The manifest is written last. Until then the folder is not taken for a model, and pulling again goes on where it was
stopped. A file is asked for by its name alone: no listing, so any static server is a mirror.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.checkpoints import huggingface, openai_checkpoint
from textmill.errors import FolderError, InputError, MachineError
from textmill.files import write_json
from textmill.models.gpt2 import parameter_count
from textmill.settings import Settings, setting
from textmill.sources import without_secrets
from textmill.stores.resumable import Missing, Remote, fetch, open_remote
from textmill.tokenizers.bpe import BPETokenizer

log = logging.getLogger("textmill.pretrained")

RELEASES = ("124M", "355M", "774M", "1558M")
OPENAI = "https://openaipublic.blob.core.windows.net/gpt-2/models"
NOTE = ".pull.json"  # what is being pulled, until the manifest says it
LOCK = ".pull.lock"
TOKENIZER_EXTRAS = (
    "tokenizer.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "generation_config.json",
)


@dataclass(frozen=True)
class PullSettings(Settings):
    """Which model to fetch, and from where."""

    release: str = setting("124M", "Which of OpenAI's GPT-2 models.", choices=RELEASES)
    uri: str = setting(
        "",
        "Folder to fetch from instead of OpenAI's public bucket: https://, s3://, gs://, file:// or a path; it holds a "
        "model in OpenAI's or Hugging Face's format, or a folder named as the release that does.",
    )


def pull(folder: Path, settings: PullSettings | None = None) -> dict[str, Any]:
    """Fetch the model into `folder`, or go on with it, or find it whole; return the main figures.

    Raises InputError (nothing there, the folder holds something else, what is served is no GPT-2) and MachineError
    (no connection, no space, TensorFlow is missing); what has come by then is kept.
    """
    settings = settings or PullSettings()
    settings.check()
    folder = Path(folder)
    wanted = {"release": settings.release, "uri": without_secrets(settings.uri)}
    with _alone(folder):
        if not _whole(folder, wanted):
            place = _claim(folder, wanted)
            _fetch(folder, settings, wanted, place)
            found = describe(folder)
            manifest.write(folder, "model", settings=wanted, details=found)
            (folder / NOTE).unlink()
    details = manifest.read(folder, "model")
    size = sum(entry["size"] for entry in details.files.values())
    return {
        "format": details.details["format"],
        "parameters": details.details["parameters"],
        "files": len(details.files),
        "bytes": size,
    }


def describe(folder: Path) -> dict[str, Any]:
    """What a model's folder holds: format, sizes, parameters, vocabulary. Raises FolderError when it is not whole."""
    folder = Path(folder)
    if openai_checkpoint.is_openai(folder):
        kind, config = "openai", openai_checkpoint.check(folder)
        step = openai_checkpoint.find_model(folder)[1]
        tokenizer = BPETokenizer.from_openai(folder)
    elif huggingface.is_huggingface(folder):
        kind, config, step = "huggingface", huggingface.check(folder), 0
        tokenizer = huggingface.read_tokenizer(folder)
    else:
        raise FolderError(
            f"{folder} holds no GPT-2: neither OpenAI's hparams.json nor Hugging Face's config.json."
        )
    if tokenizer.size != config.vocabulary_size:
        raise FolderError(
            f"{folder}: the tokenizer has {tokenizer.size:,} tokens, the model {config.vocabulary_size:,}; files of "
            "different models were mixed."
        )
    return {"format": kind, "step": step, "config": config.as_dict(), "parameters": parameter_count(config)}


def _fetch(folder: Path, settings: PullSettings, wanted: dict[str, Any], place: int | None) -> None:
    """`place` says which of the possible addresses a pull before this one found the model at."""
    first = settings.uri or f"{OPENAI}/{settings.release}"
    places = [first, _below(first, settings.release)] if settings.uri else [first]
    for number, uri in enumerate(places):
        if place not in (None, number):
            continue
        remote = open_remote(uri)
        for name, read, get in (
            ("hparams.json", openai_checkpoint.read_config, _fetch_openai),
            ("config.json", huggingface.read_config, _fetch_huggingface),
        ):
            with contextlib.suppress(Missing):
                fetch(remote, name, folder, check=_of_folder(read))
                write_json(folder / NOTE, {**wanted, "place": number})
                log.info("fetching the GPT-2 in %s", remote.label)
                get(remote, folder)
                return
    tried = " or ".join(without_secrets(uri) for uri in places)
    raise InputError(f"there is no GPT-2 at {tried}: no hparams.json and no config.json; check the address.")


def _of_folder(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A check of a file that a reader of its folder makes."""
    return lambda path: read(path.parent)


def _below(uri: str, name: str) -> str:
    address, mark, query = uri.partition("?")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def _fetch_openai(remote: Remote, folder: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise MachineError("OpenAI's checkpoints are read with TensorFlow: pip install 'textmill[train]'.")

    tokenizer = _of_folder(BPETokenizer.from_openai)
    _get(remote, "checkpoint", folder, check=_of_folder(openai_checkpoint.named_model))
    _get(remote, "encoder.json", folder)
    try:
        _get(remote, "vocab.bpe", folder, check=tokenizer)
    except MachineError:  # the table may be the one that is not whole
        (folder / "encoder.json").unlink()
        _get(remote, "encoder.json", folder)
        _get(remote, "vocab.bpe", folder, check=tokenizer)
    prefix = openai_checkpoint.named_model(folder)
    _get(remote, f"{prefix}.index", folder, check=_of_folder(openai_checkpoint.data_size))
    size = openai_checkpoint.data_size(folder)
    _get(remote, f"{prefix}.meta", folder, optional=True)
    _get(remote, f"{prefix}.data-00000-of-00001", folder, size=size)


def _fetch_huggingface(remote: Remote, folder: Path) -> None:
    for name in TOKENIZER_EXTRAS:
        _get(remote, name, folder, optional=True)
    if _get(remote, "vocab.json", folder, optional=True):
        _get(remote, "merges.txt", folder, check=_of_folder(huggingface.read_tokenizer))
    huggingface.read_tokenizer(folder)
    if _get(remote, huggingface.WEIGHTS, folder, optional=True, check=huggingface.check_file):
        return
    _get(remote, huggingface.INDEX, folder, check=_of_folder(huggingface.part_names))
    for name in huggingface.part_names(folder):
        _get(remote, name, folder, check=huggingface.check_file)


def _get(remote: Remote, name: str, folder: Path, *, optional: bool = False, **more: Any) -> bool:
    """Fetch one file; False if it is optional and not there."""
    try:
        fetch(remote, name, folder, **more)
    except Missing as problem:
        if optional:
            return False
        raise InputError(f"{remote.label} lacks {name} ({problem}); it is no whole model.") from None
    return True


def _whole(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds just this model, every byte of it. Raises FolderError if it holds another one."""
    if not (folder / manifest.NAME).exists():
        return False
    found = manifest.read(folder, "model", verify=True)
    if found.settings != wanted:
        raise FolderError(f"{folder} holds {_spell(found.settings)} already; choose another folder.")
    log.info("%s holds %s already", folder, _spell(wanted))
    return True


def _claim(folder: Path, wanted: dict[str, Any]) -> int | None:
    """Note what the folder is being filled with; return the place that an earlier pull found it at, if any.

    Raises FolderError if the folder holds something else.
    """
    note = folder / NOTE
    if note.exists():
        begun: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            begun = dict(json.loads(note.read_bytes()))
        place = begun.pop("place", None)
        if begun != wanted:
            raise FolderError(
                f"{folder} holds the beginning of another model; choose another folder, or remove it."
            )
        return place
    if any(path.name != LOCK for path in folder.iterdir()):
        raise FolderError(f"{folder} is not empty and holds no model that was pulled; choose another folder.")
    write_json(note, wanted)
    return None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No two pulls into one folder at a time."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "w")  # noqa: SIM115
    except FileExistsError:
        raise InputError(f"cannot pull into {folder}: a file of that name is in the way.") from None
    except OSError as error:
        raise MachineError(f"cannot write to {folder}: {error.strerror}; choose another folder.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is pulling into {folder}; wait for it.") from None
        yield
        (folder / LOCK).unlink(missing_ok=True)


def _spell(settings: dict[str, Any]) -> str:
    return f"{settings.get('release')} of {settings.get('uri') or 'OpenAI'}"
