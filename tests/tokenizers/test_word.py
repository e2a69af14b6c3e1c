"""Words: S1's order of ids and JSON maps, unknown words, line feeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contracts.tokenizer_contract import TokenizerContract
from textmill.errors import FolderError, InputError
from textmill.tokenizers import encode_document, load_tokenizer
from textmill.tokenizers.word import WordTokenizer

PLAIN = "the cat saw the dog\nthe dog saw\n"
SCRIPT = "<boname> MOLL <eoname> Yes <eos> Yes <eos>\n<eoepisode>\n"


class TestPlainWords(TokenizerContract):
    known = "the dog saw the cat\nsaw the\n\ndog"
    same_text = True

    @pytest.fixture
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer.train([PLAIN], minimum_count=1)


class TestMarkedUpScript(TokenizerContract):
    known = "<boname> MOLL <eoname> Yes <eos>\n<eoepisode>"
    same_text = False  # a line feed is shown as the token <eos>, which is a full stop as well

    @pytest.fixture
    def tokenizer(self) -> WordTokenizer:
        return WordTokenizer.train([SCRIPT], minimum_count=1)


def test_ids_go_by_count_then_word_and_unknown_is_last() -> None:
    tokenizer = WordTokenizer.train([PLAIN], minimum_count=1)
    assert tokenizer.words == ["the", "<eos>", "dog", "saw", "cat", "<unk>"]
    assert tokenizer.encode("the cat\nsaw a dog").tolist() == [0, 4, 1, 3, 5, 2]
    assert tokenizer.unknown == 5


def test_the_json_maps_are_inverse(tmp_path: Path) -> None:
    WordTokenizer.train([PLAIN], minimum_count=1).save(tmp_path)
    to_id = json.loads((tmp_path / "word_to_id.json").read_text())
    to_word = json.loads((tmp_path / "id_to_word.json").read_text())
    assert to_id == {"the": 0, "<eos>": 1, "dog": 2, "saw": 3, "cat": 4, "<unk>": 5}
    assert {word: int(i) for i, word in to_word.items()} == to_id


def test_rare_words_are_unknown() -> None:
    tokenizer = WordTokenizer.train([PLAIN])
    assert tokenizer.words == ["the", "<eos>", "dog", "saw", "<unk>"]
    assert tokenizer.decode(tokenizer.encode("the cat\n")) == "the <unk>\n"


def test_unknown_in_the_text_itself_is_the_unknown_token() -> None:
    tokenizer = WordTokenizer.train(["<unk> <unk> a a"], minimum_count=1)
    assert tokenizer.words == ["a", "<unk>"]


def test_a_line_feed_is_shown_as_eos_where_the_text_has_the_token() -> None:
    tokenizer = WordTokenizer.train([SCRIPT], minimum_count=1)
    assert tokenizer.decode(tokenizer.encode("Yes <eos>\n")) == "Yes <eos> <eos>"


def test_the_end_of_an_episode_is_the_end_of_the_document() -> None:
    tokenizer = WordTokenizer.train([SCRIPT], minimum_count=1)
    end = tokenizer.words.index("<eoepisode>")
    assert tokenizer.end_of_document == end
    assert encode_document(tokenizer, "Yes\n<eoepisode>\n").tolist().count(end) == 1
    assert encode_document(tokenizer, "Yes").tolist()[-1] == end
    assert WordTokenizer.train([PLAIN]).end_of_document is None


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"no word stands 2 times in the training text \(3 words\)"):
        WordTokenizer.train(["each word once"])


def test_a_large_text_is_cut_at_line_ends() -> None:
    text = ("word " * 20 + "\n") * 20_000  # 2 MB: more than one block
    tokenizer = WordTokenizer.train([text])
    assert tokenizer.words == ["word", "<eos>", "<unk>"]
    ids = tokenizer.encode(text)
    assert (len(ids), int(ids.sum())) == (21 * 20_000, 20_000)


def test_maps_that_lack_an_id_are_refused(tmp_path: Path) -> None:
    WordTokenizer.train([PLAIN]).save(tmp_path)
    (tmp_path / "id_to_word.json").write_text('{"0": "the", "2": "<unk>"}')
    with pytest.raises(FolderError, match="lacks an id"):
        load_tokenizer(tmp_path)
