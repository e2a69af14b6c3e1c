"""normalize: from a corpus folder to a dataset folder; what is dropped, split, counted and reported."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from textmill import manifest
from textmill.corpora.corpus import Document, ShardWriter
from textmill.datasets.dataset import Dataset, read_dataset
from textmill.errors import FolderError, InputError, SettingsError
from textmill.normalize import NormalizeSettings, normalize


def make_corpus(folder: Path, texts: dict[str, str]) -> Path:
    """A corpus of these documents, in one shard."""
    with ShardWriter(folder) as writer:
        for name, text in texts.items():
            writer.add(Document(name, text))
    items = [
        {
            "item": "all",
            "shard": writer.shard.name,
            "documents": len(texts),
            "characters": 0,
            "fingerprint": "",
        }
    ]
    manifest.write(folder, "corpus", details={"items": items, "skipped": []})
    return folder


def make(tmp_path: Path, texts: dict[str, str], **settings: Any) -> Dataset:
    corpus = make_corpus(tmp_path / "corpus", texts)
    normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(**settings))
    return read_dataset(tmp_path / "dataset", verify=True)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


BOOKS = {f"{i}.txt": f"book {i} begins here\nand says {'la ' * i}\n" for i in range(10)}


def test_the_summary_has_the_main_figures(corpus: Path, tmp_path: Path) -> None:
    figures = normalize(corpus, tmp_path / "dataset", NormalizeSettings.of(tokenizer="word", minimum_count=1))
    dataset = read_dataset(tmp_path / "dataset")
    assert figures["documents"] == 4
    assert figures["dropped"] == 0
    assert figures["train_tokens"] == len(dataset.tokens("train"))
    assert figures["vocabulary_size"] == dataset.tokenizer.size
    assert figures["unigram_perplexity_valid"] == dataset.report["unigram"]["valid"]["perplexity"]
    assert 0 < figures["out_of_vocabulary_valid"] < 1
    assert all(isinstance(value, int | float) for value in figures.values())


def test_the_log_has_one_line_of_the_main_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "textmill")
    make(tmp_path, {**BOOKS, "copy.txt": BOOKS["9.txt"], "void.txt": ""})
    [line] = [r.message for r in caplog.records if r.name == "textmill.normalize"]
    assert line.startswith(
        "normalized 10 of 12 documents (dropped: 1 empty, 1 exact duplicate); char tokens: train "
    )
    assert "counting alone gives perplexity" in line


def test_the_same_corpus_and_settings_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    settings = NormalizeSettings.of(rules="unicode_repair,script_markup,whitespace", tokenizer="word")
    for name in ("a", "b"):
        normalize(corpus, tmp_path / name, settings)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not [name for name in tree(tmp_path / "a") if "/." in f"/{name}"], "no scratch file is left"


def test_other_hash_seeds_and_working_folders_give_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from textmill.normalize import *\n"
    code += "normalize(Path(sys.argv[1]), Path(sys.argv[2]), NormalizeSettings.of(tokenizer='word'))"
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, str(corpus), str(tmp_path / seed)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_rules_run_in_their_order_and_say_what_they_changed(tmp_path: Path) -> None:
    texts = {"a.txt": "A:\u00a0cafÃ©  au lait\n", "b.txt": "plain\n", "c.txt": "two  spaces\n"}
    dataset = make(tmp_path, texts, rules=["unicode_repair", "whitespace"], split="fraction")
    assert dict(dataset.texts("train")) | dict(dataset.texts("valid")) | dict(dataset.texts("test")) == {
        "a.txt": "A: café au lait\n",
        "b.txt": "plain\n",
        "c.txt": "two spaces\n",
    }
    unicode_repair, whitespace = dataset.report["rules"]
    assert unicode_repair == {
        "name": "unicode_repair",
        "documents_changed": 1,
        "documents_dropped": 0,
        "changes": 1,
        "counts": {},
        "examples": [
            {"document": "a.txt", "before": "A:\u00a0cafÃ©  au lait\n", "after": "A:\u00a0café  au lait\n"}
        ],
    }
    assert (whitespace["documents_changed"], whitespace["changes"]) == (2, 3)
    assert whitespace["counts"] == {"odd_spaces": 1, "double_spaces": 2}
    assert dataset.details["rules"] == ["unicode_repair", "whitespace"]


def test_no_rules_leave_the_text_alone(tmp_path: Path) -> None:
    texts = {"a.txt": "one \n\n\n\n  two\r\n", "b.txt": "three\t\n"}
    dataset = make(tmp_path, texts, rules="", alphabet="ascii98")
    assert dict(dataset.texts("train")) | dict(dataset.texts("valid")) == texts


def test_scripts_become_markup_and_the_dataset_says_how_to_show_it(word_dataset: Path) -> None:
    dataset = read_dataset(word_dataset)
    assert dataset.details["render"] == "script"
    counts = Counter(dataset.tokenizer.decode(dataset.tokens("train")).split())
    assert counts["<boname>"] == counts["<eoname>"] == 8
    assert counts["<open-exp>"] == counts["<close-exp>"] > 0
    assert counts["<eoepisode>"] == 2


def test_duplicates_and_empty_texts_are_dropped_before_the_split(tmp_path: Path) -> None:
    long = " ".join(f"w{i}" for i in range(200))
    texts = {"a": long, "b": "other words", "c": f"{long} more", "d": " \n", "e": f"\n{long}", "f": "last"}
    dataset = make(tmp_path, texts, rules="whitespace", valid_fraction=0.4, test_fraction=0)
    report = dataset.report
    assert report["documents"] == {"read": 6, "kept": 3, "train": 2, "valid": 1, "test": 0}
    assert {d["id"] for split in ("train", "valid") for d in dataset.documents(split)} == {"a", "b", "f"}
    assert report["dropped_counts"] == {"empty": 1, "exact duplicate": 1, "near duplicate": 1}
    assert report["dropped"][:2] == [
        {"document": "d", "reason": "empty", "detail": ""},
        {"document": "e", "reason": "exact duplicate", "detail": "of a"},
    ]
    assert report["dropped"][2]["detail"].startswith("of a, similarity 0.9")
    assert (report["duplicates"]["exact"], report["duplicates"]["near"]) == (1, 1)


def test_the_vocabulary_is_counted_on_train_or_on_all_and_the_unknown_are_counted(tmp_path: Path) -> None:
    texts = {"a.txt": "the cat the cat the\n", "b.txt": "the dog\n"}
    named = {"split": "documents", "valid_documents": "b.txt", "tokenizer": "word"}
    dataset = make(tmp_path, texts, minimum_count=1, **named)
    assert dataset.report["tokenizer"] == {
        "name": "word",
        "size": 4,
        "unknown": {"train": 0.0, "valid": 1 / 3, "test": 0.0},
        "most_unknown": [["dog", 1]],
    }
    assert dataset.report["vocabulary_from"] == "train"
    dataset = make(tmp_path, texts, minimum_count=1, vocabulary="all", **named)
    assert dataset.report["tokenizer"]["unknown"]["valid"] == 0
    assert dataset.tokenizer.size == 5
    assert dataset.report["vocabulary_from"] == "all"


def test_unknown_characters_are_counted(tmp_path: Path) -> None:
    texts = {"a.txt": "plain text\n", "b.txt": "señor señora\n"}
    dataset = make(tmp_path, texts, alphabet="ascii98", split="documents", valid_documents="b.txt")
    tokenizer = dataset.report["tokenizer"]
    assert tokenizer["most_unknown"] == [["ñ", 2]]
    assert tokenizer["unknown"]["valid"] == pytest.approx(2 / 13)


def test_the_unigram_baseline_counts_with_one_added(tmp_path: Path) -> None:
    texts = {"a.txt": "x x y", "b.txt": "x z"}
    dataset = make(
        tmp_path,
        texts,
        rules="",
        tokenizer="word",
        minimum_count=1,
        split="documents",
        valid_documents="b.txt",
    )
    # ids: x, y, <unk>; counts with one added: 3, 2, 1 of 6
    loss = -(math.log(3 / 6) + math.log(1 / 6)) / 2
    assert dataset.report["unigram"] == {
        "valid": {"loss": pytest.approx(loss), "perplexity": pytest.approx(math.exp(loss))}
    }


def test_documents_are_split_by_share(tmp_path: Path) -> None:
    dataset = make(tmp_path, BOOKS, near_duplicates=0, valid_fraction=0.2, test_fraction=0.1)
    assert {split: len(dataset.documents(split)) for split in ("train", "valid", "test")} == {
        "train": 7,
        "valid": 2,
        "test": 1,
    }
    names = [d["id"] for split in ("train", "valid", "test") for d in dataset.documents(split)]
    assert sorted(names) == sorted(BOOKS)
    assert dataset.report["split"]["valid"] == [d["id"] for d in dataset.documents("valid")]


def test_books_validate_by_the_rule_of_s3(tmp_path: Path) -> None:
    dataset = make(tmp_path, BOOKS, near_duplicates=0, split="validation_book")
    assert dataset.report["split"] == {
        "method": "validation_book",
        "note": "",
        "valid": ["9.txt"],
        "test": [],
    }
    few = make(tmp_path, dict(list(BOOKS.items())[:4]), near_duplicates=0, split="validation_book")
    assert len(few.tokens("valid")) == 0
    assert few.report["split"]["note"] == "fewer than five documents: none validates"


def test_s3s_codes_are_the_concatenated_books(tmp_path: Path) -> None:
    texts = {name: f"{text}\té~\n" for name, text in BOOKS.items()}
    dataset = make(tmp_path, texts, rules="", near_duplicates=0, alphabet="ascii98", split="validation_book")
    train = "".join(text for name, text in texts.items() if name != "9.txt")
    codes = [{"\t": 1, "\n": 97}.get(c, ord(c) - 30 if 32 <= ord(c) < 127 else 0) for c in train]
    assert dataset.tokens("train").tolist() == codes


def test_a_single_document_is_cut_into_consecutive_pieces(tmp_path: Path) -> None:
    text = "".join(f"line {i} of the only file\n" for i in range(400))
    dataset = make(tmp_path, {"only.txt": text})
    pieces = [dict(dataset.texts(split))["only.txt"] for split in ("train", "valid", "test")]
    assert "".join(pieces) == text
    assert [round(len(piece) / len(text), 2) for piece in pieces] == [0.9, 0.05, 0.05]
    assert all(piece.endswith("\n") for piece in pieces)
    assert dataset.report["split"]["method"] == "consecutive"
    assert "one document" in dataset.report["split"]["note"]
    end = dataset.tokenizer.end_of_document
    assert [end in dataset.tokens(split) for split in ("train", "valid", "test")] == [False, False, True]


def test_titles_come_from_the_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    with ShardWriter(folder) as writer:
        writer.add(Document("deep/a.txt", "first text", meta={"title": "The First"}))
        writer.add(Document("deep/b.txt", "second one"))
    items = [{"item": "all", "shard": writer.shard.name, "documents": 2}]
    manifest.write(folder, "corpus", details={"items": items, "skipped": []})
    normalize(folder, tmp_path / "dataset", NormalizeSettings.of(valid_fraction=0, test_fraction=0))
    dataset = read_dataset(tmp_path / "dataset")
    assert [d["title"] for d in dataset.documents("train")] == ["The First", "b.txt"]
    assert dataset.report["unigram"] == {}


# --- tiny data


def test_no_document_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no document; ingest some text first"):
        make(tmp_path, {})
    assert not (tmp_path / "dataset").exists()


def test_empty_documents_alone_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing is left .* each of its 2 documents is empty"):
        make(tmp_path, {"a.txt": "", "b.txt": " \n \n"})


@pytest.mark.parametrize("text", ["x", "one line", "one line\n", "a\nb\n"])
def test_a_line_or_less_becomes_a_dataset(tmp_path: Path, text: str) -> None:
    dataset = make(tmp_path, {"a.txt": text})
    assert len(dataset.tokens("train")) > 0
    made = "".join(dict(dataset.texts(split)).get("a.txt", "") for split in ("train", "valid", "test"))
    assert made.strip() == text.strip()


def test_copies_of_one_text_leave_one(tmp_path: Path) -> None:
    dataset = make(tmp_path, {f"{i}.txt": "the same\nthe same\n" for i in range(60)})
    assert dataset.report["documents"]["kept"] == 1
    assert dataset.report["duplicates"]["exact"] == 59
    assert len(dataset.report["dropped"]) == 50
    assert dataset.report["dropped"][0] == {
        "document": "1.txt",
        "reason": "exact duplicate",
        "detail": "of 0.txt",
    }
    assert dataset.report["duplicates"]["examples"][0] == {
        "document": "1.txt",
        "of": "0.txt",
        "similarity": 1.0,
    }


def test_copies_stay_on_request(tmp_path: Path) -> None:
    texts = {f"{i}.txt": "the same" for i in range(3)}
    assert make(tmp_path, texts, exact_duplicates=False, near_duplicates=0).report["documents"]["kept"] == 3


def test_words_that_stand_once_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower minimum_count or add text"):
        make(tmp_path, {"a.txt": "each word once"}, tokenizer="word")


# --- settings and folders


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"rules": "script_markp"}, "unknown rule 'script_markp'. Did you mean 'script_markup'?"),
        ({"rules": "whitespace,whitespace"}, "rule 'whitespace' is named twice"),
        ({"tokenizer": "sentencepiece"}, "choose one of: bpe, char, word"),
        ({"valid_fraction": 0.6, "test_fraction": 0.4}, "together they must be at most 0.9"),
        ({"split": "documents"}, "needs the setting valid_documents or test_documents"),
        ({"valid_documents": "a.txt"}, "need the setting split: documents"),
        ({"near_duplicates": 80}, "it must be at most 1"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError, match=line.replace("?", r"\?").replace("(", r"\(")):
        NormalizeSettings.of(**settings)


def test_lists_may_be_lists() -> None:
    settings = NormalizeSettings.of(rules=["whitespace"], split="documents", valid_documents=["a", "b"])
    assert (settings.rules, settings.valid_documents) == ("whitespace", "a,b")


def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="there is no corpus"):
        normalize(tmp_path / "nothing", tmp_path / "dataset")


def test_a_failure_leaves_the_old_dataset(tmp_path: Path) -> None:
    make(tmp_path, BOOKS, near_duplicates=0)
    before = tree(tmp_path / "dataset")
    with pytest.raises(InputError):
        make(tmp_path, BOOKS, near_duplicates=0, split="documents", valid_documents="nothing")
    assert tree(tmp_path / "dataset") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".dataset.work", "corpus", "dataset"]


# --- size


@pytest.fixture(scope="module")
def large_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 MB in 1,400 documents over a small vocabulary."""
    folder = tmp_path_factory.mktemp("large") / "corpus"
    words = [f"word{i:05}" for i in range(2_000)]
    choose = random.Random(0).choices
    with ShardWriter(folder) as writer:
        for i in range(1_400):
            writer.add(Document(f"{i}.txt", " ".join(choose(words, k=2_000)) + "\n"))
    items = [{"item": "all", "shard": writer.shard.name, "documents": 1_400}]
    manifest.write(folder, "corpus", details={"items": items, "skipped": []})
    return folder


