"""Other projects' checkpoints, made by hand, and what they give for some inputs, slowly computed in float64."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plainspoken.coders import Coder, load_any
from plainspoken.types import Site

D_IN, D_OUT, LATENTS, K = 6, 5, 14, 3
Tree = dict[str, Tensor]


def drawn(**shapes: tuple[int, ...]) -> Tree:
    """Tensors of these shapes, in float32, nothing zero in them."""
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def wide(tensors: Mapping[str, Tensor]) -> Tree:
    """The same numbers in float64, for the oracle."""
    return {name: tensor.double() for name, tensor in tensors.items()}


def inputs(d: int = D_IN) -> Tensor:
    """Forty inputs."""
    return torch.randn(40, d)


def write_json(path: Path, tree: Any) -> None:
    """The settings that lie beside the tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))


def largest(pre: Tensor, k: int) -> Tensor:
    """ReLU of the k largest of each row, the others 0."""
    z = torch.zeros_like(pre)
    for row, out in zip(pre, z, strict=True):
        for j in sorted(range(len(row)), key=lambda j: -float(row[j]))[:k]:
            out[j] = max(0.0, float(row[j]))
    return z


def gives(path: Path, x: Tensor, wanted: Tensor | Callable[[Tensor], Tensor]) -> tuple[Coder, Site, str]:
    """What `load_any` gives, after its output for x was held against the oracle's."""
    coder, site, name = load_any(path)
    oracle = wanted if isinstance(wanted, Tensor) else wanted(x.double())
    torch.testing.assert_close(coder(x).double(), oracle, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in coder.parameters())
    return coder, site, name
