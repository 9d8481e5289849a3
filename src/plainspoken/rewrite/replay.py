"""Run a model again from a site on: what ran before the site gives what it gave before, without being computed.

Splicing a site changes nothing upstream of it. When the same text is run under ninety conditions, the layers before the
site, and the parts of its own layer that ran before it, are computed once.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from plainspoken.types import Site

_MISSING = object()


@contextmanager
def record(model: nn.Module, site: Site) -> Iterator[dict[str, Any]]:
    """Within it, a forward pass leaves the output of the site and of all that finished before it, by module path.

    Recorded are members of the list of layers that the site stands in, and the children of its own layer. What
    finished before the site cannot have depended on its output. The site itself comes last.
    """
    outputs: dict[str, Any] = {}

    with ExitStack() as stack:
        for path in _around(model, site):
            handle = model.get_submodule(path).register_forward_hook(partial(_keep, outputs, site, path))
            stack.callback(handle.remove)
        yield outputs


@contextmanager
def replay(model: nn.Module, outputs: Mapping[str, Any]) -> Iterator[None]:
    """Within it, the named modules put out what is given, whatever comes in; after it they are as before."""
    with ExitStack() as stack:
        for path, output in outputs.items():
            module = model.get_submodule(path)
            stack.callback(_restore, module, module.__dict__.get("forward", _MISSING))
            module.__dict__["forward"] = partial(_constant, output)
        yield


def with_output(output: Any, y: Float[Tensor, "b t d"]) -> Any:
    """A recorded output of the site with another hidden state in its place (some modules return a tuple)."""
    return (y, *output[1:]) if isinstance(output, tuple) else y


def _around(model: nn.Module, site: Site) -> list[str]:
    """The site, its fellow layers, and the children of its layer."""
    parts = site.module.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        parent = ".".join(parts[:depth])
        if isinstance(layers := model.get_submodule(parent), nn.ModuleList):
            layer = f"{parent}.{parts[depth]}"
            fellows = [f"{parent}.{name}" for name, _ in layers.named_children()]
            children = [f"{layer}.{name}" for name, _ in model.get_submodule(layer).named_children()]
            return list(dict.fromkeys([site.module, *fellows, *children]))
    return [site.module]


def _keep(outputs: dict[str, Any], site: Site, path: str, module: nn.Module, args: tuple, output: Any) -> None:
    if site.module not in outputs:
        outputs[path] = output


def _constant(output: Any, *args: Any, **kwargs: Any) -> Any:
    return output


def _restore(module: nn.Module, forward: Any) -> None:
    if forward is _MISSING:
        del module.__dict__["forward"]
    else:
        module.__dict__["forward"] = forward
