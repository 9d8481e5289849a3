"""A picture of a page for the README: a report's headline, conditions and one card; or a circuit's drawing.

    python scripts/readme_picture.py runs/pocket/report.html docs/report.png
    python scripts/readme_picture.py runs/all/trace/NAME/circuit.html docs/circuit.png --at '#n42'   # at a node

Needs Chromium or Chrome on the machine (named with --browser where it is not on the PATH). The page is the run's
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
LEFT_OUT = {
    "report.html": """
nav, .warning, .scroll, .caption, .card details, figure details, #results > details, #reading, #provenance, h2,
.latents, .coder, .scorers, .gate, .edits, .failures, .card ~ .card, .card ~ h3, .notes li:nth-child(n + 3),
figure:not(.conditions, .sites),
details.site ~ details.site, details.site > :not(.cards), #results > h3 { display: none !important; }
#sites, details.site { border: 0 !important; margin: 0 !important; padding: 0 !important; }
body { padding-bottom: 1.5rem !important; }
""",
    "circuit.html": """
main > section, .controls, .label { display: none !important; }
#panel { max-height: 27rem !important; overflow: hidden !important; }
body { padding-top: 0 !important; padding-bottom: 0 !important; }
""",
}
"""By the name of the page."""
WIDTH = {"report.html": 880, "circuit.html": 1180}
TALLEST, SCALE, MARGIN = 2400, 1.25, 24


def main() -> None:
    """Take the picture; exit 2 where the report or a browser is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="report.html of a run, or circuit.html of a trace")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--at", default="", help="place on the page, e.g. #n42: a node of a drawing")
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    wanted = parser.parse_args()
    if not wanted.page.is_file() or wanted.page.name not in LEFT_OUT:
        parser.error(f"{wanted.page} is no report.html or circuit.html: run `plainspoken run` or `trace` first")
    if wanted.browser is None:
        parser.error("no Chromium or Chrome found: install one, or name it with --browser")
    wanted.picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photograph(wanted.page, Path(folder), wanted.browser, wanted.at).quantize(256).save(
            wanted.picture, optimize=True
        )
    print(f"{wanted.picture}: {wanted.picture.stat().st_size // 1024} KB", file=sys.stderr)


def photograph(source: Path, folder: Path, browser: str, at: str) -> Image.Image:
    """The shortened page, cut to its content."""
    page = source.read_text(encoding="utf-8").replace("</head>", f"<style>{LEFT_OUT[source.name]}</style></head>", 1)
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        browser, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--force-device-scale-factor={SCALE}",
        f"--window-size={WIDTH[source.name]},{TALLEST}", f"--screenshot={folder / 'page.png'}",
        (folder / "page.html").as_uri() + at,
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
