"""Photograph a run's report, down to how it learned, for README.md (Chromium, as tests/page has it, and Pillow):

python tools/pictures_report.py out/report.html docs/pictures/report.png
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, COLOURS = 760, 64  # pixels, as wide as a README is shown; of the palette: text and lines need no more


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not Path(arguments[0]).is_file():
        print("usage: python tools/pictures_report.py REPORT.html PICTURE.png", file=sys.stderr)
        return 2
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("no Chromium is here; on Debian and Ubuntu: apt-get install chromium", file=sys.stderr)
        return 2
    from PIL import Image
    from playwright.sync_api import sync_playwright

    report, picture = (Path(each) for each in arguments)
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_context(color_scheme="light", viewport={"width": WIDTH, "height": 900}).new_page()
        page.goto(report.absolute().as_uri())
        below = page.get_by_role("heading", name="The texts").bounding_box()
        shot = page.screenshot(
            full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": below["y"] - 30}
        )
        opened.close()
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS)
    image.save(picture, optimize=True)
    print(f"{picture}: {image.width} x {image.height}, {picture.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
