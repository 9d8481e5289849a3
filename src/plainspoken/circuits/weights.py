"""What the weights alone connect, without any prompt: pullbacks, latents with latents, heads.

A direction that reads the stream is pulled back through what writes to the stream: through a coder, W_dec n is what a
unit of each latent adds to n · x; through a head, (W_Vᵀ W_O) n is the direction in which the head reads for n.
(Dunefsky et al., arXiv 2406.11944, section 4.) Norms' weights, and the mean that a layer norm takes off, are folded in;
what depends on a prompt is not, and is exactly a factor: of a norm before a reader its 1/std at the reader's token, of
a norm behind a coder or a head (Gemma 2 and 3) that norm's at the token written to, and of a head its pattern. So at a
prompt, for latents at the token of a target with the direction n' = factor · n,

    contribution of latent i = factor · (factor of the norm behind, where there is one) · (W_dec n)[i] · z[i].
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.lm.anatomy import Anatomy, Layer
from plainspoken.types import Site


@dataclass(frozen=True, eq=False)
class Weights:
    """A decoder's anatomy and its coders by layer."""

    of: Anatomy
    coders: Mapping[int, Coder]

    def coder(self, layer: int) -> Coder:
        """The coder of a layer. UsageError where it has none."""
        if layer not in self.coders:
            raise UsageError(f"layer {layer} has no coder, so it has no latents: layers with one are {[*self.coders]}")
        return self.coders[layer]


def weights_of(of: Anatomy, coders: Mapping[Site, Coder]) -> Weights:
    """Raises UsageError for a coder that is not at an FFN of this model, or not of its width."""
    found: dict[int, Coder] = {}
    for site, coder in coders.items():
        layer = of.layer_of(site.module)
        if layer is None or coder.spec.kind != "transcoder" or {coder.spec.d_in, coder.spec.d_out} != {of.W_E.shape[1]}:
            raise UsageError(f"the coder at '{site.module}' is no transcoder of an FFN of this model: leave it out")
        found[layer] = coder
    return Weights(of, dict(sorted(found.items())))


