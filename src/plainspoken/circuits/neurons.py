"""Neurons in the place of latents: what a coder's latents are compared with.

A neuron of activation a puts a W_out[n] out, so that it is a source like any latent; only, what it reads is not linear.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plainspoken.circuits.frozen import Frozen, FrozenLayer, Latents
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import Anatomy
from plainspoken.lm.patterns import eager_attention


@torch.no_grad()
def with_neurons(frozen: Frozen) -> Frozen:
    """The same frozen model with every FFN as its neurons, coder or not: what is left as error is the FFN's bias.

    `pre` of a neuron is its activation, which is not a sum of contributions: neurons are sources, and no targets.
    """
    # Attention computed as it was when the model was frozen: other kernels round otherwise.
    with eager_attention(frozen.lm), _capture(frozen.lm, frozen.anatomy) as seen:
        frozen.lm.model(frozen.tokens[None], use_cache=False)
    layers = tuple(_of_neurons(at, each[0].to(frozen.dtype)) for at, each in zip(frozen.layers, seen, strict=True))
    return replace(frozen, layers=layers)


@contextmanager
def _capture(lm: LanguageModel, of: Anatomy) -> Iterator[list[Float[Tensor, "b t neurons"]]]:
    """Within it, a forward pass appends each layer's neurons' activations, the first layer's first."""
    seen: list[Tensor] = []

    def read(module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0])

    with ExitStack() as stack:
        for layer in of.layers:
            module = lm.model.get_submodule(layer.neurons)
            stack.callback(module.register_forward_pre_hook(read).remove)
        yield seen


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
