"""The README's figures of circuits, from a run with a coder at every FFN: every number read from the run's files.

.venv/bin/python scripts/readme_circuits.py runs/all

Wants a run gone through to its report, `replace RUN` and one `trace RUN ... --effects N` done before, and takes the
newest of each. Prints the block, and
puts it between the README's marks (<!-- circuits -->).
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent.parent
MEASURED = {
    "replaced": "coders in the FFNs' place, attention and norms held",
    "held": "the model, attention patterns held",
    "free": "the model as it is",
}


def read(folder: Path, name: str) -> dict[str, Any]:
    """The newest file of that name below a folder."""
    found = max(folder.rglob(name), key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        sys.exit(
            f"{folder} has no {name}: go through the run, then ask for `replace RUN` and `trace RUN ... --effects N`"
        )
    return json.loads(found.read_text())


def interval(record: dict[str, Any], name: str) -> str:
    """A figure with its interval."""
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def replaced(run: Path) -> str:
    """All FFNs at once: loss and divergence."""
    found = read(run / "replace", "replaced.json")
    together = found["together"]
    sites = len(found["coders"])
    said = f"All {sites} FFNs replaced at once, {found['tokens']:,} {found['part']} tokens of text, where the model's "
    lines = [f"{said}own loss is {interval(together, 'ce_original')} nats a token:", ""]
    lines += ["| in the FFNs' place | loss | KL | recovered over zero | over mean |", "|---|---|---|---|---|"]
    for name, told in (("coders", "their coders"), ("zero", "zero"), ("mean", "their mean")):
        shares = [interval(together, f"recovered_{end}") if name == "coders" else "" for end in ("zero", "mean")]
        cells = [told, interval(together, f"ce_{name}"), interval(together, f"kl_{name}"), *shares]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def effects(run: Path) -> str:
    """What edges predict of ablations, beside what happens."""
    found = read(run / "trace", "effects.json")
    prompt, label = json.dumps(found["about"]["prompt"]), found["roots"][0]["label"]
    said = f"What the graph of {label} at {prompt} predicts of ablating {len(found['latents'])} of its latents one by "
    n, matched = len(found["control"]), found["matched"]
    said += f"one, and what happens ({n} others as control, {matched} of them in the same layers at the same tokens, "
    said += "the rest as near as there are):"
    lines = [
        said,
        "",
        "| measured in | r, edge into the target | r, all paths | mean change | of the control | of its matched |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for record in found["compared"]:
        r = (
            f"{record[by]['value']:.2f} [{record[by]['low']:.2f}, {record[by]['high']:.2f}]"
            for by in ("direct", "total")
        )
        there = [abs(change) for each in found["control"][:matched] for change in each[record["measured"]]]
        sizes = (f"{each:.3f}" for each in (record["size"], record["control"], sum(there) / len(there)))
        lines.append(f"| {' | '.join((MEASURED[record['measured']], *r, *sizes))} |")
    return "\n".join(lines)


def spoken(run: Path) -> str:
    """All FFNs in words at once: what that recovers, beside its control."""
    records = read(run / "evaluate", "results.json")["conditions"]
    whole = {r["condition"]: r for r in records if r["site"] == "all" and r["fraction"] in (1.0, None)}
    said, shuffled = (interval(whole[name], "recovered") for name in ("rewritten", "shuffled"))
    return (
        f"All of them in words at once, on evaluate text, recover {said} of what the coders keep over zero latents; "
        f"with the sentences shuffled, {shuffled}."
    )


def main() -> None:
    """Write the block."""
    [run], readme = [Path(a) for a in sys.argv[1:]], HOME / "README.md"
    block = f"{replaced(run)}\n\n{spoken(run)}\n\n{effects(run)}"
    marked = re.compile(r"(<!-- circuits -->\n).*?(\n<!-- /circuits -->)", re.DOTALL)
    page, count = marked.subn(lambda m: m[1] + block + m[2], readme.read_text())
    assert count == 1, f"the README has {count} blocks called circuits"
    readme.write_text(page)
    print(block)


if __name__ == "__main__":
    main()
