"""The finetuned simulator's levels are those of the published scheme, a forward pass for every (token, latent)."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from plainspoken.config import LlmServiceConfig, SimulateConfig
from plainspoken.language.text import Text
from plainspoken.llm import AtPositions, Fault, NextToken, Odds, Reply
from plainspoken.llm.open import Llm, open_llm
from plainspoken.llm.tokens import LlmTokens
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.simulators.token_level import LEVELS, begin_ids, read_token_levels
from plainspoken.types import Pairs, Rows, Simulation

SENTENCES = {0: "Names of people.", 2: "Fires at 7 on “her”; 2 on “to her”."}
LATENTS = 3


def simulate(llm: Llm, text: Text, asked=None, only=None, **settings) -> tuple[Simulation, list]:
    opened = simulator_named("token-level").opens(SimulateMeans(SimulateConfig(**settings), 0, llm))
    return opened(SENTENCES, LATENTS, text, asked, only)


def dense(simulation: Simulation) -> np.ndarray:
    found = np.zeros((simulation.rows * simulation.t, simulation.latents))
    found[simulation.position, simulation.latent] = simulation.level
    return found.reshape(simulation.rows, simulation.t, simulation.latents)


@torch.inference_mode()
def oracle(lm, prompt: list[int]) -> tuple[float, float]:
    """(level, discarded) behind a prompt: one plain forward, the softmax over the first eleven logits alone."""
    logits = lm.model(torch.tensor([prompt])).logits[0, -1].double()
    level = 0.9 * float(logits[:11].softmax(0) @ torch.arange(11.0, dtype=torch.float64))
    return level, 1 - float(logits.softmax(0)[:11].sum())


def one_by_one(lm, text: Text, spelled) -> tuple[np.ndarray, np.ndarray]:
    """[row, t, latents] of levels and of what is discarded; `spelled`: an id of the text to those of the simulator."""
    levels = np.zeros((*text.rows.tokens.shape, LATENTS))
    discarded = np.full(levels.shape, np.nan)
    for latent, sentence in SENTENCES.items():
        prefix = lm.tokenizer(f"## Neuron Description: {sentence}\n\n ## Input: ", add_special_tokens=False)[
            "input_ids"
        ]
        for row, column in np.argwhere(text.rows.mask):
            seen = text.rows.tokens[row, : column + 1][text.rows.mask[row, : column + 1]]
            prompt = [lm.bos_id, *prefix, *(t for token in seen.tolist() for t in spelled(token))]
            levels[row, column, latent], discarded[row, column, latent] = oracle(lm, prompt)
    return levels, discarded


@pytest.fixture
def opened(llama_folder: Path, tmp_path: Path):
    """Opens a simulator whose tokenizer is that of the text, by default with room for the prompts."""
    folder, llms = tmp_path / "same", list[Llm]()
    folder.mkdir()
    for file in llama_folder.iterdir():
        content = file.read_bytes().replace(b'"max_position_embeddings": 64', b'"max_position_embeddings": 128')
        (folder / file.name).write_bytes(content)

    def opens(context: int = 0) -> Llm:
        config = LlmServiceConfig(model=str(folder), context=context)
        llms.append(open_llm(config, tmp_path / f"answers {context}", device="cpu", dtype="float32"))
        return llms[-1]

    yield opens
    for llm in llms:
        llm.close()


@pytest.fixture
def same(opened) -> Llm:
    """The same, opened."""
    return opened()


@pytest.mark.parametrize("strategy", ["auto", "fan-out"])
def test_levels_are_those_of_a_forward_pass_for_every_token(same: Llm, passages: Text, llama, strategy: str):
    simulation, failures = simulate(same, passages, strategy=strategy)
    levels, discarded = one_by_one(llama, passages, lambda token: [token])
    assert not failures and simulation.complete
    np.testing.assert_allclose(dense(simulation), levels, atol=1e-4)
    told = simulation.discarded
    assert told is not None and np.isnan(told[1])
    np.testing.assert_allclose(told[[0, 2]], np.nanmean(discarded[..., [0, 2]], axis=(0, 1)), atol=1e-4)


def test_one_pass_for_each_latent_and_row(same: Llm, passages: Text, monkeypatch):
    seen, send = [], same.asker.wire.send

    async def watch(request):
        seen.append(request)
        return await send(request)

    opened = simulator_named("token-level").opens(SimulateMeans(SimulateConfig(), 0, same))
    monkeypatch.setattr(same.asker.wire, "send", watch)
    opened(SENTENCES, LATENTS, passages)
    assert len(seen) == len(SENTENCES) * len(passages.rows.tokens)
    assert all(isinstance(request, AtPositions) and request.answers == tuple(range(11)) for request in seen)
    texts = [same.tokens.text(request.prompt) for request in seen]
    assert texts[0].startswith("## Neuron Description: Names of people.\n\n ## Input: def")
    assert all(request.prompt[0] == same.tokens.begin[0] for request in seen)


def test_a_text_of_another_tokenizer_is_read_behind_the_last_token_that_spells_each(same: Llm, llama):
    pieces = [b"", b" grandmother", b"", b" Lily", b"\xc3", b"\xa9", b"\n\n", b" the park"]
    tokens = np.array([[0, 3, 1, 4, 5, 7, 6], [0, 1, 1, 3, 2, 7, 0]], np.int32)
    mask = np.array([[False] + [True] * 6, [False] + [True] * 5 + [False]])
    text = Text(Rows(tokens, mask, np.arange(2, dtype=np.int32), ("a", "b"), "calibrate"), pieces)
    simulation, failures = simulate(same, text)
    assert not failures and simulation.complete

    def spelled(token: int) -> list[int]:
        """Byte by byte where a piece is no whole character: this tokenizer has a token for every byte."""
        table = llama.pieces.table
        if token in (4, 5):
            return [table.index(pieces[token])]
        return llama.tokenizer(pieces[token].decode(), add_special_tokens=False)["input_ids"]

    levels, _ = one_by_one(llama, text, spelled)
    assert levels[1, 4, 0] == levels[1, 3, 0]  # a token that spells nothing
    np.testing.assert_allclose(dense(simulation), levels, atol=1e-4)


def test_only_what_is_asked_about_is_told_and_as_it_is_in_the_whole(same: Llm, passages: Text):
    whole, _ = simulate(same, passages)
    asked = np.random.default_rng(0).random(passages.rows.mask.shape) < 0.5
    some, _ = simulate(same, passages, asked)
    np.testing.assert_allclose(dense(some), dense(whole) * (asked & passages.rows.mask)[..., None], atol=1e-4)
    pairs = Pairs(np.array([1, 1, 14, 22]), np.array([0, 2, 2, 0]))
    few, _ = simulate(same, passages, None, pairs)
    expected = np.zeros_like(dense(whole)).reshape(-1, LATENTS)
    expected[pairs.position, pairs.latent] = dense(whole).reshape(-1, LATENTS)[pairs.position, pairs.latent]
    np.testing.assert_allclose(dense(few).reshape(-1, LATENTS), expected, atol=1e-4)


def test_what_lies_beyond_the_context_is_missing_and_what_does_not_is_told(opened, passages: Text):
    whole, _ = simulate(opened(), passages)
    llm = opened()
    prefix = 1 + len(llm.tokens.encode(f"## Neuron Description: {SENTENCES[0]}\n\n ## Input: "))
    simulation, failures = simulate(opened(prefix + 6), passages)
    assert {(failure.kind, failure.latent) for failure in failures} == {("beyond context", 0), ("beyond context", 2)}
    told = simulation.position[simulation.latent == 0]
    assert told.tolist() == [row * 10 + column for row in range(3) for column in range(1, 6)]
    assert len(simulation.missing_position) == 2 * int(passages.rows.mask.sum()) - len(told)
    np.testing.assert_allclose(
        simulation.level, whole.level[np.isin(whole.position, told) & (whole.latent == 0)], atol=1e-4
    )


def test_the_published_begin_of_text_begins_a_prompt_where_the_tokenizer_has_it(llama_folder: Path):
    tokenizer = AutoTokenizer.from_pretrained(str(llama_folder))
    assert begin_ids(LlmTokens.of(tokenizer)) == (0,)
    tokenizer.add_tokens([AddedToken("<||begin_of_text||>", special=True)])
    assert begin_ids(LlmTokens.of(tokenizer)) == (len(tokenizer) - 1,)


def odds(rows: list[list[float]]) -> Odds:
    return Odds(np.array(rows, np.float64).reshape(len(rows), -1))


def test_a_level_is_nine_tenths_of_the_mean_over_eleven_whatever_else_is_likely():
    logprob = np.log(np.full(11, 1e-30))
    logprob[10] = np.log(1e-20)
    levels = read_token_levels(odds([logprob.tolist(), np.log(np.eye(11)[0] + 1e-300).tolist()]))
    np.testing.assert_allclose(levels.level, [9, 0], atol=1e-6)
    np.testing.assert_allclose(levels.discarded, [1, 0], atol=1e-6)
    assert levels.enough.all()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Fault("server", "gone"), "server"),
        (Fault("refused", "no"), "refused"),
        (Reply("7", "stop"), "server"),
        (odds([[-1.0] * 10]), "server"),
        (odds([[np.nan] + [-1.0] * 10]), "server"),
    ],
)
def test_another_answer_is_a_fault(answer, kind: str):
    found = read_token_levels(answer)
    assert isinstance(found, Fault) and found.kind == kind


def test_no_probability_at_all_is_not_enough():
    levels = read_token_levels(odds([[-np.inf] * 11]))
    assert not levels.enough.any()


def test_an_answer_is_that_of_its_own_request(same: Llm):
    prompt = tuple(same.tokens.encode("Once upon a time"))
    whole = asyncio.run(same.asker.wire.send(AtPositions(prompt, (1, 2), LEVELS)))
    alone = asyncio.run(same.asker.wire.send(NextToken((prompt[:2], prompt[:3]), LEVELS)))
    np.testing.assert_allclose(read_token_levels(whole).level, read_token_levels(alone).level, atol=1e-4)
