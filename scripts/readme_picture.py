"""A picture of a report for the README: its headline, where the conditions land, one explanation card.

    python scripts/readme_picture.py runs/pocket/report.html docs/report.png

Needs Chromium or Chrome on the machine (named with --browser where it is not on the PATH). The page is the report's
own; a stylesheet added to a copy leaves out what a small picture cannot show.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip
LEFT_OUT = """
nav, .warning, .scroll, .caption, .card details, figure details, #results > details, #reading, #provenance, h2,
.latents, .coder, .scorers, .gate, .edits, .failures, .card ~ .card, .card ~ h3, .notes li:nth-child(n + 3),
figure:not(.conditions, .sites),
details.site ~ details.site, details.site > :not(.cards), #results > h3 { display: none !important; }
#sites, details.site { border: 0 !important; margin: 0 !important; padding: 0 !important; }
body { padding-bottom: 1.5rem !important; }
"""
WIDTH, TALLEST, SCALE, MARGIN = 880, 2400, 1.25, 24


def main() -> None:
    """Take the picture; exit 2 where the report or a browser is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.html of a run")
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/report.png"))
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    wanted = parser.parse_args()
    if not wanted.report.is_file():
        parser.error(f"no report at {wanted.report}: run `plainspoken run` first")
    if wanted.browser is None:
        parser.error("no Chromium or Chrome found: install one, or name it with --browser")
    wanted.picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photograph(wanted.report, Path(folder), wanted.browser).save(wanted.picture, optimize=True)
    print(f"{wanted.picture}: {wanted.picture.stat().st_size // 1024} KB", file=sys.stderr)


def photograph(report: Path, folder: Path, browser: str) -> Image.Image:
    """The shortened page, cut to its content."""
    page = report.read_text(encoding="utf-8").replace("</head>", f"<style>{LEFT_OUT}</style></head>", 1)
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        browser, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--force-device-scale-factor={SCALE}",
        f"--window-size={WIDTH},{TALLEST}", f"--screenshot={folder / 'page.png'}", (folder / "page.html").as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(folder / "page.png") as shot:
        image = shot.convert("RGB")
    ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
    box = ImageChops.difference(image, ground).getbbox()
    bottom = min(image.height, (box[3] if box else image.height) + round(MARGIN * SCALE))
    return image.crop((0, 0, image.width, bottom))


if __name__ == "__main__":
    main()