def run_with_little_memory(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that may take 22 MB more than its imports took."""
    limit = """
        import resource, sys
        from pathlib import Path
        from textmill.corpora.corpus import read_corpus
        from textmill.normalize import NormalizeSettings, normalize
        used = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmData")) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 22 * 2**20,) * 2)
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(limit) + code], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits as on Linux")
@pytest.mark.parametrize("tokenizer", ["word", pytest.param("char", marks=pytest.mark.slow)])
def test_memory_stays_flat_on_a_corpus_larger_than_it(
    large_corpus: Path, tmp_path: Path, tokenizer: str
) -> None:
    paths = f"Path({str(large_corpus)!r}), Path({str(tmp_path / 'dataset')!r})"
    done = run_with_little_memory(f"normalize({paths}, NormalizeSettings.of(tokenizer={tokenizer!r}))")
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_dataset(tmp_path / "dataset").report["characters"]["train"] > 24e6


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits as on Linux")
def test_the_large_corpus_does_not_fit_into_that_memory(large_corpus: Path) -> None:
    done = run_with_little_memory(f"list(read_corpus(Path({str(large_corpus)!r})).documents())")
    assert "MemoryError" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif("TEXTMILL_DATA" not in os.environ, reason="TEXTMILL_DATA names no folder of real texts")
