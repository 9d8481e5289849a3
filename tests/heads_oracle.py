"""A slow oracle: rows shared out by the last head, with a walk down the model for each head of each layer."""

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.adjoint import (
    columns,
    head_gradients,
    note_attention_bias,
    note_embeddings,
    past_ffn,
    seed,
    walk,
)
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.targets import Targets


@torch.no_grad()
def rows_by_head(
    frozen: Frozen, targets: Targets
) -> tuple[Float[Tensor, "columns b"], Float[Tensor, "layers h columns b"]]:
    """(contributions that pass no head, those whose last head on the way to the target is (layer, head)).

    Both together, summed over layers and heads, are `rows`.
    """
    where = columns(frozen)
    heads = len(frozen.layers[0].group)
    past = targets.direction.new_zeros(where.total, len(targets))
    through = targets.direction.new_zeros(len(frozen.layers), heads, where.total, len(targets))
    gradient, own = seed(targets), targets.middle and targets.layer < len(frozen.layers)
    for i in reversed(range(targets.layer + own)):
        layer, at = frozen.layers[i], where.layers[i]
        below = gradient if i == targets.layer else past_ffn(layer, gradient, past, at)
        reading = gradient if layer.layer.parallel else below
        note_attention_bias(layer, reading, past, at)
        for head, by_head in enumerate(head_gradients(layer, reading)):
            at_head = Targets(i, False, targets.position, targets.direction, targets.offset)
            walk(frozen, at_head, by_head @ layer.W_V[layer.group[head]], through[i, head], where)
        gradient = below
    note_embeddings(frozen, gradient, past, where)
    return past, through
