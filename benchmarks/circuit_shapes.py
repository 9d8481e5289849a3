"""What head attribution and greedy paths cost on GPT-2's shape; circuits.py runs it.

On a random model of GPT-2's shape (12 layers, d = 768, 12 heads; a small vocabulary, which neither touches) with a
random transcoder of 3,072 latents at each FFN, one thread, CPU seconds, the best of several rounds, freezing not
counted. Paths: 3 rounds, 15 kept of 15 extensions each, from the last latent of the last layer; errors and constants of
the random coders are scaled down, or all paths would end in them at once. Beside a layer's head attribution stands its
floor: the three matrix products with the direction folded in, and nothing else.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from plainspoken.circuits.direct import head_terms
from plainspoken.circuits.frozen import Frozen, FrozenLayer, freeze
from plainspoken.circuits.graph import Node
from plainspoken.circuits.merge import merged
from plainspoken.circuits.paths import strongest_paths
from plainspoken.circuits.targets import firing_targets
from plainspoken.coders import Coder, CoderSpec
from plainspoken.lm import LanguageModel, load_lm, resolve_sites
from plainspoken.types import Site

VOCABULARY, D, LATENTS = 1000, 768, 3072


def made_lm() -> LanguageModel:
    """A random model of GPT-2's shape."""
    config = GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.01)
    return replace(load_lm("pocket"), model=model, name="random", d_model=D, context=1024, vocabulary=VOCABULARY)


def made_coders(lm: LanguageModel, activation: str, k: int | None) -> dict[Site, Coder]:
    """A random transcoder at each FFN."""
    found = {}
    for site in resolve_sites(lm, "transformer.h.*.mlp"):
        coder = Coder(CoderSpec("transcoder", activation, LATENTS, k, False, D, D)).requires_grad_(False)
        for parameter in coder.parameters():
            parameter.normal_(0, 0.03)
        found[site] = coder
    return found


def quieted(frozen: Frozen) -> Frozen:
    """The same with small errors and constants, so that paths go on."""
    layers = (
        replace(
            layer,
            error=layer.error * 1e-4,
            ffn_bias=layer.ffn_bias * 1e-3,
            attention_bias=layer.attention_bias * 1e-3,
        )
        for layer in frozen.layers
    )
    return replace(frozen, layers=tuple(layers))


def best(work: Callable[[], object], rounds: int, each: int = 1) -> float:
    """CPU seconds of one call."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(each):
            work()
        found.append((time.process_time() - began) / each)
    return min(found)


@torch.no_grad()
def floor(layer: FrozenLayer, direction: torch.Tensor, t: int) -> torch.Tensor:
    """The products that cannot be left out."""
    h, size, d = layer.W_O.shape
    folded = (direction @ layer.W_O.view(h * size, d).T).view(h, 1, size)
    return torch.bmm(folded, layer.W_V).view(h, d) @ layer.stream[:t].T


def measure(latents: int = 32) -> dict[str, float]:
    """CPU seconds of paths, of one layer's heads and of their floor, by tokens: greedy_16, heads_64, floor_128, …"""
    torch.manual_seed(0)
    lm = made_lm()
    coders, found = made_coders(lm, "topk", latents), dict[str, float]()
    for t in (16, 64):
        frozen = quieted(freeze(lm, coders, torch.randint(0, VOCABULARY, (t,))))
        firing = frozen.layers[-1].latents
        target = firing_targets(frozen, 11, slice(len(firing) - 1, None))
        root, tokens = Node("latent", 11, t - 1, int(firing.latent[-1])), [""] * t
        found[f"greedy_{t}"] = best(lambda: merged(strongest_paths(frozen, target, root, tokens), tokens), 7)  # noqa: B023
    frozen = freeze(lm, coders, torch.randint(0, VOCABULARY, (128,)))
    for t in (16, 64, 128):
        layer, direction, position = frozen.layers[6], torch.randn(1, D), torch.tensor([t - 1])
        found[f"floor_{t}"] = best(lambda: floor(layer, direction, t), 40, 20)  # noqa: B023
        found[f"heads_{t}"] = best(lambda: head_terms(layer, position, direction, t), 40, 20)  # noqa: B023
    return found
