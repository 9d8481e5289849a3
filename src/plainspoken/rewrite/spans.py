"""Where the rewrite stands in a row, where its loss is read, and a few tokens of a row drawn at random."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Positions = Literal["all", "last"]


@dataclass(frozen=True, eq=False)
class Spans:
    """`spliced[r, i]`: the site's output at token i is replaced; `measured[r, i]`: the loss of token i+1 is read."""

    spliced: Bool[np.ndarray, "row t"]
    measured: Bool[np.ndarray, "row t"]


def spans(mask: Bool[np.ndarray, "row t"], positions: Positions) -> Spans:
    """`mask`: tokens of the text, so that neither BOS nor padding is spliced or predicted.

    "all": every token of the text is spliced, and every one that has a token before it is measured. "last" (the
    paper's): only the last token that has a next one is spliced, and only that next token is measured; a row with
    fewer than two tokens of text has none. Both are arrays of their own: whoever changes one changes nothing else.
    """
    measured = np.zeros_like(mask)
    measured[:, :-1] = mask[:, 1:]
    if positions == "all":
        return Spans(mask.copy(), measured)
    both = mask & measured
    last = np.zeros_like(mask)
    row = np.flatnonzero(both.any(axis=1))
    last[row, mask.shape[1] - 1 - both[row, ::-1].argmax(axis=1)] = True
    return Spans(last, last.copy())


def drawn(mask: Bool[np.ndarray, "row t"], count: int, seed: int) -> Bool[np.ndarray, "row t"]:
    """So many tokens of the text in each row, all where there are fewer, every set of them equally likely."""
    order = np.where(mask, np.random.default_rng([seed, 0xA54]).random(mask.shape), np.inf)
    return mask & (order.argsort(axis=1).argsort(axis=1) < count)


def chance(mask: Bool[np.ndarray, "row t"], count: int) -> Float[np.ndarray, " row"]:
    """With what probability each token of the text of a row is among those `drawn`; a row without text has none: 1."""
    return np.minimum(1.0, count / np.maximum(mask.sum(axis=1), 1))
