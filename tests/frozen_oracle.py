"""A slow oracle: the real module tree of Hugging Face, held linear by hooks, and torch's own gradient through it.

It knows nothing of `lm/anatomy.py` but which module is an attention and which an FFN: patterns are held inside the
attention function, so that the modules' own value and output projections run; a norm's factor is held as the ratio of
what it makes of its input to that input; each FFN's output is a sum of leaf tensors, one a source. Norms are computed
in the model's own type, where some of Hugging Face's pass by float32.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Node


@dataclass
class Sources:
    """The leaves, by layer where they belong to one; that of a bias is 1, by which the bias is multiplied."""

    token: Tensor
    position: Tensor | None
    attention_bias: list[Tensor]
    ffn_bias: list[Tensor]
    error: list[Tensor]
    latent: list[Tensor]

    def leaves(self) -> list[Tensor]:
        """In the order of a row's columns."""
        layers = zip(self.attention_bias, self.ffn_bias, self.error, self.latent, strict=True)
        first = [self.token] if self.position is None else [self.token, self.position]
        return first + [leaf for layer in layers for leaf in layer]


@dataclass
class Boost:
    """Head `head` of a layer reads what it linearly reads at token `source` 1 + `by` times."""

    layer: int
    head: int
    source: int
    by: float


class HeldModel:
    """The module tree at the prompt of a Frozen; `values` runs it from given sources."""

    def __init__(self, frozen: Frozen) -> None:
        self.frozen = frozen
        self.model: Any = frozen.lm.model
        layers = frozen.anatomy.layers
        self.blocks = [dict(self.model.get_submodule(layer.module).named_children()) for layer in layers]
        self.attentions = [self.model.get_submodule(layer.heads.module) for layer in layers]
        self.ffns = [self.model.get_submodule(layer.ffn) for layer in layers]
        self.norms = [m for m in self.model.modules() if "Norm" in type(m).__name__]
        self.embeddings = [m for m in self.model.modules() if isinstance(m, nn.Embedding)]
        self.patterns: list[Tensor] = []
        self.ratios: dict[nn.Module, Tensor] = {}
        self.entering: dict[int, Tensor] = {}
        self.boost: Boost | None = None
        self.constant_values: Tensor | None = None
        self.y: list[Tensor] = []
        self.start: list[Tensor] = []
        with torch.no_grad():
            self._record()

    def _record(self) -> None:
        """Patterns of the model as it is; then, these held, factors of norms and what the FFNs read and write."""
        with self._attention_named("eager"):
            self._run([(m, lambda m, a, k, o: self.patterns.append(o[1][0])) for m in self.attentions])
        hooks: list[tuple[nn.Module, Any]] = [(m, self._exact_norm) for m in self.norms]
        hooks += [(m, lambda m, a, k, o: self.start.append(o.view(o.shape[-2:]))) for m in self.embeddings]
        for i, module in enumerate(self.ffns):
            hooks.append((module, lambda m, a, k, o, i=i: self._note_ffn(i, a[0][0], o[0])))
        with self._attention_named("held"):
            self._run(hooks)
        self.x = [self.entering[i] for i in range(len(self.ffns))]

    def _note_ffn(self, i: int, x: Tensor, y: Tensor) -> None:
        self.entering[i] = x
        self.y.append(y)

    def _exact_norm(self, module: Any, args: tuple, kwargs: dict, out: Tensor) -> Tensor:
        x = _centred(module, args[0])
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        assert eps is not None
        weight = 1 + module.weight if "Gemma" in type(module).__name__ else module.weight
        self.ratios[module] = weight / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        return x * self.ratios[module] + _bias(module, x)

    def sources(self) -> Sources:
        """Leaves with the values that the model has."""
        layers = self.frozen.layers
        with torch.no_grad():
            latents = [layer.latents.value.clone() for layer in layers]
            errors = [y.clone() for y in self.y]
            for i, layer in enumerate(layers):
                if layer.coder is not None:
                    errors[i] -= self._decoded(layer, latents[i], self.x[i]) + layer.coder.b_dec
        placed = self.start[1].clone() if len(self.start) > 1 else None
        attention, ffn = ([torch.ones((), dtype=self.frozen.dtype) for _ in layers] for _ in range(2))
        found = Sources(self.start[0].clone(), placed, attention, ffn, errors, latents)
        for leaf in found.leaves():
            leaf.requires_grad_(True)
        return found

    def row(self, node: Node) -> Float[Tensor, " columns"]:
        """What every source contributes to a latent or a demeaned logit: gradient times source."""
        sources = self.sources()
        value, leaves = self.values(sources, [node])[0], sources.leaves()
        grads = torch.autograd.grad(value, leaves, allow_unused=True)
        parts = []
        for leaf, grad in zip(leaves, grads, strict=True):
            part = torch.zeros_like(leaf) if grad is None else grad * leaf
            parts.append(part.detach().sum(-1) if part.ndim == 2 else part.detach().reshape(-1))
        return torch.cat(parts)

    def values(self, sources: Sources, nodes: Sequence[Node]) -> list[Tensor]:
        """Pre-activations of latents and demeaned logits (before a soft cap) that follow from the sources."""
        logits: list[Tensor] = []
        head: Any = self.model.get_output_embeddings()
        hooks: list[tuple[nn.Module, Any]] = [(m, self._held_norm) for m in self.norms if m in self.ratios]
        hooks.append((head, lambda m, a, k, o: logits.append(o[0])))
        for leaf, module in zip((sources.token, sources.position), self.embeddings, strict=False):
            assert leaf is not None
            hooks.append((module, lambda m, a, k, o, leaf=leaf: leaf.view(o.shape)))
        for i, module in enumerate(self.attentions):
            hooks.append((module, lambda m, a, k, o, i=i: self._attention(i, sources, m, a, k, o)))
        for i, module in enumerate(self.ffns):
            hooks.append((module, lambda m, a, k, o, i=i: self._ffn(i, sources, a[0][0])[None]))
        with self._attention_named("held"):
            self._run(hooks)
        return [self._value(node, logits[0]) for node in nodes]

    def _value(self, node: Node, logits: Tensor) -> Tensor:
        assert node.index is not None and node.position is not None
        if node.kind == "logit":
            return logits[node.position, node.index] - logits[node.position].mean()
        assert node.layer is not None
        coder: Any = self.frozen.layers[node.layer].coder
        return self.entering[node.layer][node.position] @ coder.W_enc[node.index] + coder.b_enc[node.index]

    def _held_norm(self, module: Any, args: tuple, kwargs: dict, out: Tensor) -> Tensor:
        return _centred(module, args[0]) * self.ratios[module] + _bias(module, out)

    def _run(self, hooks: Sequence[tuple[nn.Module, Callable[..., Any]]]) -> None:
        with ExitStack() as stack:
            for module, hook in hooks:
                stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            self.model(self.frozen.tokens[None], use_cache=False)

    @contextmanager
    def _attention_named(self, name: str) -> Iterator[None]:
        before = self.model.config._attn_implementation
        AttentionInterface.register("held", self._attend)
        self.model.set_attn_implementation(name)
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    def _attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **_: Any) -> Any:
        """Values mixed by the held pattern, by the heads of this module."""
        layer = next(i for i, m in enumerate(self.attentions) if m is module)
        pattern, boost = self.patterns[layer], self.boost
        value = value.repeat_interleave(pattern.shape[0] // value.shape[1], 1)
        mixed = pattern @ value
        if self.constant_values is None:
            self.constant_values = value
        elif boost is not None and boost.layer == layer:
            h, s = boost.head, boost.source
            more = torch.zeros_like(mixed)
            more[0, h] = boost.by * pattern[h, :, s, None] * (value - self.constant_values)[0, h, s]
            mixed = mixed + more
        return mixed.transpose(1, 2).contiguous(), pattern[None]

    def _attention(self, i: int, sources: Sources, module: Any, args: tuple, kwargs: dict, out: Any) -> Any:
        """Its constant part, what it puts out for the norm's bias alone, is as large as the bias leaf says."""
        x = args[0] if args else kwargs["hidden_states"]
        alone = _bias(self._named(i, "ln_1", "input_layernorm"), x).expand_as(x)
        rest, named = ((alone, *args[1:]), kwargs) if args else ((), kwargs | {"hidden_states": alone})
        self.constant_values = None
        constant = module.forward(*rest, **named)[0].detach()
        again = module.forward(*args, **kwargs)[0]
        self.constant_values = None
        return again + (sources.attention_bias[i] - 1) * constant, out[1]

    def _ffn(self, i: int, sources: Sources, x: Tensor) -> Tensor:
        self.entering[i] = x
        layer = self.frozen.layers[i]
        if layer.coder is None:
            return sources.error[i]
        more = sources.ffn_bias[i] * layer.coder.b_dec
        if layer.coder.W_skip is not None:
            norm = self._named(i, "pre_feedforward_layernorm", "ln_2", "post_attention_layernorm")
            more = more + (sources.ffn_bias[i] - 1) * (layer.coder.W_skip @ _bias(norm, x))
        return self._decoded(layer, sources.latent[i], x) + more + sources.error[i]

    def _named(self, i: int, *names: str) -> nn.Module:
        return next(self.blocks[i][name] for name in names if name in self.blocks[i])

    @staticmethod
    def _decoded(layer: Any, z: Tensor, x: Tensor) -> Tensor:
        written = layer.coder.W_dec[layer.latents.latent] * z[:, None]
        out = torch.zeros_like(x).index_add(0, layer.latents.position, written)
        return out if layer.coder.W_skip is None else out + x @ layer.coder.W_skip.T


def _centred(module: Any, x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True) if isinstance(module, nn.LayerNorm) else x


def _bias(module: Any, like: Tensor) -> Tensor:
    bias = getattr(module, "bias", None)
    return like.new_zeros(like.shape[-1]) if bias is None else bias
