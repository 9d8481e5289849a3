"""The gate of a site's sentences: chosen on half of the documents to calibrate on, measured on the others, kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from plainspoken.evaluate.statistics import samples, with_interval
from plainspoken.pipeline.shelves import calibrate_rows, latents_of, load_statistics, load_table, save_tensors
from plainspoken.pipeline.speech import text_of, tokens_asked
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators.gates import Gate, GateMeans, fit_gate, gate_named
from plainspoken.types import Pairs, Rows


def site_gate(workplace: Workplace, module: str, texts: Mapping[int, str]) -> Gate | None:
    """The gate of these sentences, which are all of a site's; None where `simulate.gate` is none."""
    config, latents = workplace.config, latents_of(workplace, module)
    opens = gate_named(config.simulate.gate)
    if opens is None:
        return None
    rows = calibrate_rows(workplace)
    text = text_of(workplace, rows)
    with workplace.progress.track(f"choosing what passes the gate at {module}", None):
        return fit_gate(
            opens(GateMeans(texts, latents, text, lambda: workplace.lm)),
            text,
            load_table(workplace, module, rows),
            load_statistics(workplace, module, "calibrate")[0].decoder_norm,
            np.isin(np.arange(latents), list(texts)),
            config.simulate.gate_recall,
            config.seed,
        )


def gated(workplace: Workplace, gate: Gate, rows: Rows) -> Pairs:
    """The pairs that pass, of the tokens of a part that the simulator is asked about."""
    return gate.passed(text_of(workplace, rows), tokens_asked(workplace, rows))


def gate_counts(workplace: Workplace, gate: Gate) -> dict[str, Any]:
    """What the gate is and what it keeps of the true firings in the documents that did not choose it.

    `recall` of the firings and `mass_recall` of their decoder-weighted mass, each with a 95 % interval over documents
    drawn anew; None where nothing fires there, and so everything passes. Both are at least `target`: `tightened` is how
    many gates that were not were chosen before.
    """
    config, kept = workplace.config, gate.kept
    drawn = samples(len(kept.keys), config.evaluate.bootstrap, config.seed)
    found: dict[str, Any] = {
        "kind": config.simulate.gate,
        "target": config.simulate.gate_recall,
        "latents": int(gate.spoken.sum()),
        "latents_open": gate.open,
        "tightened": gate.tightened,
        "documents_chosen_on": gate.chosen_by,
        "documents_measured_on": len(kept.keys),
        "firings": int(kept.firings.sum()),
        "firings_dropped": int(kept.firings.sum() - kept.firings_kept.sum()),
    }
    for name, share, of, whole in (
        ("recall", kept.recall, kept.firings_kept, kept.firings),
        ("mass_recall", kept.mass_recall, kept.mass_kept, kept.mass),
    ):
        with np.errstate(invalid="ignore"):  # NaN where no firing is drawn
            shares = (drawn @ of) / (drawn @ whole)
        shares[0] = np.nan if share is None else share  # to the last bit what was held against the target
        found |= with_interval(name, shares)
    return found


def tell_gate(workplace: Workplace, module: str, counts: Mapping[str, Any], dropped: float, asked: float) -> None:
    """Say what the gate drops of the pairs, and keeps of the firings; warn where it drops nothing."""
    recall, target = counts["recall"], counts["target"]
    if recall is None or not dropped:
        why = (
            "nothing fires in the documents that would measure what it loses, so that everything passes"
            if recall is None
            else f"no thresholds that drop anything were seen to keep the {target:.0%} of the firings asked for"
        )
        mend = "lower simulate.gate_recall, raise corpus.calibrate_tokens, or set simulate.gate to none"
        workplace.progress.warn(f"{module}: the gate {counts['kind']} drops nothing: {why}; {mend}")
        return
    bounds = "" if counts["recall_low"] is None else f" [{counts['recall_low']:.2%}, {counts['recall_high']:.2%}]"
    workplace.progress.say(
        f"{module}: the gate {counts['kind']} drops {dropped / (dropped + asked):.1%} of the (latent, token) pairs; it "
        f"keeps {recall:.2%}{bounds} of the firings in documents that did not choose its thresholds, by mass "
        f"{counts['mass_recall']:.2%}{_tightened(counts['tightened'])}"
    )


def _tightened(times: int) -> str:
    if not times:
        return ""
    often = "once" if times == 1 else f"{times} times"
    return f"; it was tightened {often} by what those documents showed, which flatters these figures a little"


def save_gate(path: Path, gate: Gate) -> None:
    """Each latent's threshold, -1 for one without a sentence, and how many steps there are."""
    threshold = np.where(gate.spoken, gate.threshold, -1)
    save_tensors(path, {"threshold": threshold, "most": np.array([gate.foresight.most])})


def positions_by_latent(pairs: Pairs, latents: int) -> dict[int, Int[np.ndarray, " n"]]:
    """The positions of each latent, ascending."""
    order = np.argsort(pairs.latent, kind="stable")
    ends = np.searchsorted(pairs.latent[order], np.arange(latents + 1))
    return {latent: pairs.position[order[ends[latent] : ends[latent + 1]]] for latent in range(latents)}
