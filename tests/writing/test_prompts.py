"""Prompts: lists and files of them, and what is fed before and for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generating import CHARACTERS, MARKUP, MERGES
from textmill.errors import InputError
from textmill.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer
from textmill.writing.prompts import (
    Prompt,
    end_marks,
    numbered,
    prompt_ids,
    read_prompts,
    start_ids,
    unknown_in,
)
from textmill.writing.settings import GenerateSettings


def test_prompts_from_files(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfone \r\n\r\n two\n")
    assert read_prompts(tmp_path / "p.txt") == [Prompt("one "), Prompt(" two")]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\\nb"}\n\n{"prompt": ""}\n')
    assert read_prompts(tmp_path / "p.jsonl") == [Prompt("a\nb"), Prompt("")]
    assert read_prompts(None, "x") == [Prompt("x")]
    assert read_prompts([], "x") == [Prompt("x")]
    assert read_prompts(["y", Prompt("z", {"seed": 1})], "x") == [Prompt("y"), Prompt("z", {"seed": 1})]


def test_a_prompt_may_have_settings_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "length": 5, "stop": ["."]}\n{"prompt": "b"}\n')
    first, second = read_prompts(tmp_path / "p.jsonl")
    common = GenerateSettings.of(seed=3, length=9)
    own = first.settings(common)
    assert (own.length, own.stop, own.seed) == (5, ["."], 3)
    assert second.settings(common) is common


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": 3}\n', 'line 2 of .* is not of the form {"prompt"'),
        ("p.jsonl", b"oops\n", "line 1"),
        ("p.jsonl", b"[1]\n", "line 1"),
        (
            "p.jsonl",
            b'{"prompt": "a"}\n\n{"prompt": "a", "lenght": 1}\n',
            "'lenght' in line 3 of .*mean 'length'",
        ),
        ("p.jsonl", b'{"prompt": "a", "length": 0}\n', r"'length' \(line 1 of .* must be at least 1"),
        ("p.jsonl", b'{"prompt": "a", "batch_size": 2}\n', "'batch_size' holds for all prompts"),
        ("p.txt", b"\n \n", "holds no prompt"),
        ("p.txt", b"\xff\xfe\xff", "not UTF-8"),
        ("p.txt", None, "cannot read the prompts' file"),
    ],
)
def test_a_bad_prompts_file_is_one_line(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_prompts(tmp_path / name)


def test_the_texts_of_all_prompts_are_numbered_through() -> None:
    asked, common = [Prompt("a"), Prompt("b", {"number": 3}), Prompt("c")], GenerateSettings.of(number=2)
    assert [(each.first, each.numbers) for each in numbered(asked, common)] == [
        (0, range(2)),
        (2, range(2, 5)),
        (5, range(5, 7)),
    ]
    some = numbered(asked, common, range(1, 4))
    assert [list(each.numbers) for each in some] == [[1], [2, 3], []]
    assert [each.settings.number for each in some] == [2, 3, 2]
    assert not any(list(each.numbers) for each in numbered(asked, common, range(0)))
    assert numbered([], common) == []


def test_what_is_fed_before_a_text() -> None:
    characters = CharTokenizer.train([CHARACTERS])
    newline = characters.encode("\n")[0]
    assert start_ids(characters).tolist() == [characters.end_of_document, newline]
    assert start_ids(CharTokenizer.train([], alphabet="ascii98")).tolist() == [97], "a line feed"
    words = WordTokenizer.train([MARKUP], minimum_count=1)
    assert start_ids(words).tolist() == [0, *words.encode("\n")], "as S1 warms up"
    pairs = BPETokenizer.of(MERGES)
    assert start_ids(pairs).tolist() == [pairs.end_of_document]
    literal = BPETokenizer.of(MERGES, "literal")
    assert literal.decode(start_ids(literal)) == "<|startoftext|>"
    assert literal.end_of_document not in start_ids(literal)


def test_a_prompt_follows_what_stands_before_a_text() -> None:
    pairs = BPETokenizer.of(MERGES)
    assert prompt_ids(pairs, "the and").tolist() == [pairs.end_of_document, *pairs.encode("the and")]
    assert prompt_ids(pairs, "").tolist() == [pairs.end_of_document]
    literal = BPETokenizer.of(MERGES, "literal")
    for prompt in (" the", "<|startoftext|> the"):  # gpt-2-simple's users give the mark themselves
        assert prompt_ids(literal, prompt).tolist() == literal.encode("<|startoftext|> the").tolist()
    assert prompt_ids(literal, "").tolist() == start_ids(literal).tolist()


def test_texts_that_end_a_document() -> None:
    assert end_marks(BPETokenizer.of(MERGES, "literal")) == ["<|endoftext|>"]
    assert end_marks(BPETokenizer.of(MERGES)) == end_marks(CharTokenizer.train(["a"])) == []


def test_byte_pairs_know_everything() -> None:
    assert unknown_in(BPETokenizer.of(MERGES), "é🙂") == []
    assert unknown_in(CharTokenizer.train(["ab"]), "aéb🙂") == ["é", "🙂"]
