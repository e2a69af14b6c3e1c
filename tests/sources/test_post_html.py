"""The HTML of posts: what becomes of it, and that nobody can make it slow."""

from __future__ import annotations

import pytest

from textmill.sources.post_html import post_text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<p>one<br>two<br />three</p><p>four</p>", "one\ntwo\nthree\n\nfour"),
        ("<p>a &lt;b&gt; &amp;amp; &#39;c&#39; &hearts;</p>", "a <b> &amp; 'c' ♥"),
        ("<P class='x'>I <b>do</b><script>alert(1)</script>n't</P>", "I don't"),
        ("list:<ul><li>one</li><li>two</li></ul>end", "list:\n\n- one\n- two\n\nend"),
        ("3 < 4 and 5 > 4<!-- no -->", "3 < 4 and 5 > 4"),
        ("🌱 नमस्ते<a href='https://a.b'><span class='invisible'>https://</span>a.b</a>", "🌱 नमस्तेhttps://a.b"),
        ("", ""),
    ],
)
def test_html_of_posts(content: str, text: str) -> None:
    assert post_text(content) == text


@pytest.mark.timeout(60)
def test_no_content_takes_more_than_linear_time() -> None:
    for piece in [
        "<!",
        "<a",
        "<a <",
        '<a b="',
        "</",
        "<!--",
        "&#",
        "&",
        "<script>",
        "<script",
        "\n",
        "<p>",
        "<br ",
    ]:
        post_text(piece * (600_000 // len(piece)))
