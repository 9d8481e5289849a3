"""Simulate: the sentences read back over the rows that are calibrated on, those that are scored on, and evaluate rows.

Each simulation is kept with the hash of what each latent was read from, its sentence and those that stood in a prompt
with it, so that after an edit only the latents whose prompts changed are read again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from plainspoken.config import Config
from plainspoken.pipeline import explanations
from plainspoken.pipeline.company import latents_in_prompt, text_hashes, with_company
from plainspoken.pipeline.gating import gate_counts, gated, save_gate, site_gate, tell_gate
from plainspoken.pipeline.llm_settings import llm_settings_unread
from plainspoken.pipeline.shelves import SHARES, Share, latents_of, load_simulation, save_simulation, simulated_rows
from plainspoken.pipeline.speech import chance_asked, opened_simulator, simulate_latents, simulated_by, tokens_asked
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators import settings_unread, simulator_named
from plainspoken.simulators.at_once import refuse_strategy
from plainspoken.simulators.gates import gate_named
from plainspoken.types import Failure, Pairs, Rows, Simulation, same_tokens


def check(workplace: Workplace) -> None:
    """ConfigError where there is no such simulator or gate."""
    simulator_named(workplace.config.simulate.simulator)
    gate_named(workplace.config.simulate.gate)


def reaches(workplace: Workplace) -> None:
    """ConfigError where the language model that is to be asked cannot be reached as it is set."""
    simulator = simulator_named(workplace.config.simulate.simulator)
    if simulator.needs_llm:
        workplace.llms.require_reachable("simulate")
    if "strategy" in simulator.reads:
        refuse_strategy(workplace.config.simulate)


def asks(workplace: Workplace) -> None:
    """LlmError or ConfigError where the language model that is to be asked cannot answer what it will be."""
    opened_simulator(workplace)


def unread(config: Config) -> tuple[str, ...]:
    """What only other simulators read, or a gate; of the language model what `llm_settings_unread` says."""
    name = config.simulate.simulator
    others = tuple(f"simulate.{setting}" for setting in settings_unread(name))
    if config.simulate.gate == "none":
        others += ("simulate.gate", "simulate.gate_recall")
    if config.simulate.schema == "auto":  # as before there was such a setting
        others += ("simulate.schema",)
    asked = llm_settings_unread("simulate", simulator_named(name).needs_llm)
    return (*others, *asked)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes SHARE.safetensors for each of `SHARES` at each site, and gate.safetensors where there is a gate.

    Failures are sentences that do not parse, and pairs that got no answer, with the share that they are of.
    """
    rows = {share: simulated_rows(workplace, share) for share in SHARES}
    for unit in units:
        assert unit.site is not None
        latents = latents_of(workplace, unit.site)
        folder = workplace.path("simulate", unit.site)
        written = explanations.read_explanations(workplace.path("explain", unit.site), latents)
        texts = {latent: explanation.text for latent, explanation in written.items()}
        failures: dict[int, Failure] = {}
        redone: dict[str, int] = {}
        unanswered: list[dict[str, Any]] = []
        pairs: dict[str, int | float] = {}
        gate = site_gate(workplace, unit.site, texts)
        told = {} if gate is None else {"gate": gate_counts(workplace, gate)}
        for share in SHARES:
            only = None if gate is None else gated(workplace, gate, rows[share])
            simulated, failed = bring_up_simulation(
                workplace, folder / f"{share}.safetensors", texts, latents, rows[share], only
            )
            failures |= {failure.latent: failure for failure in failed if failure.kind is None}
            unanswered += [{**asdict(failure), "share": share} for failure in failed if failure.kind is not None]
            redone[f"{share}_latents_simulated"] = simulated
            pairs |= pair_counts(workplace, unit.site, share)
        if gate is not None:
            save_gate(folder / "gate.safetensors", gate)
            dropped, asked = (sum(pairs[f"{share}_pairs_{what}"] for share in SHARES) for what in ("dropped", "asked"))
            tell_gate(workplace, unit.site, told["gate"], dropped, asked)
        edited = [edit.latent for edit in explanations.edits(workplace.path("explain", unit.site))]
        for line in explanations.unread_told(workplace.path("explain", unit.site), list(failures.values())):
            workplace.progress.warn(line)
        counts = {**redone, **pairs, **told, "edited": edited, **workplace.llms.spent("simulate")}
        yield Outcome(unit, counts, [*failures.values(), *unanswered])


