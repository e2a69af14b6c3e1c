"""Texts in groups: the bytes of a single generate, whatever the groups; what is there is kept; errors in one line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.generating import character_generator, gpt2_generator, recurrent, save, transformer
from textmill import generate_groups, manifest
from textmill.errors import FolderError, InputError, SettingsError
from textmill.generate import GenerateSettings, generate
from textmill.generate_groups import (
    GroupSettings,
    PromptsSettings,
    generate_group,
    merge_texts,
    split_prompts,
)
from textmill.writing.generator import Generator

pytest.importorskip("jax")

PROMPTS = [
    {"prompt": "ab"},
    {"prompt": "cX", "number": 3, "length": 12},
    {"prompt": "", "seed": 9, "temperature": 0.5},
    {"prompt": "je, 3"},
    {"prompt": "ab"},
]
ASKED: dict[str, Any] = {"number": 2, "length": 20, "seed": 5, "stop_at_end": False}  # 11 texts


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = character_generator()
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    return save(folder, generator, recurrent(generator.tokenizer)[1])


@pytest.fixture(scope="module")
def transformer_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = gpt2_generator()
    folder = tmp_path_factory.mktemp("model") / "gpt2"
    return save(folder, generator, transformer(generator.tokenizer)[1])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def in_groups(checkpoint: Path, source: Path, place: Path, groups: int) -> dict[str, Any]:
    """The three steps; the groups are merged in another order than they have."""
    split = PromptsSettings.of(source=str(source), number=2, groups=groups)
    names = split_prompts(place / "prompts", split)
    for name in names:
        settings = GroupSettings.of(**ASKED, group=name)
        generate_group(checkpoint, place / "prompts", place / name, settings)
    folders = [place / name for name in reversed(names)]
    return merge_texts(folders, place / "texts", place / "throughput.md")


@pytest.mark.parametrize("model", ["checkpoint", "transformer_checkpoint"])
def test_any_number_of_groups_gives_the_bytes_of_a_single_generate(
    model: str, source: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    checkpoint = request.getfixturevalue(model)
    once = generate(checkpoint, tmp_path / "once", GenerateSettings.of(**ASKED, batch_size=3), prompts=source)
    wanted = tree(tmp_path / "once")
    del wanted["manifest.json"]  # its batch_size is another one, which changes no text
    generate(checkpoint, tmp_path / "again", GenerateSettings.of(**ASKED), prompts=source)
    whole = tree(tmp_path / "again")
    assert wanted.items() <= whole.items()
    for groups in (1, 2, 4, 11):
        summary = in_groups(checkpoint, source, tmp_path / str(groups), groups)
        assert tree(tmp_path / str(groups) / "texts") == whole
        assert summary["groups"] == groups
        same = ("texts", "tokens", "mean_log_probability", "unknown_in_prompts", "finish_reasons")
        assert {name: summary[name] for name in same} == {name: once[name] for name in same}


def test_the_texts_are_divided_evenly_and_a_prompt_may_be_divided_too(source: Path, tmp_path: Path) -> None:
    split = PromptsSettings.of(source=str(source), number=2, groups=4)
    assert split_prompts(tmp_path / "prompts", split) == ["0:2", "2:5", "5:8", "8:11"]
    assert manifest.read(tmp_path / "prompts", "prompts", verify=True).details == {"texts": 11, "prompts": 5}
    one = PromptsSettings.of(prompt="ab", number=2500)
    assert split_prompts(tmp_path / "prompts", one) == ["0:833", "833:1666", "1666:2500"]
    few = PromptsSettings.of(prompt="ab", number=3, groups=8)
    assert split_prompts(tmp_path / "prompts", few) == ["0:1", "1:2", "2:3"]


def test_prompts_come_from_an_address(source: Path, tmp_path: Path) -> None:
    split_prompts(tmp_path / "a", PromptsSettings.of(source=str(source)))
    split_prompts(tmp_path / "b", PromptsSettings.of(source=source.as_uri()))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    missing = source.with_name("none.txt").as_uri()
    with pytest.raises(InputError, match=r"cannot read the prompts at file://.*none\.txt: no such file"):
        split_prompts(tmp_path / "c", PromptsSettings.of(source=missing))
    with pytest.raises(InputError, match="names no file of prompts"):
        split_prompts(tmp_path / "c", PromptsSettings.of(source=f"{source.parent.as_uri()}/"))
    with pytest.raises(InputError, match=r"cannot read the prompts' file nowhere\.txt"):
        split_prompts(tmp_path / "c", PromptsSettings.of(source="nowhere.txt"))
    assert not (tmp_path / "c").exists()


def test_a_group_that_is_there_is_kept_and_one_of_anything_else_is_written_again(
    checkpoint: Path,
    transformer_checkpoint: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prompts, place = tmp_path / "prompts", tmp_path / "group"
    split_prompts(prompts, PromptsSettings.of(source=str(source), number=2, groups=2))
    written: list[range | None] = []
    real = Generator.generate

    def noting(self: Generator, asked: Any, settings: Any, progress: Any, numbers: Any = None) -> Any:
        written.append(numbers)
        return real(self, asked, settings, progress, numbers)

    monkeypatch.setattr(Generator, "generate", noting)

    def write(model: Path = checkpoint, **values: Any) -> dict[str, Any]:
        return generate_group(model, prompts, place, GroupSettings.of(**{**ASKED, "group": "0:5", **values}))

    first = write()
    before = tree(place)
    with caplog.at_level(logging.INFO, logger="textmill"):
        assert write() == first, "its figures too, the time that it took among them"
    assert "0:5 is there already" in caplog.text
    assert (written, tree(place)) == ([range(0, 5)], before)
    write(group="5:11")
    write(group="0:5", seed=6)
    write(group="0:5", seed=6, length=21)
    write(transformer_checkpoint, seed=6, length=21)
    assert len(written) == 5
    (place / "texts.jsonl").write_text("altered")
    write(transformer_checkpoint, seed=6, length=21)
    assert len(written) == 6
    source.write_text('{"prompt": "ba"}\n' * 6)
    split_prompts(prompts, PromptsSettings.of(source=str(source), number=2, groups=2))
    write(transformer_checkpoint, seed=6, length=21)
    assert len(written) == 7


def test_how_fast_it_was(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    summary = in_groups(checkpoint, source, tmp_path, 2)
    groups = [manifest.read(tmp_path / name, "texts").details for name in ("0:5", "5:11")]
    assert summary["seconds"] == pytest.approx(sum(group["seconds"] for group in groups))
    assert summary["tokens_per_second"] == pytest.approx(summary["tokens"] / summary["seconds"])
    assert summary["texts_per_second"] == pytest.approx(11 / summary["seconds"])
    said = (tmp_path / "throughput.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line[:1] == "|"
    ]
    assert [row[:3] for row in rows[2:]] == [
        ["0:5", "5", str(groups[0]["tokens"])],
        ["5:11", "6", str(groups[1]["tokens"])],
        ["all, one after the other", "11", str(summary["tokens"])],
    ]
    assert "Side by side the longest takes" in said


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize("group", ["5", "3:3", "4:2", "0:12", "a:b", "-1:2", "0:5:1"])
def test_a_group_that_is_no_range_of_the_texts(
    group: str, checkpoint: Path, source: Path, tmp_path: Path
) -> None:
    split_prompts(tmp_path / "prompts", PromptsSettings.of(source=str(source), number=2))
    asked = GroupSettings.of(**ASKED, group=group)
    with pytest.raises(SettingsError, match="it must be a range of numbers of texts, such as 0:11"):
        generate_group(checkpoint, tmp_path / "prompts", tmp_path / "group", asked)
    assert not (tmp_path / "group").exists()


def test_another_number_of_texts_than_was_divided(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    split_prompts(tmp_path / "prompts", PromptsSettings.of(source=str(source)))
    with pytest.raises(InputError, match="ask for 7 texts, these settings for 11; give both steps the same"):
        generate_group(checkpoint, tmp_path / "prompts", tmp_path / "group", GroupSettings.of(**ASKED))


def test_groups_that_do_not_make_a_whole(checkpoint: Path, source: Path, tmp_path: Path) -> None:
    in_groups(checkpoint, source, tmp_path, 3)
    first, second, third = (tmp_path / name for name in ("0:3", "3:7", "7:11"))
    target = tmp_path / "merged"
    for groups, why in (
        ([], "there are no groups to merge"),
        ([first, third], "the groups lack text 3"),
        ([second, third], "the groups lack text 0"),
        ([first, second], "the groups hold 7 of 11 texts; one is missing"),
        ([first, second, second, third], "the groups hold twice text 3"),
        ([tmp_path / "texts"], "holds texts, and no group of them"),
    ):
        with pytest.raises(InputError, match=why):
            merge_texts(groups, target)
    other = shutil.copytree(second, tmp_path / "other")
    generate_group(
        checkpoint, tmp_path / "prompts", other, GroupSettings.of(**{**ASKED, "seed": 6}, group="3:7")
    )
    with pytest.raises(InputError, match="were written with different settings"):
        merge_texts([first, other, third], target)
    with pytest.raises(FolderError, match="there is no texts at"):
        merge_texts([tmp_path / "nowhere"], target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is there and is no texts folder"):
        merge_texts([first, second, third], tmp_path / "mine")
    assert not target.exists()


def test_machines_of_different_kinds_are_said(
    checkpoint: Path, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_groups(checkpoint, source, tmp_path, 2)
    path = tmp_path / "0:5" / "manifest.json"
    about = json.loads(path.read_text())
    about["details"]["engine"] = {"precision": "another"}
    path.write_text(json.dumps(about))
    merge_texts([tmp_path / "0:5", tmp_path / "5:11"], tmp_path / "merged")
    assert "machines of different kinds" in caplog.text


def test_a_group_is_some_minutes_of_work() -> None:
    """The number in the settings' help is the one that is used."""
    help = PromptsSettings.__dataclass_fields__["groups"].metadata["help"]
    assert f"{generate_groups.ENOUGH:,}" in help
