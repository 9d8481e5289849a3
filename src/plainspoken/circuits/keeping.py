"""The model run without some latents, or with no others: what a circuit is tested by.

For whole prompts of one length, not for generation token by token. At a BOS token (`begun`) every FFN stays as it is:
no coder was trained there, and what it makes of that token is no latent of anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from plainspoken.circuits.contributions import Unit
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import anatomy
from plainspoken.lm.hooks import splice
from plainspoken.types import Site


@contextmanager
def ablated(
    lm: LanguageModel, coders: Mapping[Site, Coder], latents: Sequence[Unit], begun: bool = True
) -> Iterator[None]:
    """Within it these latents are 0 wherever they fire; what the coder misses stays in the FFN's output.

    Raises UsageError for a latent that no coder has.
    """
    by_layer = _by_layer(lm, coders)
    _require_within(latents, {layer: coder.spec.latents for layer, (_, coder) in by_layer.items()}, "latent")
    gone = [(by_layer[n], numbers) for n, numbers in _numbers(latents).items()]
    functions = {site: partial(_without, coder, numbers, begun) for (site, coder), numbers in gone}
    with torch.no_grad(), splice(lm, functions):
        yield


@contextmanager
def only_latents(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    kept: Sequence[Unit],
    rest: Mapping[int, Float[Tensor, " latents"]],
    begun: bool = True,
) -> Iterator[None]:
    """Within it every FFN with a coder is its coder's latents: the kept ones as they fire, the others at `rest`.

    The coder's bias and skip stay. With all latents kept it is the model with its FFNs replaced. Raises UsageError for
    a latent that no coder has.
    """
    by_layer, chosen = _by_layer(lm, coders), _numbers(kept)
    _require_within(kept, {layer: coder.spec.latents for layer, (_, coder) in by_layer.items()}, "latent")
    functions = {
        site: partial(_with_latents, coder, chosen.get(n, []), rest[n], begun) for n, (site, coder) in by_layer.items()
    }
    with torch.no_grad(), splice(lm, functions):
        yield


@contextmanager
def only_neurons(
    lm: LanguageModel,
    kept: Sequence[Unit],
    rest: Mapping[int, Float[Tensor, " neurons"]],
    begun: bool = True,
) -> Iterator[None]:
    """Within it the FFNs of the layers in `rest` have the kept neurons as they fire, the others at `rest`.

    Raises UsageError for a neuron that none of these layers has.
    """
    of, chosen = anatomy(lm), _numbers(kept)
    _require_within(kept, {layer: len(of.layers[layer].W_out) for layer in rest}, "neuron")
    with ExitStack() as stack:
        for layer, others in rest.items():
            mask = torch.zeros(len(others), dtype=torch.bool, device=lm.device)
            mask[chosen.get(layer, [])] = True
            hook = partial(_with_neurons, mask, others, begun)
            stack.callback(lm.model.get_submodule(of.layers[layer].neurons).register_forward_pre_hook(hook).remove)
        yield


def _without(
    coder: Coder, gone: list[int], begun: bool, x: Float[Tensor, "b t d_in"], y: Float[Tensor, "b t d_out"]
) -> Float[Tensor, "b t d_out"]:
    """An FFN's output less what some latents add to it."""
    z = coder.dense(coder.encode(x.flatten(0, 1)))[:, gone]
    return _at_text(y - (z @ coder.W_dec[gone]).view(y.shape).to(y), y, begun)


def _with_latents(
    coder: Coder,
    mine: list[int],
    others: Float[Tensor, " latents"],
    begun: bool,
    x: Float[Tensor, "b t d_in"],
    y: Float[Tensor, "b t d_out"],
) -> Float[Tensor, "b t d_out"]:
    """What the coder makes of its latents, these as they fire and the others as given."""
    flat = x.flatten(0, 1)
    rest = others.to(coder.W_dec).clone()
    rest[mine] = 0
    # The others put out one vector for all tokens: a product per token is formed of the kept ones alone.
    fires = coder.dense(coder.encode(flat))[:, mine] @ coder.W_dec[mine]
    return _at_text((fires + coder.decode_dense(rest[None]) + coder.skip(flat)).view(y.shape).to(y), y, begun)


def _with_neurons(
    mask: Bool[Tensor, " neurons"],
    others: Float[Tensor, " neurons"],
    begun: bool,
    module: nn.Module,
    args: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """The neurons of the mask as they fire, the others as given: a hook before the projection that reads them."""
    return (_at_text(torch.where(mask, args[0], others.to(args[0])), args[0], begun), *args[1:])


def _at_text(new: Float[Tensor, "b t d"], old: Float[Tensor, "b t d"], begun: bool) -> Float[Tensor, "b t d"]:
    """The new where there is text, the old at a BOS."""
    return torch.cat([old[:, :1], new[:, 1:]], dim=1) if begun else new


def _by_layer(lm: LanguageModel, coders: Mapping[Site, Coder]) -> dict[int, tuple[Site, Coder]]:
    of = anatomy(lm)
    found = {of.layer_of(site.module): (site, coder) for site, coder in coders.items()}
    if None in found:
        strange = next(site.module for site in coders if of.layer_of(site.module) is None)
        raise UsageError(f"{strange} is no FFN of {lm.name}: give coders of FFNs, such as {of.layers[0].ffn}")
    return {layer: each for layer, each in found.items() if layer is not None}


def _numbers(units: Sequence[Unit]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for layer, number in units:
        found.setdefault(layer, []).append(number)
    return found


def _require_within(units: Sequence[Unit], sizes: Mapping[int, int], what: str) -> None:
    for layer, number in units:
        if layer not in sizes:
            having = ", ".join(map(str, sorted(sizes))) or "none"
            raise UsageError(f"{what} {layer}/{number} is in a layer that is not treated here: name one of {having}")
        if not 0 <= number < sizes[layer]:
            raise UsageError(f"no {what} {number} in layer {layer}, which has 0 to {sizes[layer] - 1}")
