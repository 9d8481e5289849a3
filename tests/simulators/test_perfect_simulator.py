"""Simulators over real HTTP: one that knows the truth recovers the coder's loss, a silent one leaves zero-latents'.

The server speaks the protocol on a socket; prompts, client, tokens, levels, calibration and splicing are the real ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from knowing import Asked, Knowing, knows, lists, shown_at
from llm.server import Server, serve
from plainspoken.config import EvaluateConfig, LlmServiceConfig, SimulateConfig
from plainspoken.evaluate import SiteFacts, evaluate
from plainspoken.language.text import Text
from plainspoken.llm.open import Llm, open_llm
from plainspoken.llm.tokens import LlmTokens
from plainspoken.rewrite import Spoken, gather
from plainspoken.rewrite.spans import spans
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.simulators.token_level import LEVELS
from plainspoken.types import Rows, Simulation
from planted import LATENTS, SITE, Planted, fires, make_rows, maximum, table_of

SENTENCES = {latent: f"Latent {latent}." for latent in range(LATENTS)}
FACTS = {SITE.module: SiteFacts(words_mean=2, words_max=2, latents=LATENTS, explained=LATENTS, failures=0)}
CALIBRATE, EVALUATE = make_rows("calibrate", documents=4), make_rows("evaluate", documents=3)
WAYS = [
    ("last-token", "auto", 1),
    ("all-at-once", "fan-out", 1),
    ("batched", "fan-out", 9),
    ("structured", "auto", 1),
    ("structured", "auto", 9),
    ("token-level", "fan-out", 1),
    # The test server thinks about every token of a prompt by itself.
    *(
        pytest.param(name, "echo", batch, marks=pytest.mark.slow)
        for name, batch in (("all-at-once", 1), ("batched", 9), ("token-level", 1))
    ),
]
"""Every simulator that asks, and every strategy on a server: (name, strategy, latents in a prompt)."""
LUCK = 3
"""Standard deviations that one draw at random may be better than the means."""


@contextmanager
def served(level: Callable[[Asked], float], tokens: LlmTokens, name: str, folder: Path, cache: Path) -> Iterator[Llm]:
    """A language model on loopback that knows so much."""
    brain = Knowing(tokens, level, LEVELS if name == "token-level" else ())
    with serve(Server(brain=brain, reply=lists(level), keep_bodies=False)) as server:
        config = LlmServiceConfig("openai", "test", server.url, tokenizer=str(folder), retries=1, timeout_s=20)
        llm = open_llm(config, cache)
        try:
            yield llm
        finally:
            llm.close()


def rewritten(
    planted: Planted, llm: Llm, name: str, strategy: str, batch: int, calibrator: str, positions: str
) -> dict[str, dict]:
    """The evaluation's records by condition, all latents rewritten from what the simulator says."""
    config = SimulateConfig(simulator=name, strategy=strategy, batch=batch, llm=LlmServiceConfig("openai"))
    simulate = simulator_named(name).opens(SimulateMeans(config, 0, llm))

    def heard(rows: Rows):
        asked = spans(rows.mask, positions).spliced
        if calibrator == "none" and rows is CALIBRATE:
            asked[1:] = False  # nothing is learnt from them
        found, failures = simulate(SENTENCES, LATENTS, Text(rows, planted.lm.pieces.table), asked)
        assert not failures, failures[0].reason
        return found

    spoken = Spoken(heard(CALIBRATE), heard(EVALUATE), np.ones(LATENTS, bool))
    return measured(planted, spoken, calibrator, positions)


def measured(
    planted: Planted, spoken: Spoken, calibrator: str, positions: str, fit: Rows = CALIBRATE
) -> dict[str, dict]:
    """The evaluation's records by condition, calibrated on the rows `fit`."""
    material = gather(SITE, planted.coder, spoken, table_of(fit), maximum(), calibrator=calibrator, seed=0)
    plan = EvaluateConfig(fractions=(1.0,), orders=("best",), draws=1, bootstrap=50, positions=positions)
    found = evaluate(planted.lm, EVALUATE, [material], plan, FACTS, seed=0)
    return {record["condition"]: record for record in found["conditions"]}


def closed(found: dict[str, dict]) -> float:
    """The share of the gap in loss from the means to the coder that the rewrite closes."""
    means, coder = found["mean-latents"]["ce"], found["coder"]["ce"]
    return (means - found["rewritten"]["ce"]) / (means - coder)


@pytest.fixture(scope="module")
def truth(planted: Planted) -> dict[str, np.ndarray]:
    """The level of every latent by shown text."""
    levels = {}
    for rows in (CALIBRATE, EVALUATE):
        true = 9.0 * fires(rows).reshape(-1, LATENTS)
        levels |= {shown: true[at] for shown, at in shown_at(Text(rows, planted.lm.pieces.table)).items()}
    return levels


def drawn(rows: Rows, generator: np.random.Generator, knowing: float = 0.0) -> Simulation:
    """Levels at random everywhere, but for a share of the tokens where they are true."""
    position, latent = np.nonzero(np.broadcast_to(rows.mask.reshape(-1, 1), (rows.mask.size, LATENTS)))
    level = generator.uniform(0, 9, len(position))
    told = (generator.random(rows.mask.size) < knowing)[position]
    level = np.where(told, 9.0 * fires(rows).reshape(-1, LATENTS)[position, latent], level).astype(np.float32)
    bare = Simulation(position[:0], latent[:0], level[:0], LATENTS, *rows.mask.shape, rows.fingerprint)
    return bare.with_entries(position, latent, level)


