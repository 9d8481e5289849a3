"""The activations that a coder is fitted on: every vector of the fit rows, kept for several epochs."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.activations.mapped import reserve
from plainspoken.activations.stream import BATCH_ROWS, stream
from plainspoken.corpus import require_part
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site

MEMORY_LIMIT = 2**30
"""Stores larger than this in all, bytes, lie in mapped files."""
_CHUNK = 2**16


@dataclass(frozen=True, eq=False)
class ActivationStore:
    """Inputs x and outputs y of one site at the tokens of some rows, in float32, in the order of the text.

    In memory, or mapped from files when there are many: nothing here reads all of them at once. For a `resid` site x
    and y are one array.
    """

    x: Float[Tensor, "n d_in"]
    y: Float[Tensor, "n d_out"]
    fingerprint: str
    """Of the model, the site and the rows: a training run resumes on these activations and no others."""

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def mean_x(self) -> Float[Tensor, " d_in"]:
        """Mean input, summed in float64."""
        return _mean(self.x)

    @cached_property
    def mean_y(self) -> Float[Tensor, " d_out"]:
        """Mean output, summed in float64."""
        return _mean(self.y)

    @cached_property
    def variance(self) -> float:
        """mean ||y - mean y||²: the denominator of FVU, over all the vectors and centred once."""
        return _variance(self.y, self.mean_y)

    @cached_property
    def variance_x(self) -> float:
        """mean ||x - mean x||²."""
        return _variance(self.x, self.mean_x)


def collect(
    lm: LanguageModel,
    sites: Sequence[Site],
    rows: Rows,
    folder: Path,
    progress: Callable[[int], object] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Mapping[str, ActivationStore]:
    """Every site's activations at the tokens of the fit rows (neither BOS nor padding), by its module's path.

    All sites in one pass over the text. Above `MEMORY_LIMIT` they lie in nameless files in `folder`, which are gone
    with the process. `progress` is told how many more rows are done. Raises LeakError for rows of another part,
    ActivationError for NaN or infinity.
    """
    require_part(rows, "fit")
    n = rows.token_count
    mapped = 4 * n * sum(site.d_in + (site.d_out if site.kind == "mlp" else 0) for site in sites) > MEMORY_LIMIT
    tables: dict[str, tuple[Tensor, Tensor]] = {}
    for i, site in enumerate(sites):
        x = _table(n, site.d_in, folder / f"x{i}" if mapped else None)
        tables[site.module] = (
            x,
            x if site.kind == "resid" else _table(n, site.d_out, folder / f"y{i}" if mapped else None),
        )
    at = 0
    for batches in stream(lm, sites, rows, batch_rows, progress):
        tokens = int(batches[sites[0].module].mask.sum())
        for module, batch in batches.items():
            x, y = tables[module]
            x[at : at + tokens] = batch.x[batch.mask]
            if y is not x:
                y[at : at + tokens] = batch.y[batch.mask]
        at += tokens
    return {site.module: ActivationStore(*tables[site.module], _fingerprint(lm, site, rows)) for site in sites}


def _mean(table: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for chunk in table.split(_CHUNK):
        total += chunk.double().sum(0)
    return (total / len(table)).float()


def _variance(table: Float[Tensor, "n d"], mean: Float[Tensor, " d"]) -> float:
    return sum(float((chunk.double() - mean).square().sum()) for chunk in table.split(_CHUNK)) / len(table)


def _table(n: int, d: int, path: Path | None) -> Float[Tensor, "n d"]:
    """Room for n vectors: in memory, or mapped from a file that loses its name at once and so needs no clearing up."""
    if path is None or not n * d:
        return torch.empty(n, d)
    reserve(path, 4 * n * d)
    table = torch.from_file(str(path), shared=True, size=n * d, dtype=torch.float32).view(n, d)
    path.unlink()
    return table


def _fingerprint(lm: LanguageModel, site: Site, rows: Rows) -> str:
    return hashlib.sha256(f"{lm.fingerprint} {site} {rows.fingerprint}".encode()).hexdigest()
