"""A planted model: latents whose explanations are known, and what a perfect or a silent simulator says of them.

The embeddings are codes of +1 and -1, and the first layer's FFN reads them as they are (its norm is the identity); so a
latent can be planted that fires at one token with one value, exactly.
"""

from dataclasses import dataclass, field, replace
from itertools import combinations, islice

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from plainspoken.coders import Coder, CoderSpec
from plainspoken.latents.evidence import Evidence
from plainspoken.latents.table import FiringTable
from plainspoken.lm import LanguageModel, wrap_lm
from plainspoken.rewrite import SiteMaterial, Spoken, gather
from plainspoken.scorers.simulation import score_simulation
from plainspoken.types import Part, Rows, Simulation, Site

WIDTH, LATENTS, SPOKEN_TOKENS = 16, 24, 20
SITE = Site("gpt_neox.layers.0.mlp", "mlp", WIDTH, WIDTH)


def planted_lm(tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """A random GPT-NeoX of two layers whose first FFN reads one code of +-1 for each token."""
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=48, bos_token_id=0, eos_token_id=0, initializer_range=0.4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPTNeoXForCausalLM(config)
    codes = -torch.ones(len(tokenizer), WIDTH)
    for token, ones in enumerate(islice(combinations(range(WIDTH), WIDTH // 2), len(tokenizer))):
        codes[token, list(ones)] = 1
    model.gpt_neox.embed_in.weight.data = codes
    model.gpt_neox.layers[0].post_attention_layernorm = torch.nn.Identity()
    return wrap_lm(model, tokenizer, "planted")


def planted_coder(lm: LanguageModel, skip: bool = False) -> Coder:
    """Latent l < 20 fires at token l+1 alone, with 4 * (1 + l % 3); the last four never fire."""
    coder = Coder(CoderSpec("transcoder", "topk", LATENTS, 3, skip, WIDTH, WIDTH)).requires_grad_(False)
    generator = torch.Generator().manual_seed(12)  # one with which the coder does better than zero and mean
    strength = torch.tensor([1.0 + latent % 3 for latent in range(LATENTS)])
    coder.W_enc[:SPOKEN_TOKENS] = lm.model.get_input_embeddings().weight[1 : SPOKEN_TOKENS + 1]
    coder.W_enc *= strength[:, None]
    coder.b_enc[:] = -12 * strength  # another code agrees in 14 of 16 places at most
    for weight in (coder.W_dec, coder.b_dec, *([coder.W_skip] if coder.W_skip is not None else [])):
        weight.normal_(0, 0.5, generator=generator)
    return coder


def maximum() -> np.ndarray:
    """The value with which each latent fires."""
    return np.array([4.0 * (1 + latent % 3) for latent in range(LATENTS)], np.float32)


def make_rows(part: Part, seed: int = 0, documents: int = 6, t: int = 16) -> Rows:
    """Rows of BOS and tokens 1 to 29, one or two a document, the last of each padded."""
    rng = np.random.default_rng([seed, len(part)])
    tokens, mask, owner = [], [], []
    for document in range(documents):
        for length in [t] * int(rng.integers(0, 2)) + [int(rng.integers(3, t))]:
            row = np.zeros(t, np.int32)
            row[1:length] = rng.integers(1, SPOKEN_TOKENS + 10, length - 1)
            tokens.append(row)
            mask.append((np.arange(t) > 0) & (np.arange(t) < length))
            owner.append(document)
    keys = tuple(f"{part}-{i}" for i in range(documents))
    return Rows(np.stack(tokens), np.stack(mask), np.array(owner, np.int32), keys, part)


def own_words(lm: LanguageModel, rows: Rows) -> Rows:
    """The same rows filled with what the model itself says: any harm to it is harm to its loss on them."""
    text = torch.from_numpy(rows.tokens.astype(np.int64))
    with torch.no_grad():
        for i in range(2, text.shape[1]):
            text[:, i] = torch.multinomial(lm.model(text[:, :i]).logits[:, -1].softmax(-1), 1)[:, 0]
    return replace(rows, tokens=np.where(rows.mask, text.numpy(), 0).astype(np.int32))


def make_simulation(rows: Rows, level: np.ndarray) -> Simulation:
    """The simulation that lists a dense array of levels [row, t, latents]."""
    position, latent = np.nonzero(level.reshape(-1, level.shape[2]))
    found = level.reshape(-1, level.shape[2])[position, latent].astype(np.float32)
    return Simulation(position, latent, found, level.shape[2], *rows.tokens.shape, rows.fingerprint)


def fires(rows: Rows) -> np.ndarray:
    """bool[row, t, latents]: where each planted latent truly fires."""
    latent = np.arange(LATENTS)
    return (rows.tokens[:, :, None] == latent + 1) & (latent < SPOKEN_TOKENS) & rows.mask[:, :, None]


def table_of(rows: Rows) -> FiringTable:
    """The planted coder's firing table, written down from what is known."""
    latent, position = np.nonzero(fires(rows).reshape(-1, LATENTS).T)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(latent, minlength=LATENTS))])
    return FiringTable(pointer, position, maximum()[latent], rows)


def perfect(rows: Rows) -> np.ndarray:
    """Levels of a simulator that is always right."""
    return 9.0 * fires(rows)


def fallible(rows: Rows, seed: int = 0, fractional: bool = False) -> np.ndarray:
    """Levels of a simulator that misses some firings, invents others and is unsure of the size."""
    rng = np.random.default_rng(seed)
    heard = np.where(fires(rows), rng.random(fires(rows).shape) < 0.8, rng.random(fires(rows).shape) < 0.03)
    level = rng.uniform(0.5, 9, heard.shape) if fractional else rng.integers(1, 10, heard.shape)
    return heard * level.astype(np.float32) * rows.mask[:, :, None]


def scored(simulate) -> np.ndarray:
    """What ranks the latents: correlations with the truth on documents of their own."""
    rows = make_rows("calibrate", seed=1, documents=40)
    evidence = Evidence.over(make_simulation(rows, simulate(rows)), table_of(rows))
    return score_simulation(evidence).correlation.ranking()


@dataclass(frozen=True, eq=False)
class Planted:
    """The planted model with its rows."""

    lm: LanguageModel
    coder: Coder
    calibrate: Rows = field(default_factory=lambda: make_rows("calibrate", documents=40))
    evaluate: Rows = field(default_factory=lambda: make_rows("evaluate"))

    def spoken(self, simulate, explained: np.ndarray | None = None) -> Spoken:
        """What a simulator (rows to dense levels) says; latents that are not explained are left out."""
        explained = np.ones(LATENTS, bool) if explained is None else explained
        parts = (make_simulation(rows, simulate(rows) * explained) for rows in (self.calibrate, self.evaluate))
        return Spoken(*parts, explained)

    def material(self, simulate, calibrator: str = "none", explained: np.ndarray | None = None, **more) -> SiteMaterial:
        """The first site's material with a simulator."""
        spoken = self.spoken(simulate, explained)
        return gather(
            SITE, self.coder, spoken, table_of(self.calibrate), maximum(), calibrator=calibrator, seed=0,
            score=scored(simulate), **more,
        )  # fmt: skip


def plant(tokenizer: PreTrainedTokenizerFast, skip: bool = False) -> Planted:
    """The planted model, its coder with or without a skip."""
    lm = planted_lm(tokenizer)
    return Planted(lm, planted_coder(lm, skip))
