"""Splits: shares, names, S3's book rule, and where a single document is cut."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textmill.datasets.split import by_fraction, by_name, by_validation_book, cut_points
from textmill.errors import InputError

IDS = [f"book{i:02}.txt" for i in range(20)]

# The 42 files of martin-gorner/tensorflow-rnn-shakespeare in sorted order, and their bytes.
_TABLE = """
1kinghenryiv.txt 145002, 1kinghenryvi.txt 134034, 2kinghenryiv.txt 157303, 2kinghenryvi.txt 152841,
3kinghenryvi.txt 148210, allswellthatendswell.txt 135369, antonyandcleopatra.txt 158557, asyoulikeit.txt
125179, comedyoferrors.txt 89525, coriolanus.txt 168350, cymbeline.txt 165209, hamlet.txt 182567,
juliuscaesar.txt 118048, kinghenryv.txt 155136, kinghenryviii.txt 148482, kingjohn.txt 122563, kinglear.txt
157283, kingrichardii.txt 134883, kingrichardiii.txt 180481, loverscomplaint.txt 14366, loveslabourslost.txt
129986, macbeth.txt 105404, measureforemeasure.txt 130473, merchantofvenice.txt 122658,
merrywivesofwindsor.txt 131576, midsummersnightsdream.txt 96508, muchadoaboutnothing.txt 123413, othello.txt
156449, periclesprinceoftyre.txt 111604, rapeoflucrece.txt 84700, romeoandjuliet.txt 144325, sonnets.txt
95662, tamingoftheshrew.txt 124237, tempest.txt 99379, timonofathens.txt 113175, titusandronicus.txt 124008,
troilusandcressida.txt 158946, twelfthnight.txt 116759, twogentlemenofverona.txt 102007, various.txt 18954,
venusandadonis.txt 54390, winterstale.txt 145794
"""
BOOKS = {name: int(size) for name, size in (entry.split() for entry in _TABLE.split(","))}


def test_a_fraction_is_a_share_of_the_documents() -> None:
    assert Counter(by_fraction(IDS, 0.2, 0.1, seed=0)) == {"train": 14, "valid": 4, "test": 2}
    assert Counter(by_fraction(IDS, 0, 0.1, seed=0)) == {"train": 18, "test": 2}
    assert Counter(by_fraction(IDS, 0, 0, seed=0)) == {"train": 20}


def test_a_fraction_does_not_depend_on_the_order() -> None:
    shuffled = random.Random(1).sample(IDS, len(IDS))
    expected = dict(zip(IDS, by_fraction(IDS, 0.2, 0.1, seed=0), strict=True))
    assert dict(zip(shuffled, by_fraction(shuffled, 0.2, 0.1, seed=0), strict=True)) == expected
    assert [name for name, split in expected.items() if split == "test"] == ["book03.txt", "book10.txt"]


def test_another_seed_chooses_others() -> None:
    assert by_fraction(IDS, 0.2, 0.1, seed=0) != by_fraction(IDS, 0.2, 0.1, seed=1)


@pytest.mark.parametrize(
    ("n", "counts"),
    [(0, {}), (1, {"train": 1}), (2, {"train": 1, "valid": 1}), (3, {"train": 1, "valid": 1, "test": 1})],
)
def test_few_documents_validate_before_they_test(n: int, counts: dict[str, int]) -> None:
    assert Counter(by_fraction(IDS[:n], 0.05, 0.05, seed=0)) == counts


@given(st.integers(2, 50), st.floats(0.001, 0.45), st.floats(0, 0.45))
def test_train_and_valid_are_never_empty(n: int, valid: float, test: float) -> None:
    splits = by_fraction([str(i) for i in range(n)], valid, test, seed=3)
    assert len(splits) == n
    assert {"train", "valid"} <= set(splits)


def test_documents_are_named_by_id_glob_or_file_name() -> None:
    ids = ["a.txt", "deep/b.txt", "deep/c.txt", "rows.csv#1", "rows.csv#2"]
    assert by_name(ids, ["b.txt"], []) == ["train", "valid", "train", "train", "train"]
    assert by_name(ids, ["deep/*"], ["rows.csv#2"]) == ["train", "valid", "valid", "train", "test"]
    assert by_name(ids, ["rows.csv"], ["*b*"]) == ["train", "test", "train", "valid", "valid"]


def test_a_name_that_matches_nothing_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"no document's id matches 'hamlet' \(the first of 20 ids: book00.txt, "
    ):
        by_name(IDS, ["hamlet"], [])


def test_something_must_be_left_to_train_on() -> None:
    with pytest.raises(InputError, match="leave some to train on"):
        by_name(IDS, ["*"], [])


def test_s3_validates_on_the_winters_tale_alone() -> None:
    names = list(BOOKS)
    assert len(names) == 42
    for order in (names, names[::-1], random.Random(1).sample(names, 42)):
        splits = by_validation_book(order, [BOOKS[name] for name in order])
        assert [name for name, split in zip(order, splits, strict=True) if split == "valid"] == [
            "winterstale.txt"
        ]


@pytest.mark.parametrize(
    ("lengths", "books"),
    [
        ([100_000] * 4, 0),  # fewer than five books
        ([100_000] * 5, 1),
        ([10_000] * 50, 6),  # until more than 10 % of the text: 50,000 is not more, 60,000 is
        ([60_000] * 50, 2),  # until more than 90 kB
        ([1_000] * 14, 2),  # one in five
        ([92_160] * 20, 2),  # 90 kB is not more than 90 kB; nor 10 % more than 10 %
        ([], 0),
    ],
)
def test_the_least_of_three_rules_counts(lengths: list[int], books: int) -> None:
    ids = [f"{i:03}" for i in range(len(lengths))]
    splits = by_validation_book(ids, lengths)
    assert splits == ["train"] * (len(ids) - books) + ["valid"] * books


def test_a_single_document_is_cut_between_paragraphs() -> None:
    text = "".join(f"Line {i} is here,\nand its second half.\n\n" for i in range(100))
    first, second = cut_points(text, 0.05, 0.05)
    assert text[:first].endswith(".\n\n")
    assert text[first:second].endswith(".\n\n")
    assert abs(first / len(text) - 0.9) < 0.01
    assert abs(second / len(text) - 0.95) < 0.01


def test_it_is_cut_between_lines_or_words_where_there_is_nothing_better() -> None:
    lines = "".join(f"line {i}\n" for i in range(1000))
    assert lines[cut_points(lines, 0.1, 0)[0] - 1] == "\n"
    words = "word " * 1000
    assert cut_points(words, 0.1, 0) == (4500, 5000)
    assert cut_points("x" * 5000, 0.1, 0.1) == (5000, 5000)


def test_a_fraction_of_nothing_cuts_nothing_off() -> None:
    text = "line\n" * 1000
    assert cut_points(text, 0, 0) == (5000, 5000)
    assert cut_points(text, 0, 0.1) == (4500, 4500)
    assert cut_points(text, 0.1, 0) == (4500, 5000)
    assert cut_points("", 0.1, 0.1) == (0, 0)
