"""A model frozen at a prompt: attention patterns and norm factors held, so that all that is left is linear.

Every vector that is added to the residual stream at some token is then a source of its own: the token's and position's
embedding, each head's reading of each earlier token, each firing latent's z W_dec[l], a coder's error, its skip, and
every bias. What reads the stream (a latent's encoder row, a logit's unembedding) is a linear function of the sources.

The stream is replayed here, in `dtype`, from the model's own weights with the patterns that the model itself formed,
and held against the model's logits: an architecture that does something else is refused. (Dunefsky et al., arXiv
2406.11944, section 4 and appendix; Ameisen et al. 2025, "Circuit Tracing".)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.accepted import accepted_coders, accepted_latents, accepted_prompt, accepted_text
from plainspoken.coders import Coder
from plainspoken.errors import ActivationError, ModelError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import Anatomy, Layer, Norm, anatomy
from plainspoken.lm.patterns import capture_patterns
from plainspoken.types import Site

# How far the replayed logits may be from the model's, in units of the logits' standard deviation, by the type in which
# the model runs.
_REPLAY = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.3}


@dataclass(frozen=True, eq=False)
class Latents:
    """The firing latents of a layer over the prompt's tokens, sorted by position, then by latent."""

    position: Int[Tensor, " n"]
    latent: Int[Tensor, " n"]
    value: Float[Tensor, " n"]
    """z, as it enters the stream: the coder's own, or a simulator's."""
    pre: Float[Tensor, " n"]
    """W_enc x + b_enc at the same places."""
    written: Float[Tensor, "n d"]
    """z W_dec[l], as it is added to the stream (after the norm that Gemma 2 puts there)."""
    start: Int[Tensor, " t_1"]
    """The latents of position p are [start[p], start[p + 1])."""

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, eq=False)
class FrozenLayer:
    """One layer at the prompt: what it holds, and what its parts add to the stream."""

    layer: Layer
    coder: Coder | None
    """None: the FFN is not replaced, and all that it puts out is error."""
    stream: Float[Tensor, "t d"]
    """What attention's norm reads."""
    pattern: Float[Tensor, "h t t"]
    mix: Float[Tensor, "h t t"]
    """The pattern [h dst src] times the norm factors at source and destination."""
    W_V: Float[Tensor, "kv d_head d"]
    """The value maps with the norm before them folded in, but for its factor and bias."""
    W_O: Float[Tensor, "h d_head d"]
    """The output maps with the norm after them folded in, where there is one."""
    group: Int[Tensor, " h"]
    attention_bias: Float[Tensor, "t d"]
    """What attention adds whatever it reads: the norm's bias and b_V through the heads, and b_O."""
    ffn_factor: Float[Tensor, " t"]
    ffn_out_factor: Float[Tensor, " t"] | None
    W_skip: Float[Tensor, "d d"] | None
    """The coder's skip with the norms before and after folded in, [out in]."""
    skip_factor: Float[Tensor, " t"]
    """The norm factors that the skip passes."""
    skipped: Float[Tensor, "t d"] | None
    """What the skip adds, without what the norm's bias adds through it."""
    latents: Latents
    error: Float[Tensor, "t d"]
    ffn_bias: Float[Tensor, "t d"]


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model frozen at a prompt of t tokens. Everything is in one dtype and on one device."""

    lm: LanguageModel
    anatomy: Anatomy
    tokens: Int[Tensor, " t"]
    text: Bool[Tensor, " t"]
    """The tokens at which coders are read; at the others nothing of a coder is in the stream."""
    embedded: Float[Tensor, "t d"]
    placed: Float[Tensor, "t d"] | None
    """Learned positions, where the model has them."""
    layers: tuple[FrozenLayer, ...]
    final: Float[Tensor, "t d"]
    """The stream that the final norm reads."""
    final_factor: Float[Tensor, " t"]
    logits: Float[Tensor, "t vocabulary"]
    """Before a soft cap, which is not linear (Gemma 2)."""

    @property
    def probabilities(self) -> Float[Tensor, "t vocabulary"]:
        """Of the token that follows each token, as the model has them."""
        return capped(self.logits, self.anatomy.softcap).softmax(-1)

    @property
    def dtype(self) -> torch.dtype:
        """In which everything here is computed."""
        return self.embedded.dtype

    @property
    def t(self) -> int:
        """Tokens of the prompt, the one that starts it included."""
        return len(self.tokens)


@torch.no_grad()
def freeze(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    tokens: Int[Tensor, " t"] | Sequence[int],
    dtype: torch.dtype = torch.float32,
    given: Mapping[Site, Float[Tensor, "..."]] | None = None,
    text: Bool[Tensor, " t"] | None = None,
) -> Frozen:
    """The model frozen at a prompt, with a transcoder in the place of each FFN that has one.

    `text`: the tokens at which coders are read (None: all but a BOS that starts the prompt, on which no coder was
    trained). At the others the whole FFN is error.
    `given`: latents that stand in the place of the coder's own, such as simulated ones; the error then makes up the
    difference, so that the stream stays the model's. float64 takes copies of the coders' weights: for proofs.
    Raises UsageError for a prompt that is empty, longer than the context or holds an unknown token, for a mask of
    another length, and for given latents that fit no coder; CoderError for a coder that is no transcoder of an FFN of
    this model or holds NaN; ModelError where the replay does not give the model's logits; ActivationError where they
    are not finite.
    """
    of = anatomy(lm)
    ids = accepted_prompt(lm, tokens)
    by_layer = accepted_coders(of, coders, dtype)
    latents = accepted_latents(of, by_layer, len(ids), given or {})
    coded = accepted_text(lm, ids, text)
    with capture_patterns(lm, of) as patterns:
        logits = lm.model(ids[None], use_cache=False).logits[0]
    if not torch.isfinite(logits).all():
        raise ActivationError(f"{lm.name} gives logits that are not finite on this prompt; set lm.dtype to float32")

    embedded = of.W_E[ids].to(dtype) * of.scale
    placed = None if of.W_P is None else of.W_P[: len(ids)].to(dtype)
    x = embedded if placed is None else embedded + placed
    layers = []
    for i, layer in enumerate(of.layers):
        frozen, x = _layer(lm, layer, x, patterns[i][0].to(dtype), by_layer.get(i), latents.get(i), coded)
        layers.append(frozen)
    factor = of.final.factor(x)
    replayed = _biased(of.final, of.final.linear(x, factor)) @ of.W_U.to(dtype).T
    replayed = replayed if of.b_U is None else replayed + of.b_U.to(dtype)
    _require_same(lm, capped(replayed, of.softcap), logits)
    return Frozen(lm, of, ids, coded, embedded, placed, tuple(layers), x, factor, replayed)


def _layer(
    lm: LanguageModel,
    layer: Layer,
    x: Float[Tensor, "t d"],
    pattern: Float[Tensor, "h t t"],
    coder: Coder | None,
    given: Float[Tensor, "t latents"] | None,
    coded: Bool[Tensor, " t"],
) -> tuple[FrozenLayer, Float[Tensor, "t d"]]:
    """The layer at this stream, and the stream after it."""
    heads, norm = layer.heads, layer.attention_norm
    W_V, W_O, group = heads.W_V.to(x), heads.W_O.to(x), heads.group.to(x.device)
    constant = _constant(layer, W_V)
    factor, W_V = norm.factor(x), norm.folded(W_V)
    moved, bias = _mixed(pattern * factor, x, W_V, W_O, group), _attention_bias(layer, pattern, constant, W_O, group)
    mix, after = pattern * factor, layer.attention_out
    if after is not None:
        out_factor = after.factor(moved + bias)
        moved, bias = after.linear(moved, out_factor), after.linear(bias, out_factor)
        mix, W_O = mix * out_factor[:, None], after.unfolded(W_O)
    middle = x if layer.parallel else x + moved + bias
    ffn_factor = layer.ffn_norm.factor(middle)
    entering = _biased(layer.ffn_norm, layer.ffn_norm.linear(middle, ffn_factor))
    module = lm.model.get_submodule(layer.ffn)
    y = module(entering[None].to(lm.dtype))
    y = (y[0] if isinstance(y, tuple) else y)[0].to(x)
    ffn_out = None if layer.ffn_out is None else layer.ffn_out.factor(y)
    latents, constant = _coded(layer, coder, entering, ffn_out, given, coded)
    W_skip = None if coder is None else _folded_skip(layer, coder)
    skip_factor = (ffn_factor if ffn_out is None else ffn_factor * ffn_out) * coded
    skipped = None if W_skip is None else (middle @ W_skip.T) * skip_factor[:, None]
    y = _out(layer.ffn_out, y, ffn_out)
    error = y - torch.zeros_like(y).index_add_(0, latents.position, latents.written) - constant
    frozen = FrozenLayer(
        layer=layer,
        coder=coder,
        stream=x,
        pattern=pattern,
        mix=mix,
        W_V=W_V,
        W_O=W_O,
        group=group,
        attention_bias=bias,
        ffn_factor=ffn_factor,
        ffn_out_factor=ffn_out,
        W_skip=W_skip,
        skip_factor=skip_factor,
        skipped=skipped,
        latents=latents,
        error=error if skipped is None else error - skipped,
        ffn_bias=constant,
    )
    return frozen, x + moved + bias + y


def _mixed(
    mix: Float[Tensor, "h t t"],
    x: Float[Tensor, "t d"],
    W_V: Float[Tensor, "kv d_head d"],
    W_O: Float[Tensor, "h d_head d"],
    group: Int[Tensor, " h"],
) -> Float[Tensor, "t d"]:
    """What the heads move of the stream."""
    values = torch.einsum("sd,ged->gse", x, W_V)[group]
    return torch.einsum("hte,hed->td", mix @ values, W_O)


def _constant(layer: Layer, W_V: Float[Tensor, "kv d_head d"]) -> Float[Tensor, "kv d_head"]:
    """What a head's values are whatever the stream is: the norm's bias through the value map, and b_V."""
    constant = W_V.new_zeros(W_V.shape[:2])
    if layer.attention_norm.bias is not None:
        constant = constant + W_V @ layer.attention_norm.bias.to(W_V)
    return constant if layer.heads.b_V is None else constant + layer.heads.b_V.to(W_V)


def _attention_bias(
    layer: Layer,
    pattern: Float[Tensor, "h t t"],
    constant: Float[Tensor, "kv d_head"],
    W_O: Float[Tensor, "h d_head d"],
    group: Int[Tensor, " h"],
) -> Float[Tensor, "t d"]:
    out = pattern.sum(-1).T @ torch.einsum("he,hed->hd", constant[group], W_O)
    return out if layer.heads.b_O is None else out + layer.heads.b_O.to(out)


def _folded_skip(layer: Layer, coder: Coder) -> Float[Tensor, "d d"] | None:
    if coder.W_skip is None:
        return None
    W_skip = layer.ffn_norm.folded(coder.W_skip.detach())
    return W_skip if layer.ffn_out is None else layer.ffn_out.unfolded(W_skip.T).T


def _coded(
    layer: Layer,
    coder: Coder | None,
    entering: Float[Tensor, "t d"],
    out_factor: Float[Tensor, " t"] | None,
    given: Float[Tensor, "t latents"] | None,
    coded: Bool[Tensor, " t"],
) -> tuple[Latents, Float[Tensor, "t d"]]:
    """(latents, the constant that the coder adds); of a layer without a coder nothing."""
    t, d = entering.shape
    if coder is None:
        none = torch.zeros(0, dtype=torch.long, device=entering.device)
        zero = entering.new_zeros(0)
        return Latents(none, none, zero, zero, zero.view(0, d), none.new_zeros(t + 1)), torch.zeros_like(entering)
    z = (coder.dense(coder.encode(entering)) if given is None else given.to(entering)) * coded[:, None]
    position, latent = z.nonzero(as_tuple=True)
    value = z[position, latent]
    pre = (entering[position] * coder.W_enc[latent]).sum(-1) + coder.b_enc[latent]
    written = coder.W_dec[latent] * value[:, None]
    written = _out(layer.ffn_out, written, None if out_factor is None else out_factor[position])
    start = torch.searchsorted(position, torch.arange(t + 1, device=position.device))
    constant = coder.b_dec.expand(t, d)
    if coder.W_skip is not None and layer.ffn_norm.bias is not None:
        constant = constant + coder.W_skip @ layer.ffn_norm.bias.to(entering)
    return Latents(position, latent, value, pre, written, start), _out(
        layer.ffn_out, constant * coded[:, None], out_factor
    )


def _biased(norm: Norm, linear: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
    return linear if norm.bias is None else linear + norm.bias.to(linear)


def _out(norm: Norm | None, y: Float[Tensor, "n d"], factor: Float[Tensor, " n"] | None) -> Float[Tensor, "n d"]:
    """What a part puts out, as it is added to the stream."""
    return y if norm is None or factor is None else norm.linear(y, factor)


def capped(logits: Float[Tensor, "*t v"], cap: float | None) -> Float[Tensor, "*t v"]:
    """The logits after the model's soft cap."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _require_same(lm: LanguageModel, shown: Float[Tensor, "t v"], logits: Float[Tensor, "t v"]) -> None:
    off = float((shown - logits.to(shown)).abs().max() / logits.double().std().clamp(min=1e-12))
    if not off < _REPLAY[lm.dtype]:
        raise ModelError(
            f"{lm.name} computes something that circuits do not know: its replay is off by {off:.2g} standard "
            "deviations of its logits; name a GPT-2, GPT-NeoX, Llama, Mistral, Qwen or Gemma model"
        )
