"""The presets' learning rate held against others: coders and rewrites, on text of no other figure.

    for scale in 2 4; do
        .venv/bin/plainspoken run --lm ../shared/real/stories260K --corpus ../shared/real/samples.safetensors \\
            --site 'model.layers.2.mlp,model.layers.4.mlp' --set train.lr_scale=$scale \\
            --set evaluate.fractions=[1.0] --set evaluate.orders=best --out runs/rate-stories-$scale
        .venv/bin/plainspoken run --corpus .venv/lib/python3.11/site-packages/scipy --set train.lr_scale=$scale \\
            --set evaluate.fractions=[1.0] --set evaluate.orders=best --out runs/rate-scipy-$scale
    done
    .venv/bin/python benchmarks/learning_rate.py runs/rate-*

The stories are evaluated on the model's own samples, held out, and the pocket model on scipy's source: neither is what
the README's figures are measured on. Prints a table and puts it into benchmarks/README.md.
"""

import json
import sys
from pathlib import Path

import rounds

HEAD = ["model, site", "`train.lr_scale`", "FVU", "dead latents", "loss with the coder", "loss rewritten", "recovered"]


def rows(run: Path) -> list[list[str]]:
    """One a site."""
    config = json.loads((run / "config.json").read_text())
    records = json.loads((run / "evaluate" / "results.json").read_text())["conditions"]
    name = config["lm"]["name"].rstrip("/").rsplit("/", 1)[-1]
    found = []
    for path in sorted((run / "measure").glob("*/measures.json")):
        measured = json.loads(path.read_text())
        mine = [r for r in records if r["site"] == measured["site"] and r["fraction"] in (None, 1.0)]
        mine = {r["condition"]: r for r in mine if r["order"] in (None, "best")}
        losses = [f"{mine[condition]['ce']:.4f}" for condition in ("coder", "rewritten")]
        cells = [f"{name}, `{measured['site']}`", f"{config['train']['lr_scale']:g}", interval(measured, "fvu", ".4f")]
        found.append([*cells, f"{measured['dead']:.1%}", *losses, interval(mine["rewritten"], "recovered", ".3f")])
    return found


def interval(record: dict, name: str, form: str) -> str:
    """A figure with its interval; a dash for what is not defined."""
    found = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return "{} [{}, {}]".format(*("–" if number is None else format(number, form) for number in found))


def main(runs: list[str]) -> None:
    """Rows of one site beside each other, by rate."""
    found = sorted((row for run in runs for row in rows(Path(run))), key=lambda row: (row[0], float(row[1])))
    block = rounds.table(HEAD, found)
    print(block)
    rounds.write_block(rounds.README, "learning-rate", block)


if __name__ == "__main__":
    main(sys.argv[1:])
