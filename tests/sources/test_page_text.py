"""HTML to text: characters, blocks, selectors, main text."""

from __future__ import annotations

import pytest

pytest.importorskip("lxml")
pytest.importorskip("trafilatura")

from tests.sources.sites import page, scene
from textmill.errors import SettingsError
from textmill.sources import BadItem
from textmill.sources.page_text import Block, blocks, check_selectors, chosen, decoded, joined, page_of


def texts(html: str, select: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> list[str]:
    return [block.text for block in blocks(chosen(html, select, remove))]


@pytest.mark.parametrize(
    ("body", "said", "text"),
    [
        ("ü€".encode(), "text/html", "ü€"),
        ("ü€".encode(), "text/html; charset=ascii", "ü€"),
        ("ü".encode("cp1252"), "text/html; charset=utf-8", "ü"),
        ("“ü”".encode("cp1252"), "text/html; charset=iso-8859-1", "“ü”"),
        ("ж".encode("koi8-r"), "text/html; charset=KOI8-R", "ж"),
        (b"<meta charset='koi8-r'>" + "ж".encode("koi8-r"), "text/html", "<meta charset='koi8-r'>ж"),
        ("ü".encode("utf-16"), "text/html", "ü"),
        (b"\xef\xbb\xbf" + "ü".encode(), "text/html; charset=latin-1", "ü"),
        ("ü".encode(), "text/html; charset=no-such-thing", "ü"),
        ("ü".encode(), "text/html; charset=base64", "ü"),
    ],
)
def test_characters(body: bytes, said: str, text: str) -> None:
    assert decoded(body, said) == text


def test_every_character_once_and_paragraphs_apart() -> None:
    """S5 took nested nodes with all their text, so that it came twice and more."""
    html = "<div>one <p>two <b>bold</b><br>line</p> three<div><div>four</div></div><ul><li>five<ul><li>six</ul></ul>"
    assert texts(html) == ["one", "two bold\nline", "three", "four", "five", "six"]


def test_what_is_not_seen_is_not_text() -> None:
    html = (
        "a<script>x</script><style>y</style><!-- z --><p hidden>no</p><template>no</template> b<svg>c</svg>"
    )
    assert texts(html) == ["a b"]


def test_headings_have_their_level_and_pre_its_lines() -> None:
    found = list(blocks(chosen("<h2>Act  I</h2><pre>a\n  b</pre><h3>Scene</h3>", (), ())))
    assert found == [Block("Act I", 2), Block("a\nb", 0), Block("Scene", 3)]


def test_pages_nest_as_deep_as_they_like() -> None:
    assert texts("<div>" * 5000 + "deep" + "</div>" * 5000) in (["deep"], [])


def test_css_and_xpath_choose_and_remove() -> None:
    html = (
        "<article><h1>T</h1><p class=a>one</p><div class=ad>buy</div><p>two</p></article><p class=a>three</p>"
    )
    assert texts(html, ("article",), (".ad",)) == ["T", "one", "two"]
    assert texts(html, ("//p[@class='a']",)) == ["one", "three"]
    assert texts(html, ("article", "article p")) == ["T", "one", "buy", "two"], (
        "what lies in another comes once"
    )
    with pytest.raises(SettingsError, match=r"setting 'select': 'p\[' is no selector"):
        check_selectors("select", ["p["])
    with pytest.raises(SettingsError, match=r"'//p\[' is no selector"):
        check_selectors("select", ["//p["])


def test_the_main_text_and_what_the_page_says_of_itself() -> None:
    head = (
        "<meta name='author' content='Moll Miller'><meta property='article:published_time' content='2026-10-02'>"
        "<link rel='license' href='https://creativecommons.org/publicdomain/zero/1.0/'>"
    )
    html = page("The Mill", scene("Ash"), "/more", head=head).decode()
    found = page_of(html, "https://example.org/mill")
    assert "since the first snow fell" in found.text
    assert "Nobody reads this" not in found.text
    assert found.meta() == {
        "title": "The Mill",
        "author": "Moll Miller",
        "date": "2026-10-02",
        "licence": "https://creativecommons.org/publicdomain/zero/1.0/",
    }
    chosen_ = page_of(html, "https://example.org/mill", ["article p"])
    assert chosen_.text == scene("Ash") + "\n"
    assert chosen_.meta() == found.meta()


def test_a_short_page_keeps_its_paragraphs_apart() -> None:
    """Trafilatura gives the words of such a page without what stood between paragraphs."""
    first, second = scene("Ash").split("\n\n")
    assert page_of(page("Ash", scene("Ash")).decode(), "").text == f"Ash\n{first}\n{second}\n"
    listed = f"<p>{first}<ul><li>one <b>b</b>it</li><li>two</li></ul>{second}"
    listed = f"<html><body><article><h2>Two</h2>{listed}</article></body></html>"
    assert page_of(listed, "").text in (
        f"Two\n{first}\none bit\ntwo\n{second}\n", f"Two\n{first}\n- one bit\n- two\n{second}\n",
    )  # fmt: skip


@pytest.mark.parametrize("html", ["", "   ", "<html><body></body></html>", "\0", "<p>"])
def test_a_page_without_text_is_a_bad_item(html: str) -> None:
    with pytest.raises(BadItem):
        page_of(html, "https://example.org/")
    with pytest.raises(BadItem):
        page_of(html, "https://example.org/", ["article"])


def test_joined() -> None:
    assert joined([Block("a"), Block("b")]) == "a\n\nb\n"
    assert joined([]) == ""
