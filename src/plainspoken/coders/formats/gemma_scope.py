"""Gemma Scope's checkpoint: `params.npz`, JumpReLU (Lieberum et al. 2024, arXiv 2408.05147).

W_enc [d_in latents], W_dec [latents d_out]. Nothing in the file tells a transcoder from an SAE: it is taken for one
where `transcoder` stands in its path, as in the names of the published repositories.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plainspoken.coders.base import Coder
from plainspoken.coders.formats.format import CheckpointFormat, folder_of, site_of
from plainspoken.coders.formats.tensors import AGAIN, Tensors
from plainspoken.coders.formats.weights import Weights
from plainspoken.errors import CoderError
from plainspoken.types import Site

_WEIGHTS = "params.npz"


def _recognises(path: Path) -> bool:
    return (path / _WEIGHTS).is_file() or (path.is_file() and path.suffix == ".npz")


def _load(path: Path) -> tuple[Coder, Site]:
    file = _file_of(path)
    tensors = Tensors(file, _arrays(file), "Gemma Scope")
    weights = jump_relu_weights(tensors)
    tensors.none_left()
    named = any("transcoder" in part for part in file.resolve().parts)
    coder = weights.coder(
        file, "transcoder" if named or weights.W_enc.shape[1] != weights.W_dec.shape[1] else "sae", "jump_relu", None
    )
    return coder, site_of(coder, folder_of(file).resolve().name)


def jump_relu_weights(tensors: Tensors, W: str = "W") -> Weights:
    """The weights of either Gemma Scope; the second calls its matrices w_enc and w_dec."""
    (d_in, latents), (_, d_out) = tensors.widths(f"{W}_enc"), tensors.widths(f"{W}_dec")
    return Weights(
        W_enc=tensors.take(f"{W}_enc", d_in, latents).T,
        b_enc=tensors.take("b_enc", latents),
        W_dec=tensors.take(f"{W}_dec", latents, d_out),
        b_dec=tensors.take("b_dec", d_out),
        threshold=tensors.take("threshold", latents),
    )


def _file_of(path: Path) -> Path:
    return path / _WEIGHTS if path.is_dir() else path


def _arrays(file: Path) -> dict[str, Any]:
    """The arrays by name, as tensors; some files have `w_enc` for `W_enc`."""
    try:
        if not zipfile.is_zipfile(file):  # numpy would take it for one array, or for a pickle, and tell how to trust it
            raise ValueError("it is no zip of arrays")
        with np.load(file, allow_pickle=False) as held:
            return {f"W{n[1:]}" if n.startswith("w_") else n: torch.from_numpy(held[n]) for n in held.files}
    except (OSError, ValueError, TypeError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise CoderError(f"{file} is truncated or no .npz of plain numbers ({error}); {AGAIN}") from error


GEMMA_SCOPE = CheckpointFormat(
    "gemma_scope", "jump_relu saes and transcoders", _recognises, lambda path: [_file_of(path)], _load, save=None
)
