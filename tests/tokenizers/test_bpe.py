"""Byte pairs: the ids are those of OpenAI's encoder for any text, whatever the two files; damaged files are refused."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.tokenizer_contract import TokenizerContract
from textmill.errors import FolderError, SettingsError
from textmill.tokenizers import digest, encode_document, load_tokenizer
from textmill.tokenizers.bpe import BYTES, END, LETTERS, LONG_SPACE, BPETokenizer, as_trained, vocab_bpe

TEXT = (
    "MOLL: Is the wheel turning, Toby? I can't hear it.\n\nTOBY: It turns when the moon tells it to turn. "
    "We'll see; they've seen 1,024 turns in 2019.\n\n  'Tis naïve, señor — 🙂🙂!\n\tthe the the there then\n"
) * 3


def openais_encoder(folder: Path) -> Any:
    """OpenAI's encoder.py as gpt-2-simple ships it; loaded by itself, since the package turns eager mode off."""
    package = importlib.util.find_spec("gpt_2_simple")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "src" / "encoder.py"
    spec = importlib.util.spec_from_file_location("openais_encoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_encoder(str(folder))


@pytest.fixture(scope="module")
def trained() -> BPETokenizer:
    return BPETokenizer.train([TEXT], vocabulary_size=400)


@pytest.fixture(scope="module")
def openai(trained: BPETokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bpe")
    trained.save(folder)
    return openais_encoder(folder)


class TestTrained(TokenizerContract):
    known = TEXT
    same_text = True

    @pytest.fixture
    def tokenizer(self, trained: BPETokenizer) -> BPETokenizer:
        return trained


class TestLiteralDelimiters(TokenizerContract):
    known = "<|startoftext|>a post<|endoftext|>\n"
    same_text = True

    @pytest.fixture
    def tokenizer(self) -> BPETokenizer:
        return BPETokenizer.train([TEXT], vocabulary_size=300, special_tokens="literal")


class TestBytesAlone(TokenizerContract):
    known = "\x00 \x7f é 🙂"
    same_text = True

    @pytest.fixture
    def tokenizer(self) -> BPETokenizer:
        return BPETokenizer.train([])


NASTY = [
    "'s 's's 'S 't're've'm'll'd '' 'sx",
    "2019 20 19 ²³½ ٣٤ ⅷ 1٣a",
    " \u00a0\u2009\u3000x\u00a0 \u200b y\u202f\u2028z\x85",
    "\t\tx\n\n\ny \r\n z  ",
    "   ",
    "\n",
    " x",
    "x ",
    "\x1c\x1d\x1e\x1f \x00\x7f",
    "end.<|endoftext|><|startoftext|> next <|endoftext|>",
    "e\u0301 नमस्ते ไทย 日本語 עברית العربية",
    "👩‍👩‍👧‍👦 🏳️‍🌈 \U0010ffff \ue000",
    "A" * 3000,
    "ab" * 700 + "!" * 999,
    " " * 700 + "x" + "\n" * 700,
    "don't DON'T we'Ll\u2019s",
    "\ufeffbom \ufffd",
]


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_have_openais_ids(text: str, trained: BPETokenizer, openai: Any) -> None:
    assert trained.encode(text).tolist() == openai.encode(text)
    assert trained.decode(trained.encode(text)) == text


# Characters that no Unicode table knows yet may be letters in a newer one; surrogates cannot be written.
WRITABLE = st.characters(exclude_categories=("Cs", "Cn"))
PIECES = st.sampled_from(["the", " the", "'ll", "  ", "\n\n", " 1", "é", "🙂", "<|", "|>", "\u00a0", "."])


def test_any_text_has_openais_ids(trained: BPETokenizer, openai: Any) -> None:
    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(PIECES, st.text(WRITABLE, max_size=8)), max_size=12).map("".join))
    def check(text: str) -> None:
        ids = trained.encode(text)
        assert ids.tolist() == openai.encode(text)
        assert trained.decode(ids) == text == openai.decode(ids.tolist())

    check()


