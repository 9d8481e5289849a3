"""SAELens's checkpoint: `sae_weights.safetensors` and `cfg.json`, of version 6 and of those before it; reading.

z = activation((s x - b_dec) W_enc + b_enc), then (W_decᵀ z + b_dec) / s, where b_dec is taken from the input only with
`apply_b_dec_to_input` and s is the factor of `expected_average_only_in`, which a checkpoint of a training still under
way keeps beside it. `rescale_acts_by_decoder_norm` picks the k largest by their decoder's norm.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from plainspoken.coders.base import Coder, CoderKind
from plainspoken.coders.formats.format import CheckpointFormat, files_named, folder_of, marked_by, site_of
from plainspoken.coders.formats.gated import ungated
from plainspoken.coders.formats.saelens_write import becomes, save
from plainspoken.coders.formats.tensors import AGAIN, Tensors, read_safetensors, read_settings
from plainspoken.coders.formats.weights import Weights
from plainspoken.coders.units import Units, fold_units
from plainspoken.errors import CoderError
from plainspoken.types import Site

_WEIGHTS, _SETTINGS, _SCALER = "sae_weights.safetensors", "cfg.json", "activation_scaler.json"

_ARCHITECTURES: dict[str, tuple[CoderKind, str]] = {
    "standard": ("sae", "relu"),
    "topk": ("sae", "topk"),
    "jumprelu": ("sae", "jump_relu"),
    "gated": ("sae", "jump_relu"),
    # Of a training's checkpoints; what it ends with is saved as jumprelu, by a threshold for all latents.
    "batchtopk": ("sae", "batch_topk"),
    "matryoshka_batchtopk": ("sae", "batch_topk"),
    "transcoder": ("transcoder", "relu"),
    "skip_transcoder": ("transcoder", "relu"),
    "jumprelu_transcoder": ("transcoder", "jump_relu"),
    "jumprelu_skip_transcoder": ("transcoder", "jump_relu"),
}
_TRAINED_AS = ("batchtopk", "matryoshka_batchtopk")


@dataclass(frozen=True)
class _Details:
    k: float | None = None


@dataclass(frozen=True)
class _Metadata:
    hook_name: str | None = None
    hf_hook_name: str | None = None
    training_architecture: str | None = None
    training_architecture_details: _Details | None = None


@dataclass(frozen=True)
class _Cfg:
    d_in: int
    d_sae: int
    d_out: int | None = None
    architecture: str = "standard"
    k: float | None = None
    apply_b_dec_to_input: bool = True
    normalize_activations: str | bool | None = "none"
    reshape_activations: str | None = None
    rescale_acts_by_decoder_norm: bool = False
    metadata: _Metadata | None = None
    """None before version 6, which says the following beside the rest."""
    activation_fn: str | None = None
    activation_fn_str: str | None = None
    activation_fn_kwargs: _Details = _Details()
    hook_name: str | None = None
    hook_point: str | None = None


@dataclass(frozen=True)
class _Scaler:
    scaling_factor: float | None = None


def _load(path: Path) -> tuple[Coder, Site]:
    folder = folder_of(path)
    cfg = read_settings(folder / _SETTINGS, _Cfg)
    where = folder / _SETTINGS
    architecture, k = _architecture(cfg, where)
    details = cfg.metadata and cfg.metadata.training_architecture_details
    if k is None and details is not None:
        k = details.k
    kind, activation = _ARCHITECTURES[architecture]
    if kind == "transcoder" and (cfg.apply_b_dec_to_input or cfg.normalize_activations not in ("none", None)):
        raise CoderError(f"{where}: a transcoder whose input is moved by its output's bias or rescaled; {AGAIN}")
    factor = _factor(cfg, where)
    tensors = read_safetensors(folder / _WEIGHTS, _SETTINGS)
    weights = _weights(tensors, cfg, architecture, where)
    if cfg.apply_b_dec_to_input:
        weights = weights.reading_less(weights.b_dec)
    if cfg.rescale_acts_by_decoder_norm:
        weights = weights.with_latents_times(weights.W_dec.double().norm(dim=1).float())
    if _one_threshold(cfg, weights):
        activation = "batch_topk"
        assert weights.threshold is not None
        weights = replace(weights, threshold=weights.threshold[:1])
    coder = weights.coder(folder, kind, activation, _whole(k, where))
    if factor is not None:
        coder = fold_units(coder, Units(torch.zeros(cfg.d_in), 1 / factor, torch.zeros(cfg.d_in), 1 / factor))
        coder.requires_grad_(False)
        if not all(torch.isfinite(tensor).all() for tensor in coder.state_dict().values()):
            raise CoderError(f"{where.parent / _SCALER}: with the factor {factor:g} the weights leave float32; {AGAIN}")
    return coder, site_of(coder, _module(cfg) or folder.resolve().name)


def _architecture(cfg: _Cfg, where: Path) -> tuple[str, float | None]:
    """Its name as of version 6, and k where it is known; CoderError for what we have no coder for."""
    name, k, function = cfg.architecture, cfg.k, cfg.activation_fn or cfg.activation_fn_str or "relu"
    hook = cfg.hook_name or cfg.hook_point or ""
    reshape = cfg.reshape_activations or ("hook_z" if cfg.metadata is None and "hook_z" in hook else "none")
    if reshape != "none":
        raise CoderError(
            f"{where}: reshape_activations is {reshape}: it reads the heads of an attention, which is no site of ours"
        )
    if cfg.metadata is None and function == "topk":
        name, k = "topk", cfg.activation_fn_kwargs.k
    elif cfg.metadata is None and function != "relu":
        raise CoderError(f"{where}: activation_fn is {function}, which is none of ours; there are: relu, topk")
    if name not in _ARCHITECTURES:
        raise CoderError(
            f"{where}: architecture is {name}, which is no coder of ours; what is read: {', '.join(_ARCHITECTURES)}"
        )
    return name, k


def _whole(k: float | None, where: Path) -> int | None:
    """A BatchTopK's k is a mean, which may be a fraction."""
    if k is not None and not 0 < k < math.inf:
        raise CoderError(f"{where}: k is {k:g}, where a number above 0 belongs; {AGAIN}")
    return None if k is None else max(1, round(k))


def _factor(cfg: _Cfg, where: Path) -> float | None:
    """What the input is multiplied by before the encoder and the output divided by after the decoder."""
    how = cfg.normalize_activations
    if how in ("none", None, False):
        return None
    if how in ("expected_average_only_in", True):
        scaler = where.parent / _SCALER
        factor = read_settings(scaler, _Scaler).scaling_factor if scaler.is_file() else None
        if factor is not None and 0 < factor < math.inf:
            return factor
        raise CoderError(
            f"{where}: normalize_activations is expected_average_only_in, and there is no {_SCALER} with the factor; "
            "fold it there (sae.fold_activation_norm_scaling_factor) and save again"
        )
    raise CoderError(f"{where}: normalize_activations is {how}, which differs from input to input: no weights hold it")


def _weights(tensors: Tensors, cfg: _Cfg, architecture: str, where: Path) -> Weights:
    """The weights in our orientation, before anything is folded."""
    m, d_in, d_out = cfg.d_sae, cfg.d_in, cfg.d_out if cfg.d_out is not None else cfg.d_in
    W_enc, W_dec = tensors.take("W_enc", d_in, m).T, tensors.take("W_dec", m, d_out)
    b_dec, threshold = tensors.take("b_dec", d_out), None
    if architecture == "gated":
        W_enc, b_enc, threshold = ungated(W_enc, *(tensors.take(name, m) for name in ("r_mag", "b_mag", "b_gate")))
    else:
        b_enc = tensors.take("b_enc", m)
    if architecture in _TRAINED_AS:
        threshold = tensors.take("topk_threshold").reshape(1)
    elif architecture.startswith("jumprelu"):
        threshold = tensors.take("threshold", m)
    W_skip = tensors.take("W_skip", d_out, d_in) if architecture.endswith("skip_transcoder") else None
    if "scaling_factor" in tensors and bool((tensors.take("scaling_factor", m) != 1).any()):
        raise CoderError(
            f"{where.parent / _WEIGHTS}: a finetuning scaling_factor, which SAELens no longer knows; {AGAIN}"
        )
    tensors.none_left()
    return Weights(W_enc, b_enc, W_dec, b_dec, threshold, W_skip)


def _one_threshold(cfg: _Cfg, weights: Weights) -> bool:
    """Whether a jumprelu says that it was trained as a BatchTopK, and has one threshold for all latents."""
    trained_as = cfg.metadata and cfg.metadata.training_architecture
    return (
        trained_as in _TRAINED_AS
        and weights.threshold is not None
        and bool((weights.threshold == weights.threshold[0]).all())
    )


def _module(cfg: _Cfg) -> str | None:
    """The module's path in the Hugging Face model where it is said, else the hook's name in TransformerLens."""
    if cfg.metadata is None:
        return cfg.hook_name or cfg.hook_point
    name = cfg.metadata.hf_hook_name
    return name.removesuffix(".output").removesuffix(".input") if name else cfg.metadata.hook_name


SAELENS = CheckpointFormat(
    "saelens",
    "every sae, and transcoders but topk",
    marked_by(_WEIGHTS, _SETTINGS),
    files_named(_WEIGHTS, _SETTINGS, _SCALER),
    _load,
    save,
    becomes,
)
