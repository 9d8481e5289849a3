"""A perfect simulator behind the real protocol: a brain that reads the prompt, and knows how the latent truly fires.

Explanations name their latent ("Latent 7."), which is all that the brain is told of it; the token it finds by the text
that the prompt shows. What it makes of any other prompt is as good as random, as a language model's answer is.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from plainspoken.language.text import Text
from plainspoken.llm.tokens import LlmTokens
from plainspoken.simulators.last_token import WINDOW
from plainspoken.simulators.passages import on_a_line, passage
from plainspoken.simulators.token_level import LEVELS

KEPT = 0.9
"""The probability that all digits get together."""


@dataclass(frozen=True)
class Asked:
    """What a prompt asks about: a latent, and the text as it is shown up to the token."""

    latent: int
    shown: str


def asked_by(prompt: str) -> Asked | None:
    """What the prompt of any of the simulators asks about; None for another prompt."""
    question, _, answer = prompt.rpartition("[user] ")[2].rpartition("\n[assistant] ")
    if found := re.fullmatch(r"Explanation: Latent (\d+)\.\n\nText: (.*)", question, re.DOTALL):
        return Asked(int(found[1]), found[2])
    if found := re.fullmatch(r"Explanations:\n(.*?)\n\nText: (.*)\n\nLast token: <<.*>>", question, re.DOTALL):
        number = answer.rpartition("\n")[2].partition("\t")[0]
        latent = re.search(rf"^{number}\. Latent (\d+)\.$", found[1], re.MULTILINE)
        return Asked(int(latent[1]), found[2]) if latent else None
    if found := re.fullmatch(r"Explanation: Latent (\d+)\.", question):
        lines = answer.split("\n")[1:]  # the first is the table's header
        return Asked(int(found[1]), "\n".join(line.partition("\t")[0] for line in lines)) if lines else None
    return None


def shown_at(text: Text) -> dict[str, int]:
    """The position of every token of the text, by each way in which a prompt shows the text up to it."""
    t = text.rows.tokens.shape[1]
    found: dict[str, int] = {}
    for position in np.flatnonzero(text.rows.mask).tolist():
        row, column = divmod(position, t)
        mask = text.rows.mask[row, : column + 1]
        lines = "\n".join(on_a_line(text.pieces[i]) for i in text.rows.tokens[row, : column + 1][mask].tolist())
        whole = passage(text, position)
        for shown in (whole.marked, passage(text, position, WINDOW).marked, lines, whole.before + whole.token):
            found.setdefault(shown, position)
    return found


@dataclass(frozen=True, eq=False)
class Knowing:
    """The brain: token ids to log-probabilities of all tokens. `level`: from (latent, shown text) to 0 to 9.

    A level between two digits is told as a mixture of both, so that the expected digit is the level itself. `likely`:
    tokens that other prompts make the likeliest, which are all that echo tells (none: the digits).
    """

    tokens: LlmTokens
    level: Callable[[Asked], float]
    likely: tuple[int, ...] = ()

    @cached_property
    def digits(self) -> tuple[int, ...]:
        """The digits' token ids."""
        return self.tokens.digits(self.tokens.encode("\t"))

    @cached_property
    def others(self) -> np.ndarray:
        """What other prompts are answered with, float64[v v]: noise, turned by what they are."""
        noise = np.random.default_rng(0).normal(size=len(self.tokens.pieces.table))
        odds = np.stack([np.roll(noise, turn) for turn in range(len(noise))])
        odds[:, list(self.likely or self.digits)] += 20
        return odds - np.log(np.exp(odds).sum(axis=1, keepdims=True))

    @cached_property
    def other(self) -> int:
        """A token that is no digit."""
        return self.tokens.encode("x")[0]

    def __call__(self, ids: tuple[int, ...]) -> np.ndarray:
        size = len(self.tokens.pieces.table)
        # Echo asks about every token of a prompt: it is spelled whole only where it may be one that is answered.
        described = self.tokens.text(ids[: len(_HEADING) + 1]).startswith(_HEADING)
        if described and (found := re.fullmatch(_DESCRIBED, self.tokens.text(ids), re.DOTALL)):
            return self.finetuned(Asked(int(found[1]), found[2]))
        text = self.tokens.text(ids) if self.tokens.pieces.table[ids[-1]] in (b"\t", b" ") else ""
        asked = asked_by(text) if text.endswith(("\t", "[assistant] ")) else None
        digits = self.digits
        if asked is None:
            return self.others[hash(ids) % size]
        chance = np.full(size, 1e-15)
        chance[list(digits)] = 1e-12
        level = self.level(asked)
        low = min(int(level), 8)
        chance[digits[low]] += KEPT * (1 - (level - low))
        chance[digits[low + 1]] += KEPT * (level - low)
        chance[self.other] += 1 - chance.sum()
        return np.log(chance.clip(1e-30))

    def finetuned(self, asked: Asked) -> np.ndarray:
        """As the finetuned simulator tells it: at the place of the token, over the first ids of the vocabulary."""
        chance = np.full(len(self.tokens.pieces.table), 1e-15)
        chance[list(LEVELS)] = 1e-12
        level = self.level(asked) * (len(LEVELS) - 1) / 9
        low = min(int(level), len(LEVELS) - 2)
        chance[LEVELS[low]] += KEPT * (1 - (level - low))
        chance[LEVELS[low + 1]] += KEPT * (level - low)
        chance[self.other] += 1 - chance.sum()
        return np.log(chance)