def test_any_table_gives_openais_ids(tmp_path: Path) -> None:
    """Also tables that no training makes, where tiktoken alone would merge what the table does not list."""
    made_by_training = []

    @settings(max_examples=150, deadline=None)
    @given(st.randoms(use_true_random=False), st.lists(st.text("abc ", max_size=14), min_size=1, max_size=6))
    def check(draw: random.Random, texts: list[str]) -> None:
        tokens, merges = list("abcĠ"), []
        for _ in range(draw.randrange(12)):
            pair = (draw.choice(tokens), draw.choice(tokens))
            if pair not in merges:
                merges.append(pair)
                tokens.append("".join(pair))
        table = {t: i for i, t in enumerate(dict.fromkeys([*LETTERS, *("".join(m) for m in merges), END]))}
        tokenizer = BPETokenizer(json.dumps(table).encode(), vocab_bpe(merges))
        made_by_training.append(as_trained(tokenizer.merges))
        tokenizer.save(tmp_path)
        theirs = openais_encoder(tmp_path)
        for text in texts:
            assert tokenizer.encode(text).tolist() == theirs.encode(text), merges

    check()
    assert {True, False} == set(made_by_training)


def test_what_training_makes_is_known_as_such(trained: BPETokenizer) -> None:
    """The quick way is taken for every table that was trained, and is left for others."""
    assert len(trained.merges) > 80
    assert as_trained(trained.merges)
    draw = random.Random(1)
    words = ["".join(draw.choice("ab") for _ in range(draw.randrange(1, 9))) for _ in range(4000)]
    assert as_trained(BPETokenizer.train([" ".join(words)], vocabulary_size=700).merges)
    assert as_trained([("a", "b"), ("c", "d"), ("ab", "cd")])
    assert not as_trained([("b", "c"), ("a", "b"), ("ab", "c")]), "a b c becomes a bc, which is not listed"
    assert not as_trained([("ab", "c"), ("a", "b")]), "made before its half"
    assert not as_trained([("a", "a"), ("aa", "a"), ("a", "aa")]), "two ways to the same token"


def test_bytes_come_in_openais_order(trained: BPETokenizer) -> None:
    assert sorted(BYTES) == list(range(256))
    assert BYTES[:3] == b'!"#'
    assert LETTERS.index("Ġ") == 220  # the space of OpenAI's encoder.json
    assert trained.encode("!").tolist() == [0]
    assert trained.encode(" ").tolist() == [220]
    assert trained.end_of_document == trained.size - 1 == trained.table[END]


def test_ids_follow_encoder_json_whatever_their_order(trained: BPETokenizer, tmp_path: Path) -> None:
    """Some tables have <|endoftext|> first, or added tokens in between."""
    moved = {END: 0, "<pad>": 1, "<|im start|>": 2} | {
        token: i + 3 for token, i in trained.table.items() if token != END
    }
    tokenizer = BPETokenizer(json.dumps(moved).encode(), vocab_bpe(trained.merges))
    tokenizer.save(tmp_path)
    assert tokenizer.encode(TEXT).tolist() == [i + 3 for i in trained.encode(TEXT)]
    assert tokenizer.encode(TEXT).tolist() == openais_encoder(tmp_path).encode(TEXT)
    assert tokenizer.end_of_document == 0
    assert tokenizer.decode([1, 0, 2, *tokenizer.encode("x")]) == "<pad><|endoftext|><|im start|>x"


def test_the_text_of_a_special_token_is_ordinary_text(trained: BPETokenizer) -> None:
    ids = trained.encode("<|endoftext|>")
    assert trained.end_of_document not in ids
    assert trained.decode(ids) == trained.decode([trained.end_of_document or 0]) == "<|endoftext|>"


def test_a_document_ends_with_the_id(trained: BPETokenizer) -> None:
    ids = encode_document(trained, "a post\n").tolist()
    assert ids == [*trained.encode("a post\n"), trained.end_of_document]
    assert encode_document(trained, "a post\n", ends=False).tolist() == ids[:-1]
    assert encode_document(trained, "a <|endoftext|>").tolist()[-1] == trained.end_of_document


