"""The contrastive explainer: beside the texts in which a latent fires, texts in which it might have, and does not.

What tells the two apart is what a simulator needs: the paper's explanations fire on far too much (spec 1, section 2).
The silent texts hold tokens under which the latent fires elsewhere, or a neighbour's firings, or are any.
"""

import numpy as np

from plainspoken.explainers.default import MARKS, firing
from plainspoken.explainers.exhibit import show_silent
from plainspoken.explainers.means import Explain, ExplainMeans
from plainspoken.explainers.prompt import Task
from plainspoken.explainers.speaker import Case, Show, explain_by
from plainspoken.language.text import Text
from plainspoken.latents.near_misses import NearMisses, nearest
from plainspoken.latents.sampling import shares
from plainspoken.latents.windows import Windows

NAME = "contrastive"

TASK = (
    f"You are shown texts in which one latent fires, and below them texts in which it is silent. {MARKS} The silent "
    "texts were chosen to look alike: many hold the same words.\n\n"
    "Say in plain English what the marked tokens, or the text before them, have in common that the silent texts do not,"
    " so exactly that somebody who reads another text could tell at which of its tokens the latent fires and how "
    "strongly. Say what the latent does not fire on where that is easily confused."
)
TERSE = "What do the marked words, or the words before them, have in common that the silent lines do not?"
SHOTS = (
    (
        'Example 1: She went to the <<bank>> to open an account\nActivations: " bank" 9\n\n'
        'Example 2: a loan from the <<bank>>, at four per cent\nActivations: " bank" 10\n\n'
        "Silent 1: They sat on the bank of the river and fished\nSilent 2: the clouds began to bank up in the west",
        "The word “bank” as a place for money; not a river's bank or the verb.",
    ),
)


def open_contrastive(means: ExplainMeans) -> Explain[Text]:
    """The explainer at a site. Raises as `explain_by`, and ConfigError for examples that cannot be shared out."""
    settings = means.settings
    shares(settings.examples, settings.sampling, settings.quantiles)
    sides = [kind for kind in settings.negatives_from if kind in ("decoder", "encoder")]

    def showing(case: Case[Text]) -> Show:
        assert means.rows is not None or not sides, "neighbours need the coder's rows"
        windows = Windows(case.table, settings.window)
        near = {side: nearest(means.rows(side)) for side in sides} if means.rows is not None else {}
        misses = NearMisses(windows, near)

        def show(latent: int) -> str:
            generator = np.random.default_rng([means.seed, latent])
            fires = firing(windows, case.prepared, latent, settings, generator)
            silent = misses.draw(latent, settings.negatives, settings.negatives_from, generator)
            return f"{fires}\n\n{show_silent(silent, case.prepared.pieces)}".strip()

        return show

    return explain_by(means, NAME, Task(TASK, TERSE, SHOTS), showing)
