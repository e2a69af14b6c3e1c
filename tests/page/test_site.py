"""The documentation's site in a real browser: on a phone and on a desk, without the internet, light and dark."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.page

playwright = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / ".venv-docs" / "bin" / "mkdocs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The site's address and its pages."""
    if not GENERATOR.exists():
        pytest.skip("make docs has not made its environment here")
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    command = [GENERATOR, "build", "--quiet", "--site-dir", folder]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pages = sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("index.html"))
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_and_none_asks_elsewhere(
    width: int, scheme: str, browser: Any, site: tuple[str, list[str]]
) -> None:
    address, pages = site
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in pages if scheme == "light" else pages[:3]:  # the scheme changes colours alone
        page.goto(f"{address}/{name}/")
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than the screen"
    assert errors == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    shown = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
    assert shown == {"light": "default", "dark": "slate"}[scheme]
    context.close()


def test_the_search_finds(browser: Any, site: tuple[str, list[str]]) -> None:
    page = browser.new_page()
    page.goto(site[0], wait_until="networkidle")  # the field does nothing before its script is there
    page.locator("input[name=query]").click()
    page.locator("input[name=query]").fill("repetition_penalty")
    page.locator(".md-search-result__item").first.wait_for(state="attached", timeout=60_000)
    assert "repetition_penalty" in page.locator(".md-search-result__list").text_content()
    page.close()
