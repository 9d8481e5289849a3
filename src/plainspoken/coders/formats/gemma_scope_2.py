"""Gemma Scope 2's checkpoint: `params.safetensors` and `config.json`; JumpReLU, transcoders with or without a skip.

w_enc [d_in latents], w_dec [latents d_out], affine_skip_connection [d_in d_out].
"""

from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders.base import Coder
from plainspoken.coders.formats.format import CheckpointFormat, files_named, folder_of, marked_by, site_of
from plainspoken.coders.formats.tensors import read_safetensors, read_settings
from plainspoken.coders.formats.weights import Weights
from plainspoken.errors import CoderError
from plainspoken.types import Site

_WEIGHTS, _SETTINGS = "params.safetensors", "config.json"
_SKIP = "affine_skip_connection"


@dataclass(frozen=True)
class _Config:
    hf_hook_point_in: str
    hf_hook_point_out: str | None = None
    """Where it reads, once more, for an sae."""
    architecture: str = "jump_relu"
    affine_connection: bool = False


def _load(path: Path) -> tuple[Coder, Site]:
    folder = folder_of(path)
    config = read_settings(folder / _SETTINGS, _Config)
    if config.architecture != "jump_relu":
        raise CoderError(f"{folder / _SETTINGS}: architecture is {config.architecture}; what is read: jump_relu")
    tensors = read_safetensors(folder / _WEIGHTS, "Gemma Scope 2")
    (d_in, latents), (_, d_out) = tensors.widths("w_enc"), tensors.widths("w_dec")
    weights = Weights(
        W_enc=tensors.take("w_enc", d_in, latents).T,
        b_enc=tensors.take("b_enc", latents),
        W_dec=tensors.take("w_dec", latents, d_out),
        b_dec=tensors.take("b_dec", d_out),
        threshold=tensors.take("threshold", latents),
        W_skip=tensors.take(_SKIP, d_in, d_out).T if config.affine_connection or _SKIP in tensors else None,
    )
    tensors.none_left()
    elsewhere = config.hf_hook_point_out not in (None, config.hf_hook_point_in)
    coder = weights.coder(folder, "transcoder" if elsewhere else "sae", "jump_relu", None)
    return coder, site_of(coder, config.hf_hook_point_in.removesuffix(".output"))


GEMMA_SCOPE_2 = CheckpointFormat(
    "gemma_scope_2",
    "jump_relu saes and transcoders",
    marked_by(_WEIGHTS),
    files_named(_WEIGHTS, _SETTINGS),
    _load,
    save=None,
)
