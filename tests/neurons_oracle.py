"""A slow oracle: neurons as sources of a frozen model, each with the vector that it writes at each token.

That is tokens x neurons x d_model numbers a layer, which only small models have room for.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.frozen import Frozen, FrozenLayer, Latents
from plainspoken.circuits.neurons import activations


@torch.no_grad()
def with_neurons(frozen: Frozen) -> Frozen:
    """The same frozen model with every FFN as its neurons, coder or not: what is left as error is the FFN's bias.

    `pre` of a neuron is its activation, which is not a sum of contributions: neurons are sources, and no targets.
    """
    seen = activations(frozen)
    layers = tuple(_of_neurons(at, each) for at, each in zip(frozen.layers, seen, strict=True))
    return replace(frozen, layers=layers)


def _of_neurons(at: FrozenLayer, active: Float[Tensor, "t neurons"]) -> FrozenLayer:
    t = len(active)
    whole = at.error + at.ffn_bias + (0 if at.skipped is None else at.skipped)
    whole = whole.index_add(0, at.latents.position, at.latents.written)
    position, neuron = active.nonzero(as_tuple=True)
    value = active[position, neuron]
    written = at.layer.W_out.detach().to(active)[neuron] * value[:, None]
    if at.layer.ffn_out is not None and at.ffn_out_factor is not None:
        written = at.layer.ffn_out.linear(written, at.ffn_out_factor[position])
    start = torch.searchsorted(position, torch.arange(t + 1, device=position.device))
    latents = Latents(position, neuron, value, value, written, start)
    return replace(
        at,
        coder=None,
        W_skip=None,
        skipped=None,
        latents=latents,
        error=whole.index_add(0, position, written, alpha=-1),
        ffn_bias=torch.zeros_like(whole),
    )
