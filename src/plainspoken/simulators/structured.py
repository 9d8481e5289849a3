"""Levels as JSON, for models that tell no probabilities: all tokens of a row that are asked about in one reply.

With `simulate.batch` latents in a prompt their numbered explanations come first and the row after them, and requests go
batch by batch, in each row by row: all rows of a batch share the explanations in the prefix cache. A reply lists
`[explanation number, token number, level]` of all matches, so that a pair costs 1/batch of the row's line and its share
of what is drawn, which is little, since most latents are silent at most tokens. Batches are those of `batched`: the
latents with a sentence ascending, whatever a gate lets pass. Which explanations stand together may change how a model
answers, and a reply that tells nothing leaves all pairs of its batch and row without an answer.

With `simulate.batch` 1 the text comes first and the explanation last, so that all latents of a row share the longer
part of the prompt; a reply lists `[token number, level]`.

What a reply leaves out is level 0. It is read strictly (`json_levels`): one that is cut off, holds more than one JSON
value, or tells of a token that it was not asked about tells nothing. Of pairs that a gate drops it may tell, since
tokens are asked about as soon as one of the batch's latents passes there; that is not used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Int

from plainspoken.errors import LlmError
from plainspoken.language.counted import counted
from plainspoken.language.text import Text
from plainspoken.llm.open import Llm
from plainspoken.llm.requests import Answer, Chat, Fault, Message
from plainspoken.simulators.asking import Question, simulate_by_asking
from plainspoken.simulators.json_levels import FIELD, Wanted, read_levels, schema
from plainspoken.simulators.levels import Levels
from plainspoken.simulators.means import Simulate, SimulateMeans
from plainspoken.simulators.pairs import ToAsk
from plainspoken.simulators.passages import on_a_line

SYSTEM = """\
A language model has features: each is active at some tokens of a text and silent at all others. You are given a text, \
one token a line: its number, a tab, and the token, in which \\n is a line break, \\t a tab and \\\\ a backslash. Then \
you are given an explanation of one feature.

Say which tokens, read with the text before them, match the explanation, and how well: an integer from 1 (hardly) to 9 \
(exact match). Most tokens have no relation to the explanation: leave those out. Low values are likelier than high ones.

Answer with JSON alone: a list of pairs [number of the token, integer], such as [[4, 7], [9, 2]], and [] where no \
token matches."""
IN_FIELD = f' Put the list into an object: {{"{FIELD}": [[4, 7], [9, 2]]}}.'

SYSTEM_MANY = """\
A language model has features: each is active at some tokens of a text and silent at all others. You are given \
numbered explanations, each of one feature, then a text, one token a line: its number, a tab, and the token, in which \
\\n is a line break, \\t a tab and \\\\ a backslash.

Say of every explanation which tokens, read with the text before them, match it, and how well: an integer from 1 \
(hardly) to 9 (exact match). Most tokens have no relation to an explanation: leave those out. Low values are likelier \
than high ones.

