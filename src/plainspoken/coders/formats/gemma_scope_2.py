"""Gemma Scope 2's checkpoint: `params.safetensors` and `config.json`; JumpReLU, transcoders with or without a skip.

w_enc [d_in latents], w_dec [latents d_out], affine_skip_connection [d_in d_out].
"""

from dataclasses import dataclass, replace
from pathlib import Path

from plainspoken.coders.base import Coder
from plainspoken.coders.formats.format import CheckpointFormat, files_named, folder_of, marked_by, site_of
from plainspoken.coders.formats.gemma_scope import jump_relu_weights
from plainspoken.coders.formats.tensors import read_safetensors, read_settings
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
    weights = jump_relu_weights(tensors, "w")
    if config.affine_connection or _SKIP in tensors:
        d_in, d_out = weights.W_enc.shape[1], weights.W_dec.shape[1]
        weights = replace(weights, W_skip=tensors.take(_SKIP, d_in, d_out).T)
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
    settings=_Config,
)
