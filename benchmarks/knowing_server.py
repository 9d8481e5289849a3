"""A language model server on loopback that knows the true activations, computes nothing, and counts as servers do.

It speaks the protocol of tests/llm/server.py. Of log-probabilities it tells some, as good as random, which cost what
true ones do. In words it says what is true: the level of every pair that it is asked for, so that an answer is as long
as that of a model that knows. Usage: prompt tokens by the model's own tokenizer and template, cached ones in
blocks (of 16 tokens in vLLM, of one in SGLang and llama.cpp), those that were read last being kept, answer tokens by
the tokenizer.
"""

import json
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["Blocks", "KnowingServer", "Truth", "serve"]

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from llm.server import Server, serve
from plainspoken.language.text import Text
from plainspoken.llm.requests import Message
from plainspoken.llm.tokens import LlmTokens
from plainspoken.simulators.passages import on_a_line

ROOM = 2**19
"""Tokens that the prefix cache keeps: 64 GB of an 8B model's keys and values in 16 bits."""

Ids = tuple[int, ...]


@dataclass(eq=False)
class Blocks:
    """A server's prefix cache, nearly: whole blocks by what they hold and all before them, the least used let go first.

    Prompts are read one after another; at least the last token of each is computed.
    """

    size: int
    known: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def hits(self, ids: Ids) -> int:
        """How many tokens of the prompt were there; it is there from now on."""
        hashes, before = list[int](), 0
        for at in range(0, len(ids) - self.size + 1, self.size):
            before = hash((before, ids[at : at + self.size]))
            hashes.append(before)
        there = next((i for i, each in enumerate(hashes) if each not in self.known), len(hashes))
        for each in reversed(hashes):  # the beginning is used last: what goes on from it is let go before it
            self.known[each] = None
            self.known.move_to_end(each)
        while len(self.known) * self.size > ROOM:
            self.known.popitem(last=False)
        return min(there, (len(ids) - 1) // self.size) * self.size


@dataclass(frozen=True, eq=False)
class Truth:
    """The levels, 0 to 9, of `latents` at every token of a text, in the order row, token."""

    text: Text
    level: Float[np.ndarray, "row t latents"]

    def row_of(self, lines: list[str]) -> int:
        """The row that begins with these tokens. Raises StopIteration where none does."""
        rows = self.text.rows
        for row in range(len(rows.tokens)):
            some = rows.tokens[row][rows.mask[row]][: len(lines)].tolist()
            if [on_a_line(self.text.pieces[token]) for token in some] == lines:
                return row
        raise StopIteration("no row begins like this")

    def at(self, row: int, number: int, latent: int) -> int:
        """The level of a latent at the row's token of this number, from 1, as a digit."""
        columns = np.flatnonzero(self.text.rows.mask[row])
        return round(float(self.level[row, columns[number - 1], latent]))


@dataclass
class KnowingServer(Server):
    """`tokens`: the model's; `truth`: what it knows; `sentences`: the latent that each is about."""

    tokens: LlmTokens | None = None
    truth: Truth | None = None
    sentences: dict[str, int] = field(default_factory=dict)
    blocks: Blocks = field(default_factory=lambda: Blocks(1))

    def cache_hits(self, ids: Ids) -> int:
        return self.blocks.hits(ids)

    def chat(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self.tokens is not None
        said = [Message(message["role"], message["content"]) for message in asked["messages"]]
        prompt, answer = self.tokens.chat_prefix(said), self.words(said[-1].content)
        drawn = len(self.tokens.encode(answer))
        finish = "stop" if drawn <= asked["max_tokens"] else "length"
        choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": finish}
        body = self._body("chat.completion", [choice], len(prompt), self.cache_hits(prompt))
        body["usage"]["completion_tokens"] = min(drawn, asked["max_tokens"])
        return body

    def words(self, said: str) -> str:
        """The levels that a conversation asks for, as JSON."""
        if "Name a cat." in said:
            return '{"answer": "kept"}'
        found = re.search(r"Text:\n(.*?)\n\n(?:Explanation: (.*)\n\n)?Tell of (.*)\.$", said, re.DOTALL)
        if found is None:
            return "Hello."
        assert self.truth is not None
        many = re.search(r"^Explanations:\n(.*?)\n\nText:\n", said, re.DOTALL)
        numbered = re.findall(r"^(\d+)\. (.*)$", many[1], re.MULTILINE) if many else [("", found[2])]
        lines = [line.partition("\t")[2] for line in found[1].split("\n")]
        row = self.truth.row_of(lines)
        matches = [
            [*([int(number)] if number else []), n, level]
            for number, sentence in numbered
            for n in _numbers(found[3], len(lines))
            if (level := self.truth.at(row, n, self.sentences[sentence]))
        ]
        return json.dumps({"levels": matches}, separators=(",", ":"))

    def _choice(self, index: int, ids: Ids, asked: dict[str, Any]) -> dict[str, Any]:
        prompt = hash(ids)
        top = {f"token_id:{i}": -3 - (hash((prompt, i)) % 2**20) / 2**20 for i in asked["logprob_token_ids"]}
        logprobs = {"tokens": [next(iter(top))], "top_logprobs": [top]}
        return {"index": index, "text": "0", "finish_reason": "length", "logprobs": logprobs}


def _numbers(which: str, lines: int) -> list[int]:
    if which == "all tokens":
        return list(range(1, lines + 1))
    runs = [run.partition("-") for run in which.removeprefix("no other tokens than ").split(", ")]
    return [n for first, _, last in runs for n in range(int(first), int(last or first) + 1)]
