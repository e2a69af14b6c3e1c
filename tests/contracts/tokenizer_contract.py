"""What every tokenizer must do. A new tokenizer's test class inherits TokenizerContract and supplies three fixtures.

class TestMine(TokenizerContract):
    @pytest.fixture
    def tokenizer(self): return MineTokenizer.train(["…"])
    same_text = True                          # decode(encode(text)) == text for text in the vocabulary
    known: ClassVar[str] = "…"                # a text without unknown pieces
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textmill.errors import FolderError
from textmill.tokenizers import TOKENIZERS, Tokenizer, digest, load_tokenizer

# A property is checked by a function inside the test: hypothesis refuses one method run by several classes.
HYPOTHESIS = settings(max_examples=60, deadline=None)


class TokenizerContract:
    known: ClassVar[str]
    same_text: ClassVar[bool]

    @pytest.fixture
    def tokenizer(self) -> Tokenizer:
        raise NotImplementedError

    def test_it_is_in_the_table_under_its_name(self, tokenizer: Tokenizer) -> None:
        assert TOKENIZERS[tokenizer.name] is type(tokenizer)

    def test_ids_are_integers_below_its_size(self, tokenizer: Tokenizer) -> None:
        ids = tokenizer.encode(self.known)
        assert ids.ndim == 1
        assert np.issubdtype(ids.dtype, np.integer)
        assert ids.min() >= 0
        assert ids.max() < tokenizer.size

    def test_no_text_is_no_ids_and_no_ids_no_text(self, tokenizer: Tokenizer) -> None:
        assert len(tokenizer.encode("")) == 0
        assert tokenizer.decode([]) == ""

    def test_known_text_comes_back(self, tokenizer: Tokenizer) -> None:
        ids = tokenizer.encode(self.known)
        assert tokenizer.unknown is None or tokenizer.unknown not in ids
        assert tokenizer.encode(tokenizer.decode(ids)).tolist() == ids.tolist()
        if self.same_text:
            assert tokenizer.decode(ids) == self.known

    def test_any_text_is_taken(self, tokenizer: Tokenizer) -> None:
        @HYPOTHESIS
        @given(st.text(max_size=60))
        def check(text: str) -> None:
            ids = tokenizer.encode(text)
            assert len(ids) == len(list(tokenizer.pieces(text)))
            assert all(0 <= i < tokenizer.size for i in ids)

        check()

    def test_text_grows_at_its_end_only(self, tokenizer: Tokenizer) -> None:
        @HYPOTHESIS
        @given(st.lists(st.integers(0, tokenizer.size - 1), max_size=20))
        def check(ids: list[int]) -> None:
            texts = [tokenizer.decode(ids[:n]) for n in range(len(ids) + 1)]
            for shorter, longer in itertools.pairwise(texts):
                assert longer.startswith(shorter)

        check()

    def test_ids_of_any_integer_type_decode(self, tokenizer: Tokenizer) -> None:
        ids = tokenizer.encode(self.known)
        assert tokenizer.decode(ids.astype(np.uint16)) == tokenizer.decode(ids.tolist())

    def test_saved_and_loaded_it_is_the_same(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        tokenizer.save(tmp_path)
        loaded = load_tokenizer(tmp_path)
        assert type(loaded) is type(tokenizer)
        assert loaded.size == tokenizer.size
        assert (loaded.unknown, loaded.end_of_document) == (tokenizer.unknown, tokenizer.end_of_document)
        assert loaded.encode(self.known).tolist() == tokenizer.encode(self.known).tolist()
        assert loaded.decode(range(loaded.size)) == tokenizer.decode(range(tokenizer.size))

    def test_its_files_are_the_same_bytes_each_time(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        tokenizer.save(tmp_path / "a")
        load_tokenizer(tmp_path / "a").save(tmp_path / "b")
        assert digest(tmp_path / "a") == digest(tmp_path / "b")
        assert re.fullmatch("[0-9a-f]{64}", digest(tmp_path / "a"))

    def test_a_folder_without_it_is_one_line(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        with pytest.raises(FolderError, match="holds no tokenizer"):
            load_tokenizer(tmp_path)
        (tmp_path / "tokenizer.json").write_text("{")
        with pytest.raises(FolderError, match="cannot be read"):
            load_tokenizer(tmp_path)
        (tmp_path / "tokenizer.json").write_text(json.dumps({"name": tokenizer.name + "s"}))
        with pytest.raises(FolderError, match=f"Did you mean '{tokenizer.name}'"):
            load_tokenizer(tmp_path)
