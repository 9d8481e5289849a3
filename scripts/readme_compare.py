"""The README's comparison of coders, from comparisons: every number read from their compare.json.

.venv/bin/python scripts/readme_compare.py runs/compare-stories runs/compare-pocket

Prints the table, puts it between the README's marks (<!-- compare -->), and the first comparison's figure into docs/.
"""

import json
import re
import sys
from pathlib import Path

HOME = Path(__file__).parent.parent
NAMES = {"transcoder": "transcoder", "skip-transcoder": "skip transcoder", "sae": "SAE"}


def cell(point: dict) -> str:
    """Loss over the original with its interval, and FVU."""
    return f"{loss(point, '.3f')}; {point['fvu']:.3f}"


def loss(record: dict, form: str) -> str:
    """A loss over another's with its interval; a dash for what is not defined."""
    found = (record[name] for name in ("increase", "increase_low", "increase_high"))
    return "{} [{}, {}]".format(*("–" if number is None else format(number, form) for number in found))


def table(folder: Path) -> str:
    """One row a k: a column a kind, and one for each kind's difference from the SAE in loss."""
    found = json.loads((folder / "compare" / "compare.json").read_text())
    points = {(p["kind"], p["k"]): p for p in found["points"]}
    apart = {(d["kind"], d["k"]): d for d in found["differences"]}
    kinds = list(dict.fromkeys(kind for kind, _ in points))
    others = [kind for kind in kinds if kind != "sae"]
    lm = found["settings"]["lm.name"].rstrip("/").rsplit("/", 1)[-1]
    first = found["points"][0]
    said = f"{lm}, `{found['site']}`, {found['settings']['coder.latents']:,} latents; {first['tokens']:,} evaluate "
    said += f"tokens of {first['documents']:,} documents, where the model's own loss is {first['ce_original']:.3f}:"
    head = ["k", *(NAMES[kind] for kind in kinds), *(f"{NAMES[kind]} − SAE" for kind in others)]
    rows = []
    for k in sorted({k for _, k in points}):
        figures = [cell(points[kind, k]) for kind in kinds]
        rows.append([str(k), *figures, *(loss(apart[kind, k], "+.3f") for kind in others)])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join([said, "", *(f"| {' | '.join(line)} |" for line in lines)])


def main() -> None:
    """Write the block and the figure."""
    folders, readme = [Path(a) for a in sys.argv[1:]], HOME / "README.md"
    block = "\n\n".join(table(folder) for folder in folders)
    marked = re.compile(r"(<!-- compare -->\n).*?(\n<!-- /compare -->)", re.DOTALL)
    page, count = marked.subn(lambda m: m[1] + block + m[2], readme.read_text())
    assert count == 1, f"the README has {count} blocks called compare"
    readme.write_text(page)
    picture = (folders[0] / "compare" / "compare.png").read_bytes()
    (HOME / "docs" / "compare.png").write_bytes(picture)
    print(block)
    print(f"docs/compare.png: {len(picture) // 1024} KB", file=sys.stderr)


if __name__ == "__main__":
    main()
