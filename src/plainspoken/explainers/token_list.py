"""The token-list explainer: for latents that fire by the token alone, a language model is shown those tokens.

A latent is such a one where nearly all of its activation falls on tokens at which it fires most of the times that they
occur; of any other a list of tokens would say too little, and it is refused.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.explainers.exhibit import heights, quoted
from plainspoken.explainers.means import Explain, ExplainMeans
from plainspoken.explainers.prompt import Task
from plainspoken.explainers.speaker import Case, Show, explain_by, not_explained
from plainspoken.language.text import Text
from plainspoken.latents.table import FiringTable
from plainspoken.latents.windows import TokenIndex
from plainspoken.types import Failure

NAME = "token_list"

RELIABLE = 0.5
"""A token's share of occurrences at which the latent fires, from which on the token alone says so."""
COVERED = 0.8
"""The share of a latent's activation that such tokens have to hold."""

TASK = (
    "You are shown the tokens at which one latent fires, whatever text they stand in: each with the share of its "
    "occurrences at which the latent fires, and its mean activation there, 0 to 10. A blank, a line break (\\n) or a "
    "tab (\\t) between the quotation marks belongs to the token.\n\n"
    "Say in plain English at which tokens the latent fires and how strongly, so exactly that somebody who reads "
    "another text could tell. Name the tokens where they are few; where they are of one kind, say which kind."
)
TERSE = "These are the tokens of one kind. Which kind?"
SHOTS = (
    (
        '" Monday" 98 %, 9\n" Tuesday" 97 %, 9\n" Friday" 95 %, 8\n" weekend" 61 %, 3',
        "Names of weekdays, such as “ Monday” and “ Friday”, strongly; “ weekend” weakly.",
    ),
)


@dataclass(frozen=True, eq=False)
class Fired:
    """The tokens at which a latent fires, those that hold most of its activation first.

    `share`: of their occurrences those at which it fires; `mean`: its mean activation there; `mass`: the sum.
    """

    token: Int[np.ndarray, " n"]
    share: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]
    mass: Float[np.ndarray, " n"]

    @property
    def covered(self) -> float:
        """The share of the activation on tokens that settle by themselves whether the latent fires."""
        return float(self.mass[self.share >= RELIABLE].sum() / self.mass.sum())


def fired(table: FiringTable, index: TokenIndex, latent: int) -> Fired:
    """The tokens at which a latent fires, one that fires at all."""
    position, value = map(np.asarray, table.latent(latent))
    token, which = np.unique(table.rows.tokens.ravel()[position], return_inverse=True)
    count, mass = np.bincount(which), np.bincount(which, value.astype(np.float64))
    order = np.argsort(-mass, kind="stable")
    share = count / index.occurrences(token)
    return Fired(token[order], share[order], (mass / count)[order], mass[order])


def open_token_list(means: ExplainMeans) -> Explain[Text]:
    """The explainer at a site. Raises as `explain_by`."""

    def showing(case: Case[Text]) -> Show:
        index = TokenIndex.of(case.table.rows.tokens, case.table.rows.mask)

        def show(latent: int) -> str | Failure:
            found = fired(case.table, index, latent)
            if found.covered < COVERED:
                return not_explained(
                    latent,
                    f"it is no single token's latent: tokens at which it fires at least {RELIABLE:.0%} of the times "
                    f"that they occur hold {found.covered:.0%} of its activation, less than {COVERED:.0%}; explain it "
                    "with another explainer",
                )
            largest = float(np.max(case.table.latent(latent)[1]))
            return show_tokens(found, largest, means.settings.examples, case.prepared)

        return show

    return explain_by(means, NAME, Task(TASK, TERSE, SHOTS), showing)


def show_tokens(found: Fired, largest: float, most: int, text: Text) -> str:
    """The tokens that settle it by themselves, one a line, at most so many."""
    settle = np.flatnonzero(found.share >= RELIABLE)[:most]
    height = heights(found.mean[settle], largest)
    return "\n".join(
        f"{quoted(int(found.token[i]), text.pieces)} {found.share[i]:.0%}, {h}".replace("%", " %")
        for i, h in zip(settle.tolist(), height.tolist(), strict=True)
    )