def summable(weight: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Half precision as float32: sums of products over the width need it."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))


def written(of: Anatomy, site: Site, decoder: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """What decoder rows at a site add to the stream, but for the factor of a norm behind the FFN (Gemma 2 and 3)."""
    layer = of.layer_of(site.module)
    return _written(None if layer is None else of.layers[layer], summable(decoder))


def read(of: Anatomy, site: Site, encoder: Float[Tensor, "b d"]) -> Float[Tensor, "b d"] | None:
    """What encoder rows at a site read of the stream, but for a norm's factor; None: they read an FFN's output."""
    layer = of.layer_of(site.module)
    if site.kind == "mlp":
        assert layer is not None, f"{site.module} is an FFN of no layer"
        return of.layers[layer].ffn_norm.folded(summable(encoder))
    return summable(encoder) if layer is None else None


def places(of: Anatomy, site: Site) -> tuple[int, int]:
    """(after how many layers the stream stands where the site reads, the same where it writes)."""
    layer = of.layer_of(site.module)
    if layer is None:
        layer = next(i for i, each in enumerate(of.layers) if each.module == site.module)
        return layer + 1, layer + 1
    return layer, layer + 1


@torch.no_grad()
def encoder_directions(weights: Weights, layer: int, latents: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
    """The directions of the stream that latents read, but for their norm's factor."""
    return weights.of.layers[layer].ffn_norm.folded(summable(weights.coder(layer).W_enc[latents]))


@torch.no_grad()
def decoder_vectors(weights: Weights, layer: int, latents: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
    """What a unit of latents adds to the stream, but for the factor of a norm that stands behind the FFN."""
    return _written(weights.of.layers[layer], summable(weights.coder(layer).W_dec[latents]))


@torch.no_grad()
def pullback(weights: Weights, layer: int, directions: Float[Tensor, "*b d"]) -> Float[Tensor, "*b latents"]:
    """W_dec n: what a unit of each latent of a layer adds to each direction."""
    behind, W_dec = weights.of.layers[layer].ffn_out, summable(weights.coder(layer).W_dec)
    directions = directions if behind is None else behind.folded(directions)
    return directions.to(W_dec) @ W_dec.T


@torch.no_grad()
def pushforward(weights: Weights, layer: int, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b latents"]:
    """W_enc v: what each vector in the stream adds to each latent of a layer, but for their norm's factor."""
    W_enc = summable(weights.coder(layer).W_enc)
    return weights.of.layers[layer].ffn_norm.unfolded(vectors.to(W_enc)) @ W_enc.T


@torch.no_grad()
def pullback_heads(
    of: Anatomy, layer: int, directions: Float[Tensor, "b d"], heads: Int[Tensor, " some"] | None = None
) -> Float[Tensor, "b some d"]:
    """W_Vᵀ W_O n of each head of a layer (or of these): the directions in which it reads for each direction."""
    at = of.layers[layer]
    W_V, W_O = _head_maps(at, directions, torch.arange(len(at.heads.group)) if heads is None else heads)
    return (torch.einsum("bd,hed->hbe", directions, W_O) @ W_V).transpose(0, 1)


@torch.no_grad()
def pushforward_heads(of: Anatomy, layer: int, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b h d"]:
    """W_Oᵀ W_V v of each head of a layer: what it writes of each vector, its pattern and norms' factors aside."""
    at = of.layers[layer]
    W_V, W_O = _head_maps(at, vectors, torch.arange(len(at.heads.group)))
    return torch.einsum("bhe,hef->bhf", torch.einsum("bd,hed->bhe", vectors, W_V), W_O)


@torch.no_grad()
def connections(
    weights: Weights,
    lower: int,
    upper: int,
    latents: Int[Tensor, " b"],
    through: tuple[int, int] | None = None,
) -> Float[Tensor, "b lower_latents"]:
    """W_dec[lower, i] · W_enc[upper, j] of all latents i of a lower layer with these latents j of an upper one.

    `through`: a head (layer, head), by which the lower latents then reach the upper ones. Raises UsageError where the
    lower layer does not write what the upper one (or the head, and then that the upper one) reads.
    """
    directions = encoder_directions(weights, upper, latents)
    _require_below(weights.of, lower, upper, through)
    if through is not None:
        layer, head = through
        directions = pullback_heads(weights.of, layer, directions, torch.tensor([head]))[:, 0]
    return pullback(weights, lower, directions)


@torch.no_grad()
def ov_norms(of: Anatomy, dtype: torch.dtype = torch.float32) -> Float[Tensor, "layers h"]:
    """‖W_Vᵀ W_O‖ (Frobenius) of each head, norms folded in: how much it moves of what it reads, its pattern aside.

    From Gram matrices of the head's width: ‖W_Vᵀ W_O‖² = tr((W_V W_Vᵀ) (W_O W_Oᵀ)).
    """
    found = []
    for layer in of.layers:
        W_V, W_O = _head_maps(layer, of.W_E.new_zeros(0, dtype=dtype), torch.arange(len(layer.heads.group)))
        found.append(((W_V @ W_V.mT) * (W_O @ W_O.mT)).sum((1, 2)).clamp(min=0).sqrt())
    return torch.stack(found)


def _written(layer: Layer | None, vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    return vectors if layer is None or layer.ffn_out is None else layer.ffn_out.unfolded(vectors)


def _head_maps(
    layer: Layer, like: Float[Tensor, "..."], heads: Int[Tensor, " some"]
) -> tuple[Float[Tensor, "some d_head d"], Float[Tensor, "some d_head d"]]:
    """(value maps, output maps) of heads with the norms before and behind folded in, in another tensor's dtype."""
    maps = layer.heads
    heads = heads.to(maps.W_V.device)
    W_V = layer.attention_norm.folded(maps.W_V.detach().to(like)[maps.group.to(heads.device)[heads]])
    W_O = maps.W_O.detach().to(like)[heads]
    return W_V, W_O if layer.attention_out is None else layer.attention_out.unfolded(W_O)


def require_head(of: Anatomy, layer: int, head: int) -> None:
    """Raises UsageError for a head that the model does not have."""
    if not 0 <= layer < len(of.layers):
        raise UsageError(f"no layer {layer}, so no head {layer}/{head}: the model has layers 0 to {len(of.layers) - 1}")
    heads = len(of.layers[layer].heads.group)
    if not 0 <= head < heads:
        raise UsageError(f"layer {layer} has no head {head}: it has {heads}, the last {layer}/{heads - 1}")


def stands_between(of: Anatomy, lower: int, heads: int, upper: int) -> bool:
    """Whether a layer's heads read what the FFN of a lower layer writes, and write what that of an upper one reads."""
    return lower < heads and (heads < upper or (heads == upper and not of.layers[heads].parallel))


def _require_below(of: Anatomy, lower: int, upper: int, through: tuple[int, int] | None) -> None:
    if through is None:
        if lower < upper:
            return
        raise UsageError(f"layer {lower} writes nothing that the FFN of layer {upper} reads: name a lower one")
    layer, head = through
    require_head(of, layer, head)
    if not stands_between(of, lower, layer, upper):
        raise UsageError(
            f"head {layer}/{head} does not stand between the FFNs of layers {lower} and {upper}: name a head of a "
            f"layer above {lower} and not above {upper}"
        )
