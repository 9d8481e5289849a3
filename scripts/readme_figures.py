"""The README's tables and the rewritten model's speech, from runs: every number read from the runs' results.

.venv/bin/python scripts/readme_figures.py runs/stories runs/stories-all runs/pocket

Prints them, and puts them between the README's marks (<!-- figures --> and the like).
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROMPT = "Once upon a time"


def records(run: Path) -> list[dict]:
    """All conditions that the run measured."""
    return json.loads((run / "evaluate" / "results.json").read_text())["conditions"]


def whole(found: list[dict], site: str, condition: str) -> dict:
    """The record of a condition with every latent rewritten."""
    mine = (r for r in found if r["site"] == site and r["condition"] == condition)
    return next(r for r in mine if r["fraction"] in (None, 1.0) and r["order"] in (None, "best"))


def interval(record: dict, name: str) -> str:
    """A measure with its interval; a dash for what is not defined."""
    value, low, high = ("–" if record[f] is None else f"{record[f]:.2f}" for f in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def rows(run: Path) -> list[str]:
    """One row of the table a site, the joint rewrite last."""
    found = records(run)
    lm = json.loads((run / "config.json").read_text())["lm"]["name"].rstrip("/").rsplit("/", 1)[-1]
    out = []
    for site in dict.fromkeys(r["site"] for r in found):
        rewritten, shuffled = whole(found, site, "rewritten"), whole(found, site, "shuffled")
        loss = " / ".join(
            f"{whole(found, site, c)['ce']:.3f}" for c in ("original", "coder", "rewritten", "zero-latents")
        )
        name = "all FFNs together" if site == "all" else f"`{site}`"
        cells = [f"{lm}, {name}", f"**{interval(rewritten, 'recovered')}**", interval(rewritten, "recovered_over_mean")]
        cells += [interval(shuffled, "recovered"), f"{rewritten['words_mean']:.0f}", loss]
        out.append("| " + " | ".join(cells) + " |")
    return out


def figures(runs: Sequence[Path]) -> str:
    """The table of what the rewrites keep."""
    head = "| rewritten, every latent, all positions | recovered | over mean-latents | shuffled | words a latent | "
    head += "loss: original / coder / rewritten / latents zero |\n|---|---|---|---|---|---|"
    # The same site in two runs of the same settings gives the same row: once is enough.
    return "\n".join([head, *dict.fromkeys(row for run in runs for row in rows(run))])


def frontier(runs: Sequence[Path]) -> str:
    """Recovered against the budget of words, of the first run that has it."""
    paths = (run / "frontier" / "frontier.json" for run in runs)
    found = (json.loads(path.read_text())["points"] for path in paths if path.exists())
    points = next((p for p in found if p), [])
    head = "| budget of words | words a latent | recovered |\n|---|---|---|"
    return "\n".join(
        [head, *(f"| {p['budget']} | {p['words_mean']:.0f} | {interval(p, 'recovered')} |" for p in points)]
    )


def speech(runs: Sequence[Path]) -> str:
    """What the model says with all its FFNs rewritten, beside the original: the first draw, as it came."""
    run = next(run for run in runs if "*" in json.loads((run / "config.json").read_text())["site"])
    said = []
    for who in ("original", "rewritten"):
        command = [sys.executable, "-m", "plainspoken", "generate", str(run), f"--{who}", "--prompt", PROMPT]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip("\n")
        said.append(f"{who}:".ljust(12) + text)
    return "```\n" + "\n\n".join(said) + "\n```"


def main() -> None:
    runs, readme = [Path(a) for a in sys.argv[1:]], Path(__file__).parent.parent / "README.md"
    page = readme.read_text()
    for name, block in (("figures", figures(runs)), ("frontier", frontier(runs)), ("speech", speech(runs))):
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        page, found = marked.subn(lambda m, block=block: m[1] + block + m[2], page)
        assert found == 1, f"the README has {found} blocks called {name}"
        print(block, end="\n\n")
    readme.write_text(page)


if __name__ == "__main__":
    main()
