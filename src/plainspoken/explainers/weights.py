"""The weights explainer: a language model is told which tokens a latent's weights speak of, and shown no text.

`circuits.named_tokens` says how they are found: those that its decoder makes likelier, and those whose embedding makes
it fire by itself. What the latent reads of a context is in neither.
"""

from collections.abc import Sequence

from plainspoken.explainers.exhibit import quoted
from plainspoken.explainers.means import Explain, ExplainMeans
from plainspoken.explainers.prompt import Task
from plainspoken.explainers.speaker import Case, Show, explain_by
from plainspoken.language.text import Text

NAME = "weights"

TASK = (
    "You are shown two lists of tokens that were computed from one latent's weights, the strongest first: the tokens "
    "that make it fire by themselves, and the tokens that it makes the model expect next where it fires. A blank, a "
    "line break (\\n) or a tab (\\t) between the quotation marks belongs to the token. Either list may be noise.\n\n"
    "Say in plain English at which tokens of a text the latent fires, so exactly that somebody who reads the text "
    "could tell: at the tokens of the first list and their like, or where those of the second are about to come. Where "
    "one list is noise, go by the other."
)
TERSE = "At which words does this happen?"
SHOTS = (
    (
        'Fires at: " Mr", " Mrs", " Dr", "Mr", " Miss", " qz"\nExpects next: " Smith", ".", " Brown", " Johnson", "fu"',
        "Titles before a person's name, such as “ Mr” or “ Dr”, where a surname follows.",
    ),
)


def open_weights(means: ExplainMeans) -> Explain[Text]:
    """The explainer at a site. Raises as `explain_by`; when it explains, ModelError as `latent_tokens`."""

    def showing(case: Case[Text]) -> Show:
        assert means.tokens is not None, "an explainer by weights is given them"
        named = means.tokens()

        def show(latent: int) -> str:
            read, promoted = (listed(side[latent].tolist(), case.prepared) for side in (named.read, named.promoted))
            return f"Fires at: {read}\nExpects next: {promoted}"

        return show

    return explain_by(means, NAME, Task(TASK, TERSE, SHOTS), showing)


def listed(tokens: Sequence[int], text: Text) -> str:
    """Tokens between quotation marks, with commas; none where the latent reads an FFN's output, and no embedding."""
    return ", ".join(quoted(token, text.pieces) for token in tokens) or "(not known)"
