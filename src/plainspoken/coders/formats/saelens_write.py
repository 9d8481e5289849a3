"""SAELens's checkpoint, writing: the layout of version 6, which its later versions read."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors

from plainspoken.coders.base import Coder, CoderSpec
from plainspoken.errors import CoderError
from plainspoken.store import write_atomic, write_json
from plainspoken.types import Site

_LAYOUT = "6.0.0"


def save(folder: Path, coder: Coder, site: Site) -> None:
    """Writes an SAE or a transcoder; CoderError for a topk transcoder, which SAELens has no class for.

    A batch_topk coder becomes a jumprelu one with the same threshold at every latent, as SAELens saves its own.
    """
    spec, threshold = coder.spec, coder.threshold
    tensors = {"W_enc": coder.W_enc.T, "b_enc": coder.b_enc, "W_dec": coder.W_dec, "b_dec": coder.b_dec}
    cfg = _cfg(spec, site)
    if threshold is not None:
        tensors["threshold"] = threshold.expand(spec.latents)
    if coder.W_skip is not None:
        tensors["W_skip"] = coder.W_skip
    whole = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    with write_atomic(folder / "sae_weights.safetensors") as file:
        file.write(safetensors(whole))
    write_json(folder / "cfg.json", cfg)


def becomes(spec: CoderSpec) -> str | None:
    """A batch_topk coder is no longer called one."""
    return f"{_architecture(spec)} with one threshold" if spec.activation == "batch_topk" else None


def _cfg(spec: CoderSpec, site: Site) -> dict[str, Any]:
    return {
        "architecture": _architecture(spec),
        "d_in": spec.d_in,
        "d_sae": spec.latents,
        **({"d_out": spec.d_out} if spec.kind == "transcoder" else {}),
        **({"k": spec.k, "rescale_acts_by_decoder_norm": False} if spec.activation == "topk" else {}),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": _LAYOUT, **_hooks(spec, site), **_training(spec)},
    }


def _architecture(spec: CoderSpec) -> str:
    if spec.kind == "sae":
        return {"relu": "standard", "topk": "topk"}.get(spec.activation, "jumprelu")
    if spec.activation == "topk":
        raise CoderError("SAELens knows no topk transcoder: it cannot hold this coder; write it for sparsify instead")
    jump = "" if spec.activation == "relu" else "jumprelu_"
    return f"{jump}skip_transcoder" if spec.skip else f"{jump}transcoder"


def _hooks(spec: CoderSpec, site: Site) -> dict[str, str]:
    """Where it reads and writes: a hook of TransformerLens as it is, a module in the terms of Hugging Face hooks."""
    if "hook_" in site.module:
        return {"hook_name": site.module}
    if spec.kind == "sae":
        return {"hf_hook_name": f"{site.module}.output"}
    return {"hf_hook_name": f"{site.module}.input", "hf_hook_name_out": f"{site.module}.output"}


def _training(spec: CoderSpec) -> dict[str, Any]:
    """What it was before it was saved as a jumprelu, and its k, for which a layout without topk has no place."""
    batch = spec.activation == "batch_topk"
    if spec.activation == "topk" or (spec.k is None and not batch):
        return {}
    details = {} if spec.k is None else {"k": spec.k}
    return {
        "training_architecture": "batchtopk" if batch else _architecture(spec),
        "training_architecture_details": details,
    }
