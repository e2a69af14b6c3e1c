"""normalize as map and reduce: the same bytes however it is parted, and only what changed is made anew."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textmill import manifest
from textmill import normalize as module
from textmill.corpora.corpus import Document, ShardWriter
from textmill.datasets.dataset import read_dataset
from textmill.datasets.encode import EncodeJob
from textmill.errors import FolderError, InputError
from textmill.normalize import (
    GroupsSettings,
    NormalizeSettings,
    ShardsSettings,
    normalize,
    normalize_merge,
    normalize_shards,
    shard_groups,
)
from textmill.tokenizers import encode_document

WORDS = {"rules": "unicode_repair,whitespace,min_length(30)", "tokenizer": "word", "minimum_count": 1}
NOTICE = "All rights of the miller are reserved."


def texts(items: int = 9, notice: str = "") -> dict[str, dict[str, str]]:
    """{item: {id: text}}; among them an exact and a near copy, an empty and a short document."""
    made = {
        f"item{i}": {
            f"item{i}#{j}": f"Story {i} of part {j}:  "
            + " ".join(f"w{(i * 31 + j * 7 + k) % 251}" for k in range(60))
            for j in range(3)
        }
        for i in range(items)
    }
    made["item1"]["item1#0"] = made["item4"]["item4#1"]
    made["item5"]["item5#2"] = made["item3"]["item3#0"] + " more"
    made["item6"]["item6#0"] = " \n"
    made["item6"]["item6#1"] = "too short"
    return {item: {name: f"{text}\n{notice}\n" for name, text in of.items()} for item, of in made.items()}


def write(folder: Path, items: dict[str, dict[str, str]]) -> Path:
    """A corpus with a shard for each item."""
    entries = []
    for item, documents in items.items():
        with ShardWriter(folder) as writer:
            for name, text in documents.items():
                writer.add(Document(name, text))
        entries.append({"item": item, "shard": writer.shard.name, "documents": len(documents)})
    shards = {entry["shard"] for entry in entries}
    manifest.write(folder, "corpus", details={"items": entries, "skipped": []}, files=shards)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write(tmp_path / "corpus", texts())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- the same bytes


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_make_no_difference(corpus: Path, tmp_path: Path, processes: int) -> None:
    normalize(corpus, tmp_path / "one", NormalizeSettings.of(processes=1, **WORDS))
    normalize(corpus, tmp_path / "more", NormalizeSettings.of(processes=processes, **WORDS))
    assert tree(tmp_path / "one") == tree(tmp_path / "more")


def test_what_is_global_is_found_across_shards(corpus: Path, tmp_path: Path) -> None:
    normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(**WORDS))
    report = read_dataset(tmp_path / "dataset", verify=True).report
    assert report["dropped"][:2] == [
        {"document": "item4#1", "reason": "exact duplicate", "detail": "of item1#0"},
        {"document": "item6#0", "reason": "empty", "detail": ""},
    ]
    assert report["dropped_counts"] == {
        "empty": 1,
        "exact duplicate": 1,
        "near duplicate": 1,
        "too short": 1,
    }
    assert report["dropped"][-1]["detail"].startswith("of item3#0, similarity 0.9")
    assert report["documents"]["kept"] == 23
    assert report["rules"][1]["documents_changed"] == 27
    assert [example["document"] for example in report["rules"][1]["examples"]] == [
        "item0#0", "item0#1", "item0#2", "item1#0", "item1#1",
    ]  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"tokenizer": "word", "vocabulary": "all"}, {"tokenizer": "bpe"}])
@pytest.mark.parametrize("rules", ["whitespace", "whitespace,boilerplate(share=0.5),min_length(30)"])
def test_groups_of_shards_merged_are_the_dataset_of_one_normalize(
    tmp_path: Path, rules: str, settings: dict[str, Any]
) -> None:
    corpus = write(tmp_path / "corpus", texts(notice=NOTICE))
    normalize(corpus, tmp_path / "whole", NormalizeSettings.of(rules=rules, **settings))
    groups = shard_groups(corpus, GroupsSettings.of(groups=3))
    assert len(groups) == 3
    parts = [tmp_path / f"parts{number}" for number in range(3)]
    for group, folder in zip(groups, parts, strict=True):
        normalize_shards(corpus, folder, ShardsSettings.of(group=group, rules=rules))
    normalize_merge(parts[::-1], tmp_path / "merged", NormalizeSettings.of(rules=rules, **settings))
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")
    if "boilerplate" in rules:
        assert read_dataset(tmp_path / "merged").report["rules"][1]["counts"]["lines"] == 27


@pytest.mark.parametrize("settings", [{"tokenizer": "word", "minimum_count": 6}, {"tokenizer": "char"}])
def test_the_tokens_are_those_of_the_texts(corpus: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Words are numbered when they are counted, and looked up later: nothing must be lost on the way."""
    normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(**settings))
    dataset = read_dataset(tmp_path / "dataset")
    unknown: Counter[str] = Counter()
    for split in ("train", "valid", "test"):
        ids = [encode_document(dataset.tokenizer, text) for _, text in dataset.texts(split)]
        assert np.concatenate(ids).tolist() == dataset.tokens(split).tolist()
        for _, text in dataset.texts(split):
            pieces = zip(dataset.tokenizer.pieces(text), dataset.tokenizer.encode(text), strict=True)
            unknown.update(piece for piece, number in pieces if number == dataset.tokenizer.unknown)
    most = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:20]
    assert dataset.report["tokenizer"]["most_unknown"] == [list(item) for item in most]
    assert settings["tokenizer"] == "char" or len(most) == 20


