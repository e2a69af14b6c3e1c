"""The stage generate in three steps, for many texts: prompts -> groups of texts -> each group written by itself -> all.

Text number k is the same whoever writes it and whatever is written beside it, so the texts folder that comes out is the
one that a single generate makes, byte for byte, however many groups there were. A group that is there already, of the
same checkpoint, prompts and settings, is not written again.

    prompts/manifest.json   kind "prompts"; details: texts (how many they ask for)
    prompts/prompts.jsonl   a prompt a line, with the settings of its own
    group/                  a texts folder (generate.py) of the texts from details.first on; details.seconds is its time
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textmill import manifest
from textmill.errors import FolderError, InputError, SettingsError
from textmill.files import new_folder, write_bytes
from textmill.generate import check_target, save_texts, summarize, warn_of_unknown
from textmill.manifest import Manifest
from textmill.progress import Progress
from textmill.settings import Settings, setting
from textmill.writing.generator import Generator, Text
from textmill.writing.prompts import Prompt, numbered, read_prompts
from textmill.writing.settings import GenerateSettings

log = logging.getLogger("textmill.generate")

FILE = "prompts.jsonl"
ENOUGH = 1000  # texts of a group: some minutes of work, where a pod takes one to start


@dataclass(frozen=True)
class PromptsSettings(Settings):
    """Which texts are asked for, and how they are divided."""

    source: str = setting(
        "",
        "File with a prompt a line, or .jsonl with settings of its own beside each: a path, s3://, gs:// or https:// "
        "(empty: the one prompt).",
    )
    prompt: str = setting("", "Text to go on from (empty: the start of a line or document).")
    number: int = setting(1, "Texts for each prompt.", minimum=1, maximum=100_000)
    groups: int = setting(
        0,
        "Into how many groups the texts are divided (0: one for each 1,000 or so).",
        minimum=0,
        maximum=10_000,
    )


@dataclass(frozen=True)
class GroupSettings(GenerateSettings):
    """What is written, and which of it."""

    group: str = setting("", "Texts to write, a range of their numbers such as 0:250 (empty: all).")

    @property
    def common(self) -> GenerateSettings:
        """Those that all groups share."""
        return GenerateSettings.from_dict({k: v for k, v in self.as_dict().items() if k != "group"})


# ------------------------------------------------------------------ prompts -> groups


def split_prompts(prompts: Path, settings: PromptsSettings | None = None) -> list[str]:
    """Bring the prompts into the folder `prompts`, and return the groups' names, such as 0:250.

    Raises InputError for a file of prompts that is not there or not of the right form, and MachineError where it cannot
    be had now.
    """
    settings = settings or PromptsSettings()
    with tempfile.TemporaryDirectory() as scratch:
        source = _brought(settings.source, Path(scratch)) if settings.source else None
        asked = read_prompts(source, settings.prompt)
    texts = _texts_of(asked, GenerateSettings.of(number=settings.number))
    with new_folder(Path(prompts)) as beside:
        lines = (json.dumps({"prompt": p.text, **p.own}, ensure_ascii=False) + "\n" for p in asked)
        write_bytes(beside / FILE, "".join(lines).encode())
        manifest.write(beside, "prompts", details={"texts": texts, "prompts": len(asked)})
    groups = min(settings.groups or math.ceil(texts / ENOUGH), texts)
    bounds = [texts * i // groups for i in range(groups + 1)]
    log.info("%s texts of %s prompts in %d groups", f"{texts:,}", f"{len(asked):,}", groups)
    return [f"{first}:{end}" for first, end in itertools.pairwise(bounds)]


def _brought(source: str, scratch: Path) -> Path:
    """The file on this machine."""
    from textmill.sources import without_secrets
    from textmill.stores.resumable import Missing, fetch, open_remote

    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        return Path(source)
    address, mark, query = source.partition("?")
    folder, _, name = address.rpartition("/")
    if not name or folder.endswith("/"):
        raise InputError(f"{without_secrets(source)} names no file of prompts.")
    try:
        fetch(open_remote(f"{folder}{mark}{query}"), name, scratch)
    except Missing as problem:
        raise InputError(f"cannot read the prompts at {without_secrets(source)}: {problem}.") from None
    return scratch / name


def _texts_of(prompts: Iterable[Prompt], common: GenerateSettings) -> int:
    """How many texts the prompts ask for."""
    return sum(prompt.settings(common).number for prompt in prompts)


# ------------------------------------------------------------------ a group


def generate_group(
    checkpoint: Path, prompts: Path, group: Path, settings: GroupSettings | None = None
) -> dict[str, Any]:
    """Write the texts of a group into the folder `group`; return the summary. One that is there already is kept.

    Raises InputError and FolderError before anything is computed.
    """
    settings = settings or GroupSettings()
    common, place = settings.common, manifest.read(Path(prompts), "prompts", verify=True)
    if manifest.kind_of(Path(group)) != "texts":  # an altered group is written again
        check_target(Path(group))
    asked = read_prompts(Path(prompts) / FILE)
    texts = _texts_of(asked, common)
    if texts != place.details["texts"]:
        raise InputError(
            f"the prompts ask for {place.details['texts']:,} texts, these settings for {texts:,}; give both "
            "steps the same 'number'."
        )
    numbers = _range(settings.group, texts)
    parents = {
        "checkpoint": manifest.read(Path(checkpoint), "checkpoint").digest,
        "prompts": place.digest,
    }
    details: dict[str, Any] = {"first": numbers.start, "of": texts}
    if (kept := _kept(Path(group), common, parents, details, len(numbers))) is not None:
        log.info("%s is there already", settings.group or "all")
        return _measured(kept)
    generator = Generator.open(Path(checkpoint), common.precision)
    wanted = numbered(asked, common, numbers)
    unknown = warn_of_unknown(generator, [each.prompt for each in wanted if each.first in numbers])
    total = sum(each.settings.length * len(each.numbers) for each in wanted)
    began = time.monotonic()
    with Progress("generate", total=total, unit=common.length_unit) as progress:
        written = generator.generate(asked, common, progress, numbers)
    seconds = time.monotonic() - began
    summary = summarize(written, unknown)
    details |= {"engine": generator.decoder.describe(), "seconds": round(seconds, 3)}
    save_texts(Path(group), written, summary, common, parents, details)
    return _measured(manifest.read(Path(group), "texts"))


def _range(group: str, texts: int) -> range:
    if not group:
        return range(texts)
    found = re.fullmatch(r"(\d+):(\d+)", group)
    first, end = (int(found[1]), int(found[2])) if found else (0, 0)
    if not first < end <= texts:
        raise SettingsError(
            f"setting 'group' is {group!r}; it must be a range of numbers of texts, such as 0:{texts}."
        )
    return range(first, end)


def _kept(
    group: Path, common: GenerateSettings, parents: dict[str, str], details: dict[str, Any], texts: int
) -> Manifest | None:
    """What an earlier run wrote, where it is just what is wanted."""
    try:
        found = manifest.read(group, "texts", verify=True)
    except FolderError:
        return None
    same = found.settings == common.as_dict() and found.parents == parents and found.details["texts"] == texts
    return found if same and details.items() <= found.details.items() else None


def _measured(group: Manifest) -> dict[str, Any]:
    """A group's figures."""
    figures = {
        k: v for k, v in group.details.items() if isinstance(v, int | float) and k not in ("first", "of")
    }
    return {**figures, **_speed(figures["texts"], figures["tokens"], figures["seconds"])}


