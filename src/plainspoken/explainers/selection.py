"""Which conditions a latent's explanation names, at a given price per word.

The objective is the squared error of the simulated activation over all tokens of the explain rows, times what the
latent does to the output: gain(c) = w_l (SSE without c − SSE with c), where w_l = W_dec[l] G W_dec[l]ᵀ and G = E[g gᵀ]
is the expected outer product of the loss's gradient at the module's output. To second order w_l · SSE is the increase
of the model's loss that the latent's errors cause, so the clauses of all latents are bought with one currency: a
condition is named if gain(c) > price · words(c). One price over all latents spends a site's word budget where the
model's loss feels it most; squared error alone would spend it on latents that the model hardly reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from plainspoken.explainers.lattice import Template
from plainspoken.language.rule import HIGHEST_LEVEL

# A condition's mean is taken as if it had been seen without a firing so many times more: rare luck earns less.
_SILENT_SIGHTINGS = 2.0
_FEWEST_FIRINGS = 2
# Times the price, round by round: what pays most is chosen first, so that a plain clause with an exception comes before
# many small refinements that would say the same.
_PRICES = (16.0, 4.0, 1.0)


@dataclass(frozen=True, eq=False)
class Selection:
    """The conditions chosen for a latent, and what the explain rows say under each where no other decides.

    `template`, `condition`: which; `level`: 0-9; `count`, `mean`: tokens that the condition decides, and the mean true
    activation over them, in ninths of the latent's maximum.
    """

    template: Int[np.ndarray, " n"]
    condition: Int[np.ndarray, " n"]
    level: Int[np.ndarray, " n"]
    count: Float[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]


@dataclass
class _Scene:
    """The positions that matter to one latent: where it fires, and where a chosen condition makes it fire.

    Everywhere else both the activation and its simulation are 0. `said[k]`: the level by template k, -1 for none.
    """

    position: Int[np.ndarray, " u"]
    true: Float[np.ndarray, " u"]
    said: Int[np.ndarray, "templates u"]

    def extended(self, positions: Int[np.ndarray, " more"]) -> "_Scene":
        more = positions[~np.isin(positions, self.position)]
        if not len(more):
            return self
        return _Scene(
            np.concatenate([self.position, more]),
            np.concatenate([self.true, np.zeros(len(more))]),
            np.concatenate([self.said, np.full((len(self.said), len(more)), -1, np.int8)], axis=1),
        )


def select(
    position: Int[np.ndarray, " firings"],
    value: Float[np.ndarray, " firings"],
    weight: float,
    price: float,
    templates: Sequence[Template],
) -> Selection:
    """Choose for one latent: template by template, each given what the others say, in rounds of falling price.

    Templates come in the order given: those that should have the first word first. On each round every template is
    chosen anew, so that what another says better is dropped.

    Args:
        position, value: the latent's firings on the explain rows; value above 0.
        weight: w_l, in loss per squared activation.
        price: loss per word, summed over the explain rows' tokens.
    """
    unit = float(value.max()) / HIGHEST_LEVEL
    worth = weight * unit**2
    said = np.full((len(templates), len(value)), -1, np.int8)
    scene = _Scene(np.asarray(position), value.astype(np.float64) / unit, said)
    for factor in _PRICES:
        for k in range(len(templates)):
            scene = _choose(scene, k, templates, worth, factor * price)
    return _selection(scene, templates)


def _decided(
    said: Int[np.ndarray, "templates u"], templates: Sequence[Template], without: int = -1
) -> tuple[Int[np.ndarray, " u"], Int[np.ndarray, " u"]]:
    """(level, specificity) that decides at each position, -1 where nothing speaks: the language's own order."""
    level = np.full(said.shape[1], -1, np.int8)
    specificity = np.full(said.shape[1], -1, np.int8)
    for k in np.flatnonzero((said >= 0).any(axis=1)).tolist():
        if k != without:
            mine, rank = said[k], templates[k].specificity
            wins = (mine >= 0) & _outranks(rank, mine, level, specificity)
            level[wins], specificity[wins] = mine[wins], rank
    return level, specificity


def _choose(scene: _Scene, k: int, templates: Sequence[Template], worth: float, price: float) -> _Scene:
    """Choose a template's conditions anew, given what the others say: all whose gain pays for their words."""
    template = templates[k]
    under = template.condition[scene.position]
    known = np.flatnonzero(under >= 0)
    if not len(known):
        return scene
    condition, at = np.unique(under[known], return_inverse=True)
    level, specificity = _decided(scene.said, templates, without=k)
    decides = template.specificity >= specificity[known]
    # Tokens under a condition that are not in the scene: nobody speaks and the latent is silent there.
    count = template.count[condition] - np.bincount(at[~decides], minlength=len(condition))
    known, at = known[decides], at[decides]
    true, fallback = scene.true[known], np.maximum(level[known], 0).astype(np.float64)
    n = len(condition)
    firings, total, square = (np.bincount(at, w, minlength=n) for w in (true > 0, true, true * true))
    mine = np.rint(np.minimum(total / (count + _SILENT_SIGHTINGS), HIGHEST_LEVEL))
    error = square - 2 * mine * total + count * mine**2
    gain = worth * (np.bincount(at, (true - fallback) ** 2, minlength=n) - error)
    taken = (gain > price * template.words) & (firings >= _FEWEST_FIRINGS)
    if not taken.any():
        scene.said[k] = -1
        return scene
    scene = scene.extended(template.positions(condition[taken]))
    by_condition = np.full(len(template.count) + 1, -1, np.int8)  # the last stands for "no condition"
    by_condition[condition[taken]] = mine[taken].astype(np.int8)
    scene.said[k] = by_condition[template.condition[scene.position]]
    return scene


def _outranks(
    mine: int, level: Int[np.ndarray, " u"], other_level: Int[np.ndarray, " u"], other: Int[np.ndarray, " u"]
) -> Bool[np.ndarray, " u"]:
    return (mine > other) | ((mine == other) & (level >= other_level))


def _selection(scene: _Scene, templates: Sequence[Template]) -> Selection:
    """What was chosen, with the evidence where each condition decides."""
    level, specificity = _decided(scene.said, templates)
    parts = []
    for k, template in enumerate(templates):
        mine = scene.said[k]
        chosen = mine >= 0
        if not chosen.any():
            continue
        condition, first, at = np.unique(
            template.condition[scene.position[chosen]], return_index=True, return_inverse=True
        )
        decides = _outranks(template.specificity, mine[chosen], level[chosen], specificity[chosen]).astype(float)
        count, total = np.bincount(at, decides), np.bincount(at, scene.true[chosen] * decides)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        parts.append((np.full(len(condition), k), condition, mine[chosen][first].astype(np.int64), count, mean))
    if not parts:
        none, zero = np.zeros(0, np.int64), np.zeros(0)
        return Selection(none, none, none, zero, zero)
    return Selection(*(np.concatenate(column) for column in zip(*parts, strict=True)))
