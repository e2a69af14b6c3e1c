"""Characters: S3's codes to the number, and the alphabet of a text."""

from __future__ import annotations

import time

import pytest

from tests.contracts.tokenizer_contract import TokenizerContract
from textmill.tokenizers import encode_document
from textmill.tokenizers.char import CharTokenizer


class TestAscii98(TokenizerContract):
    known = "HAMLET\tTo be, or not to be?\n~ {}"
    same_text = True

    @pytest.fixture
    def tokenizer(self) -> CharTokenizer:
        return CharTokenizer.train([], alphabet="ascii98")


class TestAlphabetOfTheText(TokenizerContract):
    known = "no señor, no 🙂"
    same_text = True

    @pytest.fixture
    def tokenizer(self) -> CharTokenizer:
        return CharTokenizer.train(["no señor,", " 🙂"])


def test_the_98_codes_are_those_of_s3() -> None:
    tokenizer = CharTokenizer.train([], alphabet="ascii98")
    assert tokenizer.size == 98
    assert tokenizer.encode("\t !AZaz~\n").tolist() == [1, 2, 3, 35, 60, 67, 92, 96, 97]
    assert tokenizer.encode("é\x00\r\x7f🙂").tolist() == [0, 0, 0, 0, 0]
    assert tokenizer.decode([0]) == "\ufffd"
    assert tokenizer.end_of_document is None


def test_the_alphabet_is_sorted_after_unknown_and_end() -> None:
    tokenizer = CharTokenizer.train(["banana", "\n"])
    assert tokenizer.characters == "\nabn"
    assert tokenizer.size == 6
    assert tokenizer.encode("ban\nx").tolist() == [4, 3, 5, 2, 0]
    assert tokenizer.decode([4, 1, 3, 0]) == "ba\ufffd"


def test_a_document_ends_with_the_end_token() -> None:
    tokenizer = CharTokenizer.train(["ab"])
    assert encode_document(tokenizer, "ab").tolist() == [2, 3, 1]
    assert encode_document(CharTokenizer.train([], alphabet="ascii98"), "ab").tolist() == [67, 68]


def test_an_empty_alphabet_knows_nothing() -> None:
    assert CharTokenizer.train([]).encode("abc").tolist() == [0, 0, 0]


def test_five_megabytes_take_a_moment() -> None:
    tokenizer = CharTokenizer.train([], alphabet="ascii98")
    text = "To be, or not to be: that is the question.\n" * 120_000
    start = time.process_time()
    tokenizer.encode(text)
    assert time.process_time() - start < 2
