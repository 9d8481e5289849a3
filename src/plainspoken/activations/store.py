"""The activations that a coder is fitted on: every vector of the fit rows, kept for several epochs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.activations.mapped import reserve
from plainspoken.activations.shares import ALONE, Portion, Share
from plainspoken.activations.stream import BATCH_ROWS
from plainspoken.activations.tables import fill, fingerprint, vector_bytes
from plainspoken.corpus import require_part
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site

MEMORY_LIMIT = 2**30
"""Stores larger than this in all, bytes, lie in mapped files."""


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


def collect(
    lm: LanguageModel,
    sites: Sequence[Site],
    rows: Rows,
    folder: Path,
    progress: Callable[[int], object] | None = None,
    batch_rows: int = BATCH_ROWS,
    share: Share = ALONE,
) -> Mapping[str, ActivationStore]:
    """Every site's activations at the tokens of the fit rows (neither BOS nor padding), by its module's path.

    All sites in one pass over the text, of which a process reads its share. Above `MEMORY_LIMIT` they lie in nameless
    files in `folder`, which are gone with the process. `progress` is told how many more rows are done. Raises LeakError
    for rows of another part, ActivationError for NaN or infinity.
    """
    require_part(rows, "fit")
    portion = Portion(rows.mask.sum(1), batch_rows, share)
    n = portion.size
    mapped = n * vector_bytes(sites) > MEMORY_LIMIT
    tables: dict[str, tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]] = {}
    for i, site in enumerate(sites):
        # Several processes may keep their shares in one folder.
        x = _table(n, site.d_in, folder / f"x{i}-{share.rank}" if mapped else None)
        y = x if site.kind == "resid" else _table(n, site.d_out, folder / f"y{i}-{share.rank}" if mapped else None)
        tables[site.module] = (x, y)
    fill(tables, lm, sites, rows, np.arange(len(rows.tokens)), portion, progress)
    return {
        site.module: ActivationStore(*tables[site.module], fingerprint(lm.fingerprint, site, rows.fingerprint))
        for site in sites
    }


def _table(n: int, d: int, path: Path | None) -> Float[Tensor, "n d"]:
    """Room for n vectors: in memory, or mapped from a file that loses its name at once and so needs no clearing up."""
    if path is None or not n * d:
        return torch.empty(n, d)
    reserve(path, 4 * n * d)
    table = torch.from_file(str(path), shared=True, size=n * d, dtype=torch.float32).view(n, d)
    path.unlink()
    return table
