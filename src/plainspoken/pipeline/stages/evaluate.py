"""Evaluate: every condition at every site, and of all sites together, on the evaluate rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.activations import require_finite
from plainspoken.calibrators import calibrator_named
from plainspoken.coders import load_coder
from plainspoken.config import Config, ScoreConfig
from plainspoken.errors import RunError
from plainspoken.evaluate import ALL_SITES, SiteFacts, evaluate
from plainspoken.evaluate import units as units_of
from plainspoken.pipeline import explanations
from plainspoken.pipeline.company import latents_in_prompt, text_hashes
from plainspoken.pipeline.gating import gated, site_gate
from plainspoken.pipeline.ranking import latents_ranked
from plainspoken.pipeline.shelves import (
    Share,
    calibrate_rows,
    latents_of,
    load_rows,
    load_simulation,
    load_statistics,
    load_table,
)
from plainspoken.pipeline.speech import NOT_CHOSEN, simulate_latents, simulated_by, unread_latents
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages.calibrate import maximum
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite import SiteMaterial, Spoken, gather
from plainspoken.simulators import simulator_named
from plainspoken.store import Manifest, write_json
from plainspoken.types import Rows, Simulation, Site


def check(workplace: Workplace) -> None:
    """ConfigError where there is no such calibrator."""
    for name in workplace.config.evaluate.also_calibrated:
        calibrator_named(name, "evaluate.also_calibrated")


def unread(config: Config) -> tuple[str, ...]:
    """Other calibrators and what latents are ranked by, where both are as before there were such settings."""
    also = () if config.evaluate.also_calibrated else ("evaluate.also_calibrated",)
    return (*also, *(("score.rank_by",) if config.score.rank_by == ScoreConfig().rank_by else ()))


def raised(config: Config) -> int:
    """Once where a language model simulates: verdicts of before did not ask whether what calibrates was answered."""
    return int(simulator_named(config.simulate.simulator).needs_llm)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes results.json, and losses/ from which an evaluation after an edit takes what it can."""
    config, rows = workplace.config, load_rows(workplace, "evaluate")
    with workplace.progress.track("reading activations", len(rows.tokens)) as advance:
        require_finite(workplace.lm, workplace.sites, rows, advance)
    with workplace.progress.track("gathering what is spliced", len(workplace.sites)) as advance:
        materials = []
        for site in workplace.sites:
            materials.append(site_material(workplace, site, rows))
            advance(1)
    facts = {site.module: site_facts(workplace, site.module) for site in workplace.sites}
    total = units_of(rows, materials, config.evaluate, seed=config.seed)
    folder = workplace.path("evaluate")
    with workplace.progress.track("measuring losses (rows × conditions)", total) as advance:
        results = evaluate(
            workplace.lm, rows, materials, config.evaluate, facts, seed=config.seed, cache=folder / "losses",
            progress=advance,
        )  # fmt: skip
    write_json(folder / "results.json", results)
    for warning in absent_controls(results):
        workplace.progress.warn(warning)
    counts = {"rows": len(rows.tokens), "tokens": rows.token_count, "documents": len(rows.keys)}
    spent = workplace.llms.spent("simulate", "llm_simulate")  # what sentences said before people changed them
    yield Outcome(units[0], {**counts, "conditions": len(results["conditions"]), **spent})


def absent_controls(results: Mapping[str, Any]) -> tuple[str, ...]:
    """A warning for each control that the results lack because it cannot exist."""
    return tuple(
        f"{'all sites together' if absent['site'] == ALL_SITES else absent['site']}: no control with shuffled "
        f"explanations: {absent['reason']}"
        for absent in results["absent"]
    )


def site_material(workplace: Workplace, site: Site, rows: Rows) -> SiteMaterial:
    """A site, ready to be rewritten over the evaluate rows."""
    calibrate = calibrate_rows(workplace)
    edits = explanations.edits(workplace.path("explain", site.module))
    spoken = _spoken(workplace, site.module)
    before = _before_edits(workplace, site.module, spoken, calibrate, rows) if edits else None
    edited = tuple(edit.latent for edit in edits)
    score, also = latents_ranked(workplace, site.module), workplace.config.evaluate.also_calibrated
    return gathered(workplace, site, spoken, calibrate, edited, before, score, also)


