"""Neurons in the place of latents: what a coder's latents are compared with.

A neuron of activation a puts a W_out[n] out, so that it is a source like any latent; only, what it reads is not linear.
What it adds to a target is a (W_out[n] · g), g the gradient where its FFN writes: the vectors a W_out[n] themselves,
tokens x neurons x d_model numbers a layer, are never formed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plainspoken.circuits.adjoint import ffn_gradients
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.targets import Targets
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import Anatomy
from plainspoken.lm.patterns import eager_attention


@torch.no_grad()
def activations(frozen: Frozen) -> list[Float[Tensor, "t neurons"]]:
    """Of each layer's neurons at the prompt, the first layer's first."""
    # Attention computed as it was when the model was frozen: other kernels round otherwise.
    with eager_attention(frozen.lm), _capture(frozen.lm, frozen.anatomy) as seen:
        frozen.lm.model(frozen.tokens[None], use_cache=False, logits_to_keep=1)
    return [each[0].to(frozen.dtype) for each in seen]


@torch.no_grad()
def neuron_rows(
    frozen: Frozen, target: Targets, layers: Sequence[int], active: Sequence[Float[Tensor, "t neurons"]]
) -> Mapping[int, Float[Tensor, "t neurons"]]:
    """What each neuron of some layers contributes to one target at each token, 0 after the target's.

    `frozen`: without coders, so that every way ends at no FFN but the neuron's own. `active`: the `activations`.
    """
    assert len(target) == 1 and all(layer.coder is None for layer in frozen.layers)
    found = {layer: torch.zeros_like(active[layer]) for layer in layers}
    for i, gradients in ffn_gradients(frozen, target):
        if i in found:
            gradient, at = gradients[:, 0], frozen.layers[i]
            if at.layer.ffn_out is not None and at.ffn_out_factor is not None:
                gradient = at.layer.ffn_out.adjoint(gradient, at.ffn_out_factor[: len(gradient)])
            found[i][: len(gradient)] = (gradient @ at.layer.W_out.detach().to(gradient).T) * active[i][: len(gradient)]
    return found


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
