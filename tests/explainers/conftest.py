"""A small text with planted latents, and a language model on loopback that answers whatever a test has it say."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from explain_scene import (
    CAT,
    CONTEXT,
    DOCUMENTS,
    DOG,
    HER,
    LATENTS,
    NO_SYSTEM,
    PIECES,
    RARE,
    SAW,
    SINGLE,
    TEMPLATE,
    WORDS,
    T,
    dense_table,
)  # fmt: skip
from llm.server import Server, serve
from plainspoken.config import ExplainConfig, LlmServiceConfig
from plainspoken.explainers import ExplainMeans
from plainspoken.language.text import Text
from plainspoken.latents import FiringTable
from plainspoken.llm.open import open_llm
from plainspoken.types import Rows


@pytest.fixture(scope="session")
def text() -> Text:
    """Two rows a document of random words, BOS in front, the second row half padding."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, len(WORDS), (2 * DOCUMENTS, T)).astype(np.int32)
    mask = np.ones(tokens.shape, bool)
    mask[:, 0] = False
    mask[1::2, 20:] = False
    tokens[~mask] = 0
    keys = tuple(f"document {i}" for i in range(DOCUMENTS))
    return Text(Rows(tokens, mask, np.repeat(np.arange(DOCUMENTS), 2).astype(np.int32), keys, "explain"), PIECES)


@pytest.fixture(scope="session")
def table(text: Text) -> FiringTable:
    """Fires: on “cat” at 9 and “dog” at 3; on “her” or “the” right after “saw” at 5; never; at one token."""
    tokens, mask = text.rows.tokens, text.rows.mask
    before = np.roll(tokens, 1, axis=1)
    values = np.zeros((tokens.size, LATENTS), np.float32)
    values[:, SINGLE] = np.where(tokens == CAT, 9.0, np.where(tokens == DOG, 3.0, 0.0)).ravel()
    values[:, CONTEXT] = np.where((before == SAW) & ((tokens == HER) | (tokens == 1)), 5.0, 0.0).ravel()
    values[7, RARE] = 2.0
    values[~mask.ravel()] = 0
    return dense_table(values, text.rows)


@pytest.fixture(scope="session")
def tokenizers(byte_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of one tokenizer: with a chat template, with one that refuses system messages, without any."""
    found = {}
    kept = byte_tokenizer.chat_template
    for name, template in (("chat", TEMPLATE), ("no system", NO_SYSTEM), ("plain", None)):
        found[name] = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
        byte_tokenizer.chat_template = template
        byte_tokenizer.save_pretrained(found[name])
    byte_tokenizer.chat_template = kept
    return found


@pytest.fixture
def ask(tokenizers: dict[str, Path], tmp_path: Path) -> Callable[..., AbstractContextManager[ExplainMeans]]:
    """`with ask(server, template, **settings) as means`: what an explainer works with, its model the server."""

    @contextmanager
    def asking(server: Server, template: str = "chat", **settings) -> Iterator[ExplainMeans]:
        settings = {"least_examples": 2, "window": 8, "examples": 10, "quantiles": 5, **settings}
        with serve(server):
            service = LlmServiceConfig(
                service="openai", model="test", base_url=server.url, tokenizer=str(tokenizers[template]),
                retries=0, timeout_s=20.0,
            )  # fmt: skip
            llm = open_llm(service, tmp_path / "answers")
            try:
                yield ExplainMeans(ExplainConfig(**settings, llm=service), 0, llm)
            finally:
                llm.close()

    return asking