_HEADING = "## Neuron"
_DESCRIBED = r"## Neuron Description: Latent (\d+)\.\n\n ## Input: (.*)"


@dataclass(frozen=True)
class AskedInWords:
    """What a conversation asks for as JSON: of which latents, by the number of their explanation where there are many,
    at which numbered tokens; the token texts as they are shown, one a line."""

    latents: dict[int | None, int]
    lines: list[str]
    numbers: list[int]


def asked_in_words(said: str) -> AskedInWords | None:
    """What the conversation asks for; None for another one."""
    one = re.search(r"Text:\n(.*)\n\nExplanation: Latent (\d+)\.\n\nTell of (.*)\.$", said, re.DOTALL)
    many = re.search(r"Explanations:\n(.*?)\n\nText:\n(.*)\n\nTell of (.*)\.$", said, re.DOTALL)
    if many is not None:
        numbered = re.findall(r"^(\d+)\. Latent (\d+)\.$", many[1], re.MULTILINE)
        latents, listing, which = {int(n): int(latent) for n, latent in numbered}, many[2], many[3]
    elif one is not None:
        latents, listing, which = {None: int(one[2])}, one[1], one[3]
    else:
        return None
    lines = [line.partition("\t")[2] for line in listing.split("\n")]
    if which == "all tokens":
        return AskedInWords(latents, lines, list(range(1, len(lines) + 1)))
    runs = [run.partition("-") for run in which.removeprefix("no other tokens than ").split(", ")]
    return AskedInWords(
        latents, lines, [n for first, _, last in runs for n in range(int(first), int(last or first) + 1)]
    )


def lists(level: Callable[[Asked], float]) -> Callable[[str], str]:
    """What the model says in words: the levels as JSON, where a conversation asks for them."""

    def reply(said: str) -> str:
        asked = asked_in_words(said)
        if asked is None:
            return "What is it?"
        shown = {n: "\n".join(asked.lines[:n]) for n in asked.numbers}
        told = [
            [*([] if number is None else [number]), n, round(level(Asked(latent, shown[n])))]
            for number, latent in asked.latents.items()
            for n in asked.numbers
        ]
        return json.dumps([match for match in told if match[-1]], separators=(",", ":"))

    return reply


def knows(levels: Mapping[str, np.ndarray], whole: bool) -> Callable[[Asked], float]:
    """The true level by shown text, of every latent; `whole`: to the nearest digit. KeyError for a text not known."""

    def level(asked: Asked) -> float:
        found = float(levels[asked.shown][asked.latent])
        return float(np.rint(found)) if whole else found

    return level
