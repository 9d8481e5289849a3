"""A behaviour and the latents that make it: `self` after the bracket of a method in a class.

    python examples/self_in_methods/study.py runs/all

Writes prompts.jsonl, asks `plainspoken behaviour` of it, and prints what it found as Markdown; all of that lies in
RUN/behaviour/self/. README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prompts import prompt_lines

import plainspoken
from plainspoken import pipeline
from plainspoken.evaluate.kept import ENDING, kept_points
from plainspoken.store import write_text

HERE = Path(__file__).resolve().parent


def table(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    methods, top_level, curve = record["ablation"], record["contrast"], record["kept"]
    apart = record["apart"]
    k, draws = methods["latents"], len(methods["draws"])
    lines = [
        f"Mean logit difference over {methods['prompts']} prompts on which nothing was found, with 95% intervals over "
        "prompts (and over draws, where units are random):",
        "",
        "| | in a class | at top level | the first less the second |",
        "|:--|--:|--:|--:|",
        f"| the model as it is | {_shown(methods, 'original')} | {_shown(top_level, 'original')} | "
        f"{_shown(apart, 'original')} |",
        f"| every FFN replaced by its coder | {_shown(curve, 'coders')} | | |",
        f"| every FFN at its mean output | {_shown(curve, 'mean_ablated')} | | |",
        f"| change without the {k} strongest latents | {_shown(methods, 'change')} | {_shown(top_level, 'change')} | "
        f"{_shown(apart, 'change')} |",
        f"| change without {k} random latents like them, mean of {draws} draws | {_shown(methods, 'change_random')} | "
        f"{_shown(top_level, 'change_random')} | {_shown(apart, 'change_random')} |",
        f"| the first change less the second | {_shown(methods, 'over_random')} | {_shown(top_level, 'over_random')} | "
        f"{_shown(apart, 'over_random')} |",
        f"| the furthest that any draw goes | {max(methods['draws'], key=abs):+.2f} | "
        f"{max(top_level['draws'], key=abs):+.2f} | |",
        "",
        f"The {k} strongest of {record['finding']['firing_latents']:,} latents that fire on "
        f"{record['finding']['prompts']} other prompts:",
        "",
        "| latent | mean contribution | fires in | sentence (correlation with the truth) |",
        "|:--|--:|--:|:--|",
    ]
    lines += [
        f"| {each['latent']} | {each['contribution']:+.2f} | {each['fires_in']:.0%} | {_sentence(each)} |"
        for each in record["latents"]
    ]
    lines += [
        "",
        "Kept alone, all others at their mean (recovered: of the gap between every FFN at its mean and the model):",
    ]
    lines += ["", "| kept | latents | recovered | neurons | recovered | random latents | random neurons |"]
    lines += ["|--:|--:|--:|--:|--:|--:|--:|"]
    for number, (latents, neurons, *control) in kept_points(curve):
        cells = [cell for point in (latents, neurons) for cell in (_difference(point), _recovered(point))]
        lines.append(f"| {number:,} | {' | '.join(cells + [_difference(point) for point in control])} |")
    return "\n".join([*lines, "", ENDING]) + "\n"


def _shown(record: dict[str, Any], name: str) -> str:
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.2f}" if low is None else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _difference(point: dict[str, Any] | None) -> str:
    """Nothing where there are fewer units than that."""
    return "" if point is None else _shown(point, "difference")


def _recovered(point: dict[str, Any] | None) -> str:
    if point is None:
        return ""
    return "undefined" if point["recovered"] is None else f"{point['recovered']:.0%}"


def _sentence(latent: dict[str, Any]) -> str:
    if latent["text"] is None:
        return "(none)"
    known = "" if latent["fidelity"] is None else f" ({latent['fidelity']:.2f})"
    text = latent["text"] if len(latent["text"]) <= 160 else latent["text"][:159] + "…"
    return text.replace("|", "\\|").replace("\n", " ") + known


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Which latents make self follow the bracket of a method?")
    parser.add_argument("run", type=Path, help="a run with coders at the FFNs, explained or not")
    parser.add_argument("--prompts", type=int, default=200, help="half find the circuit, half are reported on")
    parser.add_argument("--top", type=int, default=10, help="latents of the circuit that are ablated")
    parser.add_argument("--draws", type=int, default=20, help="draws of random latents")
    parser.add_argument("--curves", type=int, default=10, help="random orders beside the curves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readme", action="store_true", help="put figures and picture into this folder as well")
    asked = parser.parse_args()
    out = asked.run / "behaviour" / "self"
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "prompts.jsonl", prompt_lines(asked.prompts, asked.seed))
    found = pipeline.behaviour(
        asked.run, out / "prompts.jsonl", top=asked.top, draws=asked.draws, curves=asked.curves, seed=asked.seed,
        out=out, progress=plainspoken.Progress(say=print),
    )  # fmt: skip
    told = table(found.record)
    write_text(out / "study.md", told)
    if asked.readme:
        readme = HERE / "README.md"
        page = readme.read_text()
        before, _, rest = page.partition("<!-- figures -->\n")
        write_text(readme, f"{before}<!-- figures -->\n{told}{rest[rest.index('<!-- /figures -->') :]}")
        shutil.copyfile(found.files["kept.svg"], HERE / "kept.svg")
    print(told)


if __name__ == "__main__":
    main()
