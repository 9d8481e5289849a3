"""A behaviour: prompts after which the model prefers one token to another, and the latents that make it.

The difference of two logits, meant over prompts, is one number that a circuit can be held against. Latents are ranked
by their mean contribution to it in the frozen model; then they are ablated, or alone kept, in the model as it runs,
beside as many random latents that fire as well, and beside neurons. (The greater-than study of Dunefsky et al., arXiv
2406.11944, section 5.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.adjoint import columns, rows
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.targets import logit_targets
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import Layer, anatomy
from plainspoken.lm.hooks import splice
from plainspoken.types import Site

Unit = tuple[int, int]
"""(layer, number of a latent or a neuron)."""


@dataclass(frozen=True)
class Behaviour:
    """After each prompt the logit of `wanted` less that of `other`. `begun`: the prompts start with a BOS token."""

    prompts: tuple[tuple[int, ...], ...]
    wanted: tuple[int, ...]
    other: tuple[int, ...]
    begun: bool = True

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.wanted) == len(self.other) or not self.prompts:
            raise UsageError("a behaviour has a wanted and another token for each prompt, and at least one prompt")


@torch.no_grad()
def difference(lm: LanguageModel, behaviour: Behaviour) -> Float[np.ndarray, " prompts"]:
    """The logit difference after each prompt, in the model as it runs now (with whatever is spliced into it)."""
    found = []
    for prompt, wanted, other in zip(behaviour.prompts, behaviour.wanted, behaviour.other, strict=True):
        logits = lm.model(torch.tensor([prompt], device=lm.device), use_cache=False).logits[0, -1].double()
        found.append(float(logits[wanted] - logits[other]))
    return np.array(found)


def contributions(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    behaviour: Behaviour,
    progress: Callable[[int], object] | None = None,
) -> dict[Unit, float]:
    """Each firing latent's contribution to the difference through the frozen model, meant over the prompts.

    Summed over the tokens at which the latent fires; it includes what passes through heads and skips, and ends at
    latents, so that contributions of latents in different layers are not shares of one another.
    """
    total: dict[Unit, float] = {}
    for prompt, wanted, other in zip(behaviour.prompts, behaviour.wanted, behaviour.other, strict=True):
        text = torch.ones(len(prompt), dtype=torch.bool)
        text[0] = not behaviour.begun
        frozen = freeze(lm, coders, prompt, text=text)
        direction = torch.zeros(1, len(frozen.anatomy.W_U), device=frozen.tokens.device)
        direction[0, wanted], direction[0, other] = 1, -1
        row = rows(frozen, logit_targets(frozen, len(prompt) - 1, direction))[:, 0].cpu()
        for layer, at in enumerate(columns(frozen).layers):
            latents = frozen.layers[layer].latents.latent.tolist()
            for latent, value in zip(latents, row[at.latents].tolist(), strict=True):
                total[layer, latent] = total.get((layer, latent), 0.0) + value / len(behaviour.prompts)
        if progress is not None:
            progress(1)
    return total


@contextmanager
def ablated(lm: LanguageModel, coders: Mapping[Site, Coder], latents: Sequence[Unit]) -> Iterator[None]:
    """Within it these latents are 0 wherever they fire; what the coder misses stays in the FFN's output."""
    of, chosen = anatomy(lm), _by_layer(latents)

    def without(coder: Coder, gone: list[int]) -> Callable[[Tensor, Tensor], Tensor]:
        def replaced(x: Float[Tensor, "b t d"], y: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            z = coder.dense(coder.encode(x.flatten(0, 1).to(coder.W_enc.dtype)))[:, gone]
            return y - (z @ coder.W_dec[gone]).view(y.shape).to(y)

        return replaced

    by_layer = {of.layer_of(site.module): (site, coder) for site, coder in coders.items()}
    functions = {by_layer[layer][0]: without(by_layer[layer][1], gone) for layer, gone in chosen.items()}
    with splice(lm, functions):
        yield


@contextmanager
def only_latents(
    lm: LanguageModel, coders: Mapping[Site, Coder], kept: Sequence[Unit], rest: Mapping[int, Float[Tensor, " latents"]]
) -> Iterator[None]:
    """Within it every FFN with a coder is its coder's latents: the kept ones as they fire, the others at `rest`."""
    of, chosen = anatomy(lm), _by_layer(kept)

    def with_these(coder: Coder, mine: list[int], others: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        def replaced(x: Float[Tensor, "b t d"], y: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
            flat = x.flatten(0, 1).to(coder.W_enc.dtype)
            z = others.to(flat).repeat(len(flat), 1)
            z[:, mine] = coder.dense(coder.encode(flat))[:, mine]
            return (coder.decode_dense(z) + coder.skip(flat)).view(y.shape).to(y)

        return replaced

    functions = {}
    for site, coder in coders.items():
        layer = of.layer_of(site.module)
        assert layer is not None, "a coder of an FFN has a layer"
        functions[site] = with_these(coder, chosen.get(layer, []), rest[layer])
    with splice(lm, functions):
        yield


@contextmanager
def only_neurons(
    lm: LanguageModel, layers: Sequence[int], kept: Sequence[Unit], rest: Mapping[int, Float[Tensor, " neurons"]]
) -> Iterator[None]:
    """Within it the FFNs of these layers have the kept neurons as they fire, the others at `rest`."""
    of, chosen = anatomy(lm), _by_layer(kept)

    def with_these(layer: Layer, mine: list[int], others: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        mask = torch.zeros(len(layer.W_out), dtype=torch.bool, device=lm.device)
        mask[mine] = True

        def replaced(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (torch.where(mask, args[0], others.to(args[0])), *args[1:])

        return replaced

    with ExitStack() as stack:
        for layer in layers:
            module = lm.model.get_submodule(of.layers[layer].neurons)
            hook = with_these(of.layers[layer], chosen.get(layer, []), rest[layer])
            stack.callback(module.register_forward_pre_hook(hook).remove)
        yield


@torch.no_grad()
def firing(
    lm: LanguageModel, coders: Mapping[Site, Coder], behaviour: Behaviour
) -> tuple[dict[int, Bool[np.ndarray, "prompts latents"]], dict[int, Float[Tensor, " latents"]]]:
    """(whether each latent fires in each prompt, its mean over all their tokens of text), by layer."""
    of = anatomy(lm)
    fires: dict[int, list[np.ndarray]] = {}
    sums: dict[int, Tensor] = {}
    tokens = 0
    for prompt in behaviour.prompts:
        frozen = freeze(lm, coders, prompt)
        tokens += len(prompt) - behaviour.begun
        for site, coder in coders.items():
            layer = of.layer_of(site.module)
            assert layer is not None
            at = frozen.layers[layer].latents
            text = at.position >= int(behaviour.begun)
            z = torch.zeros(coder.spec.latents, device=lm.device)
            z.index_add_(0, at.latent[text], at.value[text].float())
            fires.setdefault(layer, []).append((z > 0).cpu().numpy())
            sums[layer] = sums.get(layer, torch.zeros_like(z)) + z
    return {layer: np.stack(each) for layer, each in fires.items()}, {n: total / tokens for n, total in sums.items()}


def random_latents(
    fires: Mapping[int, Bool[np.ndarray, "prompts latents"]],
    like: Sequence[Unit],
    generator: np.random.Generator,
) -> list[Unit]:
    """As many latents of the same layers, none of them among these, each firing in about as many of the prompts.

    Of each latent's layer, one of the ten whose number of prompts is nearest, drawn without replacement.
    """
    taken, found = set(like), []
    for layer, latent in like:
        often = fires[layer].sum(axis=0)
        order = np.argsort(np.abs(often - often[latent]), kind="stable")
        near = [(layer, int(i)) for i in order if (layer, int(i)) not in taken][:10]
        if near:
            found.append(near[int(generator.integers(len(near)))])
            taken.add(found[-1])
    return found


def _by_layer(units: Sequence[Unit]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for layer, number in units:
        found.setdefault(layer, []).append(number)
    return found


def paired_interval(values: Float[np.ndarray, " prompts"], bootstrap: int, seed: int) -> tuple[float, float, float]:
    """(mean over prompts, and the 95 % interval of it with prompts drawn anew)."""
    drawn: Int[np.ndarray, "draws prompts"] = np.random.default_rng(seed).integers(
        len(values), size=(bootstrap, len(values))
    )
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
