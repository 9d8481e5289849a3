"""Frontier: loss recovered against words an explanation, every latent rewritten, at each budget that is asked for.

Each budget is explained, simulated, calibrated and measured from the start, by the explainer alone: people's edits have
no part in it. A point is kept under the hash of all that it depends on, so that asking for one more costs one.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from plainspoken.evaluate import SiteFacts, evaluate
from plainspoken.evaluate import units as units_of
from plainspoken.language.counted import counted
from plainspoken.pipeline.gating import gated, site_gate
from plainspoken.pipeline.shelves import calibrate_rows, load_rows, load_statistics, load_table
from plainspoken.pipeline.speech import explain_latents, simulate_latents, unread_latents
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages.evaluate import gathered
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite import SiteMaterial, Spoken
from plainspoken.store import Manifest, read_json, write_json
from plainspoken.store.manifest import digest
from plainspoken.types import Explanation, Rows, Simulation, Site

_FIGURES = (
    "recovered", "recovered_low", "recovered_high", "ce", "ce_low", "ce_high", "words_mean", "words_max", "documents",
    "coverage", "coverage_calibrate", "withheld", "explained", "latents",
)  # fmt: skip


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes frontier.json, a point a budget and site, and points/ from which known ones are taken."""
    folder = workplace.path("frontier")
    settings = workplace.settings(workplace.stage("frontier"))
    settings.pop("report.frontier")
    settings.pop("explain.words")
    inputs: dict[str, str | int] = {name: manifest.key for name, manifest in _inputs(workplace).items()}
    # What a point goes through anew, stage by stage, at its own budget.
    anew = [workplace.stage(name) for name in ("explain", "simulate", "calibrate", "evaluate")]
    inputs |= {stage.name: stage.version_under(workplace.config) for stage in anew}
    points: list[Mapping[str, Any]] = []
    measured = 0
    for budget in sorted(workplace.config.report.frontier):
        path = folder / "points" / f"{budget}-{digest([settings, inputs])[:16]}.json"
        if path.exists():
            points += read_json(path)
            continue
        found = _points(workplace, budget)
        measured += 1
        points += found
        shares = [point[name] for point in found for name in ("coverage", "coverage_calibrate")]
        if all(share in (None, 1) for share in shares):
            write_json(path, found)
        else:
            lowest = min(share for share in shares if share is not None)
            workplace.progress.warn(
                f"frontier at {counted(budget, 'word')}: only {lowest:.2%} of what the simulator was asked was answered"
                "; the rest is put at 0, or lacks in the calibration; --force frontier asks for what is lacking"
            )
    write_json(folder / "frontier.json", {"points": points})
    spent: dict[str, Any] = {}
    for section in ("explain", "simulate"):
        spent |= workplace.llms.spent(section, f"llm_{section}")
    yield Outcome(units[0], {"budgets": list(workplace.config.report.frontier), "measured": measured, **spent})


def words_max(workplace: Workplace, budget: int) -> int:
    """The longest explanation at a budget: in proportion to the run's own."""
    explain = workplace.config.explain
    return max(budget, round(budget * explain.words_max / explain.words))


def _inputs(workplace: Workplace) -> dict[str, Manifest]:
    paths = {"corpus": workplace.path("corpus")}
    for stage in ("train", "encode"):
        paths |= {f"{stage}/{site.module}": workplace.path(stage, site.module) for site in workplace.sites}
    return {name: Manifest.load(path / "manifest.json") for name, path in paths.items()}


def _points(workplace: Workplace, budget: int) -> list[dict[str, Any]]:
    config, rows = workplace.config, load_rows(workplace, "evaluate")
    found = [_explained(workplace, site, budget, rows) for site in workplace.sites]
    materials = [material for material, _ in found]
    facts = {material.site.module: these for material, these in found}
    # With one order and everything rewritten only the baselines and the controls stand beside it.
    whole = dataclasses.replace(config.evaluate, fractions=(1.0,), orders=("best",), draws=1)
    total = units_of(rows, materials, whole, seed=config.seed)
    with workplace.progress.track(f"measuring at {counted(budget, 'word')}", total) as advance:
        results = evaluate(workplace.lm, rows, materials, whole, facts, seed=config.seed, progress=advance)
    records = results["conditions"]
    controls = {record["site"]: record for record in records if record["condition"] == "shuffled"}
    return [
        {"budget": budget, "site": record["site"]}
        | {name: record[name] for name in _FIGURES}
        | {f"shuffled{end}": controls.get(record["site"], {}).get(f"recovered{end}") for end in ("", "_low", "_high")}
        for record in records
        if record["condition"] == "rewritten"
    ]


def _explained(workplace: Workplace, site: Site, budget: int, rows: Rows) -> tuple[SiteMaterial, SiteFacts]:
    explain, calibrate = load_rows(workplace, "explain"), calibrate_rows(workplace)
    table = load_table(workplace, site.module, explain)
    _, weight = load_statistics(workplace, site.module, "explain")
    said = explain_latents(workplace, site.module, table, weight, budget, words_max(workplace, budget))
    written = [e for e in said if isinstance(e, Explanation)]
    texts = {e.latent: e.text for e in written}
    explained = np.isin(np.arange(table.latents), list(texts))
    gate = site_gate(workplace, site.module, texts)

    def simulated(part: Rows) -> Simulation:
        label = f"simulating the {part.part} part"
        only = None if gate is None else gated(workplace, gate, part)
        simulation, failures = simulate_latents(workplace, texts, table.latents, part, label, only)
        explained[unread_latents(failures)] = False
        return simulation

    spoken = Spoken(simulated(calibrate), simulated(rows), explained)
    return gathered(workplace, site, spoken, calibrate), SiteFacts.of(
        [e.words for e in written if explained[e.latent]], table.latents
    )
