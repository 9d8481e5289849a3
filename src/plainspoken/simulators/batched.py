"""Many latents in a prompt: numbered explanations, then the text up to a token, then a table with a level for each.

The explanations come first and the text after them, and requests go batch by batch, in each token by token along every
row: what stands before the newest token is that of the request before, and is in the prefix cache. So a pair costs its
line of the table (number, tab, line break) and 1/batch of what a request adds: the newest token, the line that says it
once more, the table's head. The explanations are read once for a batch; with the text first, each would be read again
for every token.

How well a model answers may depend on which explanations stand together: batches are the latents with a sentence in
ascending order, by `simulate.batch`, whatever a gate lets pass, so that the same sentences are asked the same way; who
asks some of them again hands over whole batches (`pipeline.company`). What a gate drops has no line in the table.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from plainspoken.language.text import Text
from plainspoken.llm.requests import Message
from plainspoken.simulators.asking import Question, simulate_by_asking
from plainspoken.simulators.at_once import Table, level_questions, strategy_of
from plainspoken.simulators.levels import read_digits
from plainspoken.simulators.means import Simulate, SimulateMeans
from plainspoken.simulators.pairs import ToAsk
from plainspoken.simulators.passages import on_a_line, passage

SYSTEM = """\
A language model has features: each is active at some tokens of a text and silent at all others. You are given \
numbered explanations, each of one feature, then a text, and its last token once more between << and >>, in which \\n \
is a line break, \\t a tab and \\\\ a backslash. Go through the explanations, one a line: the number, a tab, and how \
well the last token, read in its context, matches that explanation: an integer from 0 (no relation) to 9 (exact \
match). Most explanations have no relation to the token, and low values are likelier than high ones. A value that is \
not told is left out, and so is the line of an explanation that is not asked about."""

HEADER = "number\tvalue\n"

EXAMPLE = (
    (
        "Words for seasons.",
        "A closing bracket after a number in source code.",
        "Words for animals that are kept at home.",
        "A noun that ends a sentence.",
    ),
    "The children had begged for a puppy since spring, but what their aunt brought in the end was a goldfish",
    " goldfish",
    "1\t\n2\t0\n3\t8\n4\t2\n",
)
"""(explanations, text, its last token, table) of the exchange before the question."""


def messages(explanations: Sequence[str], text: str, last: str) -> tuple[Message, ...]:
    """The conversation up to the table; `last`: the text's last token, as it stands on a line."""
    others, example, its_last, table = EXAMPLE
    return (
        Message("system", SYSTEM),
        Message("user", _question(others, example, its_last)),
        Message("assistant", HEADER + table),
        Message("user", _question(explanations, text, last)),
    )


def open_batched(means: SimulateMeans) -> Simulate:
    """One request for each batch of latents and each token at which one of them is asked about.

    Raises LlmError and ConfigError as `strategy_of`, ConfigError for a tokenizer without single tokens for the digits.
    """
    llm, size = means.needed_llm(), means.settings.batch
    table = Table.of(llm.tokens, HEADER)
    strategy = strategy_of(means.settings, llm, table.digits)
    numbers = [llm.tokens.encode(str(number + 1)) for number in range(size)]

    def questions(sentences: Mapping[int, str], text: Text, pairs: ToAsk) -> Iterator[Question]:
        tokens = text.rows.tokens.ravel()
        for batch, places in pairs.by_batch(size):
            explanations = [sentences[latent] for latent in batch.tolist()]
            for position, latents in places:
                shown = passage(text, position)
                last = on_a_line(text.pieces[int(tokens[position])])
                # The text ends with its newest token unmarked: a mark before it would part it from the prefix cache.
                prefix = llm.tokens.chat_prefix(messages(explanations, shown.before + shown.token, last))
                labels = [numbers[place] for place in np.searchsorted(batch, latents).tolist()]
                where, lines = np.full(len(latents), position), np.arange(len(latents))
                yield from level_questions(llm, table, strategy, prefix, labels, lines, where, latents)

    return simulate_by_asking(llm, questions, lambda _, answer: read_digits(answer, means.settings.least_mass))


def _question(explanations: Sequence[str], text: str, last: str) -> str:
    # A line break within an explanation would look like the next one's beginning.
    lines = (f"{i}. {explanation}".replace("\n", " ") for i, explanation in enumerate(explanations, start=1))
    return "Explanations:\n" + "\n".join(lines) + f"\n\nText: {text}\n\nLast token: <<{last}>>"
