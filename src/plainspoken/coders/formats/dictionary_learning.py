"""dictionary_learning's checkpoint: `trainer_i/ae.pt`, a dict of tensors, and `config.json` that names the class.

All reconstruct their input. Most read x minus the decoder's bias; JumpReLU and the later standard class read x.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from plainspoken.coders.base import Coder
from plainspoken.coders.formats.format import CheckpointFormat, files_named, folder_of, marked_by, site_of
from plainspoken.coders.formats.gated import ungated
from plainspoken.coders.formats.tensors import AGAIN, Tensors, read_settings
from plainspoken.coders.formats.unpickle import read_pt
from plainspoken.coders.formats.weights import Weights
from plainspoken.errors import CoderError
from plainspoken.types import Site

_WEIGHTS, _SETTINGS = "ae.pt", "config.json"


@dataclass(frozen=True)
class _Trainer:
    dict_class: str
    activation_dim: int
    dict_size: int
    k: int | None = None
    layer: int | None = None
    submodule_name: str | None = None


@dataclass(frozen=True)
class _Config:
    trainer: _Trainer


def _layers(tensors: Tensors, latents: int, d: int, bias: str) -> Weights:
    """encoder.weight [latents d], decoder.weight [d latents], as torch's Linear has them."""
    W_enc, b_enc = tensors.take("encoder.weight", latents, d), tensors.take("encoder.bias", latents)
    return Weights(W_enc, b_enc, tensors.take("decoder.weight", d, latents).T, tensors.take(bias, d))


def _matrices(tensors: Tensors, latents: int, d: int) -> Weights:
    """W_enc [d latents], W_dec [latents d]."""
    W_enc, W_dec = tensors.take("W_enc", d, latents).T, tensors.take("W_dec", latents, d)
    return Weights(W_enc, tensors.take("b_enc", latents), W_dec, tensors.take("b_dec", d))


def _threshold(tensors: Tensors, weights: Weights, *shape: int) -> Weights:
    return replace(weights, threshold=tensors.take("threshold", *shape).reshape(-1))


def _standard(tensors: Tensors, latents: int, d: int) -> Weights:
    weights = _layers(tensors, latents, d, "bias")
    return weights.reading_less(weights.b_dec)


def _later_standard(tensors: Tensors, latents: int, d: int) -> Weights:
    return _layers(tensors, latents, d, "decoder.bias")


def _topk(tensors: Tensors, latents: int, d: int) -> Weights:
    tensors.ignore("threshold")  # measured in training; its encode takes the k largest unless it is asked otherwise
    weights = _layers(tensors, latents, d, "b_dec")
    return weights.reading_less(weights.b_dec)


def _batch_topk(tensors: Tensors, latents: int, d: int) -> Weights:
    weights = _threshold(tensors, _layers(tensors, latents, d, "b_dec"))
    return weights.reading_less(weights.b_dec)


def _matryoshka(tensors: Tensors, latents: int, d: int) -> Weights:
    tensors.ignore("group_sizes")  # which prefixes reconstructed by themselves in training
    weights = _threshold(tensors, _matrices(tensors, latents, d))
    return weights.reading_less(weights.b_dec)


def _jump_relu(tensors: Tensors, latents: int, d: int) -> Weights:
    return _threshold(tensors, _matrices(tensors, latents, d), latents)


def _gated(tensors: Tensors, latents: int, d: int) -> Weights:
    rows = tensors.take("encoder.weight", latents, d)
    gate = (tensors.take(name, latents) for name in ("r_mag", "mag_bias", "gate_bias"))
    W_enc, b_enc, threshold = ungated(rows, *gate)
    W_dec, b_dec = tensors.take("decoder.weight", d, latents).T, tensors.take("decoder_bias", d)
    return Weights(W_enc, b_enc, W_dec, b_dec, threshold).reading_less(b_dec)


_CLASSES: dict[str, tuple[str, Callable[[Tensors, int, int], Weights]]] = {
    "AutoEncoder": ("relu", _standard),
    "AutoEncoderNew": ("relu", _later_standard),
    "AutoEncoderTopK": ("topk", _topk),
    "BatchTopKSAE": ("batch_topk", _batch_topk),
    "MatryoshkaBatchTopKSAE": ("batch_topk", _matryoshka),
    "JumpReluAutoEncoder": ("jump_relu", _jump_relu),
    "GatedAutoEncoder": ("jump_relu", _gated),
}


def _load(path: Path) -> tuple[Coder, Site]:
    folder = folder_of(path)
    trainer = read_settings(folder / _SETTINGS, _Config).trainer
    if trainer.dict_class not in _CLASSES:
        raise CoderError(
            f"{folder / _SETTINGS}: dict_class is {trainer.dict_class}, which is no coder of ours; what is read: "
            f"{', '.join(_CLASSES)}"
        )
    activation, weights_of = _CLASSES[trainer.dict_class]
    held = read_pt(folder / _WEIGHTS)
    if not isinstance(held, dict):
        raise CoderError(f"{folder / _WEIGHTS} holds a {type(held).__name__}, where a dict of tensors belongs; {AGAIN}")
    tensors = Tensors(folder / _WEIGHTS, held, _SETTINGS)
    k = int(tensors.take("k")) if "k" in tensors else trainer.k
    weights = weights_of(tensors, trainer.dict_size, trainer.activation_dim)
    tensors.none_left()
    coder = weights.coder(folder, "sae", activation, k)
    layer = None if trainer.layer is None else f"layer {trainer.layer}"
    return coder, site_of(coder, trainer.submodule_name or layer or folder.resolve().name)


DICTIONARY_LEARNING = CheckpointFormat(
    "dictionary_learning",
    "saes",
    marked_by(_WEIGHTS),
    files_named(_WEIGHTS, _SETTINGS),
    _load,
    save=None,
    settings=_Config,
)