@pytest.mark.parametrize(
    "settings", [{}, {"rules": "unicode_repair,script_markup,whitespace", "tokenizer": "word"}]
)
def test_five_megabytes_of_shakespeare_take_seconds(tmp_path: Path, settings: dict[str, Any]) -> None:
    texts = {
        p.name: p.read_text()
        for p in sorted((Path(os.environ["TEXTMILL_DATA"]) / "shakespeare").glob("*.txt"))
    }
    start = time.process_time()
    dataset = make(tmp_path, texts, split="validation_book", **settings)
    assert time.process_time() - start < 15
    assert dataset.report["split"]["valid"] == ["winterstale.txt"]
    assert json.dumps(dataset.report)


def test_a_rule_can_drop_documents_and_the_report_says_why(tmp_path: Path) -> None:
    texts = {**BOOKS, "short.txt": "no\n", "void.txt": " \n"}
    dataset = make(tmp_path, texts, rules=["whitespace", "min_length(10)", "max_length(characters=1000)"])
    assert dataset.report["dropped_counts"] == {"too short": 1, "empty": 1}
    assert {"document": "short.txt", "reason": "too short", "detail": "2 characters"} in dataset.report[
        "dropped"
    ]
    assert [rule["documents_dropped"] for rule in dataset.report["rules"]] == [0, 1, 0]
    assert dataset.details["rules"] == [
        "whitespace",
        "min_length(characters=10)",
        "max_length(characters=1000)",
    ]


def test_rules_that_leave_nothing_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dropped by them \(min_length\(5000\)\): 10 too short\.$"):
        make(tmp_path, BOOKS, rules="min_length(5000)")


def test_boilerplate_is_found_in_the_whole_corpus_before_it_is_cleaned(tmp_path: Path) -> None:
    texts = {name: f"{text}All rights of the miller reserved.\n" for name, text in BOOKS.items()}
    dataset = make(tmp_path, texts, rules="whitespace,boilerplate(share=0.5)")
    assert dataset.report["rules"][1]["counts"]["lines"] == 10
    assert "miller" not in "".join(
        text for split in ("train", "valid", "test") for _, text in dataset.texts(split)
    )
