"""Read a module's input and output, or put another output in its place, while the model runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from plainspoken.errors import ActivationError
from plainspoken.lm.load import LanguageModel
from plainspoken.types import Site

Splice = Callable[[Float[Tensor, "b t d_in"], Float[Tensor, "b t d_out"]], Float[Tensor, "b t d_out"]]
"""(x, y) of a site to what is put in the place of y."""


@contextmanager
def capture(model: LanguageModel | nn.Module, sites: Sequence[Site]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Within it, each forward pass leaves (x [b t d_in], y [b t d_out]) of every site under its module's path.

    x is what the coder reads: the input of an `mlp` site (after its norm); for `resid`, the output itself. y is the
    module's output, after any splice that was entered before. Tensors are the model's own, neither copied nor detached.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    with _hooked(model, {site: partial(_read, seen, site) for site in sites}):
        yield seen


@contextmanager
def splice(model: LanguageModel | nn.Module, replacements: Mapping[Site, Splice]) -> Iterator[None]:
    """Within it, each site's module puts out `replacements[site](x, y)` in the place of its own output y.

    Inside `generate` with a cache the function sees only the new positions, t=1 after the prompt. The module is as
    before once the block is left, by whatever exception. Raises ActivationError for a replacement of another shape.
    """
    with _hooked(model, {site: partial(_write, site, replace) for site, replace in replacements.items()}):
        yield


def _read(
    seen: dict[str, tuple[Tensor, Tensor]],
    site: Site,
    module: nn.Module,
    args: tuple,
    kwargs: dict[str, Any],
    output: Any,
) -> None:
    """The hook that captures."""
    seen[site.module] = _x_and_y(site, args, kwargs, output)


def _write(site: Site, replace: Splice, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """The hook that splices."""
    x, y = _x_and_y(site, args, kwargs, output)
    new = replace(x, y)
    if new.shape != y.shape:
        raise ActivationError(
            f"{site.module}: a replacement of shape {tuple(new.shape)} for an output of {tuple(y.shape)}; "
            "return one of the output's shape"
        )
    new = new.to(y)
    return (new, *output[1:]) if isinstance(output, tuple) else new


def _x_and_y(site: Site, args: tuple, kwargs: dict[str, Any], output: Any) -> tuple[Tensor, Tensor]:
    """What a site reads and writes, from a module's call; some layers return a tuple, the hidden state first."""
    y = output[0] if isinstance(output, tuple) else output
    if site.kind == "resid":
        return y, y
    return (args[0] if args else next(iter(kwargs.values()))), y


@contextmanager
def _hooked(model: LanguageModel | nn.Module, hooks: Mapping[Site, Callable[..., Any]]) -> Iterator[None]:
    module = model.model if isinstance(model, LanguageModel) else model
    with ExitStack() as stack:
        for site, hook in hooks.items():
            handle = module.get_submodule(site.module).register_forward_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield
