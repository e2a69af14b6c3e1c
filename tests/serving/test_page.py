"""The page without a script: a form, texts set for reading, links that lead to the same text, errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.serving.running import Running, running
from textmill.serving.page_view import MANNERS, set_text
from textmill.writing.generator import Generator


class Seen(HTMLParser):
    """What a reader finds: the form's fields, the text, the status."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, str | None] = {}
        self.links: list[str] = []
        self.words = {"status": "", "text": ""}
        self.inside, self.hidden = "", True
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag in ("input", "textarea", "select") and "name" in found:
            self.fields[str(found["name"])] = found.get("value")
        if found.get("id") in self.words:
            self.inside = str(found["id"])
        if found.get("id") == "result":
            self.hidden = "hidden" in found
        if tag in ("a", "link", "script", "form"):
            self.links += [str(found[name]) for name in ("href", "src", "action") if name in found]

    def handle_endtag(self, tag: str) -> None:
        if (
            tag in ("article", "p")
            and self.inside in ("text", "status")
            and (tag == "article" or self.inside == "status")
        ):
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.words[self.inside] += data


def test_the_page_is_a_form_with_nothing_from_elsewhere(service: Running) -> None:
    answer = service.client.get("/")
    seen = Seen(answer.text)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert set(seen.fields) == {"prompt", "preset", "temperature", "length", "seed"}
    assert seen.hidden
    assert not [link for link in seen.links if "//" in link]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for link in seen.links:
        if link.startswith("page/"):
            assert service.client.get(f"/{link}").status_code == 200, link


def test_a_plain_request_gets_a_text_and_its_link_the_same_text(service: Running) -> None:
    first = Seen(service.client.get("/", params={"prompt": "abc", "length": "12"}).text)
    assert not first.hidden
    assert first.words["text"].startswith("abc")
    assert first.words["status"].startswith("Done: 12 characters")
    (again,) = [link for link in first.links if link.startswith("?")]
    assert "seed=" in again
    second = Seen(service.client.get(f"/{again}").text)
    assert second.words["text"] == first.words["text"]
    assert service.text(prompt="abc", max_tokens=12, seed=int(re.findall(r"seed=(\d+)", again)[0]), temperature=0.7,
                        top_p=0.95, echo=True).strip() == first.words["text"].strip()  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "a", "length": "many"}, "Length is 'many', which is not a number."),
        ({"prompt": "a", "temperature": "9"}, "Temperature is 9.0; it must be at most 2."),
        ({"prompt": "a", "seed": "-1"}, "Seed is -1; it must be at least 0."),
        ({"prompt": "a" * 30_000}, "Prompt is 30000 characters long; it must be at most 20000."),
    ],
)
def test_what_is_wrong_is_said_in_words_beside_the_form(
    service: Running, fields: dict[str, str], said: str
) -> None:
    answer = service.client.get("/", params=fields)
    assert answer.status_code == 400
    assert Seen(answer.text).words["status"] == said


def test_what_is_asked_for_is_never_markup(service: Running) -> None:
    answer = service.client.get("/", params={"prompt": "</textarea><script>alert(1)</script>", "length": "1"})
    assert "<script>alert" not in answer.text
    assert answer.text.count("<script") == 1


def test_the_text_of_a_model_is_never_markup() -> None:
    for kind in ("text", "script", "posts", "episodes"):
        assert "<i>" not in set_text("<i>A title</i>\n\nMOLL\t<i>Hush!</i>\n\nTOBY\t<i>I am.</i>", kind)


def test_scripts_have_speakers_posts_a_count_and_episodes_a_title() -> None:
    play = set_text("MOLL\tIs it you?\n\t[Enter TOBY]\nTOBY\tIt is the rain.", "script")
    assert '<div class="speech"><b>MOLL</b><p>Is it you?</p></div>' in play
    assert '<p class="direction">[Enter TOBY]</p>' in play
    assert "<footer>15 characters</footer>" in set_text("  Same oven, rye.\n", "posts")
    episode = set_text("The Kelpwood\n\nTo save half a day, they steered through it.", "episodes")
    assert episode == '<h2>The Kelpwood</h2><p class="plain">To save half a day, they steered through it.</p>'
    assert "<h2>" not in set_text("They steered through it.\n\nIt was tall.", "episodes")


@pytest.fixture(scope="module")
def furnished(characters: Generator) -> Iterator[Running]:
    examples = ["abc", "a & b"]
    with running(
        characters, page_title="The <Mill>", page_kind="posts", examples=examples, length=20
    ) as found:
        yield found


def test_title_kind_and_examples_are_settings(furnished: Running) -> None:
    page = furnished.client.get("/").text
    assert "<h1>The &lt;Mill&gt;</h1>" in page
    assert 'data-kind="posts"' in page
    assert '<a href="?prompt=a+%26+b" data-prompt="a &amp; b">a &amp; b</a>' in page
    written = furnished.client.get("/", params={"prompt": "abc"}).text
    assert '<div class="post">' in written


def test_manners_are_within_what_a_request_may_say(service: Running) -> None:
    for name in MANNERS:
        assert (
            service.client.get("/", params={"prompt": "a", "preset": name, "length": "2"}).status_code == 200
        )


def test_with_a_token_the_page_is_open_and_its_texts_are_not(characters: Generator) -> None:
    with running(characters, tokens=["a-long-token"]) as service:
        assert service.client.get("/").status_code == 200
        for query in ("prompt=a", "seed=3", "length=3&prompt="):
            assert service.client.get(f"/?{query}").status_code == 401