def gathered(
    workplace: Workplace,
    site: Site,
    spoken: Spoken,
    calibrate: Rows,
    edited: tuple[int, ...] = (),
    as_written: Spoken | None = None,
    score: Float[np.ndarray, " latents"] | None = None,
    also: Sequence[str] = (),
) -> SiteMaterial:
    """A site's material from what its sentences were simulated to, with the run's coder, calibrator and seed."""
    return gather(
        site,
        load_coder(workplace.path("train", site.module)).to(workplace.lm.device),
        spoken,
        load_table(workplace, site.module, calibrate),
        maximum(workplace, site.module),
        calibrator=workplace.config.calibrate.calibrator,
        seed=workplace.config.seed,
        edited=edited,
        as_written=as_written,
        also=also,
        score=score,
    )


def _spoken(workplace: Workplace, module: str) -> Spoken:
    folder = workplace.path("simulate", module)
    (calibrate, heard, _), (rewrite, spoken, _) = (
        load_simulation(folder / f"{p}.safetensors") for p in ("calibrate", "evaluate")
    )
    # A latent without a sentence, or with one that could not be read over one of the parts, has no hash of one there.
    return Spoken(calibrate, rewrite, np.asarray(heard.any(axis=1) & spoken.any(axis=1)))


def _before_edits(workplace: Workplace, module: str, spoken: Spoken, calibrate: Rows, evaluate_rows: Rows) -> Spoken:
    """What the sentences said before people changed them, over both parts as a run without these edits has it.

    Only latents whose prompts an edit changed are simulated again: those edited, those that stand in a prompt with one,
    and those that pass the gate elsewhere since. Raises RunError where the run's simulator now asks otherwise.
    """
    folder, latents = workplace.path("explain", module), len(spoken.explained)
    texts = {e.latent: e.text for e in explanations.read_as_written(folder).values()}
    gate, together = site_gate(workplace, module, texts), latents_in_prompt(workplace.config)
    explained = spoken.explained.copy()

    def before(share: Share, rows: Rows) -> Simulation:
        path = workplace.path("simulate", module) / f"{share}.safetensors"
        current, known, by = load_simulation(path)
        if by != simulated_by(workplace):
            raise RunError(
                f"{path} was made by another simulator, or asked in another way, than {by!r} would be now: what the "
                "sentences said before they were edited cannot be compared with it; redo it with --force simulate"
            )
        only = None if gate is None else gated(workplace, gate, rows)
        wanted = text_hashes(texts, latents, only, together)
        changed = (wanted != known).any(axis=1)
        again = {latent: text for latent, text in texts.items() if changed[latent]}
        old, failures = simulate_latents(
            workplace, again, latents, rows, f"simulating the {rows.part} part as it was written", only
        )
        explained[changed] = wanted[changed].any(axis=1)
        unread.extend(unread_latents(failures))
        return current.with_latents_of(old, np.flatnonzero(changed))

    unread: list[int] = []
    both = before("calibrate", calibrate), before("evaluate", evaluate_rows)
    explained[unread] = False
    return Spoken(*both, explained)


def site_facts(workplace: Workplace, module: str) -> SiteFacts:
    """How long a site's explanations are, how many there are, and how many of the firings are theirs."""
    latents = latents_of(workplace, module)
    written = explanations.read_explanations(workplace.path("explain", module), latents)
    # A latent some of whose tokens got no answer is still explained: what is lacking is told by the coverage.
    unread = {failure["latent"] for failure in _failures(workplace, "simulate", module) if failure.get("kind") is None}
    read = {e.latent: e.words for e in written.values() if e.latent not in unread}
    left_out = [f for f in _failures(workplace, "explain", module) if f.get("kind") == NOT_CHOSEN]
    rate = load_statistics(workplace, module, "calibrate")[0].rate
    return replace(
        SiteFacts.of(list(read.values()), latents),
        not_chosen=sum(failure["latent"] not in written for failure in left_out),
        firings=float(rate.sum()),
        firings_explained=float(rate[list(read)].sum()),
    )


def _failures(workplace: Workplace, stage: str, module: str) -> Sequence[Mapping[str, Any]]:
    return Manifest.load(workplace.path(stage, module) / "manifest.json").failures
