"""How the frozen model answers an intervention: the change of the stream, walked up through the layers.

The counterpart of `circuits/adjoint.py`: that walks a target's gradient down, this walks a source's change up, by maps
that are written out another time. Attention patterns, norm factors and errors are held, and the whole FFN where no
coder is read; what later latents do is the choice: nothing ("held": the change is that of direct edges), go along with
their pre-activations while those that fire do so and no others ("linear": the sum over all paths), or fire anew
("free": the model with its FFNs replaced).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.intervene import Intervention, exchanged, require_fitting
from plainspoken.circuits.targets import Targets, moved_of

Answer = Literal["held", "linear", "free"]
"""What latents do beside those that are intervened on."""


@dataclass(frozen=True, eq=False)
class Response:
    """The change of the stream where each layer's attention reads, where its FFN reads, and where the final norm reads.

    `attention` has one more entry than there are layers, which is what the final norm reads.
    """

    attention: tuple[Float[Tensor, "t d"], ...]
    middle: tuple[Float[Tensor, "t d"], ...]

    def of(self, targets: Targets) -> Float[Tensor, " b"]:
        """By how much the targets change."""
        change = self.middle[targets.layer] if targets.middle else self.attention[targets.layer]
        return (change[targets.position] * targets.direction).sum(-1)


@torch.no_grad()
def respond(frozen: Frozen, interventions: Sequence[Intervention], latents: Answer = "free") -> Response:
    """The change that interventions make in the frozen model. Raises UsageError for one on what there is not."""
    coders = {i: layer.coder for i, layer in enumerate(frozen.layers) if layer.coder is not None}
    require_fitting(coders, interventions, frozen.t, text=frozen.text)
    change = torch.zeros_like(frozen.embedded)
    before, middles = [change], []
    for i, layer in enumerate(frozen.layers):
        values = torch.einsum("sd,ged->gse", change, layer.W_V)[layer.group]
        after = change + torch.einsum("hte,hed->td", layer.mix @ values, layer.W_O)
        middle = change if layer.layer.parallel else after
        middles.append(middle)
        mine = [each for each in interventions if each.layer == i]
        change = after + _ffn_change(frozen, i, middle, mine, latents)
        before.append(change)
    return Response(tuple(before), tuple(middles))


def _ffn_change(
    frozen: Frozen, i: int, middle: Float[Tensor, "t d"], mine: Sequence[Intervention], latents: Answer
) -> Float[Tensor, "t d"]:
    """What the FFN adds to the stream more than before, for a change where it reads."""
    layer = frozen.layers[i]
    coder = layer.coder
    if coder is None:
        return torch.zeros_like(middle)
    entering = layer.layer.ffn_norm.linear(middle, layer.ffn_factor)
    z = layer.latents.value.new_zeros(len(middle), coder.spec.latents)
    z[layer.latents.position, layer.latents.latent] = layer.latents.value
    now = z
    if latents == "linear":
        now = z + (entering @ coder.W_enc.T) * (z != 0)
    elif latents == "free" and bool(middle.any()):
        now = _fired_anew(frozen, i, z, entering)
    y = (exchanged(mine, now, len(now)) - z) @ coder.W_dec
    y = y if coder.W_skip is None else y + entering @ coder.W_skip.T
    y = y * frozen.text[:, None]  # elsewhere no coder is read: what the FFN puts out is error, which is held
    after, factor = layer.layer.ffn_out, layer.ffn_out_factor
    return y if after is None or factor is None else after.linear(y, factor)


def _fired_anew(
    frozen: Frozen, i: int, z: Float[Tensor, "t latents"], entering: Float[Tensor, "t d"]
) -> Float[Tensor, "t latents"]:
    """z and what the coder makes more of its changed input, at the tokens where that is changed."""
    layer = frozen.layers[i]
    coder, norm = layer.coder, layer.layer.ffn_norm
    assert coder is not None
    x = norm.linear(_read_by_ffn(frozen, i), layer.ffn_factor)
    x = x if norm.bias is None else x + norm.bias.to(x)
    before, now = (coder.dense(coder.encode(each)) for each in (x, x + entering))
    # By the difference: the latents may be others than the coder's own (given ones), and those are no change.
    return z + torch.where(entering.any(1, keepdim=True), now - before, 0)


def _read_by_ffn(frozen: Frozen, i: int) -> Float[Tensor, "t d"]:
    layer = frozen.layers[i]
    return layer.stream if layer.layer.parallel else layer.stream + moved_of(frozen, i) + layer.attention_bias
