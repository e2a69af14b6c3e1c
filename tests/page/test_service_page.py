"""The service's page in a real browser: it writes while one looks, and everybody can use it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import generating
from tests.serving.running import Running, running
from textmill.writing.typesetting import typeset

pytestmark = pytest.mark.page

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds

PLAY = "ACT I\n\nSCENE I\tA mill.\n\n\t[Enter MOLL]\n\nMOLL\tIs it you?\n\tThe river is low.\n\nTOBY\tIt is the rain.\n"
TELEVISION = "[ MOLL ]:  Who knocks?\n{{ The wheel turns }} .\n[ TOBY ]:  It is the rain.\n"
PLAIN = "The lamp was lit.\n\nNobody had lit it: not Moll, not Toby.\nThe door said nothing.\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    examples = ["abc", "the fig"]
    with running(
        generating.character_generator(), page_title="The mill", examples=examples, length=60
    ) as found:
        yield found


@pytest.fixture
def page(browser: Any, service: Running) -> Iterator[Any]:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(service.url)
    yield opened
    assert errors == []
    context.close()


def done(page: Any) -> None:
    expect(page.locator("#status")).to_contain_text("Done", timeout=PATIENCE)


def test_a_text_is_written_while_one_looks(page: Any, service: Running) -> None:
    page.fill("#prompt", "abc")
    page.fill("#seed", "7")
    page.click("#write")
    done(page)
    text = page.inner_text("#text")
    assert text.startswith("abc")
    expected = service.text(prompt="abc", max_tokens=60, seed=7, temperature=0.7, top_p=0.95, echo=True)
    assert "".join(text.split()) == "".join(expected.split())
    assert "60 characters" in page.inner_text("#status")


def test_the_link_leads_to_the_same_text_also_without_a_script(page: Any, browser: Any) -> None:
    page.fill("#prompt", "hi")
    page.keyboard.press("Control+Enter")
    done(page)
    page.click("#share")
    link = page.evaluate("navigator.clipboard.readText()")
    assert "seed=" in link
    assert "prompt=hi" in link
    text = page.inner_text("#text")
    page.click("#copy")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "".join(copied.split()) == "".join(text.split())
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(link)
    assert "".join(plain.inner_text("#text").split()) == "".join(text.split())
    plain.fill("#prompt", "abc")
    plain.fill("#length", "5")
    plain.click("#write")
    assert plain.inner_text("#text").startswith("abc")


def test_stop_ends_it_and_keeps_what_was_written(page: Any, service: Running) -> None:
    page.fill("#length", "4000")
    page.click("#write")
    expect(page.locator("#text")).to_have_text(re.compile(r"\S[\s\S]{20,}"), timeout=PATIENCE)
    page.keyboard.press("Escape")
    expect(page.locator("#status")).to_have_text("Stopped.", timeout=PATIENCE)
    assert 20 < len(page.inner_text("#text")) < 3900
    assert page.is_hidden("#stop")
    assert page.is_visible("#copy")
    assert page.get_attribute("#write", "aria-disabled") == "false"


def test_an_example_is_one_click(page: Any) -> None:
    page.click("text=the fig")
    done(page)
    assert page.inner_text("#text").startswith("the fig")


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (429, {"retry-after": "7"}, "Many people are writing just now. Try again in 7 seconds."),
        (503, {}, "The model is not ready. Try again in a moment."),
        (500, {}, "Something went wrong on the server."),
        (401, {}, "This model wants an access token."),
        (400, {}, "Prompt is too long."),
    ],
)
def test_errors_are_said_in_words(page: Any, status: int, headers: dict[str, str], said: str) -> None:
    body = '{"error": {"message": "prompt is too long."}}'
    page.route("**/v1/completions", lambda route: route.fulfill(status=status, headers=headers, body=body))
    page.click("#write")
    expect(page.locator("#status")).to_have_class("bad", timeout=PATIENCE)
    assert page.inner_text("#status") == said
    assert page.is_visible("#token") == (status == 401)
    page.unroute("**/v1/completions")
    page.click("#write")
    done(page)


def test_a_lost_connection_is_said(page: Any) -> None:
    page.route("**/v1/completions", lambda route: route.abort())
    page.click("#write")
    expect(page.locator("#status")).to_have_class("bad", timeout=PATIENCE)
    assert "connection was lost" in page.inner_text("#status")


@pytest.mark.parametrize("text", [PLAY, TELEVISION, PLAIN], ids=["play", "television", "plain"])
def test_the_script_sets_texts_as_the_server_does(page: Any, text: str) -> None:
    blocks = page.evaluate("text => textmillBlocks(text)", text)
    mine = [(b["kind"], b.get("name", ""), b["lines"]) for b in blocks]
    assert mine == [(b.kind, str(b.name), [str(line) for line in b.lines]) for b in typeset(text)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_everybody_can_use_it(browser: Any, service: Running, scheme: str, width: int, height: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{service.url}/?prompt=abc&seed=3")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    if shots := os.environ.get("SCREENSHOTS"):
        Path(shots).mkdir(exist_ok=True)
        page.screenshot(path=f"{shots}/page-{scheme}-{width}.png", full_page=True)
    context.close()


def test_the_keyboard_reaches_everything(page: Any) -> None:
    page.focus("#prompt")
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert order == ["abc", "the fig", "preset", "temperature", "length", "seed", "write", "For programs"]