def test_a_document_stands_between_literal_delimiters_as_in_gpt_2_simple(tmp_path: Path) -> None:
    tokenizer = BPETokenizer.train([TEXT], vocabulary_size=300, special_tokens="literal")
    tokenizer.save(tmp_path)
    csv = "<|startoftext|>end.<|endoftext|>\n"  # what gpt_2_simple/src/load_dataset.py makes of a row
    theirs = openais_encoder(tmp_path).encode(csv)
    assert encode_document(tokenizer, "end.").tolist() == theirs
    assert encode_document(tokenizer, csv).tolist() == theirs, "delimiters that are there are not doubled"
    assert tokenizer.end_of_document not in theirs
    pieces = [
        encode_document(tokenizer, "one ", ends=False),
        encode_document(tokenizer, "two", begins=False),
    ]
    assert tokenizer.decode(np.concatenate(pieces)) == "<|startoftext|>one two<|endoftext|>\n"
    assert load_tokenizer(tmp_path).special_tokens == "literal"  # type: ignore[attr-defined]


def test_a_character_that_is_not_whole_is_held_back(trained: BPETokenizer) -> None:
    one = BPETokenizer.train([])
    smile = one.encode("🙂").tolist()
    assert len(smile) == 4
    assert [one.decode(smile[:n]) for n in range(5)] == ["", "", "", "", "🙂"]
    assert one.decode([*smile[:2], *one.encode("x")]) == "\ufffdx", "bytes that are no character"
    assert one.decode(one.encode("é").tolist()[1:]) == "\ufffd"


def test_surrogates_without_a_partner_become_the_replacement_character(trained: BPETokenizer) -> None:
    assert trained.encode("a\ud800b\udc00").tolist() == trained.encode("a\ufffdb\ufffd").tolist()
    BPETokenizer.train(["x\ud800x\ud800"])


@pytest.mark.parametrize("space", [" ", "\n", "\u00a0", "\n "])
@pytest.mark.parametrize("after", ["x", " x"[1:] + " y", "", "\x1cx"])
def test_a_million_white_spaces_are_no_trap(space: str, after: str, trained: BPETokenizer) -> None:
    """tiktoken by itself panics there. The rule is the one of shorter runs: all but the last, which joins the word."""
    long, short = (f"a{space * n}{after}b" if after else f"a{space * n}" for n in (1_100_000, 1100))
    found, rest = trained.encode(long), trained.encode(short)
    assert trained.decode(found) == long
    assert found[-5:].tolist() == rest[-5:].tolist()
    run = trained.encode(space * 1_100_000)
    shared = next((i for i, (a, b) in enumerate(zip(found[1:], run, strict=False)) if a != b), len(run))
    assert shared > 1_000_000 // 40


def test_white_space_is_tiktokens(trained: BPETokenizer) -> None:
    import tiktoken

    space = tiktoken.Encoding(
        "space", pat_str=r"\s", mergeable_ranks={bytes([b]): b for b in range(256)}, special_tokens={}
    )
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    theirs = set(space.decode(space.encode_ordinary(every)))
    one = re.compile(LONG_SPACE.pattern.partition(")")[2].replace("{100000,}", ""))
    assert set(one.findall(every)) == theirs
    assert len(theirs) == 25


def test_training_gives_the_same_files_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from textmill.tokenizers.bpe import BPETokenizer\n"
        "BPETokenizer.train([sys.argv[2]] * 9, vocabulary_size=500).save(Path(sys.argv[1]))"
    )
    for name in "ab":
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name), TEXT], check=True)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_training_learns_what_stands_often() -> None:
    tokenizer = BPETokenizer.train(["the wheel the wheel the wheel a b"], vocabulary_size=8192)
    assert tokenizer.decode(tokenizer.encode(" wheel")) == " wheel"
    assert len(tokenizer.encode(" wheel")) == len(tokenizer.encode(" the")) == 1
    assert len(tokenizer.encode(" a b")) == 4, "seen once: not merged"
    assert 257 < tokenizer.size < 300, "no more merges than the text has"
    assert BPETokenizer.train([TEXT], vocabulary_size=270).size == 270


