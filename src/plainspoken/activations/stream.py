"""A model's activations at some sites, a batch of rows at a time, in one pass over the text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.errors import ActivationError
from plainspoken.lm import LanguageModel, capture
from plainspoken.types import Rows, Site

BATCH_ROWS = 32
"""Rows in one forward pass, where nobody says otherwise."""


@dataclass(frozen=True, eq=False)
class ActivationBatch:
    """One site's inputs x and outputs y at the rows first_row, first_row + 1, ... of some Rows.

    `mask` is that of the rows: x and y are known to be finite where it is True, and mean nothing elsewhere.
    """

    tokens: Int[Tensor, "b t"]
    x: Float[Tensor, "b t d_in"]
    y: Float[Tensor, "b t d_out"]
    mask: Bool[Tensor, "b t"]
    first_row: int


def stream(
    lm: LanguageModel,
    sites: Sequence[Site],
    rows: Rows,
    batch_rows: int = BATCH_ROWS,
    progress: Callable[[int], object] | None = None,
) -> Iterator[dict[str, ActivationBatch]]:
    """The activations of every site by its module's path, batch after batch, in the order of the rows.

    The forward pass ends at the last of the sites. `progress` is told how many more rows are done. Raises
    ActivationError for NaN or infinity at a token of the text, naming the document, the token and the site.
    """
    for first in range(0, len(rows.tokens), batch_rows):
        which = np.arange(first, min(first + batch_rows, len(rows.tokens)))
        seen = read_rows(lm, sites, rows, which)
        tokens = torch.from_numpy(rows.tokens[which]).long().to(lm.device)
        mask = torch.from_numpy(rows.mask[which]).to(lm.device)
        yield {site.module: ActivationBatch(tokens, *seen[site.module], mask, first) for site in sites}
        if progress is not None:
            progress(len(tokens))


def read_rows(
    lm: LanguageModel, sites: Sequence[Site], rows: Rows, which: Int[np.ndarray, " b"]
) -> dict[str, tuple[Float[Tensor, "b t d_in"], Float[Tensor, "b t d_out"]]]:
    """Every site's inputs and outputs by its module's path, in one forward pass over the rows `which`.

    The pass ends at the last of the sites. Raises ActivationError for NaN or infinity at a token of the text.
    """
    tokens = torch.from_numpy(rows.tokens[which]).long().to(lm.device)
    with torch.inference_mode(), capture(lm, sites) as seen, _ends_early(lm, sites, seen):
        lm.model.base_model(tokens, use_cache=False)
    mask = torch.from_numpy(rows.mask[which]).to(lm.device)
    for module, (x, y) in seen.items():
        _check_finite(x, y, mask, module, rows, which)
    return seen


def require_finite(
    lm: LanguageModel, sites: Sequence[Site], rows: Rows, progress: Callable[[int], object] | None = None
) -> None:
    """Raises ActivationError as `stream` does: a loss may be finite where one is not, at a text's end, say."""
    for _ in stream(lm, sites, rows, progress=progress):
        pass


class _EveryoneSeen(Exception):
    """Ends a forward pass whose remaining layers nobody asked about."""


@contextmanager
def _ends_early(lm: LanguageModel, sites: Sequence[Site], seen: dict[str, Any]) -> Iterator[None]:
    def end(*_: object) -> None:
        if len(seen) == len({site.module for site in sites}):
            raise _EveryoneSeen

    with ExitStack() as stack:
        for site in sites:
            stack.callback(lm.model.get_submodule(site.module).register_forward_hook(end).remove)
        try:
            yield
        except _EveryoneSeen:
            return


def _check_finite(
    x: Float[Tensor, "b t d_in"],
    y: Float[Tensor, "b t d_out"],
    mask: Bool[Tensor, "b t"],
    module: str,
    rows: Rows,
    which: Int[np.ndarray, " b"],
) -> None:
    if torch.isfinite(x.sum() + y.sum()):  # thirty times as quick, and true of nearly every batch
        return
    good = torch.isfinite(x).all(-1) & torch.isfinite(y).all(-1)
    bad = (~good & mask).nonzero()
    if not len(bad):
        return
    row, column = int(which[int(bad[0, 0])]), int(bad[0, 1])
    key = rows.keys[int(rows.document[row])]
    raise ActivationError(
        f"NaN or infinite activations at site '{module}' in document '{key}' ({rows.part}, row {row}, token {column}; "
        f"{len(bad)} tokens in this batch); leave the document out, or set lm.dtype to float32"
    )
