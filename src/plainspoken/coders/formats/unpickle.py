"""torch's `.pt` files read without executing anything: tensors, containers, and husks of classes unknown here.

A pickle is a small program. It may name any function of any module and have it called; here every name stands for a
thing of ours. Four of them may be called, and rebuild tensors and dicts; any other name stands for an empty class,
which can be an object with fields (a checkpoint's settings, say) but refuses to be called. Nothing is imported, and
nothing that a file can reach outlives the reading.

Layout: a zip with `*/data.pkl`, and the bytes of each storage in `*/data/KEY` (torch from 1.6 on).
"""

import io
import math
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from plainspoken.coders.formats.tensors import AGAIN
from plainspoken.errors import CoderError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, EOFError, AttributeError, ImportError, IndexError, KeyError,
    TypeError, ValueError, OverflowError, MemoryError, OSError,
    RuntimeError,  # of an encrypted zip, of one packed in a way that zipfile does not know, and of too deep a pickle
)  # fmt: skip
"""What the libraries raise over a file that came to harm."""


def read_pt(path: Path) -> Any:
    """What the file holds. Tensors are on the CPU; an object of an unknown class is a `Husk` with its fields.

    Raises CoderError where the file asks for anything to be called (nothing was), where it is truncated or altered, and
    where it is something else.
    """
    if _is_early(path):
        raise CoderError(f"{path} was written by a torch before 1.6; load it with torch and save it anew")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except FileNotFoundError:
        raise CoderError(f"{path} is absent; {AGAIN}") from None
    except _Refused as refused:
        raise CoderError(
            f"{path} was refused: it asks for {refused} to be called, and reading a checkpoint calls nothing; nothing "
            "was run. If you trust whoever made it, save its tensors anew with torch, as a plain dict"
        ) from None
    except _BROKEN as error:
        what = str(error) or type(error).__name__
        raise CoderError(f"{path} is truncated or no checkpoint that torch wrote ({what}); {AGAIN}") from error


def _is_early(path: Path) -> bool:
    """Whether the file starts with a bare pickle, of protocol 2, in place of a zip."""
    return path.is_file() and path.open("rb").read(2) == b"\x80\x02"


class _Refused(Exception):
    """A name that a file wants called."""


class Husk:
    """An object of a class that is not known here: its fields and nothing else."""

    fields: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.fields = dict(state) if isinstance(state, dict) else {}


class _HuskType(type):
    """The class of a name in the file: fresh with each name, empty, and never called."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise _Refused(cls.__name__)


class _Dict(dict):
    """An OrderedDict; what else it carries (the versions of a state dict) is passed over."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage(NamedTuple):
    """The bytes of one storage."""

    data: bytes
    dtype: torch.dtype


class _Step:
    """What a file may call: without attributes, so that it cannot be made into something else."""

    __slots__ = ()


class _RebuildTensor(_Step):
    __slots__ = ()

    def __call__(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor without a storage")
        whole = torch.from_numpy(np.frombuffer(storage.data, np.uint8).copy()).view(storage.dtype)
        if math.prod(size) > len(whole):
            raise ValueError("a tensor larger than its storage")
        return whole.as_strided(size, stride, offset).clone()


class _RebuildParameter(_Step):
    __slots__ = ()

    def __call__(self, data: Shaped[Tensor, "*shape"], *_: Any) -> Shaped[Tensor, "*shape"]:
        return data


class _MakeDict(_Step):
    __slots__ = ()

    def __call__(self, *pairs: Any) -> _Dict:
        return _Dict(*pairs)


class _MakeDevice(_Step):
    __slots__ = ()

    def __call__(self, *where: Any) -> str:
        return ":".join(map(str, where))


_STEPS: dict[tuple[str, str], Callable[[], _Step]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor,
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter,
    ("collections", "OrderedDict"): _MakeDict,
    ("torch", "device"): _MakeDevice,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, program: bytes, storage: Callable[[str, torch.dtype], _Storage]) -> None:
        super().__init__(io.BytesIO(program))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STEPS:
            return _STEPS[module, name]()
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return _HuskType(f"{module}.{name}", (Husk,), {})

    def persistent_load(self, pid: Any) -> _Storage:
        tag, dtype, key, _, _ = pid
        if tag != "storage" or not isinstance(key, str) or not isinstance(dtype, torch.dtype):
            raise ValueError("a reference that is no storage")
        return self._storage(key, dtype)


def _read(archive: zipfile.ZipFile) -> Any:
    names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(names) != 1:
        raise ValueError("a zip without one data.pkl")
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise ValueError("a compressed zip, which torch does not write and which may unfold to any size")
    root = names[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")

    def storage(key: str, dtype: torch.dtype) -> _Storage:
        return _Storage(archive.read(f"{root}data/{key}"), dtype)

    return _Unpickler(archive.read(names[0]), storage).load()
