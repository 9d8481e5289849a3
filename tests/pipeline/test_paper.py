"""The preset `paper`: its numbers are the paper's, and it runs whole on stand-ins that a user could name.

The stand-ins are a random GPT-NeoX of seven layers, a small text, a small coder, and two servers on loopback: the 70B
model, which calls each latent by a number and guesses when it scores, and the 8B model, which knows how the latent of
that number truly fires.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from judges import guessing
from knowing import Asked, Knowing
from llm.server import Server, serve
from plainspoken.coders import load_coder
from plainspoken.config import Config, flat_settings, load_config
from plainspoken.language.text import Text
from plainspoken.llm.tokens import LlmTokens
from plainspoken.lm import capture
from plainspoken.pipeline import STAGES, dry_run, explanations, llm_costs, run
from plainspoken.pipeline.results import Results
from plainspoken.pipeline.shelves import SHARES, simulated_rows
from plainspoken.pipeline.speech import tokens_asked
from plainspoken.pipeline.stages.calibrate import maximum
from plainspoken.pipeline.workplace import Workplace
from plainspoken.simulators.last_token import WINDOW
from plainspoken.simulators.passages import passage
from plainspoken.store import Manifest

FFN, RESID = "gpt_neox.layers.6.mlp", "gpt_neox.layers.6"
SITES = (FFN, RESID)
FRACTIONS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
PROTOCOL: dict[str, Any] = {
    "lm.name": "EleutherAI/pythia-160m", "lm.dtype": "float16", "site": f"{FFN}, {RESID}",
    "corpus.context": 256, "corpus.explain_tokens": 10_000_000,
    "coder.kind": "auto", "coder.activation": "topk", "coder.k": 32, "coder.latents": 32_768, "coder.skip": True,
    "coder.load": None,
    "train.lr": None, "train.lr_scale": 1.0, "train.warm_up": 1000, "train.decay": 1.0, "train.grad_clip": 1.0,
    "train.normalise": False, "train.multi_topk": False, "train.aux_k": 0.0, "train.prefixes": [],
    "explain.explainer": "default", "explain.examples": 40, "explain.sampling": ["quantiles"], "explain.quantiles": 10,
    "explain.window": 32, "explain.highlight": 0.2, "explain.least_examples": 200, "explain.chain_of_thought": False,
    "explain.latents": 0, "explain.llm.model": "meta-llama/Llama-3.1-70B-Instruct", "explain.llm.service": "openai",
    "score.scorers": ["detection"], "score.per_decile": 10, "score.silent": 100, "score.batch": 5, "score.window": 32,
    "score.rank_by": "detection balanced_accuracy", "score.latents": 0,
    "score.llm.model": "meta-llama/Llama-3.1-70B-Instruct",
    "simulate.simulator": "last-token", "simulate.calibrate_positions": "last", "simulate.gate": "none",
    "simulate.llm.model": "meta-llama/Llama-3.1-8B-Instruct", "simulate.llm.service": "openai",
    "calibrate.calibrator": "quantile", "evaluate.also_calibrated": ["none", "conditional_mean"],
    "evaluate.fractions": list(FRACTIONS), "evaluate.orders": ["best", "random", "mass"], "evaluate.draws": 5,
    "evaluate.positions": "last", "evaluate.keep": "top-k",
}  # fmt: skip
"""Section 2 of the protocol, by setting. A rate of none is 2e-4 / sqrt(latents / 2^14) (`train.schedule`)."""


def test_the_numbers_are_the_papers() -> None:
    settings = flat_settings(load_config("paper"))
    assert {name: settings[name] for name in PROTOCOL} == PROTOCOL


SMALL = {
    "lm.name", "lm.device", "corpus.source", "corpus.explain_tokens", "corpus.calibrate_tokens",
    "corpus.evaluate_tokens", "coder.latents", "train.tokens", "train.batch", "train.warm_up", "explain.latents",
    "score.latents", "score.control_latents", "evaluate.bootstrap", "evaluate.draws",
    *(f"{section}.llm.{name}" for section in ("explain", "score", "simulate") for name in ("base_url", "tokenizer")),
}  # fmt: skip
"""All that the stand-in changes of the preset."""


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A random GPT-NeoX in which there is a layer 6, with the paper's context."""
    config = GPTNeoXConfig(
        vocab_size=len(byte_tokenizer), hidden_size=16, num_hidden_layers=7, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=256, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("lm") / "seven"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPTNeoXForCausalLM(config).eval().save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of about two rows each."""
    draw = random.Random(0)
    words = ("Lily", "Tom", "saw", "found the", "red", "ball", "a blue", "car", "12 apples", "No!", "(x, y)", "= 3;")
    lines = [json.dumps({"text": f"Story {i}. " + " ".join(draw.choices(words, k=190))}) for i in range(130)]
    path = tmp_path_factory.mktemp("pile") / "pile.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory, pile: Path) -> Path:
    """The tokenizer of both servers: it knows the prompts' words, so that these fit their contexts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<|begin|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    told = [path.read_text("utf-8") for path in sorted(Path(__file__).parents[1].glob("*/golden/*.txt"))]
    tokenizer.train_from_iterator([pile.read_text()[:4000], *told], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|begin|>")
    wrapped.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    folder = tmp_path_factory.mktemp("readers") / "tokenizer"
    wrapped.save_pretrained(folder)
    return folder


def seventy(said: str) -> str:
    """The 70B model: a latent is called by a number that its prompt makes; texts are judged at random."""
    if "[EXPLANATION]:" in said:
        return f"[EXPLANATION]: Latent {crc32(said.encode())}."
    return guessing(said)


def true_levels(folder: Path, config: Config) -> dict[str, dict[int, float]]:
    """9 times activation by maximum, by what the prompt shows and by the number that a latent is called by."""
    workplace = Workplace(folder, config, STAGES)
    found: dict[str, dict[int, float]] = {}
    for site in workplace.sites:
        coder, most = load_coder(workplace.path("train", site.module)), maximum(workplace, site.module)
        written = explanations.read_explanations(workplace.path("explain", site.module))
        called = {latent: int(said.text.split()[1].rstrip(".")) for latent, said in written.items()}
        for rows in (simulated_rows(workplace, share) for share in SHARES):
            with torch.no_grad(), capture(workplace.lm, [site]) as seen:
                workplace.lm.model(torch.from_numpy(rows.tokens).long())
                code = coder.dense(coder.encode(seen[site.module][0].flatten(0, 1).float())).numpy()
            text, asked = Text(rows, workplace.lm.pieces.table), tokens_asked(workplace, rows)
            assert asked is not None
            for position in np.flatnonzero(asked).tolist():
                level = {n: 9 * code[position, latent] / most[latent] for latent, n in called.items()}
                shown = found.setdefault(passage(text, position, WINDOW).marked, {})
                shown |= {n: float(np.clip(each, 0, 9)) for n, each in level.items()}
    return found


@pytest.fixture(scope="module")
def whole(
    seven: Path, pile: Path, readers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Config, Path, Server, Server]]:
    """The run, with both servers still there."""
    tokens = LlmTokens.of(AutoTokenizer.from_pretrained(readers))
    big, small = Server(reply=seventy), Server(brain=Knowing(tokens, lambda asked: 0.0), keep_bodies=False)
    with serve(big), serve(small):
        urls = {"explain": big.url, "score": big.url, "simulate": small.url}
        llms = {f"{section}__llm__base_url": url for section, url in urls.items()}
        llms |= {f"{section}__llm__tokenizer": str(readers) for section in urls}
        config = load_config(
            "paper", lm__name=str(seven), lm__device="cpu", corpus__source=str(pile), corpus__explain_tokens=20_000,
            corpus__calibrate_tokens=5_000, corpus__evaluate_tokens=2_500, coder__latents=256, train__tokens=20_000,
            train__batch=256, train__warm_up=4, explain__latents=16, score__latents=4, score__control_latents=2,
            evaluate__bootstrap=50, evaluate__draws=1, **llms,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("paper") / "run"
        run(config, folder, target="score")
        levels = true_levels(folder, config)

        def level(asked: Asked) -> float:
            return levels[asked.shown][asked.latent]

        small.brain = Knowing(tokens, level)
        run(config, folder)
        yield config, folder, big, small


@pytest.mark.slow
def test_only_what_is_large_is_changed(whole: tuple[Config, Path, Server, Server]) -> None:
    settings, preset = flat_settings(whole[0]), flat_settings(load_config("paper"))
    assert {name for name in settings if settings[name] != preset[name]} == SMALL


@pytest.mark.slow
def test_the_report_shows_every_condition_at_both_sites_and_together(
    whole: tuple[Config, Path, Server, Server],
) -> None:
    """Every fraction in every order, raw, quantile normalised and by our calibration; none of it incomplete."""
    results = Results.read(whole[1])
    named = {(r["site"], r["condition"], r["fraction"], r["order"]) for r in results.conditions}
    baselines = ("original", "coder", "zero-output", "zero-latents", "mean-latents")
    ladders = ("rewritten", "rewritten:none", "rewritten:conditional_mean", "oracle-support", "oracle-magnitude")
    wanted = {
        (site, name, fraction, order)
        for site in (*SITES, "all")
        for name in (*ladders, "shuffled")
        for fraction in FRACTIONS
        for order in ("best", "random", "mass")
    }
    wanted |= {(site, name, None, None) for site in (*SITES, "all") for name in baselines}
    assert wanted <= named
    rewritten = [record for record in results.conditions if record["condition"] == "rewritten"]
    # None: of those first in the order none has a sentence.
    assert {record["coverage"] for record in rewritten} <= {1, None}
    assert {record["coverage"] for record in rewritten if record["fraction"] == 1} == {1}
    page = (whole[1] / "report.html").read_text()
    for name in (*baselines, *ladders, "shuffled"):
        assert f">{name}<" in page
    assert "Llama-3.1-70B-Instruct" in page and "Llama-3.1-8B-Instruct" in page
    assert "Incomplete" not in page and "small in-process model" not in page
    for words in ("random order", "best scored first", "quantile", "100.0%", "0.1%", "top-k", "detection"):
        assert words in page


@pytest.mark.slow
def test_a_simulator_that_knows_leaves_the_coders_loss(whole: tuple[Config, Path, Server, Server]) -> None:
    """Of the 16 latents with a sentence, which come first by their score: up to a twentieth of all latents."""
    results = Results.read(whole[1])
    for site in SITES:
        coder, zero = (results.record(name, site=site)["ce"] for name in ("coder", "zero-latents"))
        for fraction in (0.001, 0.01, 0.05):
            mine = results.record("rewritten:none", site=site, fraction=fraction, order="best")["ce"]
            assert abs(mine - coder) < 0.02 * abs(zero - coder), (site, fraction)
        other = results.record("shuffled", site=site, fraction=0.05, order="best")["ce"]
        assert abs(other - coder) > 0.05 * abs(zero - coder)


@pytest.mark.slow
def test_it_asked_what_the_protocol_asks_and_the_dry_run_knew(whole: tuple[Config, Path, Server, Server]) -> None:
    config, folder, big, small = whole
    asked = {}
    for site in SITES:
        for stage in ("explain", "simulate"):
            manifest = Manifest.load(folder / stage / site / "manifest.json")
            asked[stage] = asked.get(stage, 0) + manifest.counts["llm"]["asked"]
        written = explanations.read_explanations(folder / "explain" / site)
        assert 12 < len(written) <= 16  # fewer where one of the 16 fires in fewer than 200 texts
        pairs = sum(manifest.counts[f"{part}_pairs_asked"] for part in SHARES)
        rows = sum(len(rows.tokens) for rows in asked_rows(config, folder))
        assert pairs == manifest.counts["llm"]["asked"] == len(written) * rows
    told = [str(body["messages"]) for body in big.bodies if "messages" in body]
    examples = [text for text in told if "Example 40:" in text]
    assert len(examples) == asked["explain"] and not any("Example 41:" in text for text in told)
    questions = [text for text in told if "Text 5: " in text]
    assert questions and not any("Text 6: " in text for text in told)
    costs = {cost.stage for cost in llm_costs(folder)}
    assert costs == {f"{stage}{probe}" for stage in ("explain", "score", "simulate") for probe in ("", " (probe)")}
    dry = {one.stage: one.requests.value for one in dry_run(config, folder, force=["explain"]).estimates}
    for stage, count in asked.items():
        assert dry[stage] == pytest.approx(count, rel=0.1)
    before = big.seen.total(), small.seen.total()
    run(config, folder, force=["explain", "score", "simulate"], target="simulate")
    run(config, folder, target="score")
    assert big.seen.total() - before[0] < 20 and small.seen.total() - before[1] < 20  # the probes' alone


def asked_rows(config: Config, folder: Path) -> list[Any]:
    workplace = Workplace(folder, config, STAGES)
    return [simulated_rows(workplace, share) for share in SHARES]
