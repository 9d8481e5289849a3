"""The tables of the README, from runs: printed as Markdown, every number read from the runs' results.

.venv/bin/python scripts/readme_figures.py runs/stories runs/stories-all runs/pocket
"""

import json
import sys
from pathlib import Path


def records(run: Path) -> list[dict]:
    """All conditions that the run measured."""
    return json.loads((run / "evaluate" / "results.json").read_text())["conditions"]


def whole(found: list[dict], site: str, condition: str) -> dict:
    """The record of a condition with every latent rewritten."""
    mine = (r for r in found if r["site"] == site and r["condition"] == condition)
    return next(r for r in mine if r["fraction"] in (None, 1.0) and r["order"] in (None, "best"))


def interval(record: dict, name: str) -> str:
    """A measure with its interval."""
    return f"{record[name]:.2f} [{record[name + '_low']:.2f}, {record[name + '_high']:.2f}]"


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


def main() -> None:
    runs = [Path(a) for a in sys.argv[1:]]
    print("| rewritten, every latent, all positions | recovered | over mean-latents | shuffled | words a latent | "
          "loss: original / coder / rewritten / latents zero |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    # The same site in two runs of the same settings gives the same row: once is enough.
    print("\n".join(dict.fromkeys(row for run in runs for row in rows(run))))
    for run in runs:
        points = run / "frontier" / "frontier.json"
        if points.exists():
            found = json.loads(points.read_text())["points"]
            if found:
                print(f"\n{run}:\n\n| budget of words | words a latent | recovered |\n|---|---|---|")
                for p in found:
                    print(f"| {p['budget']} | {p['words_mean']:.0f} | {interval(p, 'recovered')} |")


if __name__ == "__main__":
    main()