Answer with JSON alone: a list of [number of the explanation, number of the token, integer], such as \
[[2,4,7],[2,9,2],[5,4,1]], and [] where no token matches any explanation."""
IN_FIELD_MANY = f' Put the list into an object: {{"{FIELD}":[[2,4,7],[2,9,2],[5,4,1]]}}.'

_TOKENS_A_PAIR, _TOKENS_A_MATCH = 8, 12  # of an answer: brackets, two numbers or three, commas, blanks
_TOKENS_MORE = 24  # what stands around
_DENSE = 8  # with many latents in a prompt there is room for each token once and for an eighth of all pairs more
_LEAST_ROOM = 16


@dataclass(frozen=True, eq=False)
class Listed(Question):
    """A question, and how its pairs are numbered in it."""

    wanted: Wanted


def messages(listing: str, explanation: str, which: str, held: bool) -> tuple[Message, ...]:
    """The conversation about one latent. `listing`: the numbered tokens; `which`: of which of them the reply is to
    tell; `held`: the reply will be held to the schema."""
    said = f"Text:\n{listing}\n\nExplanation: {explanation}\n\nTell of {which}."
    return Message("system", SYSTEM + (IN_FIELD if held else "")), Message("user", said)


def messages_many(listing: str, explanations: Sequence[str], which: str, held: bool) -> tuple[Message, ...]:
    """The conversation about many."""
    # A line break within an explanation would look like the next one's beginning.
    lines = (f"{i}. {explanation}".replace("\n", " ") for i, explanation in enumerate(explanations, start=1))
    said = "Explanations:\n" + "\n".join(lines) + f"\n\nText:\n{listing}\n\nTell of {which}."
    return Message("system", SYSTEM_MANY + (IN_FIELD_MANY if held else "")), Message("user", said)


def open_structured(means: SimulateMeans) -> Simulate:
    """One request for each row and each batch of latents that is asked about in it.

    Raises LlmError for a model that does not chat, and for a server that fails when it is tried.
    """
    llm, size = means.needed_llm(), means.settings.batch
    llm.require("chat")
    wanted = schema(2 if size == 1 else 3)
    held = None if means.settings.schema == "never" else _held_to(wanted, llm, means.say)
    means.form("words" if held is None else "schema")

    def one_by_one(sentences: Mapping[int, str], text: Text, pairs: ToAsk) -> Iterator[Question]:
        t = text.rows.tokens.shape[1]
        # Up to the last token asked about at all, whichever latents pass the gate there: a prompt is one latent's own.
        last = dict(zip((pairs.positions // t).tolist(), (pairs.positions % t).tolist(), strict=True))
        for row, latents in pairs.by_row(t):
            listing = Listing.of(text, row, last[row] + 1)
            for latent, positions in latents:
                numbers = listing.numbers(positions)
                said = messages(listing.text, sentences[latent], listing.told_of(numbers), held is not None)
                request = chat_within(llm, said, _TOKENS_A_PAIR * len(numbers), means.seed, held)
                yield Listed(positions, np.full(len(positions), latent), request, Wanted(numbers))

    def by_batch(sentences: Mapping[int, str], text: Text, pairs: ToAsk) -> Iterator[Question]:
        t = text.rows.tokens.shape[1]
        for batch, places in pairs.by_batch(size):
            explanations = [sentences[latent] for latent in batch.tolist()]
            for row, here in groupby(places, key=lambda place: place[0] // t):
                tokens, latents = zip(*here, strict=True)
                listing = Listing.of(text, row, tokens[-1] % t + 1)
                which = listing.told_of(listing.numbers(np.array(tokens)))
                position, latent = np.repeat(tokens, [len(some) for some in latents]), np.concatenate(latents)
                known = np.searchsorted(batch, latent) + 1
                wanted = Wanted(listing.numbers(position), known.tolist(), len(batch))
                said = messages_many(listing.text, explanations, which, held is not None)
                matches = min(len(position), len(tokens) + len(tokens) * len(batch) // _DENSE)
                request = chat_within(llm, said, _TOKENS_A_MATCH * matches, means.seed, held)
                yield Listed(position, latent, request, wanted)

    def read(question: Question, answer: Answer) -> Levels | Fault:
        assert isinstance(question, Listed), "the questions are those made above"
        return read_levels(answer, question.wanted)

    return simulate_by_asking(llm, one_by_one if size == 1 else by_batch, read)


@dataclass(frozen=True, eq=False)
class Listing:
    """The tokens of a row as numbered lines; `number[column]`: that of the token at each column, BOS having none."""

    text: str
    number: Int[np.ndarray, " t"]

    @staticmethod
    def of(text: Text, row: int, end: int) -> "Listing":
        """Up to the column `end`, itself left out: what is behind the last token asked about is not shown."""
        mask = text.rows.mask[row, :end]
        tokens = text.rows.tokens[row, :end][mask].tolist()
        lines = (f"{i}\t{on_a_line(text.pieces[token])}" for i, token in enumerate(tokens, 1))
        return Listing("\n".join(lines), np.cumsum(text.rows.mask[row]))

    def numbers(self, positions: Int[np.ndarray, " n"]) -> tuple[int, ...]:
        """The numbers of tokens, at positions (row * t + column)."""
        return tuple(self.number[positions % len(self.number)].tolist())

    def told_of(self, numbers: Sequence[int]) -> str:
        """Which of its tokens a reply is to tell of, in words: numbers that follow one another as 3-7."""
        return told_of(numbers, self.text.count("\n") + 1)


def told_of(numbers: Sequence[int], tokens: int) -> str:
    """`numbers`, ascending, of so many tokens, in words."""
    if len(numbers) == tokens:
        return "all tokens"
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(np.array(numbers), cuts)]
    listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f"no other tokens than {listed}"


def chat_within(llm: Llm, said: tuple[Message, ...], tokens: int, seed: int, held: str | None) -> Chat | Fault:
    """The request, with room for a list of so many tokens, or as much as the context leaves.

    A Fault where it leaves next to none. Where the context is not known, the server will say.
    """
    room = _TOKENS_MORE + tokens
    if llm.context:
        prompt = len(llm.tokens.chat_prefix(said))
        room = min(room, llm.context - prompt)
        if room < _LEAST_ROOM:
            reason = (
                f"a prompt of {counted(prompt, 'token')} leaves no room for an answer; the context of {llm.name} is "
            )
            return Fault("beyond context", f"{reason}{llm.context}")
    return Chat(said, room, seed=seed, schema=held)


def _held_to(schema: str, llm: Llm, say: Callable[[str], object]) -> str | None:
    """The schema, where answers can be held to one; None where not: JSON is asked for in words, which is said.

    It is checked in either case. Raises LlmError where the server failed, and either may be true.
    """
    reason = "it does not offer that"
    if "schema" in llm.asker.wire.abilities:
        found = llm.tried("schema")
        if "schema" in found.truthful:
            return schema
        reason = found.refused["schema"]
        if "schema" in found.failed:
            raise LlmError(
                f"whether {llm.name} holds its answers to a JSON schema, which the prompt depends on, cannot be told: "
                f"{reason}; run again once it answers, or set simulate.schema to never, which asks for JSON in words"
            )
    say(f"structured asks {llm.name} for JSON in words, without a schema: {reason}")
    return None
