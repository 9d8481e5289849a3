"""Attention patterns: read them while the model runs, or hold them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plainspoken.errors import ModelError
from plainspoken.lm.anatomy import Anatomy, Heads
from plainspoken.lm.load import LanguageModel


@contextmanager
def capture_patterns(lm: LanguageModel, of: Anatomy) -> Iterator[list[Float[Tensor, "b h t t"]]]:
    """Within it, a forward pass appends each layer's attention pattern [b h dst src], the first layer's first.

    Raises ModelError, on leaving, where the model's attention does not tell its pattern.
    """
    seen: list[Float[Tensor, "b h t t"]] = []

    def read(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if not isinstance(output, tuple) or not isinstance(output[1], Tensor):
            raise ModelError(f"the attention of {lm.name} does not tell its pattern, and circuits need it")
        seen.append(output[1])

    with eager_attention(lm), _hooks(lm, of, [read] * len(of.layers)):
        yield seen


@contextmanager
def hold_patterns(lm: LanguageModel, of: Anatomy, patterns: Sequence[Float[Tensor, "h t t"]]) -> Iterator[None]:
    """Within it, each attention module mixes values by the given pattern, whatever its queries and keys are.

    For forward passes without a cache over as many tokens as the patterns have. Raises ModelError for another number.
    """

    def writer(layer: int) -> Callable[..., Any]:
        heads, pattern = of.layers[layer].heads, patterns[layer]

        def write(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
            x = args[0] if args else kwargs["hidden_states"]
            if x.shape[1] != pattern.shape[-1]:
                raise ModelError(
                    f"patterns of {pattern.shape[-1]} tokens are held, and the model was given {x.shape[1]}"
                )
            return (attend(heads, x.to(pattern), pattern).to(x), *output[1:])

        return write

    with _hooks(lm, of, [writer(layer) for layer in range(len(of.layers))]):
        yield


def attend(heads: Heads, x: Float[Tensor, "*b t d"], pattern: Float[Tensor, "h t t"]) -> Float[Tensor, "*b t d"]:
    """What an attention module puts out for the input x, its pattern given."""
    group = heads.group.to(x.device)
    values = torch.einsum("...sd,ghd->...gsh", x, heads.W_V.to(x))
    if heads.b_V is not None:
        values = values + heads.b_V.to(x)[:, None]
    mixed = pattern.to(x) @ values.index_select(-3, group)
    out = torch.einsum("...hte,hed->...td", mixed, heads.W_O.to(x))
    return out if heads.b_O is None else out + heads.b_O.to(x)


@contextmanager
def eager_attention(lm: LanguageModel) -> Iterator[None]:
    """Within it, attention is computed by matrix products that keep the pattern; afterwards as before."""
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if before is not None:
            lm.model.set_attn_implementation(before)


@contextmanager
def _hooks(lm: LanguageModel, of: Anatomy, hooks: Sequence[Callable[..., Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for layer, hook in zip(of.layers, hooks, strict=True):
            module = lm.model.get_submodule(layer.heads.module)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        yield
