"""sparsify's checkpoint (EleutherAI): `sae.safetensors` and `cfg.json` in a folder named after the hookpoint.

TopK(ReLU(encoder.weight x + encoder.bias)), then W_decᵀ z + b_dec (+ W_skip x). Without `transcode` the encoder reads
x - b_dec; so do the checkpoints of January 2025, transcoders among them, whose cfg.json knows no `transcode` yet.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as safetensors

from plainspoken.coders.base import Coder
from plainspoken.coders.formats.format import CheckpointFormat, files_named, folder_of, marked_by, site_of
from plainspoken.coders.formats.tensors import read_safetensors, read_settings
from plainspoken.coders.formats.weights import Weights, times
from plainspoken.errors import CoderError
from plainspoken.store import write_atomic, write_json
from plainspoken.types import Site

_WEIGHTS, _SETTINGS = "sae.safetensors", "cfg.json"


@dataclass(frozen=True)
class _Cfg:
    d_in: int
    k: int
    num_latents: int = 0
    expansion_factor: int = 32
    activation: str = "topk"
    signed: bool = False
    transcode: bool = False
    skip_connection: bool = False
    hookpoint: str | None = None
    """Written by us alone; sparsify passes it over and names the folder after it."""


def _load(path: Path) -> tuple[Coder, Site]:
    folder = folder_of(path)
    cfg = read_settings(folder / _SETTINGS, _Cfg)
    if cfg.activation != "topk" or cfg.signed:
        other = "signed" if cfg.signed else cfg.activation
        raise CoderError(f"{folder / _SETTINGS}: the activation is {other}, which is none of ours; take a topk one")
    latents, d = cfg.num_latents or cfg.d_in * cfg.expansion_factor, cfg.d_in
    tensors = read_safetensors(folder / _WEIGHTS, _SETTINGS)
    weights = Weights(
        W_enc=tensors.take("encoder.weight", latents, d),
        b_enc=tensors.take("encoder.bias", latents),
        W_dec=tensors.take("W_dec", latents, d),
        b_dec=tensors.take("b_dec", d),
        W_skip=tensors.take("W_skip", d, d) if cfg.skip_connection else None,
    )
    tensors.none_left()
    if not cfg.transcode:
        weights = weights.reading_less(weights.b_dec)
    # A skip would copy the input of an sae: an early checkpoint with one is a transcoder that does not say so.
    kind = "transcoder" if cfg.transcode or cfg.skip_connection else "sae"
    coder = weights.coder(folder, kind, "topk", cfg.k)
    return coder, site_of(coder, cfg.hookpoint or folder.resolve().name)


def _save(folder: Path, coder: Coder, site: Site) -> None:
    spec = coder.spec
    if spec.activation != "topk":
        raise CoderError(f"sparsify knows topk coders only, and this one's activation is {spec.activation}")
    if spec.d_in != spec.d_out:
        raise CoderError(f"sparsify wants one width, and this coder's are {spec.d_in} -> {spec.d_out}")
    # Its sae reads x - b_dec; a transcoder reads x as it is.
    shift = times(coder.W_enc.cpu(), coder.b_dec.cpu()) if spec.kind == "sae" else 0.0
    tensors = {
        "encoder.weight": coder.W_enc,
        "encoder.bias": coder.b_enc.cpu().double() + shift,
        "W_dec": coder.W_dec,
        "b_dec": coder.b_dec,
        **({} if coder.W_skip is None else {"W_skip": coder.W_skip}),
    }
    cfg = {
        "activation": "topk",
        "expansion_factor": max(1, spec.latents // spec.d_in),
        "normalize_decoder": False,
        "num_latents": spec.latents,
        "k": spec.k,
        "multi_topk": False,
        "skip_connection": spec.skip,
        "transcode": spec.kind == "transcoder",
        "d_in": spec.d_in,
        "hookpoint": site.module,
    }
    whole = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    with write_atomic(folder / _WEIGHTS) as file:
        file.write(safetensors(whole))
    write_json(folder / _SETTINGS, cfg)


SPARSIFY = CheckpointFormat(
    "sparsify", "topk, one width", marked_by(_WEIGHTS, _SETTINGS), files_named(_WEIGHTS, _SETTINGS), _load, _save
)
