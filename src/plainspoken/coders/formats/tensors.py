"""A checkpoint's tensors and settings, each taken by name and checked; what does not fit is named with its file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plainspoken.errors import CoderError, StoreError
from plainspoken.store import read_json

T = TypeVar("T")
AGAIN = "make the checkpoint again, or fetch it again"
"""The mend for a file that came to harm."""


class Tensors:
    """The tensors of a file, taken one by one; at the end none may be left, since each would have meant something.

    says: what calls for the shapes, for the messages.
    """

    def __init__(self, path: Path, held: Mapping[str, Any], says: str) -> None:
        self._path, self._says = path, says
        self._left = {str(name): tensor for name, tensor in held.items()}  # a pickle's names may be anything
        self._names = ", ".join(sorted(self._left)) or "nothing"

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def widths(self, name: str) -> tuple[int, int]:
        """The two sizes of a matrix that the settings say nothing of."""
        rows, columns = self._tensor(name, dims=2).shape
        return rows, columns

    def take(self, name: str, *shape: int) -> Float[Tensor, "..."]:
        """The tensor in float32 on the CPU. Raises CoderError where it is absent, of another shape or not finite."""
        tensor = self._tensor(name, dims=len(shape))
        if tuple(tensor.shape) != shape:
            found, wanted = list(tensor.shape), list(shape)
            raise CoderError(
                f"{self._path}: the tensor '{name}' has shape {found}, but {self._says} calls for {wanted}; {AGAIN}"
            )
        if tensor.is_complex():
            raise CoderError(f"{self._path}: the tensor '{name}' holds complex numbers, which no coder has; {AGAIN}")
        # A copy: what safetensors gives is the file itself, and would change with it.
        tensor = tensor.detach().to("cpu", torch.float32, copy=True)
        if not torch.isfinite(tensor).all():
            raise CoderError(f"{self._path}: the tensor '{name}' holds NaN or infinity; {AGAIN}")
        del self._left[name]
        return tensor

    def ignore(self, *names: str) -> None:
        """Tensors that may be there and say nothing about the output."""
        for name in names:
            self._left.pop(name, None)

    def none_left(self) -> None:
        """Raises CoderError that names a tensor which nobody asked for: the coder is not what it was taken for."""
        for name in sorted(self._left):
            raise CoderError(
                f"{self._path} holds the tensor '{name}', which {self._says} does not provide for; {AGAIN}"
            )

    def _tensor(self, name: str, dims: int) -> Tensor:
        if name not in self._left:
            raise CoderError(f"{self._path} lacks the tensor '{name}'; it holds {self._names}; {AGAIN}")
        tensor = self._left[name]
        if not isinstance(tensor, Tensor):
            raise CoderError(f"{self._path}: '{name}' is no tensor but a {type(tensor).__name__}; {AGAIN}")
        if tensor.ndim != dims:
            shape = list(tensor.shape)
            wanted = f"{dims} sizes are" if dims else "a single number is"
            raise CoderError(f"{self._path}: the tensor '{name}' has shape {shape}, where {wanted} called for; {AGAIN}")
        return tensor


def read_safetensors(path: Path, says: str) -> Tensors:
    """The tensors of a safetensors file. Raises CoderError where it is absent, truncated or something else."""
    try:
        return Tensors(path, load_file(path), says)
    except FileNotFoundError:
        raise CoderError(f"{path} is absent: there is no coder without it; {AGAIN}") from None
    except (SafetensorError, OSError) as error:
        raise CoderError(f"{path} is truncated or no safetensors file ({error}); {AGAIN}") from error


def read_settings(path: Path, kind: type[T]) -> T:
    """A JSON file's object as a dataclass of that kind; names that it does not have are passed over.

    Raises CoderError that names a file which is absent or truncated, and a setting that is missing or no such value.
    """
    if not path.is_file():
        raise CoderError(f"{path} is absent: it says how the tensors beside it are to be read; {AGAIN}")
    try:
        tree = read_json(path)
    except StoreError as error:
        raise CoderError(f"{path} is truncated or altered: it does not read as JSON; {AGAIN}") from error
    return settings_from(tree, kind, str(path))


def settings_from(tree: Any, kind: type[T], where: str) -> T:
    """The same of what such a file holds."""
    assert dataclasses.is_dataclass(kind)
    if not isinstance(tree, dict):
        raise CoderError(f"{where} holds a {type(tree).__name__}, where settings by name belong; {AGAIN}")
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise CoderError(f"{where} lacks the setting '{name}'; {AGAIN}") from error
        raise CoderError(f"{where}: {name} is {str(first['input'])[:80]!r}: {first['msg']}; {AGAIN}") from error
