"""Explainers and simulators as the stages use them: by name, on a site's latents."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.errors import ConfigError
from plainspoken.explainers import EXPLAINERS
from plainspoken.latents import FiringTable
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators import SIMULATORS
from plainspoken.types import Explanation, Failure, Rows, Simulation


def explain_latents(
    workplace: Workplace,
    module: str,
    table: FiringTable,
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
) -> list[Explanation | Failure]:
    """Every latent of a site explained, or the failure to."""
    explain = _named(EXPLAINERS, workplace.config.explain.explainer, "explain.explainer")
    with workplace.progress.track(f"explaining {module} in {words} words", table.latents) as advance:
        return explain(table, workplace.lm.pieces.table, weight, words, words_max, progress=advance)


def simulate_latents(
    workplace: Workplace, texts: Mapping[int, str], rows: Rows, label: str, latents: int | None = None
) -> tuple[Simulation, list[Failure]]:
    """What the sentences of some latents predict over the rows; a sentence that does not parse is a Failure."""
    simulate = _named(SIMULATORS, workplace.config.simulate.simulator, "simulate.simulator")
    order = sorted(texts)
    with workplace.progress.track(f"simulating {label}", None) as advance:
        found, failures = simulate([texts[i] for i in order], rows, workplace.lm.pieces.table, progress=advance)
    total = workplace.config.coder.latents if latents is None else latents
    known = np.array(order, np.int64)
    # `order` ascends, so entries sorted by place among the sentences are sorted by latent too.
    simulation = Simulation(
        found.position,
        known[found.latent] if len(order) else found.latent,
        found.level,
        total,
        len(rows.tokens),
        rows.tokens.shape[1],
        rows.fingerprint,
    )
    return simulation, [Failure(order[f.latent], f.stage, f.reason) for f in failures]


def _named(registry: Mapping[str, Any], name: str, setting: str) -> Any:
    if name not in registry:
        raise ConfigError(f"{setting} is {name!r}; there are: {', '.join(registry)}")
    return registry[name]
