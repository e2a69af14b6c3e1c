"""Wikitext and rendered pages to the text of their sections."""

from __future__ import annotations

import pytest

pytest.importorskip("mwparserfromhell")
pytest.importorskip("lxml")

from textmill.sources import BadItem
from textmill.sources.page_text import Block
from textmill.sources.wiki_text import html_blocks, section, wikitext_blocks

PAGE = """{{Cleanup|date=May 2026}}
'''EP001''' is the [[pilot|first]] ''episode''.<ref>A [[note]].</ref> __NOTOC__ [[File:x.jpg|thumb|A [[link]] in it]]
[[Bild:y.jpg|klein]]
== Plot ==
{{incomplete|section}}
{{p|Mole}} &amp; {{an|{{p|Toad}}|x}} went home.{{ref label|a}}
More of the line.<br/>Third.

* one
* two {{unknown|x}}
{|
| cell
|}
=== Later ===
A [https://example.org link] and [[:Category:Mills|a category]].
== Major events ==
Gone.
[[Category:Episodes]]
[[de:Folge]]
"""


def test_wikitext_to_blocks() -> None:
    assert wikitext_blocks(PAGE, {"p": 1, "An": 1}, {"File", "Bild", "Category"}) == [
        Block("EP001 is the first episode."),
        Block("Plot", 2),
        Block("Mole & Toad went home. More of the line. Third."),
        Block("one"),
        Block("two"),
        Block("Later", 3),
        Block("A link and a category."),
        Block("Major events", 2),
        Block("Gone."),
    ]


@pytest.mark.parametrize(
    ("which", "text"), [(1, "a b"), (2, "a c"), (-1, "a c"), (-2, "a b"), (3, "a"), ("n", "a d"), (-3, "a")]
)
def test_which_argument_a_template_stands_for(which: int | str, text: str) -> None:
    assert wikitext_blocks("a {{x|b|c|n=d}}", {"X": which}) == [Block(text)]


def test_a_rendered_page_in_the_old_shape_of_headings_without_its_furniture() -> None:
    html = (
        "<div class='mw-parser-output'><table class='ambox'><tr><td>warning</td></tr></table>"
        "<div class='hatnote'>See also</div><p>Intro <b>bold</b>.<sup class='reference'>[1]</sup></p>"
        "<div id='toc' class='toc'><h2>Contents</h2><ul><li>1 Plot</li></ul></div>"
        "<h2><span class='mw-headline' id='Plot'>Plot</span><span class='mw-editsection'>[edit]</span></h2>"
        "<p>They walk.</p><div class='navbox'>all episodes</div><h2><span class='mw-headline'>Major events</span></h2>"
        "<ul><li>A letter.</li></ul><ol class='references'><li>note</li></ol></div><div>outside</div>"
    )
    assert html_blocks(html, [".mw-parser-output"], []) == [
        Block("Intro bold."),
        Block("Plot", 2),
        Block("They walk."),
        Block("Major events", 2),
        Block("A letter."),
    ]
    assert Block("They walk.") not in html_blocks(html, [".mw-parser-output"], ["h2 + p"])


FOUND = [Block("top"), Block("A", 2), Block("a"), Block("Sub one", 3), Block("b"), Block("B", 2), Block("c")]


@pytest.mark.parametrize(
    ("begin", "end", "texts"),
    [
        ("", "", ["top", "a", "b", "c"]),
        ("", "A", ["top"]),
        ("a", "b", ["a", "b"]),
        (1, 2, ["a", "b"]),
        (2, "", ["c"]),
        ("Sub_one", "", ["b", "c"]),
        ("A", "sub ONE", ["a"]),
        ("A", "nowhere", ["a", "b", "c"]),
        ("", 1, ["top"]),
    ],
)
def test_sections(begin: str | int, end: str | int, texts: list[str]) -> None:
    assert [block.text for block in section(FOUND, begin, end, headings=False)] == texts


def test_headings_inside_stay_on_request() -> None:
    assert [block.text for block in section(FOUND, "A", "B", headings=True)] == ["a", "Sub one", "b"]


def test_a_section_that_is_not_there() -> None:
    with pytest.raises(BadItem, match="no heading 'C' in it"):
        section(FOUND, "C", "", headings=False)
    with pytest.raises(BadItem, match="only 2 headings, not 3 in it"):
        section(FOUND, 3, "", headings=False)
