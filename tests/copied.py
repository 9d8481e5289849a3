"""A model whose FFNs are ReLU networks, and coders that are copies of them: what a perfect transcoder is."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from plainspoken.coders import Coder, CoderSpec
from plainspoken.lm import LanguageModel, resolve_sites
from plainspoken.types import Site


def with_relu(lm: LanguageModel, dtype: torch.dtype | None = None) -> LanguageModel:
    """The same GPT-NeoX with ReLU in the place of its FFNs' activation; biases random, that nothing is 0 by chance."""
    model: Any = deepcopy(lm.model)
    model.to(dtype or lm.dtype)
    with torch.no_grad():
        for layer in model.gpt_neox.layers:
            layer.mlp.act = nn.ReLU()
            for linear in (layer.mlp.dense_h_to_4h, layer.mlp.dense_4h_to_h):
                linear.bias.normal_(0, 0.2, generator=torch.Generator().manual_seed(3))
    return replace(lm, model=model)


def copies(lm: LanguageModel) -> dict[Site, Coder]:
    """Each FFN as a transcoder: a latent a neuron, and nothing lost."""
    found = {}
    for site in resolve_sites(lm, "gpt_neox.layers.*.mlp"):
        ffn: Any = lm.model.get_submodule(site.module)
        n = len(ffn.dense_h_to_4h.weight)
        coder = Coder(CoderSpec("transcoder", "relu", n, None, False, site.d_in, site.d_out), lm.dtype)
        coder.requires_grad_(False)
        coder.W_enc[:], coder.b_enc[:] = ffn.dense_h_to_4h.weight, ffn.dense_h_to_4h.bias
        coder.W_dec[:], coder.b_dec[:] = ffn.dense_4h_to_h.weight.T, ffn.dense_4h_to_h.bias
        found[site] = coder
    return found