def bring_up_simulation(
    workplace: Workplace, path: Path, texts: Mapping[int, str], latents: int, rows: Rows, only: Pairs | None = None
) -> tuple[int, list[Failure]]:
    """Make the simulation at `path` that of these sentences; (how many latents were simulated, those that failed).

    `only`: the pairs that pass the gate; a latent that passes at other tokens than before is simulated again. So is one
    that got no answer somewhere, and all that stand in a prompt with one that is: what was asked before comes out of
    the response cache.
    """
    simulator, together = simulated_by(workplace), latents_in_prompt(workplace.config)
    wanted = text_hashes(texts, latents, only, together)
    old, known = None, np.zeros_like(wanted)
    if path.exists():
        old, known, by = load_simulation(path)
        same = same_tokens(old.asked, tokens_asked(workplace, rows))
        same = same and same_tokens(old.chance, chance_asked(workplace, rows))
        same = same and (old.passed is None) == (only is None)
        if by != simulator or not same or old.rows_fingerprint != rows.fingerprint or old.latents != latents:
            old, known = None, np.zeros_like(wanted)
    changed = (wanted != known).any(axis=1)
    if old is not None:
        changed[old.missing_latent] = True
    changed = np.flatnonzero(with_company(changed, texts, together))
    # A sentence that does not parse is read again each time: its failure is what there is to know of it.
    label = f"simulating the {rows.part} part"
    spoken = {i: texts[i] for i in changed.tolist() if i in texts}
    new, failures = simulate_latents(workplace, spoken, latents, rows, label, only)
    if old is None or len(changed):
        simulation = new if old is None else old.with_latents_of(new, changed)
        for failure in failures:
            if failure.kind is None:  # the sentence itself could not be read; the others are pairs without an answer
                wanted[failure.latent] = 0
        save_simulation(path, simulation, wanted, simulator)
    return len(changed), failures


def load_simulations(workplace: Workplace, site: str, share: Share) -> Simulation:
    """A site's simulation over a share, from its sentences as they stand."""
    return load_simulation(workplace.path("simulate", site) / f"{share}.safetensors")[0]


def pair_counts(workplace: Workplace, site: str, share: Share) -> dict[str, int | float]:
    """How many (latent, token) pairs of a share were asked about, how many got no answer, how many were dropped.

    Pairs that a gate dropped were not asked about, and are level 0. `SHARE_discarded`, where
    it is known: the mean probability that answers gave to anything but a level.
    """
    simulation, texts, _ = load_simulation(workplace.path("simulate", site) / f"{share}.safetensors")
    mask = simulated_rows(workplace, share).mask
    tokens = int((mask if simulation.asked is None else mask & simulation.asked).sum())
    spoken = np.asarray(texts.any(axis=1))
    pairs = tokens * int(spoken.sum())
    asked = int(simulation.pairs_by_latent(mask)[0][spoken].sum())
    known = simulation.discarded[~np.isnan(simulation.discarded)] if simulation.discarded is not None else np.zeros(0)
    counts: dict[str, int | float] = {f"{share}_discarded": float(known.mean())} if len(known) else {}
    counts |= {f"{share}_pairs_asked": asked, f"{share}_pairs_unanswered": len(simulation.missing_position)}
    return counts if simulation.passed is None else counts | {f"{share}_pairs_dropped": pairs - asked}