def test_files_are_kept_byte_for_byte(tmp_path: Path) -> None:
    """A checkpoint's own files, however they are spaced, have the same digest wherever they were copied."""
    table = {letter: i for i, letter in enumerate([*LETTERS, "ab", END])}
    encoder, merges = json.dumps(table, indent=3).encode(), b"#version: 0.1 of ours\na b\n"
    (tmp_path / "encoder.json").write_bytes(encoder)
    (tmp_path / "vocab.bpe").write_bytes(merges)
    BPETokenizer.from_openai(tmp_path).save(tmp_path / "saved")
    assert (tmp_path / "saved" / "encoder.json").read_bytes() == encoder
    assert (tmp_path / "saved" / "vocab.bpe").read_bytes() == merges


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def tables(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], object]:
    return edit("encoder.json", lambda data: json.dumps(change(json.loads(data))).encode())


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no encoder.json": (lambda f: (f / "encoder.json").unlink(), r"encoder\.json is missing"),
    "no vocab.bpe": (lambda f: (f / "vocab.bpe").unlink(), r"vocab\.bpe is missing"),
    "encoder.json cut short": (edit("encoder.json", lambda d: d[:500]), "is not JSON"),
    "encoder.json empty": (edit("encoder.json", lambda d: b""), "is not JSON"),
    "encoder.json a list": (edit("encoder.json", lambda d: b"[1]"), "is not an encoder"),
    "encoder.json nested": (edit("encoder.json", lambda d: b"[" * 200_000), "is not JSON"),
    "an id that is text": (tables(lambda t: t | {"a": "1"}), "is not an encoder"),
    "an id that is true": (tables(lambda t: t | {"a": True}), "is not an encoder"),
    "an id twice": (tables(lambda t: t | {"a": 5}), "do not have the ids 0 to"),
    "an id beyond": (tables(lambda t: t | {"<x>": 10**9}), "do not have the ids 0 to"),
    "a byte missing": (
        tables(lambda t: {k: i for i, k in enumerate(k for k in t if k != "!")}),
        "lacks the byte 33",
    ),
    "no end": (tables(lambda t: {k: v for k, v in t.items() if k != END}), "lacks the token <|endoftext|>"),
    "vocab.bpe cut in a line": (edit("vocab.bpe", lambda d: d[:-2]), "is cut short: its last line"),
    "vocab.bpe cut at a line": (
        edit("vocab.bpe", lambda d: d[: len(d) // 2].rpartition(b"\n")[0] + b"\n"),
        "tokens that vocab.bpe does not make",
    ),
    "vocab.bpe empty": (edit("vocab.bpe", lambda d: b""), "does not begin with #version"),
    "vocab.bpe without its head": (
        edit("vocab.bpe", lambda d: d.partition(b"\n")[2]),
        "does not begin with #version",
    ),
    "vocab.bpe of bytes": (edit("vocab.bpe", lambda d: b"#version\n\xff\xfe\n"), "is not UTF-8"),
    "a line of three": (edit("vocab.bpe", lambda d: d + b"a b c\n"), "is not two tokens but 'a b c'"),
    "an empty line": (edit("vocab.bpe", lambda d: d + b"\n"), "is not two tokens but ''"),
    "another table's merge": (edit("vocab.bpe", lambda d: d + b"z q\n"), "needs the token 'zq'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_one_line(damage: str, trained: BPETokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    act, line = DAMAGE[damage]
    act(tmp_path)
    with pytest.raises(FolderError, match=line.replace("|", r"\|")) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_of_delimiter_is_refused(trained: BPETokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"name": "bpe", "special_tokens": "litteral"}')
    with pytest.raises(SettingsError, match="Did you mean 'literal'"):
        load_tokenizer(tmp_path)
