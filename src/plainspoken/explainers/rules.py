"""The rule explainer: conditions on the text that best predict a latent, as plain English within a budget of words.

No language model and no download. It sees the explain rows alone: the text, and where each latent fires.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from jaxtyping import Float
from joblib import Parallel, cpu_count, delayed

from plainspoken.corpus.rows import require_part
from plainspoken.errors import ExplanationError
from plainspoken.explainers.latent import Evidence, explain_latents
from plainspoken.explainers.lattice import Lattice
from plainspoken.language.render import SILENT
from plainspoken.latents.table import FiringTable
from plainspoken.types import Explanation, Failure

NAME = "rules"

# The price is searched on a few latents first, then on more: every n-th in order of what there is to explain. Each
# time until the words are within this share of what is aimed at.
_SAMPLES = ((24, 0.15), (128, 0.03))
_STEPS = 4
_PASSES = 4
_AIM, _CLOSE_ENOUGH = 0.965, 0.93  # of the budget: another pass over all latents would cost more than it brings
# Where the passes end above the budget: small steps first, which lose little, then such as end soon in silence.
_DEARER = (1.1, 1.2, 1.5, *[10.0] * 8)
_WORDS_BY_PRICE = -0.8  # d log words / d log price, about
_FIRINGS_WORTH_A_PROCESS = 200_000
_TASKS_PER_CORE = 8

At = Callable[[Sequence[int], float], dict[int, Explanation]]


def explain_rules(
    table: FiringTable,
    lattice: Lattice,
    weight: Float[np.ndarray, " latents"],
    words: int,
    words_max: int,
    progress: Callable[[int], object] | None = None,
    cores: int | None = None,
) -> list[Explanation | Failure]:
    """Explain every latent of a site.

    Args:
        table: the firings over the explain rows.
        lattice: the conditions to choose from, over the same rows.
        weight: what a squared error of each latent does to the loss (`latents.influence`).
        words: the mean number of words that the site's explanations may have; latents that matter more get more.
        words_max: the most words that one explanation may have.
        progress: called with the number of sentences written since the last call: more than there are latents, because
            the price that keeps to the budget has to be found.
        cores: processes to share the latents among; none: all cores, where there is work enough for them. The result
            does not depend on it.

    Raises LeakError for a table over rows of another part than explain, ExplanationError where a process is killed.
    """
    require_part(table.rows, "explain")
    evidence = Evidence(table.pointer, table.position, table.value, weight, lattice, words_max)
    alive = np.flatnonzero(np.diff(table.pointer) > 0).tolist()
    ordered = sorted(alive, key=evidence.energy, reverse=True)
    if cores is None:
        cores = cpu_count() if len(table.position) >= _FIRINGS_WORTH_A_PROCESS else 1
    with Parallel(n_jobs=cores, return_as="generator_unordered") as parallel:

        def at(latents: Sequence[int], price: float) -> dict[int, Explanation]:
            return _shared_out(parallel, evidence, latents, price, cores, progress)

        explained = _within_budget(at, ordered, _first_price(at, ordered, evidence, words), words)
    silent = "it never fires on the explain documents; take more of them (corpus.explain_tokens)"
    return [explained.get(i) or Failure(i, "explain", silent) for i in range(table.latents)]


def _shared_out(
    parallel: Parallel,
    evidence: Evidence,
    latents: Sequence[int],
    price: float,
    cores: int,
    progress: Callable[[int], object] | None,
) -> dict[int, Explanation]:
    """The sentences of these latents at a price, written by several processes."""
    # Dealt out by turns, so that every task has its share of the latents with most to explain.
    tasks = [latents[i :: cores * _TASKS_PER_CORE] for i in range(cores * _TASKS_PER_CORE)]
    parts: Iterable[list[Explanation]] = parallel(
        delayed(explain_latents)(evidence, task, price, NAME) for task in tasks if task
    )  # pyright: ignore[reportAssignmentType]
    found: dict[int, Explanation] = {}
    try:
        for done in parts:
            found |= {explanation.latent: explanation for explanation in done}
            if progress is not None:
                progress(len(done))
    except BrokenProcessPool as error:
        raise ExplanationError(
            "a process that wrote explanations was killed, most likely for want of memory; take less text "
            "(corpus.explain_tokens), or set LOKY_MAX_CPU_COUNT=1 in the environment, and run again"
        ) from error
    return found


def _first_price(at: At, ordered: Sequence[int], evidence: Evidence, words: int) -> float:
    """The price per word at which a sample of the latents has about as many words as are aimed at."""
    # In the units of the price: all there is to explain, if every word of the budget bought the same. Most words buy
    # less than the first.
    price = 0.1 * max(float(np.mean([*map(evidence.energy, ordered), 0.0])) / words, np.finfo(float).tiny)
    for sample, share in _SAMPLES:
        price = _searched(lambda p, n=sample: _mean_words(at(_every_nth(ordered, n), p)), price, words * _AIM, share)
        if len(ordered) <= sample:
            break
    return price


def _searched(mean_words: Callable[[float], float], price: float, aim: float, share: float) -> float:
    """A price at which mean_words is about what is aimed at, by secants of log words over log price; one step beyond
    the first that comes within a share of it."""
    slope, before = _WORDS_BY_PRICE, None
    for _ in range(_STEPS):
        found = np.log(max(mean_words(price), 1.0) / aim)
        if before is not None and found != before[1]:
            slope = float(np.clip((found - before[1]) / np.log(price / before[0]), -1.5, -0.5))
        before = (price, found)
        price = float(price * np.exp(np.clip(-found / slope, -5.0, 5.0)))
        if abs(found) < share:
            break
    return price


def _within_budget(at: At, ordered: Sequence[int], price: float, words: int) -> dict[int, Explanation]:
    """All latents at one price, at which they keep to the budget on average and spend nearly all of it."""
    explained: dict[int, Explanation] = {}
    for _ in range(_PASSES):
        explained = at(ordered, price)
        mean = _mean_words(explained)
        if words * _CLOSE_ENOUGH <= mean <= words or not explained:
            return explained
        price *= float((mean / (words * _AIM)) ** (-1 / _WORDS_BY_PRICE))
    # Ever dearer, until they keep to it; a budget below the sentence that says nothing is met as nearly as can be.
    for factor in _DEARER:
        if _mean_words(explained) <= words or all(e.text == SILENT for e in explained.values()):
            break
        price *= factor
        explained = at(ordered, price)
    return explained


def _mean_words(explained: dict[int, Explanation]) -> float:
    return float(np.mean([e.words for e in explained.values()] or [0.0]))


def _every_nth(ordered: Sequence[int], n: int) -> list[int]:
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, min(n, len(ordered))).astype(int)]
