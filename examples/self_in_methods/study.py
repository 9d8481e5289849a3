"""A behaviour and the latents that make it: `self` after the bracket of a method in a class.

    python examples/self_in_methods/study.py runs/all

Writes RUN/self_in_methods/: study.json, kept.svg and study.md. README.md says what is measured and how to read it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prompts import Prompts, make_prompts

from plainspoken.circuits.behaviour import difference
from plainspoken.circuits.contributions import Found, Unit, find
from plainspoken.circuits.graph import Node
from plainspoken.evaluate.ablation import Ablation, ablation, random_draws
from plainspoken.evaluate.by_prompt import over_prompts
from plainspoken.evaluate.kept import conditions_of, kept
from plainspoken.evaluate.statistics import samples
from plainspoken.pipeline import STAGES, Progress
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.progress import SILENT
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report.figures import kept_picture
from plainspoken.report.svg import standalone
from plainspoken.store import write_json, write_text

BOOTSTRAP = 2000


def study(
    run: Path, prompts: int = 200, top: int = 10, draws: int = 20, curves: int = 3, seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:  # fmt: skip
    """The record that is written. Half of the prompts find the circuit, the other half alone are reported on."""
    circuits = RunCircuits(Workplace(run, stored_config(run), STAGES, progress))
    lm, coders = circuits.lm, circuits.coders
    made = make_prompts(lm, prompts, seed)
    finding, telling = list(range(prompts // 2)), list(range(prompts // 2, prompts))
    with progress.track("finding the circuit", 2 * len(finding)) as advance:
        found = find(lm, coders, made.methods.some(finding), advance)
    latents = found.latents.strongest()[:top]
    drawn = random_draws(found, latents, draws, seed)
    told, top_level = made.methods.some(telling), made.top_level.some(telling)
    without = ablation(lm, coders, told, latents, drawn)
    beside = ablation(lm, coders, top_level, latents, drawn)
    with progress.track("keeping latents and neurons", conditions_of(found, curves)) as advance:
        curve = kept(lm, coders, told, found, curves, seed, advance)
    return {
        "about": circuits.about(
            prompt="templates of prompts.py", prompts=prompts, top=top, draws=draws, curves=curves, prompt_seed=seed,
            bootstrap=BOOTSTRAP,
        ),
        "examples": list(made.texts[:3]),
        "methods": {"ablation": without.record(BOOTSTRAP, seed), "kept": curve.record(BOOTSTRAP, seed)},
        "top_level": {"ablation": beside.record(BOOTSTRAP, seed)},
        "apart": _apart(without, beside, seed),
        "finding": _finding(circuits, made, found, finding, seed),
        "latents": [_told(circuits, found, unit) for unit in latents],
    }  # fmt: skip


def _apart(within: Ablation, beside: Ablation, seed: int) -> dict[str, Any]:
    """What the class alone does: the difference in a class less that of the same function at top level, in pairs."""
    figures = {
        "original": within.original - beside.original,
        "change": (within.without - within.original) - (beside.without - beside.original),
        "change_random": (within.random.mean(axis=0) - within.original)
        - (beside.random.mean(axis=0) - beside.original),
    }
    return dict(over_prompts(figures, samples(len(within.original), BOOTSTRAP, seed)))


def _finding(circuits: RunCircuits, made: Prompts, found: Found, finding: list[int], seed: int) -> dict[str, Any]:
    value = difference(circuits.lm, made.methods.some(finding))
    figures: dict[str, Any] = dict(over_prompts({"original": value}, samples(len(value), BOOTSTRAP, seed)))
    return figures | {"prompts": len(finding), "firing_latents": len(found.latents.strongest())}


def _told(circuits: RunCircuits, found: Found, unit: Unit) -> dict[str, Any]:
    """A latent of the circuit with its sentence."""
    layer, number = unit
    value = found.latents.of(unit)
    node = circuits.tell(Node("latent", layer, 0, number))
    return {
        "latent": f"{layer}/{number}",
        "contribution": float(value.mean()),
        "size": float(np.abs(value).mean()),
        "fires_in": float(found.latents.fires[layer][:, number].mean()),
        "text": node.text,
        "fidelity": node.fidelity,
    }


def table(record: dict[str, Any]) -> str:
    """The figures as Markdown."""
    methods, top_level, curve = (
        record["methods"]["ablation"],
        record["top_level"]["ablation"],
        record["methods"]["kept"],
    )
    apart = record["apart"]
    k, draws = methods["latents"], len(methods["draws"])
    lines = [
        f"Mean logit difference over {methods['prompts']} prompts on which nothing was found, with 95% intervals over "
        "prompts:",
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
        f"| their largest fall in any draw | {min(methods['draws']):+.2f} | {min(top_level['draws']):+.2f} | |",
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
    columns = [
        {point["kept"]: point for point in curve[unit][order]}
        for order in ("strongest", "random")
        for unit in ("latents", "neurons")
    ]
    for number in sorted({number for column in columns for number in column}):
        latents, neurons, *control = (column.get(number) for column in columns)
        cells = [cell for point in (latents, neurons) for cell in (_difference(point), _recovered(point))]
        lines.append(f"| {number:,} | {' | '.join(cells + [_difference(point) for point in control])} |")
    return "\n".join(lines) + "\n"


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
    parser.add_argument("--curves", type=int, default=3, help="random orders beside the curves")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    record = study(asked.run, asked.prompts, asked.top, asked.draws, asked.curves, asked.seed)
    out = asked.run / "self_in_methods"
    out.mkdir(exist_ok=True)
    write_json(out / "study.json", record)
    write_text(out / "kept.svg", standalone(kept_picture(record["methods"]["kept"], "self-kept").wide))
    write_text(out / "study.md", table(record))
    print(table(record))


if __name__ == "__main__":
    main()
