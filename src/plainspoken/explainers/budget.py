"""The budget of words: `explain.words` in the mean over a site's explanations, whoever writes them."""

from collections.abc import Mapping, Sequence

import numpy as np

from plainspoken.language.counted import counted
from plainspoken.llm.requests import FaultKind
from plainspoken.types import Explanation, Failure

TOO_MANY_WORDS: FaultKind = "too many words"
"""The kind of failure of an explanation that the budget has no room for."""


def cap_on(words: Sequence[int], mean: int) -> int | None:
    """The most words that any may have so that they have `mean` in the mean; None where they have no more as it is.

    Those that are shorter leave the longer ones what they do not need.
    """
    if not words or np.mean(words) <= mean:
        return None
    # In order of length: with the first i as they are, the others share what is left of the budget.
    ordered, total = np.sort(np.asarray(words)), mean * len(words)
    before = np.concatenate([[0], np.cumsum(ordered)[:-1]])
    share = (total - before) // (len(ordered) - np.arange(len(ordered)))
    return int(share[np.argmax(share < ordered)])


def held_to(found: Mapping[int, Explanation | Failure], mean: int) -> dict[int, Explanation | Failure]:
    """The same, the longest explanations given up until the others have at most `mean` words in the mean.

    Each of those is a Failure of kind `TOO_MANY_WORDS`.
    """
    written = sorted((e for e in found.values() if isinstance(e, Explanation)), key=lambda e: (e.words, e.latent))
    sums = np.cumsum([explanation.words for explanation in written])
    kept = int((sums <= mean * np.arange(1, len(written) + 1)).sum())
    return {**found, **{explanation.latent: _given_up(explanation, mean) for explanation in written[kept:]}}


def _given_up(explanation: Explanation, mean: int) -> Failure:
    reason = (
        f"the explanation has {counted(explanation.words, 'word')}, and with all that are so long the site's "
        f"would have more than {mean} in the mean (explain.words); raise that"
    )
    return Failure(explanation.latent, "explain", reason, kind=TOO_MANY_WORDS)
