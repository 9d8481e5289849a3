"""Which conditions a latent's explanation names, at a given price per word.

The objective is the squared error of the simulated activation over all tokens of the explain rows, times what the
latent does to the output: w_l SSE, where w_l = W_dec[l] G W_dec[l]ᵀ and G = E[g gᵀ] is the expected outer product of
the loss's gradient at the module's output. To second order that is the increase of the model's loss that the latent's
errors cause, so the clauses of all latents are bought with one currency: a condition is named if
gain(c) > price · words(c). One price over all latents spends a site's word budget where the model's loss feels it most;
squared error alone would spend it on latents that the model hardly reads.

The gain is measured across folds of the text: gain(c) = w_l Σ_f (SSE_f without c − SSE_f with c at the level that the
other folds give it), nothing being gained in a fold that is alone in having seen c. So a coincidence of one document
earns nothing. In each round every template is chosen anew given what the others say, at a falling price; in the last,
conditions under which the latent is silent are candidates too: the exceptions to what has been said.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from plainspoken.explainers.lattice import FOLDS
from plainspoken.explainers.scene import Bench, Scene
from plainspoken.language.rule import HIGHEST_LEVEL

_MOST_SPECIFIC = 16  # no condition fixes more than that (`language.rule`)
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


def select(
    position: Int[np.ndarray, " firings"],
    value: Float[np.ndarray, " firings"],
    weight: float,
    price: float,
    bench: Bench,
) -> Selection:
    """Choose for one latent: template by template, each given what the others say, in rounds of falling price.

    Templates come in the order given: those that should have the first word first. On each round every template is
    chosen anew, so that what another says better is dropped.

    Args:
        position, value: the latent's firings on the explain rows; value above 0.
        weight: w_l, in loss per squared activation.
        price: loss per word, summed over the explain rows' tokens.
        bench: working memory over the conditions to choose from.
    """
    unit = float(value.max()) / HIGHEST_LEVEL
    worth = weight * unit**2
    templates = bench.lattice.templates
    with bench.numbering(bench.often(position, range(len(templates)))) as candidates:
        scene = Scene(np.asarray(position), value.astype(np.float64) / unit, candidates, bench)
        for factor in _PRICES:
            last = factor == _PRICES[-1]
            for k, template in enumerate(templates):
                if last and template.excepts:
                    scene.look_for_exceptions(k)
                if len(candidates[k]) and (last or not template.late):
                    scene.say(k, _choose(scene, k, worth, factor * price))
        # What has exceptions now may mean more where it still decides.
        for k in np.flatnonzero(scene.spoken).tolist():
            if templates[k].excepts:
                scene.say(k, _choose(scene, k, worth, price))
        return _selection(scene)


def _rank(specificity: int, level: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return (1 + 10 * specificity + level).astype(np.int16)


# By rank: the level that it stands for; 0 where nothing is said.
_LEVELS = np.array([0.0] + [rank % 10 for rank in range(10 * (_MOST_SPECIFIC + 1))])


def _choose(scene: Scene, k: int, worth: float, price: float) -> Int[np.ndarray, " candidates"]:
    """What a template should say, given what the others say: every candidate whose gain pays for its words."""
    template, candidates = scene.templates[k], scene.candidates[k]
    n = len(candidates)
    here = np.flatnonzero(scene.under(k) >= 0)
    at, best, true = scene.under(k)[here], scene.decided(without=k)[here], scene.true[here]
    # Where another says something more specific, this template has no say. (Ties it may win with a higher level.)
    has_say = best <= 1 + 10 * template.specificity + HIGHEST_LEVEL
    wrong = np.square(true - _LEVELS[best])
    wrong[~has_say] = 0.0
    without = np.bincount(at, wrong, minlength=n)
    # No condition wins more than all the error that there is without it: most are ruled out by that alone.
    promising = worth * without > price * template.words
    look = np.flatnonzero(promising[at])
    at, has_say, true, wrong = at[look] + n * scene.fold[here[look]], has_say[look], true[look], wrong[look]
    # Tokens under a condition that are not in the scene count: nobody speaks and the latent is silent there.
    count = template.count[:, candidates] - _by_fold(at[~has_say], None, n)
    at, true = at[has_say], true[has_say]
    total, square, without = (_by_fold(at, w, n) for w in (true, true**2, wrong[has_say]))
    level = _nearest_level(total.sum(axis=0), count.sum(axis=0))
    seen, error = _crossed_error(total, square, count)
    gain = worth * np.where(seen, without - error, 0.0).sum(axis=0)
    taken = promising & (gain > price * template.words)
    return np.where(taken, _rank(template.specificity, level), 0).astype(np.int16)


def _crossed_error(
    total: Float[np.ndarray, "folds n"], square: Float[np.ndarray, "folds n"], count: Int[np.ndarray, "folds n"]
) -> tuple[Bool[np.ndarray, "folds n"], Float[np.ndarray, "folds n"]]:
    """(whether the other folds have seen the condition, the squared error in a fold at the level that they give it)."""
    others = count.sum(axis=0) - count
    level = _nearest_level(total.sum(axis=0) - total, others)
    return others > 0, square - 2 * level * total + count * level**2


def _by_fold(at: Int[np.ndarray, " p"], weight: Float[np.ndarray, " p"] | None, n: int) -> Num[np.ndarray, "folds n"]:
    """Counts, or sums of the weights, by fold and candidate."""
    found = np.bincount(at, weight, minlength=FOLDS * n).reshape(FOLDS, n)
    return found if weight is None else found.astype(np.float64)


def _nearest_level(total: Float[np.ndarray, " *n"], count: Int[np.ndarray, " *n"]) -> Float[np.ndarray, " *n"]:
    return np.rint(np.minimum(total / np.maximum(count, 1), HIGHEST_LEVEL))


def _selection(scene: Scene) -> Selection:
    """What was chosen, with the evidence where each condition decides."""
    best = scene.decided()
    parts = []
    for k in np.flatnonzero(scene.spoken).tolist():
        ranks = scene.ranks[k][:-1]
        decides = (scene.rank(k) > 0) & (scene.rank(k) >= best)
        under, n = scene.under(k)[decides], len(ranks)
        # A condition that decides nowhere says nothing, and neither does level 0 where nobody else would speak.
        needed = (_LEVELS[ranks[under]] > 0) | (_LEVELS[scene.decided(without=k)[decides]] > 0)
        chosen = np.flatnonzero(np.bincount(under, needed, minlength=n) > 0)
        count = np.bincount(under, minlength=n)[chosen].astype(np.float64)
        total = np.bincount(under, scene.true[decides], minlength=n)[chosen].astype(np.float64)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        level = _LEVELS[ranks[chosen]].astype(np.int64)
        parts.append((np.full(len(chosen), k), scene.candidates[k][chosen].astype(np.int64), level, count, mean))
    if not parts:
        none, zero = np.zeros(0, np.int64), np.zeros(0)
        return Selection(none, none, none, zero, zero)
    return Selection(*(np.concatenate(column) for column in zip(*parts, strict=True)))
