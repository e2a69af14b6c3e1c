"""tweet_cleanup: what goes from a post, what is chosen, and that emoji and every script stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.rule_contract import RuleContract
from textmill.errors import SettingsError
from textmill.rules import RULES, find_rules

apply = RULES["tweet_cleanup"].apply


def told(parameters: str, text: str) -> str:
    (rule,) = find_rules(f"tweet_cleanup({parameters})")
    return rule.apply(text).text


class TestTweetCleanup(RuleContract):
    rule = RULES["tweet_cleanup"]
    changed = [  # noqa: RUF012
        ("Bread at six! https://t.co/AbC123 #baking", "Bread at six! #baking"),
        ("RT @baker: fresh &amp; warm &lt;3", "fresh & warm <3"),
        (
            "@baker @miller_2: two loaves, thanks to @the.gardener@soil.example!",
            "two loaves, thanks to @user!",
        ),
        ("RT @a: RT @b: first", "first"),
        (".@baker says &amp;amp;lt;3", ".@user says <3"),
        ("<|startoftext|> one <|endoftext|>", "one"),
        ("one\n====================\ntwo", "one\n\ntwo"),
        ("one  two \n\n\n\n three\n", "one two\n\nthree\n"),
        ("https://t.co/x @baker hello", "hello"),
        ("@baker", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "🥖👩‍🍳 über alles — 朝のパン #パン",
        "नमस्ते दुनिया 🙏🏽 مرحبا שלום",
        "mail me: baker@mill.example, 3 < 4 & 5 > 4",
        "RT if you like bread",
        "a = b, c == d and &c.",
        "line one\nline two\n\nline three",
        "I <3 this #1",
    ],
)
def test_what_stays_as_it_is(text: str) -> None:
    assert apply(text).text == text
    assert apply(text).changes == 0


def test_links_mentions_and_hashtags_as_the_user_wants() -> None:
    post = "RT @baker: bread by @miller #FreshBread #1 https://t.co/x"
    assert told("links=keep, mentions=keep", post) == "bread by @miller #FreshBread #1 https://t.co/x"
    assert told("mask, mentions=drop, hashtags=words", post) == "bread by FreshBread #1 URL"
    assert told("hashtags=drop", post) == "bread by @user #1"
    assert told("mentions=keep", "@miller hello") == "@miller hello"
    with pytest.raises(
        SettingsError, match=r"setting 'mentions' \(rule tweet_cleanup\) is 'no'; choose one of: mask"
    ):
        told("mentions=no", post)


def test_a_hashtag_glued_to_a_mention_is_cleaned_once_and_for_all() -> None:
    assert told("hashtags=words", "so says @user.#d#d") == "so says @user#d"
    assert told("mentions=drop, hashtags=words", "so says @user#d") == "so says d"


def test_a_hashtag_inside_a_delimiter_leaves_no_delimiter() -> None:
    assert told("hashtags=words", "so <|#d|> says") == "so says"


def test_kinds_are_counted() -> None:
    assert apply("RT @a: b &gt; c, says @d https://e.f <|endoftext|>").counts == {
        "entities": 1, "delimiters": 1, "heads": 1, "links": 1, "mentions": 1, "blanks": 2,
    }  # fmt: skip


POSTS = st.lists(
    st.sampled_from(["RT", " ", "@a", "@b.c", "@user", ":", "#d", "#1", "http://e.f", "&amp;", "&lt;", "lt;", "\n", "x",
                     "<|", "|>", "=" * 20, "🥖", ".", "/", "  "]),
    max_size=12,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("parameters", ["", "mask", "keep, mentions=keep", "mentions=drop", "hashtags=words"])
def test_parts_in_any_order_are_cleaned_once_and_for_all(parameters: str) -> None:
    (rule,) = find_rules(f"tweet_cleanup({parameters})" if parameters else "tweet_cleanup")

    @settings(max_examples=400, deadline=None)
    @given(POSTS)
    def check(text: str) -> None:
        once = rule.apply(text)
        assert (once.changes > 0) == (once.text != text)
        assert rule.apply(once.text).text == once.text

    check()
