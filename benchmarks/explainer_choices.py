"""What each choice in the rule explainer brings: recovered with the choice taken back, on a run's evaluate rows.

    .venv/bin/plainspoken run --lm ../shared/real/stories260K --corpus ../shared/real/samples.safetensors \\
        --site model.layers.4.mlp --set evaluate.fractions=[1.0] --out runs/choices
    .venv/bin/python benchmarks/explainer_choices.py runs/choices

Choices are made on text that no figure is reported on: give it a run without --eval-corpus, whose evaluate part is held
out of the same corpus, and never one whose results are published.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from plainspoken.coders import load_coder
from plainspoken.config import Config
from plainspoken.evaluate.conditions import Condition
from plainspoken.evaluate.losses import measure
from plainspoken.explainers import lattice, selection
from plainspoken.explainers.lattice import Lattice, build_lattice
from plainspoken.explainers.rules import explain_rules
from plainspoken.language.text import Text
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.shelves import load_rows, load_statistics, load_table
from plainspoken.pipeline.stages.calibrate import maximum
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite import Baseline, Mixture, Spoken, gather
from plainspoken.simulators.rules import simulate_text
from plainspoken.types import Explanation, Site


def own_error(total: np.ndarray, square: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The error in a fold at the level that all folds give the condition, itself among them."""
    level = selection._nearest_level(total.sum(axis=0), count.sum(axis=0))
    return np.ones_like(count, bool), square - 2 * level * total + count * level**2


def without(found: Lattice, *names: str) -> Lattice:
    """The lattice, templates of these names under which nothing falls."""
    condition = found.condition.copy()
    condition[:, [template.name.startswith(names) for template in found.templates]] = found.first[-1]
    return replace(found, condition=condition)


# By name: constants of `selection` and of `lattice` set otherwise, and templates left out.
CHOICES: Mapping[str, tuple[dict, dict, Sequence[str]]] = {
    "as it is": ({}, {}, ()),
    "gain by the same documents": ({"_crossed_error": own_error}, {}, ()),
    "one price from the start": ({"_PRICES": (1.0,)}, {}, ()),
    "four topics instead of one": ({}, {"_TOPICS": 4}, ()),
    "no topic": ({}, {"_TOPICS": 0}, ()),
    "no token": ({}, {}, ("token",)),
    "no ending": ({}, {}, ("ending",)),
    "no line, bracket or place": ({}, {}, ("line", "opener", "place", "brackets", "word on", "word in")),
    "no three or four words": ({}, {}, ("three", "four")),
}


def main() -> None:
    config: Config = stored_config(Path(sys.argv[1]))
    workplace = Workplace(Path(sys.argv[1]), config, STAGES)
    rows = {part: load_rows(workplace, part) for part in ("explain", "calibrate", "evaluate")}
    texts = {part: Text(r, workplace.lm.pieces.table) for part, r in rows.items()}
    print("| site | choice | recovered | words | seconds |\n|---|---|---|---|---|")
    for site in workplace.sites:
        for name, (in_selection, in_lattice, left_out) in CHOICES.items():
            with ExitStack() as stack:
                for module, changed in ((selection, in_selection), (lattice, in_lattice)):
                    stack.enter_context(patch.multiple(module, **changed)) if changed else None
                found, words, seconds = explained(workplace, site, texts["explain"], left_out)
            gained = recovered(workplace, site, texts, found)
            print(f"| {site.module} | {name} | {gained:.3f} | {words:.1f} | {seconds:.0f} |", flush=True)


def explained(
    workplace: Workplace, site: Site, text: Text, left_out: Sequence[str]
) -> tuple[dict[int, str], float, float]:
    """(sentences, their mean number of words, seconds). One process, so that what is patched holds in it."""
    config = workplace.config.explain
    _, weight = load_statistics(workplace, site.module, "explain")
    table = load_table(workplace, site.module, text.rows)
    found = build_lattice(text.reading, text.rows.document)
    found = without(found, *left_out) if left_out else found
    start = time.perf_counter()
    said = explain_rules(table, found, weight, config.words, config.words_max, cores=1)
    seconds = time.perf_counter() - start
    said = [e for e in said if isinstance(e, Explanation)]
    return {e.latent: e.text for e in said}, float(np.mean([e.words for e in said])), seconds


def recovered(workplace: Workplace, site: Site, texts: Mapping[str, Text], sentences: dict[int, str]) -> float:
    """Of the loss between all latents zero and the coder, every latent rewritten."""
    coder = load_coder(workplace.path("train", site.module))
    latents, module = coder.spec.latents, site.module
    has = np.isin(np.arange(latents), list(sentences))
    said = {part: simulate_text(sentences, latents, texts[part])[0] for part in ("calibrate", "evaluate")}
    material = gather(
        site, coder, Spoken(said["calibrate"], said["evaluate"], has),
        load_table(workplace, module, texts["calibrate"].rows), maximum(workplace, module),
        calibrator=workplace.config.calibrate.calibrator, seed=workplace.config.seed,
    )  # fmt: skip
    everything = Mixture(material.prediction, np.ones(latents, bool), "simulated", "all")
    ways = [Condition(kind, {module: Baseline(kind)}) for kind in ("zero-latents", "coder")]
    losses = measure(
        workplace.lm, texts["evaluate"].rows, {module: material}, [*ways, Condition("rewritten", {module: everything})]
    )
    zero, true, rewritten = (loss.nll.sum() for loss in losses)
    return float((zero - rewritten) / (zero - true))


if __name__ == "__main__":
    main()
