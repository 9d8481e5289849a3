"""A run whose sentences a language model writes and another reads, both on one server on loopback."""

from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np

from explain_scene import says
from llm.server import Server, drawn
from plainspoken.config import Config, LimitsConfig

SAID = "On the ends of words, and on nothing else at all"


def odds(ids: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of the tests' tokenizer, made of the whole prompt."""
    logits = drawn(ids).normal(size=320)
    return logits - np.log(np.exp(logits).sum())


def telling() -> Server:
    """The server: every prompt has a sentence of its own, and odds of its own."""
    return Server(reply=says(lambda prompt: f"[EXPLANATION]: {SAID}, {crc32(prompt.encode())}."), brain=odds)


def told_config(tiny: Config, url: str, assistant: Path) -> Config:
    """The tests' tiny run, explained by `writer` and simulated at the last token of each row by `judge`."""
    judge = replace(
        tiny.simulate.llm, service="openai", model="judge", tokenizer=str(assistant), retries=0, base_url=url,
        price_in=2.0,
    )  # fmt: skip
    explain = replace(
        tiny.explain, explainer="default", latents=6, least_examples=2, window=8, examples=10, quantiles=5, words=20,
        llm=replace(judge, model="writer"),
    )  # fmt: skip
    simulate = replace(tiny.simulate, simulator="last-token", calibrate_positions="last", least_mass=1e-9, llm=judge)
    evaluate = replace(tiny.evaluate, positions="last")
    return replace(tiny, explain=explain, simulate=simulate, evaluate=evaluate, limits=LimitsConfig(concurrency=1))
