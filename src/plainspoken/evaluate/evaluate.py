"""The evaluation: every condition at every site and of all sites together, measured, cached, analysed."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from plainspoken.config import EvaluateConfig
from plainspoken.corpus.rows import require_part
from plainspoken.errors import StoreError
from plainspoken.evaluate.conditions import (
    ALL_SITES,
    Condition,
    Plan,
    condition_key,
    joint_conditions,
    site_conditions,
)
from plainspoken.evaluate.facts import SiteFacts
from plainspoken.evaluate.losses import DocumentLosses, measure
from plainspoken.evaluate.results import Analysis, Measured, edit_effects, records
from plainspoken.language.counted import counted
from plainspoken.lm import LanguageModel
from plainspoken.rewrite import SiteMaterial, spans
from plainspoken.store import write_atomic
from plainspoken.types import Rows

# Raised when the same treatment would give other losses: cached ones of before are then not used.
_VERSION = 1
_SHUFFLED = ("shuffled", "shuffled-refit")


def evaluate(
    lm: LanguageModel,
    rows: Rows,
    materials: Sequence[SiteMaterial],
    config: EvaluateConfig,
    facts: Mapping[str, SiteFacts],
    *,
    seed: int,
    cache: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """The content of `evaluate/results.json`: `conditions` (a list of records), `absent`, `edits`, `settings`.

    `absent`: controls that cannot exist, with the reason, in place of figures that would only look like them.

    `facts`: by site. `cache`: a folder where losses are kept by what they depend on, so that after a changed
    explanation only conditions in which it has a part are measured again. `progress` is told how many more of
    `units(...)` are done. Raises LeakError unless the rows are the evaluate part's, StoreError for a cache that is
    truncated, ActivationError for a loss that is not finite.
    """
    require_part(rows, "evaluate")
    plan = _plan(config, seed)
    parts, spliced = [], spans(rows.mask, config.positions).spliced
    for site, sites, conditions in _passes(materials, plan):
        losses = _measure_new(lm, rows, sites, conditions, config, cache and cache / f"{site}.safetensors", progress)
        parts.append(Measured(site, conditions, losses, plan.orders, spliced))
    whole = {material.site.module: facts[material.site.module] for material in materials}
    if len(materials) > 1:
        whole[ALL_SITES] = SiteFacts.together(list(whole.values()))
    analysis = Analysis(config.bootstrap, config.margin, seed)
    return {
        "conditions": records(parts, whole, analysis),
        "absent": _absent(materials),
        "edits": edit_effects(parts, analysis),
        "settings": {
            "positions": config.positions,
            "keep": config.keep,
            "draws": config.draws,
            "bootstrap": config.bootstrap,
            "margin": config.margin,
            "seed": seed,
            "rows": rows.fingerprint,
        },
    }


def units(rows: Rows, materials: Sequence[SiteMaterial], config: EvaluateConfig, *, seed: int) -> int:
    """How much `evaluate` has to do: rows times conditions, those in the cache included."""
    return len(rows.tokens) * sum(len(conditions) for _, _, conditions in _passes(materials, _plan(config, seed)))


def _plan(config: EvaluateConfig, seed: int) -> Plan:
    # Everything rewritten is always measured: edits, the refitted control and the report are about that.
    fractions = config.fractions if 1.0 in config.fractions else (*config.fractions, 1.0)
    return Plan(fractions, config.orders, config.draws, config.keep, seed)


def _passes(materials: Sequence[SiteMaterial], plan: Plan) -> list[tuple[str, Sequence[SiteMaterial], list[Condition]]]:
    """(site or "all", the material, the conditions) of each pass over the text."""
    found: list[tuple[str, Sequence[SiteMaterial], list[Condition]]] = [
        (material.site.module, [material], site_conditions(material, plan)) for material in materials
    ]
    if len(materials) > 1:
        found.append((ALL_SITES, materials, joint_conditions(materials, plan)))
    return found


def _absent(materials: Sequence[SiteMaterial]) -> list[dict[str, Any]]:
    """Where no shuffled control can be: an explanation has to be another latent's."""
    reasons = {
        material.site.module: f"{int(material.explained.sum())} of its {counted(len(material.explained), 'latent')} "
        "has an explanation, and to shuffle takes two"
        for material in materials
        if material.shuffled is None
    }
    if reasons and len(materials) > 1:
        reasons[ALL_SITES] = f"there is none at {', '.join(reasons)}"
    return [{"site": site, "conditions": list(_SHUFFLED), "reason": reason} for site, reason in reasons.items()]


def _measure_new(
    lm: LanguageModel,
    rows: Rows,
    sites: Sequence[SiteMaterial],
    conditions: Sequence[Condition],
    config: EvaluateConfig,
    cache: Path | None,
    progress: Callable[[int], object] | None,
) -> list[DocumentLosses]:
    """The losses of all conditions: from the cache where they are there, measured and put there where not."""
    materials = {material.site.module: material for material in sites}
    common = f"{_VERSION} {lm.fingerprint} {lm.dtype} {rows.fingerprint} {config.positions}"
    measured_on = hashlib.sha256(common.encode()).digest()
    keys = [condition_key(condition, materials, measured_on) for condition in conditions]
    known = _read(cache)
    wanted = {key: condition for key, condition in zip(keys, conditions, strict=True) if key not in known}
    if progress is not None:
        progress(len(rows.tokens) * (len(conditions) - len(wanted)))
    if wanted:
        ways = list(wanted.values())
        losses = measure(lm, rows, materials, ways, config.positions, config.rows_per_batch, progress)
        known |= dict(zip(wanted, losses, strict=True))
    if wanted and cache is not None:
        with write_atomic(cache) as file:
            file.write(save({key: _stacked(known[key]) for key in dict.fromkeys(keys)}))
    return [known[key] for key in keys]


def _stacked(losses: DocumentLosses) -> np.ndarray:
    return np.stack([losses.nll, losses.kl, losses.agreed, losses.tokens])


def _read(cache: Path | None) -> dict[str, DocumentLosses]:
    if cache is None or not cache.exists():
        return {}
    try:
        return {key: DocumentLosses(*table) for key, table in load(cache.read_bytes()).items()}
    except SafetensorError as error:
        raise StoreError(f"{cache} is truncated or altered ({error}); remove it and evaluate again") from error
