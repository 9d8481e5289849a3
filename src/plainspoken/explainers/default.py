"""The default explainer: a language model reads texts in which a latent fires, and says what it fires on.

40 examples, four of each decile of their largest activation, of 32 tokens; tokens above 0.2 of the latent's maximum
stand between << and >> and are listed with their activation, 0 to 10; a short explanation is asked for, no chain of
thought. (Paulo & Belrose, arXiv 2501.18838, section 3; Paulo et al., arXiv 2410.13928.)
"""

import numpy as np

from plainspoken.config import ExplainConfig
from plainspoken.explainers.exhibit import show_examples
from plainspoken.explainers.means import Explain, ExplainMeans
from plainspoken.explainers.prompt import Task
from plainspoken.explainers.speaker import Case, Show, explain_by
from plainspoken.language.text import Text
from plainspoken.latents.sampling import draw_examples, shares
from plainspoken.latents.windows import Windows

NAME = "default"

MARKS = (
    "In each example the tokens at which the latent fires strongly stand between << and >>; below it they are listed "
    "with their activation, 0 to 10. Texts stand on one line: a line break is written \\n, a tab \\t, and a < or > "
    "that belongs to the text takes a backslash where it might be taken for a mark."
)
TASK = (
    f"You are shown texts in which one latent fires. {MARKS}\n\n"
    "Say in plain English what the marked tokens, or the text before them, have in common, so exactly that somebody "
    "who reads another text could tell at which of its tokens the latent fires and how strongly. Where the examples "
    "disagree, say what most of them share."
)
TERSE = "What do the marked words, or the words before them, have in common?"
SHOTS = (
    (
        "Example 1: , and the council <<voted>> to close the <<bridge>> at once.\\n\n"
        'Activations: " voted" 9, " bridge" 2\n\n'
        "Example 2: After a week the members had <<elected>> a new chair\n"
        'Activations: " elected" 8',
        "Verbs of choosing by vote, such as “voted” or “elected”, in texts on councils and other bodies.",
    ),
    (
        "Example 1: for i in range(len(names)<<):>>\\n\\tprint(i\n"
        'Activations: "):" 10\n\n'
        "Example 2: def area(self<<):>>\\n    return self.w * self.h\n"
        'Activations: "):" 7',
        "The closing parenthesis and colon “):” that end the head of a loop or a function in Python code.",
    ),
)


def open_default(means: ExplainMeans) -> Explain[Text]:
    """The explainer at a site. Raises as `explain_by`, and ConfigError for examples that cannot be shared out."""
    settings = means.settings
    shares(settings.examples, settings.sampling, settings.quantiles)

    def showing(case: Case[Text]) -> Show:
        windows = Windows(case.table, settings.window)

        def show(latent: int) -> str:
            return firing(windows, case.prepared, latent, settings, np.random.default_rng([means.seed, latent]))

        return show

    return explain_by(means, NAME, Task(TASK, TERSE, SHOTS), showing)


def firing(windows: Windows, text: Text, latent: int, settings: ExplainConfig, generator: np.random.Generator) -> str:
    """The texts in which a latent fires, as they are shown."""
    drawn = draw_examples(windows, latent, settings.examples, settings.sampling, settings.quantiles, generator)
    largest = float(np.max(windows.table.latent(latent)[1]))
    return show_examples(drawn, text.pieces, largest, settings.highlight)