def _speed(texts: float, tokens: float, seconds: float) -> dict[str, float]:
    seconds = max(seconds, 1e-3)
    return {"texts_per_second": texts / seconds, "tokens_per_second": tokens / seconds}


# ------------------------------------------------------------------ groups -> texts


def merge_texts(groups: Sequence[Path], texts: Path, throughput: Path | None = None) -> dict[str, Any]:
    """Put the groups, in any order, together into the folder `texts`, as one generate would have written them; return
    the summary. `throughput`: a Markdown file, how fast each was.

    Raises FolderError, and InputError where they are not of one run, or one is missing.
    """
    check_target(Path(texts))
    opened = sorted(
        ((Path(folder), manifest.read(Path(folder), "texts", verify=True)) for folder in groups),
        key=lambda pair: pair[1].details.get("first", -1),
    )
    _check_whole(opened)
    _, first = opened[0]
    written = [text for folder, _ in opened for text in _read_texts(folder)]
    engines = [found.details["engine"] for _, found in opened]
    if any(engine != engines[0] for engine in engines):
        log.warning(
            "the groups were written on machines of different kinds: one kind might have written other texts"
        )
    unknown = sum(found.details["unknown_in_prompts"] for _, found in opened)
    summary = summarize(written, unknown)
    common = GenerateSettings.from_dict(first.settings)
    parents = {"checkpoint": first.parents["checkpoint"]}
    save_texts(Path(texts), written, summary, common, parents, {"engine": engines[0]})
    measured = [_measured(found) for _, found in opened]
    seconds = sum(each["seconds"] for each in measured)
    if throughput is not None:
        names = [
            f"{found.details['first']}:{found.details['first'] + found.details['texts']}"
            for _, found in opened
        ]
        write_bytes(Path(throughput), _table(names, measured).encode())
    speed = _speed(summary["texts"], summary["tokens"], seconds)
    return {**summary, "groups": len(opened), "seconds": seconds, **speed}


