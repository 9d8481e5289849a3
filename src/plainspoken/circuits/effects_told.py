"""Edges against effects, told: each correlation with its interval beside its control, or why there is none."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.effects import ENOUGH, Correlation, Effects
from plainspoken.circuits.graph import Node
from plainspoken.errors import UsageError

PREDICTED = {"direct": "direct edge", "total": "total, over all paths"}
MEASURED = {
    "replaced": "the replaced model: attention, norms and errors held",
    "held": "the model, attention held",
    "free": "the model as it is",
}
HALF = ("float16", "bfloat16")
SHORT = {"replaced": "replaced model", "held": "attention held", "free": "model as it is"}


@dataclass(frozen=True)
class Compared:
    """One way of measuring against both predictions; None where a correlation is withheld.

    `size`, `control`: mean absolute change of a root by the graph's latents, and by those of the control; None where
    there are none.
    """

    measured: str
    direct: Correlation | None
    total: Correlation | None
    size: float | None
    control: float | None


def compared(effects: Effects) -> tuple[Compared, ...]:
    """A row for each way of measuring. Without a control no correlation is told."""
    found = []
    for name in MEASURED:
        size, control = (None if np.isnan(each) else each for each in effects.size(name))
        direct, total = (None if control is None else effects.correlation(each, name) for each in PREDICTED)
        found.append(Compared(name, direct, total, size, control))
    return tuple(found)


def withheld(effects: Effects) -> str | None:
    """Why correlations are not told, where some are not, and the mend."""
    n, rows = len(effects.measured.latents), compared(effects)
    if not effects.control.latents:
        return (
            "no correlation is told without a control, and no latent outside the graph fires here: keep less of the "
            "graph (node_share)"
        )
    if n < ENOUGH:
        return f"too few latents for a correlation: {n}, and it takes {ENOUGH}; ask for more, or keep more of the graph"
    if any(each is None for row in rows for each in (row.direct, row.total)):
        return "no correlation where what is predicted or measured is the same for all latents"
    return None


def rounded(effects: Effects) -> str | None:
    """That what is measured on the model has its rounding in it, and the mend; None of a model in 32 bits or more."""
    if effects.dtype not in HALF:
        return None
    return (
        f"the model runs in {effects.dtype}, whose rounding is in all that is measured on it ({SHORT['held']}, "
        f"{SHORT['free']}): small changes, of the control above all, may be nothing else; a run that is made with "
        "--set lm.dtype=float32 has none of it"
    )


def control_told(effects: Effects) -> str:
    """What the control is, in words."""
    n, matched = len(effects.control.latents), effects.matched
    said = f"as a control {n:,} at random outside it"
    if matched == n:
        return f"{said}, of the same layers and tokens" if n else said
    return f"{said}, {matched:,} of the same layers and tokens and {n - matched:,} as near to them as there are"


def record(effects: Effects, influence: Sequence[float], about: dict[str, Any]) -> dict[str, Any]:
    """What effects.json holds. `influence`: in the graph, of each latent that was ablated, in their order."""
    predicted = [getattr(effects, name) for name in PREDICTED]
    latents = [
        {**told, "influence": float(share), **_named(PREDICTED, predicted, row)}
        for row, (told, share) in enumerate(zip(_told(effects, "measured"), influence, strict=True))
    ]
    return {
        "about": about,
        "seed": effects.seed,
        "roots": [{"id": node.id, "label": node.label, "value": node.value} for node in effects.roots],
        "compared": [asdict(row) for row in compared(effects)],
        "withheld": withheld(effects),
        "model_dtype": effects.dtype,
        "rounded": rounded(effects),
        "latents": latents,
        "control": list(_told(effects, "control")),
        "matched": effects.matched,
    }


def _told(effects: Effects, which: str) -> Iterator[dict[str, Any]]:
    """Each latent of a group, and by how much each root changed."""
    group = getattr(effects, which)
    for row, node in enumerate(group.latents):
        changes = _named(MEASURED, [getattr(group, name) for name in MEASURED], row)
        if not all(np.isfinite(each).all() for each in changes.values()):
            raise UsageError(f"ablating {node.id} made changes that are no numbers; the model overflows at this prompt")
        yield {**_latent(node), **changes}


def _named(names: dict[str, str], values: Sequence[Float[np.ndarray, "n roots"]], row: int) -> dict[str, list[float]]:
    return {name: each[row].tolist() for name, each in zip(names, values, strict=True)}


def _latent(node: Node) -> dict[str, Any]:
    return {"id": node.id, "activation": node.activation, "text": node.text, "fidelity": node.fidelity}