def share_closed(planted: Planted, seed: int, knowing: float = 0.0, leaking: bool = False) -> float:
    """What a draw closes of the gap from the means to the coder, calibrated; `leaking`: on what it is measured on."""
    generator = np.random.default_rng(seed)
    fit = CALIBRATE if not leaking else replace(EVALUATE, part="calibrate")
    calibrate, rewrite = (drawn(rows, generator, knowing) for rows in (fit, EVALUATE))
    if leaking:
        calibrate = replace(rewrite, rows_fingerprint=fit.fingerprint)
    return closed(measured(planted, Spoken(calibrate, rewrite, np.ones(LATENTS, bool)), "conditional_mean", "all", fit))


@pytest.fixture(scope="module")
def luck(planted: Planted) -> np.ndarray:
    """What 24 draws of levels at random, calibrated, close of the gap from the means to the coder."""
    return np.array([share_closed(planted, seed) for seed in range(24)])


@pytest.fixture(scope="module")
def tokens(reader_folder: Path) -> LlmTokens:
    return LlmTokens.of(AutoTokenizer.from_pretrained(reader_folder))


@pytest.mark.parametrize(("name", "strategy", "batch"), WAYS)
def test_a_perfect_simulator_recovers_the_coders_loss(
    planted: Planted,
    reader_folder: Path,
    tokens: LlmTokens,
    truth: dict,
    tmp_path: Path,
    name: str,
    strategy: str,
    batch: int,
):
    known = knows(truth, whole=True)

    def level(asked: Asked) -> float:
        """Echo tells of every place in a prompt: also of those within a token, where nothing is asked."""
        return known(asked) if strategy != "echo" or asked.shown in truth else 0.0

    with served(level, tokens, name, reader_folder, tmp_path) as llm:
        found = rewritten(planted, llm, name, strategy, batch, "none", "last")
    assert found["rewritten"]["coverage"] == 1
    assert found["rewritten"]["ce"] == pytest.approx(found["coder"]["ce"], abs=1e-6)
    assert abs(found["coder"]["ce"] - found["zero-latents"]["ce"]) > 0.01  # there was something to recover


@pytest.mark.parametrize(("name", "strategy", "batch"), WAYS)
def test_a_silent_simulator_leaves_all_latents_at_zero(
    planted: Planted, reader_folder: Path, tokens: LlmTokens, tmp_path: Path, name: str, strategy: str, batch: int
):
    with served(lambda asked: 0.0, tokens, name, reader_folder, tmp_path) as llm:
        found = rewritten(planted, llm, name, strategy, batch, "none", "last")
    assert found["rewritten"]["ce"] == pytest.approx(found["zero-latents"]["ce"], abs=1e-6)


@pytest.mark.parametrize(("name", "batch"), [("all-at-once", 1), ("structured", 1), ("structured", 9)])
def test_at_every_token_as_well(
    planted: Planted, reader_folder: Path, tokens: LlmTokens, truth: dict, tmp_path: Path, name: str, batch: int
):
    with served(knows(truth, whole=True), tokens, name, reader_folder, tmp_path) as llm:
        found = rewritten(planted, llm, name, "auto", batch, "none", "all")
    assert found["rewritten"]["ce"] == pytest.approx(found["coder"]["ce"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "strategy", "batch"), WAYS)
def test_a_simulator_at_random_is_no_better_than_the_means_once_calibrated(
    planted: Planted,
    luck: np.ndarray,
    reader_folder: Path,
    tokens: LlmTokens,
    tmp_path: Path,
    name: str,
    strategy: str,
    batch: int,
):
    """But for chance, of which one draw has up to three standard deviations (knowing closes the gap whole)."""

    def guess(asked: Asked) -> float:
        return float(np.random.default_rng([asked.latent, *asked.shown.encode()]).uniform(0, 9))

    with served(guess, tokens, name, reader_folder, tmp_path) as llm:
        found = rewritten(planted, llm, name, strategy, batch, "conditional_mean", "all")
    assert closed(found) < LUCK * luck.std(ddof=1) < 0.25


def in_standard_errors(closed: np.ndarray) -> float:
    """The mean over draws."""
    return float(closed.mean() / (closed.std(ddof=1) / len(closed) ** 0.5))


def test_levels_at_random_close_nothing_of_the_gap_from_the_means(luck: np.ndarray) -> None:
    """The mean over draws, within three standard errors."""
    assert in_standard_errors(luck) < 3


def test_they_would_if_they_were_calibrated_on_what_they_are_measured_on(planted: Planted) -> None:
    """So the bound above can be missed: it is by what leaks, even beside means that leak as well."""
    assert in_standard_errors(np.array([share_closed(planted, seed, leaking=True) for seed in range(24)])) > 3


def test_who_knows_three_tokens_in_four_closes_more_than_luck_may(planted: Planted, luck: np.ndarray) -> None:
    """So the bound of one draw can be missed."""
    found = np.array([share_closed(planted, seed, knowing=0.75) for seed in range(4)])
    assert found.min() > LUCK * luck.std(ddof=1), found
