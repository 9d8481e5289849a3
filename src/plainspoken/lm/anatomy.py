"""The anatomy of a decoder: which of its weights are norms, value and output maps of heads, FFNs and embeddings.

What a linear analysis of a frozen model needs, for the families that Hugging Face writes alike: GPT-2, GPT-NeoX
(Pythia; serial or parallel residual), and Llama with those that share its names (Mistral, Qwen, Gemma 1 to 3). Weights
are the model's own, as views: nothing is copied. What an architecture does beyond this (a scaled residual, say) is
found by `circuits.freeze`, which holds its replay of the model against the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plainspoken.errors import ModelError
from plainspoken.lm.load import LanguageModel


@dataclass(frozen=True, eq=False)
class Norm:
    """y = w ⊙ (x - mean x) · factor + b, where `centred`, with factor = 1/std; else y = w ⊙ x · factor, 1/rms.

    With the factor held it is linear in x, and exactly so.
    """

    weight: Float[Tensor, " d"]
    bias: Float[Tensor, " d"] | None
    centred: bool
    eps: float

    def factor(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """1 / sqrt(mean of squares + eps), of what remains after centring."""
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return (x.square().mean(-1) + self.eps).rsqrt()

    def linear(self, x: Float[Tensor, "*n d"], factor: Float[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The norm without its bias, its factor held."""
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        return x * factor[..., None] * self.weight.to(x)

    def whole(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The norm as the model applies it, its bias included."""
        y = self.linear(x, self.factor(x))
        return y if self.bias is None else y + self.bias.to(y)

    def adjoint(self, g: Float[Tensor, "*n d"], factor: Float[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The gradient at x of g · linear(x, factor)."""
        return self.folded(g) * factor[..., None]

    def folded(self, W: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Rows that read the norm's output, as rows that read its input but for the factor: W x̂ = factor · folded x."""
        W = W * self.weight.to(W)
        return W - W.mean(-1, keepdim=True) if self.centred else W

    def unfolded(self, W: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Vectors that enter the norm, as vectors that leave it but for the factor."""
        return (W - W.mean(-1, keepdim=True) if self.centred else W) * self.weight.to(W)


@dataclass(frozen=True, eq=False)
class Heads:
    """The value and output maps of an attention module: head h puts W_O[h]ᵀ (W_V[group[h]] x + b_V[group[h]]) out.

    `group`: the key-value head that a head reads; several read one under grouped-query attention. The output has the
    bias b_O beside.
    """

    module: str
    W_V: Float[Tensor, "kv d_head d"]
    b_V: Float[Tensor, "kv d_head"] | None
    W_O: Float[Tensor, "h d_head d"]
    b_O: Float[Tensor, " d"] | None
    group: Int[Tensor, " h"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One decoder layer. `parallel`: its FFN reads what its attention reads, not what that leaves.

    `attention_norm` and `ffn_norm` stand before attention and FFN, the `_out` ones between those and the residual
    stream (Gemma 2 and 3).
    """

    module: str
    attention_norm: Norm
    heads: Heads
    attention_out: Norm | None
    ffn_norm: Norm
    ffn: str
    ffn_out: Norm | None
    parallel: bool
    neurons: str
    """The module, within the FFN, that reads its neurons: their activations are its input."""
    W_out: Float[Tensor, "neurons d"]
    """What a neuron of activation 1 puts out."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A decoder: embeddings, layers, final norm and unembedding.

    The residual stream starts as `scale` · W_E[token] (+ W_P[position], where positions are learned vectors). Logits
    are W_U y + b_U of the final norm's output y, before any soft cap.
    """

    W_E: Float[Tensor, "vocabulary d"]
    scale: float
    W_P: Float[Tensor, "context d"] | None
    layers: tuple[Layer, ...]
    final: Norm
    W_U: Float[Tensor, "vocabulary d"]
    b_U: Float[Tensor, " vocabulary"] | None
    softcap: float | None
    """c, where the model puts c tanh(logit / c) out."""

    def layer_of(self, module: str) -> int | None:
        """The layer whose FFN is the module of this path; None where there is none."""
        return next((i for i, layer in enumerate(self.layers) if layer.ffn == module), None)


def anatomy(lm: LanguageModel) -> Anatomy:
    """The anatomy of a language model. Raises ModelError, naming the families that are known, for another's."""
    model: Any = lm.model
    for holds, read in _FAMILIES.items():
        if hasattr(model, holds):
            try:
                return read(model)
            except AttributeError as error:
                raise ModelError(_unknown(lm, str(error))) from error
    raise ModelError(_unknown(lm, "other module names"))


def _unknown(lm: LanguageModel, reason: str) -> str:
    return (
        f"{lm.name} ({type(lm.model).__name__}) is built unlike the families that circuits know (GPT-2, GPT-NeoX, "
        f"Llama, Mistral, Qwen, Gemma): {reason}; name a model of one of these, or add its family to lm/anatomy.py"
    )


def _gpt2(model: Any) -> Anatomy:
    """GPT-2: learned positions, Conv1D weights that lie [in, out]."""
    base, heads = model.transformer, model.config.num_attention_heads

    def layer(i: int, block: Any) -> Layer:
        path, attention = f"transformer.h.{i}", block.attn
        d = attention.embed_dim
        weight, bias = attention.c_attn.weight, attention.c_attn.bias
        maps = Heads(
            module=f"{path}.attn",
            W_V=weight[:, 2 * d :].T.unflatten(0, (heads, -1)),
            b_V=bias[2 * d :].view(heads, -1),
            W_O=attention.c_proj.weight.view(heads, -1, d),
            b_O=attention.c_proj.bias,
            group=torch.arange(heads),
        )
        down = f"{path}.mlp.c_proj", block.mlp.c_proj.weight
        return Layer(path, norm(block.ln_1), maps, None, norm(block.ln_2), f"{path}.mlp", None, False, *down)

    layers = tuple(layer(i, block) for i, block in enumerate(base.h))
    return _whole(model, base.wte, base.wpe.weight, layers, base.ln_f, model.lm_head)


def _gpt_neox(model: Any) -> Anatomy:
    """GPT-NeoX: rotary positions, a head's query, key and value one after the other in one matrix."""
    base, config = model.gpt_neox, model.config
    heads = config.num_attention_heads

    def layer(i: int, block: Any) -> Layer:
        path, attention = f"gpt_neox.layers.{i}", block.attention
        fused, size = attention.query_key_value, attention.head_size
        maps = Heads(
            module=f"{path}.attention",
            W_V=fused.weight.view(heads, 3, size, -1)[:, 2],
            b_V=None if fused.bias is None else fused.bias.view(heads, 3, size)[:, 2],
            W_O=attention.dense.weight.T.unflatten(0, (heads, size)),
            b_O=attention.dense.bias,
            group=torch.arange(heads),
        )
        norms = norm(block.input_layernorm), norm(block.post_attention_layernorm)
        down, parallel = block.mlp.dense_4h_to_h.weight.T, config.use_parallel_residual
        neurons = f"{path}.mlp.dense_4h_to_h"
        return Layer(path, norms[0], maps, None, norms[1], f"{path}.mlp", None, parallel, neurons, down)

    layers = tuple(layer(i, block) for i, block in enumerate(base.layers))
    return _whole(model, base.embed_in, None, layers, base.final_layer_norm, model.get_output_embeddings())


def _llama(model: Any) -> Anatomy:
    """Llama and what shares its names: rotary positions, RMS norms, grouped-query attention."""
    base, config = model.model, model.config.get_text_config()
    heads, groups = config.num_attention_heads, config.num_key_value_heads

    def layer(i: int, block: Any) -> Layer:
        path, attention = f"model.layers.{i}", block.self_attn
        value, output = attention.v_proj, attention.o_proj
        maps = Heads(
            module=f"{path}.self_attn",
            W_V=value.weight.unflatten(0, (groups, -1)),
            b_V=None if value.bias is None else value.bias.view(groups, -1),
            W_O=output.weight.T.unflatten(0, (heads, -1)),
            b_O=output.bias,
            group=torch.arange(heads) // (heads // groups),
        )
        # Gemma 2 and 3 have four norms, and the name that is elsewhere the FFN's stands for attention's output.
        four = hasattr(block, "pre_feedforward_layernorm")
        before = block.pre_feedforward_layernorm if four else block.post_attention_layernorm
        outs = (norm(block.post_attention_layernorm), norm(block.post_feedforward_layernorm)) if four else (None, None)
        norms, down = (norm(block.input_layernorm), norm(before)), block.mlp.down_proj.weight.T
        neurons = f"{path}.mlp.down_proj"
        return Layer(path, norms[0], maps, outs[0], norms[1], f"{path}.mlp", outs[1], False, neurons, down)

    layers = tuple(layer(i, block) for i, block in enumerate(base.layers))
    return _whole(model, base.embed_tokens, None, layers, base.norm, model.lm_head)


_FAMILIES: dict[str, Callable[[Any], Anatomy]] = {"transformer": _gpt2, "gpt_neox": _gpt_neox, "model": _llama}


def _whole(
    model: Any,
    embedding: nn.Module,
    positions: Float[Tensor, "context d"] | None,
    layers: tuple[Layer, ...],
    final: nn.Module,
    unembedding: Any,
) -> Anatomy:
    W_E: Tensor = embedding.weight  # pyright: ignore[reportAssignmentType]
    scale = getattr(embedding, "embed_scale", None)
    return Anatomy(
        W_E=W_E,
        scale=1.0 if scale is None else float(scale.to(W_E.dtype)),
        W_P=positions,
        layers=layers,
        final=norm(final),
        W_U=unembedding.weight,
        b_U=unembedding.bias,
        softcap=getattr(model.config.get_text_config(), "final_logit_softcapping", None) or None,
    )


def norm(module: Any) -> Norm:
    """What a norm module computes. Its weight is told from what it does to a vector of ones: Gemma's add 1 to theirs.

    Raises ModelError for a module that is neither a layer norm nor an RMS norm.
    """
    if isinstance(module, nn.LayerNorm):
        return Norm(module.weight, module.bias, True, module.eps)
    weight, eps = module.weight, getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if eps is None:
        raise ModelError(f"{type(module).__name__} is no norm that circuits know (a layer norm or an RMS norm)")
    ones = torch.ones_like(weight)
    with torch.no_grad():
        seen = module(ones) * (1 + eps) ** 0.5
    whole = weight if weight.dtype.itemsize >= 4 else weight.float()  # in which 1 is added, as the modules do
    for candidate in (weight, 1 + whole):
        if torch.allclose(seen, candidate.to(seen), rtol=1e-2 if weight.dtype.itemsize < 4 else 1e-5, atol=1e-6):
            return Norm(candidate.detach(), None, False, float(eps))
    raise ModelError(f"{type(module).__name__} is no norm that circuits know (a layer norm or an RMS norm)")
