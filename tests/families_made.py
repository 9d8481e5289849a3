"""Small random models of every family that circuits know, with coders at some of their layers, in float64."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import transformers as hf
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.coders import Coder, CoderSpec
from plainspoken.lm import LanguageModel, load_lm, resolve_sites
from plainspoken.types import Site

VOCABULARY, WIDTH, CONTEXT = 90, 24, 32


def _sizes(layers: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 40,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": 0,
        "eos_token_id": 0,
        **more,
    }


_GROUPED = {"num_key_value_heads": 2, "head_dim": 6, "pad_token_id": 0}


def _gpt2(layers: int, tied: bool) -> Any:
    config = hf.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=layers,
        n_head=4,
        n_positions=CONTEXT,
        bos_token_id=0,
        eos_token_id=0,
    )
    config.tie_word_embeddings = tied
    return hf.GPT2LMHeadModel(config)


def _neox(parallel: bool) -> Callable[[int, bool], Any]:
    def make(layers: int, tied: bool) -> Any:
        sizes = _sizes(layers, use_parallel_residual=parallel, tie_word_embeddings=tied)
        return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**sizes))

    return make


def _like(model: str, config: str, **more: Any) -> Callable[[int, bool], Any]:
    def make(layers: int, tied: bool) -> Any:
        return getattr(hf, model)(getattr(hf, config)(**_sizes(layers, **_GROUPED, **more, tie_word_embeddings=tied)))

    return make


FAMILIES: Mapping[str, Callable[[int, bool], Any]] = {
    "gpt2": _gpt2,
    "gpt_neox": _neox(True),
    "gpt_neox-serial": _neox(False),
    "llama": _like("LlamaForCausalLM", "LlamaConfig", attention_bias=True),
    "mistral": _like("MistralForCausalLM", "MistralConfig", sliding_window=4),
    "qwen2": _like("Qwen2ForCausalLM", "Qwen2Config"),
    "qwen3": _like("Qwen3ForCausalLM", "Qwen3Config"),
    "gemma": _like("GemmaForCausalLM", "GemmaConfig"),
    "gemma2": _like("Gemma2ForCausalLM", "Gemma2Config", sliding_window=4),
    "gemma3": _like("Gemma3ForCausalLM", "Gemma3TextConfig", sliding_window=4),
}


def made_lm(family: str, layers: int = 3, tied: bool = True, dtype: torch.dtype = torch.float64) -> LanguageModel:
    """A random model; norm weights and every bias are random too, so that nothing is 0 or 1 by chance of the start."""
    model = FAMILIES[family](layers, tied).to(dtype).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return replace(
        _pocket(), model=model, name=f"random {family}", d_model=WIDTH, context=CONTEXT, vocabulary=VOCABULARY
    )


@cache
def _pocket() -> LanguageModel:
    return load_lm("pocket")


def made_coders(
    lm: LanguageModel,
    at: tuple[int, ...] = (0, 2),
    skips: tuple[int, ...] = (0,),
    activation: str = "topk",
    latents: int = 48,
    k: int = 6,
) -> dict[Site, Coder]:
    """Random transcoders at the FFNs of some layers, those of `skips` with a skip, in the model's dtype."""
    sites = [site for site in resolve_sites(lm, _ffns(lm)) if site.kind == "mlp"]
    found = {}
    for layer in at:
        coder = Coder(CoderSpec("transcoder", activation, latents, k, layer in skips, WIDTH, WIDTH), lm.dtype)
        with torch.no_grad():
            for parameter in coder.parameters():
                parameter.normal_(0, 0.3)
        found[sites[layer]] = coder.requires_grad_(False)
    return found


def made_prompt(t: int, seed: int = 0) -> Int[Tensor, " t"]:
    """Random tokens."""
    return torch.randint(0, VOCABULARY, (t,), generator=torch.Generator().manual_seed(seed))


def _ffns(lm: LanguageModel) -> str:
    return {"gpt2": "transformer.h.*.mlp", "gpt_neox": "gpt_neox.layers.*.mlp"}.get(
        lm.model.config.model_type, "model.layers.*.mlp"
    )


def relative(found: Float[Tensor, "..."], wanted: Float[Tensor, "..."]) -> float:
    """The largest difference over the largest size."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-300))


@dataclass(frozen=True, eq=False)
class Scene:
    """A model, its coders and the two frozen at a prompt."""

    lm: LanguageModel
    coders: dict[Site, Coder]
    frozen: Frozen


@cache
def made_scene(family: str, dtype: torch.dtype = torch.float64, t: int = 9) -> Scene:
    """Three layers with coders at the first and the last, frozen in the model's dtype: made once, whatever the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        lm = made_lm(family, dtype=dtype)
        coders = made_coders(lm)
    return Scene(lm, coders, freeze(lm, coders, made_prompt(t), dtype))
