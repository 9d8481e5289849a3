"""Vectors of some rows at every site, in tables: what a store keeps, and what a chunk of the mixing buffer is."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.activations.shares import Portion
from plainspoken.activations.stream import read_rows
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site

Tables = Mapping[str, tuple[Float[Tensor, "_ d_in"], Float[Tensor, "_ d_out"]]]
"""Inputs x and outputs y in float32 by a site's module; one tensor for a `resid` site."""


def vector_bytes(sites: Sequence[Site]) -> int:
    """Bytes that one token takes in the tables of all these sites."""
    return 4 * sum(site.d_in + (site.d_out if site.kind == "mlp" else 0) for site in sites)


def fill(
    tables: Tables,
    lm: LanguageModel,
    sites: Sequence[Site],
    rows: Rows,
    chosen: Int[np.ndarray, " n"],
    portion: Portion,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Writes the vectors at the tokens of this process's portion of the chosen rows, in their order, into the tables.

    All sites in one pass over the text. `progress` is told how many more rows are done. Raises ActivationError for NaN
    or infinity.
    """
    at = 0
    for batch in portion.batches:
        which = chosen[batch]
        seen = read_rows(lm, sites, rows, which)
        mask = torch.from_numpy(rows.mask[which]).to(lm.device)
        tokens = int(mask.sum())
        for module, (x, y) in tables.items():
            x[at : at + tokens] = seen[module][0][mask]
            if y is not x:
                y[at : at + tokens] = seen[module][1][mask]
        at += tokens
        if progress is not None:
            progress(len(which))


def fingerprint(*parts: object) -> str:
    """SHA-256 of what vectors depend on."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()