def _check_whole(opened: Sequence[tuple[Path, Manifest]]) -> None:
    """Raises InputError unless these are all groups of one run, each once."""
    if not opened:
        raise InputError("there are no groups to merge; run generate_group on each of them first.")
    first_folder, first = opened[0]
    at = 0
    for folder, found in opened:
        if "of" not in found.details:
            raise InputError(f"{folder} holds texts, and no group of them: generate_group did not write it.")
        for what in ("settings", "parents"):
            if getattr(found, what) != getattr(first, what):
                made = (
                    "with different settings" if what == "settings" else "of different checkpoints or prompts"
                )
                raise InputError(f"the groups {first_folder} and {folder} were written {made}.")
        if found.details["first"] != at:
            what = "lack" if found.details["first"] > at else "hold twice"
            raise InputError(
                f"the groups {what} text {min(at, found.details['first'])}; merge each group once."
            )
        at += found.details["texts"]
    if at != first.details["of"]:
        raise InputError(f"the groups hold {at:,} of {first.details['of']:,} texts; one is missing.")


def _read_texts(folder: Path) -> Iterable[Text]:
    with open(folder / "texts.jsonl", encoding="utf-8") as lines:
        for line in lines:
            yield Text(**json.loads(line))


def _table(names: Sequence[str], measured: Sequence[dict[str, Any]]) -> str:
    """How fast each group was, and all of them; in Markdown."""
    rows = [("group", "texts", "tokens", "seconds", "texts/s", "tokens/s")]
    total = {key: sum(each[key] for each in measured) for key in ("texts", "tokens", "seconds")}
    total |= _speed(total["texts"], total["tokens"], total["seconds"])
    for name, each in [*zip(names, measured, strict=True), ("all, one after the other", total)]:
        rows.append(
            (name, f"{each['texts']:,}", f"{each['tokens']:,}", f"{each['seconds']:,.1f}",
             f"{each['texts_per_second']:,.2f}", f"{each['tokens_per_second']:,.0f}")
        )  # fmt: skip
    longest = max(each["seconds"] for each in measured)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---|---:|---:|---:|---:|---:|")
    side = _speed(total["texts"], total["tokens"], longest)
    said = (
        f"Side by side the longest takes {longest:,.1f} s: {side['texts_per_second']:,.2f} texts/s, "
        f"{side['tokens_per_second']:,.0f} tokens/s, beside the time that pods and models take to start."
    )
    return "\n".join(["# Throughput", "", *lines, "", said, ""])
