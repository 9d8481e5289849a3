"""Judges that answer scorers over HTTP: one who knows the truth, one who guesses, one who always says the same.

Tokens are letters, and a latent of `planted` fires at one of them, which its sentence names: whoever reads sentence and
texts can know the truth, from nothing but what was sent.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llm.server import VOCABULARY, Server, drawn, serve
from plainspoken.config import LlmServiceConfig
from plainspoken.corpus.pieces import _ALPHABET
from plainspoken.llm.open import Llm, open_llm

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
PIECES = [f" {letter}".encode() for letter in LETTERS]
SPOKEN = 8
SENTENCES = {latent: f"fires at {LETTERS[latent + 1]}" for latent in range(SPOKEN)}
Judge = Callable[[str], str]


def asked(conversation: str) -> tuple[str, list[str]]:
    """(sentence, texts) of the last question; no texts where something else is asked (the probe)."""
    last = conversation.rpartition("Description: ")[2]
    sentence, _, rest = last.partition("\n\n")
    return sentence, re.findall(r"^Text \d+: (.*)$", rest, re.MULTILINE)


def knowing(conversation: str) -> str:
    """The truth."""
    sentence, texts = asked(conversation)
    if not texts:
        return "1"
    letter = sentence.removeprefix("fires at ")
    if "does not belong" in conversation:
        return str(1 + [letter in text.split() for text in texts].index(False))
    if "right places" in conversation:
        marked = [set("".join(re.findall(r"<<(.*?)>>", text)).split()) for text in texts]
        return str([int(words == {letter}) for words in marked])
    return str([int(letter in text.split()) for text in texts])


def guessing(conversation: str) -> str:
    """As good as random, always the same."""
    _, texts = asked(conversation)
    draw = np.random.default_rng(list(hashlib.sha256(conversation.encode()).digest()))
    if not texts or "does not belong" in conversation:
        return str(draw.integers(max(len(texts), 1)) + 1)
    return str(draw.integers(0, 2, len(texts)).tolist())


def constant(answer: int) -> Judge:
    """Always the same."""

    def judge(conversation: str) -> str:
        _, texts = asked(conversation)
        return str([answer] * len(texts)) if texts and "does not belong" not in conversation else "1"

    return judge


def spelled_brain(ids: tuple[int, ...]) -> np.ndarray:
    """Next-byte log-probabilities: even, but that after a blank the letter is expected that the sentence names."""
    text = bytes(ids).decode()
    odds = np.full(VOCABULARY, 1.0)
    odds += drawn(ids).random(VOCABULARY) * 1e-2  # a probe wants no two prompts alike
    told = re.search(r"fires at (\w)\n\n", text)
    if told and text.endswith(" "):
        odds[ord(told[1])] = 9 * VOCABULARY
    return np.log(odds / odds.sum())


@contextmanager
def judged_by(judge: Judge, folder: Path, **more: object) -> Iterator[tuple[Llm, Server]]:
    """A judge behind a server, asked through the client with a cache in the folder."""
    with serve(Server(reply=judge, brain=spelled_brain, **more)) as server:
        llm = open_llm(service(server, folder), folder)
        try:
            yield llm, server
        finally:
            llm.close()


def service(server: Server, folder: Path) -> LlmServiceConfig:
    """The settings that reach it; its tokens are bytes."""
    name = folder / "bytes"
    if not name.exists():
        byte_tokenizer().save_pretrained(name)
    return LlmServiceConfig("openai", "test", server.url, tokenizer=str(name), retries=0, timeout_s=20.0)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte a token, its id the byte."""
    tokenizer = Tokenizer(models.BPE(vocab=dict(_ALPHABET), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