# --- groups


def test_groups_cover_the_corpus_and_are_never_empty(corpus: Path) -> None:
    for wanted in (0, 1, 2, 4, 9, 50):
        groups = shard_groups(corpus, GroupsSettings.of(groups=wanted))
        bounds = [tuple(map(int, group.split(":"))) for group in groups]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == 9
        assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
        assert all(start < end for start, end in bounds)
        assert len(groups) == max(1, min(wanted, 9))


@pytest.mark.parametrize(("size", "number"), [(1 << 30, 1), (100, 9), (1, 9)])
def test_the_number_of_groups_follows_the_size_up_to_a_bound(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, size: int, number: int
) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES", size)
    assert len(shard_groups(corpus)) == number
    monkeypatch.setattr(module, "MOST_GROUPS", 4)
    assert len(shard_groups(corpus)) == min(number, 4)


@pytest.mark.parametrize("group", ["3", "a:b", "5:2", "0:10", "-1:3"])
def test_a_wrong_group_is_one_line(corpus: Path, tmp_path: Path, group: str) -> None:
    with pytest.raises(InputError, match="is no range of the corpus's 9 items, such as 0:9"):
        normalize_shards(corpus, tmp_path / "parts", ShardsSettings.of(group=group))


def test_parts_that_do_not_fit_together_are_one_line(corpus: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", texts(10))
    for name, source, group in [
        ("a", corpus, "0:4"),
        ("b", corpus, "4:9"),
        ("c", corpus, "6:9"),
        ("d", other, "4:9"),
    ]:
        normalize_shards(source, tmp_path / name, ShardsSettings.of(group=group))

    def merged(*names: str, **settings: Any) -> None:
        normalize_merge([tmp_path / name for name in names], tmp_path / "x", NormalizeSettings.of(**settings))

    with pytest.raises(InputError, match="there are no parts to merge"):
        merged()
    with pytest.raises(InputError, match="hold 4 of the corpus's 9 items"):
        merged("a")
    with pytest.raises(InputError, match="lack item 4"):
        merged("a", "c")
    with pytest.raises(InputError, match="hold twice item 4"):
        merged("a", "b", "c", "b")
    with pytest.raises(InputError, match="made of different corpora"):
        merged("a", "d")
    with pytest.raises(InputError, match="give both steps the same rules"):
        merged("a", "b", rules="whitespace")
    with pytest.raises(InputError, match="another version of textmill or other settings"):
        merged("a", "b", near_duplicates=0)
    assert not (tmp_path / "x").exists()
    unit = next((tmp_path / "b" / "units").iterdir())
    unit.write_bytes(b"x" * unit.stat().st_size)
    with pytest.raises(FolderError, match="was altered"):
        merged("a", "b")


# --- only what changed


def made(figures: dict[str, Any]) -> tuple[int, int, int]:
    return figures["shards_cleaned"], figures["shards_counted"], figures["shards_encoded"]


def test_the_second_time_nothing_is_made(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = NormalizeSettings.of(**WORDS)
    assert made(normalize(corpus, tmp_path / "dataset", settings)) == (9, 9, 9)
    before = tree(tmp_path / "dataset")
    caplog.set_level("INFO", "textmill")
    figures = normalize(corpus, tmp_path / "dataset", settings)
    assert made(figures) == (0, 0, 0)
    assert figures["shards_cleaned_before"] == 9
    assert tree(tmp_path / "dataset") == before
    assert "shards: 0 cleaned, 9 as before; 0 counted, 9 as before; 0 encoded, 9 as before" in caplog.text


def test_an_edited_document_costs_its_shard_and_the_tokens(corpus: Path, tmp_path: Path) -> None:
    """The vocabulary changes with a new word, so the tokens of all shards do; with a known word those of one."""
    settings = NormalizeSettings.of(split="documents", valid_documents="item8", **WORDS)
    normalize(corpus, tmp_path / "dataset", settings)
    edited = texts()
    edited["item2"]["item2#1"] += " unheard\n"
    write(tmp_path / "edited", edited)
    assert made(normalize(tmp_path / "edited", tmp_path / "dataset", settings)) == (1, 1, 9)
    normalize(tmp_path / "edited", tmp_path / "fresh", settings)
    assert tree(tmp_path / "dataset") == tree(tmp_path / "fresh")


def test_an_edit_that_leaves_the_vocabulary_costs_its_shard_alone(corpus: Path, tmp_path: Path) -> None:
    settings = NormalizeSettings.of(split="documents", valid_documents="item8", rules="whitespace")
    normalize(corpus, tmp_path / "dataset", settings)
    edited = texts()
    edited["item2"]["item2#1"] += " w1 w2 w3 w4 w5 w6 w7\n"
    write(tmp_path / "edited", edited)
    assert made(normalize(tmp_path / "edited", tmp_path / "dataset", settings)) == (1, 1, 1)
    normalize(tmp_path / "edited", tmp_path / "fresh", settings)
    assert tree(tmp_path / "dataset") == tree(tmp_path / "fresh")


def test_a_new_item_costs_one_shard_even_when_boilerplate_is_looked_for(tmp_path: Path) -> None:
    settings = NormalizeSettings.of(
        split="documents", valid_documents="item8", rules="whitespace,boilerplate(share=0.5)"
    )
    normalize(write(tmp_path / "old", texts(9, NOTICE)), tmp_path / "dataset", settings)
    figures = normalize(write(tmp_path / "new", texts(10, NOTICE)), tmp_path / "dataset", settings)
    assert made(figures) == (2, 1, 1)  # cleaned twice: before boilerplate is known, and of it
    normalize(tmp_path / "new", tmp_path / "fresh", settings)
    assert tree(tmp_path / "dataset") == tree(tmp_path / "fresh")


def test_other_rules_make_all_anew_and_the_old_parts_go(corpus: Path, tmp_path: Path) -> None:
    normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(**WORDS))
    work = tmp_path / ".dataset.work" / "units"
    before = {path.name for path in work.iterdir()}
    assert len(before) == 27
    figures = normalize(
        corpus, tmp_path / "dataset", NormalizeSettings.of(**{**WORDS, "rules": "whitespace"})
    )
    assert made(figures) == (9, 9, 9)
    after = {path.name for path in work.iterdir()}
    assert len(after) == 27
    assert not before & after


def test_nothing_is_kept_on_request(corpus: Path, tmp_path: Path) -> None:
    normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(keep_work=False, **WORDS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "dataset"]
    settings = read_dataset(tmp_path / "dataset").manifest.settings
    assert not {"keep_work", "processes"} & set(settings), "what the bytes do not depend on is not recorded"


def test_what_is_not_kept_gives_its_room_back_as_it_is_put_together(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts go when they are used, tokens when they are in the dataset; after a stop the next run makes them anew."""
    left: list[tuple[int, int]] = []
    units, append = tmp_path / ".dataset.work" / "units", EncodeJob.append_to

    def counting(self: EncodeJob, writers: Any) -> Counter[str]:
        left.append((len([*units.glob("*.counts")]), len([*units.glob("*.tokens")])))
        if len(left) == 5:
            raise KeyboardInterrupt
        return append(self, writers)

    monkeypatch.setattr(EncodeJob, "append_to", counting)
    settings = NormalizeSettings.of(keep_work=False, **WORDS)
    with pytest.raises(KeyboardInterrupt):
        normalize(corpus, tmp_path / "dataset", settings)
    assert left == [(0, 9), (0, 8), (0, 7), (0, 6), (0, 5)]
    assert made(normalize(corpus, tmp_path / "dataset", settings)) == (0, 9, 4)
    normalize(corpus, tmp_path / "fresh", NormalizeSettings.of(**WORDS))
    assert tree(tmp_path / "dataset") == tree(tmp_path / "fresh")
    assert not units.exists()


def test_two_shards_that_are_the_same_share_their_units_to_the_end(tmp_path: Path) -> None:
    items = texts()
    corpus = write(tmp_path / "corpus", items | {"again": items["item0"], "once more": items["item0"]})
    settings = NormalizeSettings.of(
        keep_work=False,
        exact_duplicates=False,
        near_duplicates=0,
        split="documents",
        valid_documents="item8",
        **WORDS,
    )
    figures = normalize(corpus, tmp_path / "dataset", settings)
    assert (figures["documents"], figures["dropped"]) == (31, 2)
    normalize(corpus, tmp_path / "kept", settings.replace(keep_work=True))
    assert tree(tmp_path / "dataset") == tree(tmp_path / "kept")


def test_a_damaged_unit_is_made_anew_or_said(corpus: Path, tmp_path: Path) -> None:
    settings = NormalizeSettings.of(**WORDS)
    normalize(corpus, tmp_path / "dataset", settings)
    before = tree(tmp_path / "dataset")
    short, wrong, *_ = sorted((tmp_path / ".dataset.work" / "units").glob("*.part"))
    short.write_bytes(short.read_bytes()[:-20])
    assert made(normalize(corpus, tmp_path / "dataset", settings))[0] == 1
    assert tree(tmp_path / "dataset") == before
    wrong.write_bytes(b"x" * 150 + wrong.read_bytes()[150:])
    for path in wrong.parent.glob("*.tokens"):
        path.unlink()
    with pytest.raises(FolderError, match=r"\.dataset\.work and start again"):
        normalize(corpus, tmp_path / "dataset", settings)
    assert tree(tmp_path / "dataset") == before


# --- killed

KILLED = """
import os, signal, sys
from pathlib import Path
from textmill.datasets import sections
from textmill.normalize import NormalizeSettings, normalize

finish, left = sections.SectionsWriter._finish, int(sys.argv[3])

def counting(self):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    finish(self)

sections.SectionsWriter._finish = counting
normalize(Path(sys.argv[1]), Path(sys.argv[2]), NormalizeSettings.of(tokenizer="word", minimum_count=1))
"""


@pytest.mark.parametrize("units", [5, 14, 23])
def test_a_killed_run_goes_on(corpus: Path, tmp_path: Path, units: int) -> None:
    """Killed while it cleans, counts, encodes: what was done is not done again, and the bytes are the same."""
    command = [sys.executable, "-c", KILLED, str(corpus), str(tmp_path / "dataset"), str(units)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    settings = NormalizeSettings.of(tokenizer="word", minimum_count=1)
    assert sum(made(normalize(corpus, tmp_path / "dataset", settings))) == 27 - units
    normalize(corpus, tmp_path / "fresh", settings)
    assert tree(tmp_path / "dataset") == tree(tmp_path / "fresh")
    assert len(list((tmp_path / ".dataset.work" / "units").iterdir())) == 27, "no half-written unit is left"


def test_two_at_once_for_one_output_are_refused(corpus: Path, tmp_path: Path) -> None:
    from textmill.datasets.work_folder import WorkFolder

    with WorkFolder(tmp_path / "dataset", 1), pytest.raises(InputError, match="another normalize is at work"):
        normalize(corpus, tmp_path / "dataset")


# --- how many processes


def test_little_text_stays_in_one_process_and_all_cores_are_the_most() -> None:
    from textmill.datasets.work_folder import processes_for

    assert processes_for(5_000_000, wanted=0, cores=8) == 1
    assert processes_for(100_000_000, wanted=0, cores=8) == 8
    assert processes_for(20_000_000, wanted=0, cores=8) == 2
    assert processes_for(10, wanted=3, cores=2) == 3


def test_a_rule_that_fails_in_a_worker_says_why(corpus: Path, tmp_path: Path) -> None:
    shard = next((corpus / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-8] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FolderError, match="is missing or damaged; make the corpus anew"):
        normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(processes=2))
    assert not (tmp_path / "dataset").exists()


def test_json_of_the_report_is_plain(corpus: Path, tmp_path: Path) -> None:
    normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(**WORDS))
    assert json.loads((tmp_path / "dataset" / "report.json").read_text())["documents"]["read"] == 27
