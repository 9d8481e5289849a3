"""A picture of a page for the README: a report's headline, conditions and one card; or a circuit's drawing.

    python scripts/readme_picture.py runs/pocket/report.html --out docs/report.png
    python scripts/readme_picture.py runs/all/trace/*/circuit.html --out docs/circuit.png --node latent:3/240@11

Of several pages it takes the newest; `--node` is a node's id in graph.json. Needs Chromium or Chrome on the machine
(named with --browser where it is not on the PATH). The page is the run's own; a stylesheet added to a copy leaves out
what a small picture cannot show.
"""

import argparse
import difflib
import json
import re
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
    told = "report.html of a run, or circuit.html of a trace; of several the newest"
    parser.add_argument("pages", type=Path, nargs="+", metavar="page", help=told)
    parser.add_argument("--out", type=Path, required=True, metavar="PICTURE")
    parser.add_argument("--node", help="the node of a drawing that the picture tells of, e.g. latent:3/240@11")
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    wanted = parser.parse_args()
    for page in wanted.pages:
        if not page.is_file() or page.name not in LEFT_OUT:
            parser.error(f"{page} is no report.html or circuit.html: run `plainspoken run` or `trace` first")
    if wanted.browser is None:
        parser.error("no Chromium or Chrome found: install one, or name it with --browser")
    page = max(wanted.pages, key=lambda page: page.stat().st_mtime)
    try:
        place = "" if wanted.node is None else f"#n{numbered(page, wanted.node)}"
    except LookupError as e:
        parser.error(str(e))
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        photograph(page, Path(folder), wanted.browser, place).quantize(256).save(wanted.out, optimize=True)
    print(f"{wanted.out}, of {page}: {wanted.out.stat().st_size // 1024} KB", file=sys.stderr)


def numbered(page: Path, node: str) -> int:
    """The number that a drawing's page has for a node; LookupError where the page has no such node."""
    data = re.search(
        r'<script type="application/json" id="data"[^>]*>(.*?)</script>', page.read_text("utf-8"), re.DOTALL
    )
    if data is None or page.name != "circuit.html":
        raise LookupError(f"{page} is no drawing of a circuit, and has no nodes: leave out --node")
    ids = [told[1] for told in json.loads(data[1])["nodes"]]
    if node not in ids:
        near = ", ".join(difflib.get_close_matches(node, ids, n=4, cutoff=0))
        raise LookupError(f"{page} has no node {node}; nearest are {near}")
    return ids.index(node)


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
