"""How many calibrate documents should score, and how many calibrate: what each share costs, on text of no other figure.

    .venv/bin/plainspoken explain --lm ../shared/real/stories260K --corpus ../shared/real/samples.safetensors \\
        --site 'model.layers.2.mlp,model.layers.4.mlp' --out runs/share-stories
    .venv/bin/plainspoken explain --corpus .venv/lib/python3.11/site-packages/scipy --out runs/share-scipy
    .venv/bin/python benchmarks/score_share.py runs/share-*

The stories are evaluated on the model's own samples, held out, and the pocket model on scipy's source: neither is what
the README's figures are measured on. For each share of the calibrate documents that scores: recovered with every latent
rewritten (what calibrating on fewer documents costs), and with the best tenth, fifth and two fifths by the simulation's
correlation on that share (what ranking by fewer documents costs); beside each the loss over that of calibrating on all
documents and ranking by the same ones (`in-sample`), with its 95 % interval over documents, thousandths of a nat.
Prints a table and puts it into benchmarks/README.md.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rounds

from plainspoken.calibrators import Evidence, calibrator_named
from plainspoken.coders import load_coder
from plainspoken.corpus.apart import divide, only, rows_of
from plainspoken.evaluate.conditions import Condition, first_latents
from plainspoken.evaluate.losses import measure
from plainspoken.evaluate.statistics import interval, samples
from plainspoken.language.text import Text
from plainspoken.latents import FiringTable
from plainspoken.pipeline import explanations
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.shelves import latents_of, load_rows, load_statistics
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite import Baseline, Mixture, SiteMaterial, Spoken, gather
from plainspoken.scorers.simulation import score_simulation
from plainspoken.simulators.rules import simulate_text
from plainspoken.types import Rows, Simulation, Site

SHARES, FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5), (1.0, 0.1, 0.2, 0.4)
EVALUATE_ROWS = 120


def of_rows(simulation: Simulation, whole: Rows, some: Rows) -> Simulation:
    """The simulation over some documents' rows."""
    kept = rows_of(whole, some)
    row, column = np.divmod(simulation.position, simulation.t)
    position = ((np.cumsum(kept) - 1)[row] * simulation.t + column)[kept[row]]
    return Simulation(
        position, simulation.latent[kept[row]], simulation.level[kept[row]], simulation.latents, int(kept.sum()),
        simulation.t, some.fingerprint,
    )  # fmt: skip


def materials(workplace: Workplace, site: Site, evaluate: Rows) -> dict[str, SiteMaterial]:
    """By what scores: the site calibrated on the rest of the calibrate documents, and ranked by that share."""
    module, config = site.module, workplace.config
    latents, whole = latents_of(workplace, module), load_rows(workplace, "calibrate")
    table = FiringTable.open(workplace.path("encode", module) / "calibrate", whole)
    written = explanations.read_explanations(workplace.path("explain", module), latents)
    texts = {latent: explanation.text for latent, explanation in written.items()}
    said, spoken = (simulate_text(texts, latents, Text(r, workplace.lm.pieces.table))[0] for r in (whole, evaluate))
    has, coder = np.isin(np.arange(latents), list(texts)), load_coder(workplace.path("train", module))
    maximum = load_statistics(workplace, module, "explain")[0].maximum

    def material(calibrating: Rows, scoring: Rows) -> SiteMaterial:
        ours, theirs = (of_rows(said, whole, rows) for rows in (calibrating, scoring))
        here, there = (table.at_rows(rows_of(whole, rows), rows) for rows in (calibrating, scoring))
        curve = calibrator_named(config.calibrate.calibrator).fit(Evidence.over(ours, here), maximum)
        score = score_simulation(Evidence.over(theirs, there), curve.apply).correlation.ranking()
        return gather(
            site, coder, Spoken(ours, spoken, has), here, maximum, calibrator=config.calibrate.calibrator,
            seed=config.seed, score=score,
        )  # fmt: skip

    found = {"in-sample": material(whole, whole)}
    for share in SHARES:
        scoring, calibrating = divide(whole, share, "SHARES")
        found[f"{share:g}"] = material(calibrating, scoring)
    return found


def losses(workplace: Workplace, site: Site, found: Mapping[str, SiteMaterial], rows: Rows) -> list[list[str]]:
    """A row of the table for each share."""
    module = site.module
    ways = [Condition(kind, {module: Baseline(kind)}) for kind in ("zero-latents", "coder")]
    for name, material in found.items():
        for fraction in FRACTIONS:
            chosen = first_latents(material, "best", fraction, 0, 0)
            ways.append(Condition(f"{name} {fraction:g}", {module: Mixture(material.prediction, chosen)}))
    measured = measure(workplace.lm, rows, {module: found["in-sample"]}, ways)
    by = {way.name: loss for way, loss in zip(ways, measured, strict=True)}
    drawn = samples(len(rows.keys), 2000, 0)

    def told(name: str, fraction: float) -> str:
        one = by[f"{name} {fraction:g}"]
        values = [(drawn @ loss.nll) / (drawn @ loss.tokens) for loss in (one, by[f"in-sample {fraction:g}"])]
        gap = by["zero-latents"].nll.sum() - by["coder"].nll.sum()
        recovered = (by["zero-latents"].nll.sum() - one.nll.sum()) / gap
        low, high = interval(1000 * (values[0] - values[1])[1:]) or (np.nan, np.nan)
        return f"{recovered:.3f}; {1000 * (values[0] - values[1])[0]:+.1f} [{low:+.1f}, {high:+.1f}]"

    model = Path(workplace.config.lm.name).name
    return [[f"{model}, `{module}`", name, *(told(name, fraction) for fraction in FRACTIONS)] for name in found]


def main() -> None:
    """Run by run, site by site."""
    table: list[list[str]] = []
    for run in map(Path, sys.argv[1:]):
        workplace = Workplace(run, stored_config(run), STAGES)
        evaluate = load_rows(workplace, "evaluate")
        evaluate = only(evaluate, np.arange(len(evaluate.tokens)) < EVALUATE_ROWS)
        for site in workplace.sites:
            table += losses(workplace, site, materials(workplace, site, evaluate), evaluate)
    head = ["model, site", "scores", *("all latents" if f == 1 else f"best {f:g}" for f in FRACTIONS)]
    block = rounds.table(head, table)
    print(block)
    rounds.write_block(rounds.README, "score-share", block)


if __name__ == "__main__":
    main()
