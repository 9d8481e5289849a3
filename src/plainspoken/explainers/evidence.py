"""The evidence explainer: what the rule explainer found is given to a language model, to be said plainly.

The rules are exact and narrow; a language model may see what they have in common and say it so that it holds of words
that the explain documents do not have. The rules are found within the same budget of words.
"""

from plainspoken.explainers.lattice import Lattice
from plainspoken.explainers.means import Explain, ExplainMeans
from plainspoken.explainers.prompt import Task
from plainspoken.explainers.rules import explain_rules
from plainspoken.explainers.speaker import Case, Show, explain_by, not_explained
from plainspoken.language.render import SILENT
from plainspoken.types import Failure

NAME = "evidence"

TASK = (
    "You are shown what a search over many texts found out about one latent, as a sentence of rules. “Fires at 9 on "
    "“x” after “y”; 3 on “z”” means: with strength 9 (of 0 to 9) where the text ends in the word x and the word before "
    "is y, with strength 3 where it ends in z; strength 0 is an exception. A word is the text since the last blank or "
    "sign, up to and with the token at hand, so that it may be cut short; ␣ is a blank, \\n a line break. The most "
    "important come first.\n\n"
    "Say the same in plain English that reads well. Where the rules are cases of one thing, say that thing, and what "
    "it leaves out; keep words and strengths that do not fit into it. Somebody who reads only what you write must be "
    "able to tell at which tokens of another text the latent fires and how strongly."
)
TERSE = "The same in plain words:"
SHOTS = (
    (
        "Fires at 8 on “Monday”, “Tuesday” or “Friday”; 4 on “morning” after “Monday” or “Sunday”.",
        "Strongly on names of weekdays, such as “Monday”; moderately on “morning” right after a day's name.",
    ),
)


def open_evidence(means: ExplainMeans) -> Explain[Lattice]:
    """The explainer at a site. Raises as `explain_by`."""

    def showing(case: Case[Lattice]) -> Show:
        rules = explain_rules(case.table, case.prepared, case.weight, case.words, case.words_max)

        def show(latent: int) -> str | Failure:
            found = rules[latent]
            if isinstance(found, Failure):
                return found
            if found.text == SILENT:
                return not_explained(latent, "the rules say nothing of it within its words")
            return found.text

        return show

    return explain_by(means, NAME, Task(TASK, TERSE, SHOTS), showing)
