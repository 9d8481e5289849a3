"""What weights speak of in tokens, against the model itself, run on one token or a direction at a time."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from plainspoken.circuits.named_tokens import latent_tokens
from plainspoken.coders import Coder, CoderSpec
from plainspoken.errors import ModelError
from plainspoken.lm import LanguageModel, capture, resolve_sites, wrap_lm
from plainspoken.types import Site
from planted import SITE, SPOKEN_TOKENS

TOP = 15


def random_coder(site: Site, latents: int = 30) -> Coder:
    coder = Coder(CoderSpec("transcoder", "topk", latents, 4, False, site.d_in, site.d_out)).requires_grad_(False)
    for parameter in coder.parameters():
        parameter.normal_()
    return coder


def unsettle(norm: nn.Module) -> None:
    """Weights and biases that a trained norm might have: a new one's are all 1 and 0."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn_like(parameter))


@pytest.fixture(params=["neox", "llama"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A random model whose norms have gains and biases of their own: a LayerNorm's, an RMS norm's."""
    found: LanguageModel = request.getfixturevalue(request.param)
    model = copy.deepcopy(found.model)
    for module in model.modules():
        if "Norm" in type(module).__name__:
            unsettle(module)
    return wrap_lm(model, found.tokenizer, request.param)


def final_norm(lm: LanguageModel) -> nn.Module:
    return lm.model.gpt_neox.final_layer_norm if hasattr(lm.model, "gpt_neox") else lm.model.model.norm


def spelling(lm: LanguageModel) -> list[int]:
    return [i for i, piece in enumerate(lm.pieces.table) if piece]


def test_promoted_is_the_change_of_the_logits_along_the_decoder_row(lm: LanguageModel) -> None:
    """The derivative of the model's own norm and unembedding, where the norm's divisor is 1 and stays as it is.

    Less the mean over the vocabulary: a shift of all logits changes nothing.
    """
    site = resolve_sites(lm, "*.layers.1.mlp" if hasattr(lm.model, "gpt_neox") else "model.layers.1.mlp")[0]
    coder = random_coder(site)
    found = latent_tokens(lm, coder, site, TOP)
    norm, head = final_norm(lm).double(), lm.model.get_output_embeddings().double()
    centres = isinstance(norm, nn.LayerNorm)
    ids = spelling(lm)
    for latent in range(30):
        row = coder.W_dec[latent].double()
        moved = row - row.mean() if centres else row
        h = torch.randn(site.d_out, dtype=torch.float64)
        h = h - h.mean() if centres else h
        h -= (h @ moved) / (moved @ moved) * moved  # so that the divisor does not change along the row
        h *= 1e4 / h.square().mean().sqrt()  # and epsilon does not count
        _, change = torch.func.jvp(lambda x: head(norm(x)), (h,), (row,))
        slow = ((change - change.mean()) * 1e4)[ids]
        order = slow.argsort(descending=True)[:TOP]
        assert found.promoted[latent].tolist() == [ids[i] for i in order]
        np.testing.assert_allclose(found.promoted_score[latent], slow[order], rtol=1e-3, atol=1e-3)
    norm.float(), head.float()


def test_read_is_the_pre_activation_at_the_token_alone(lm: LanguageModel) -> None:
    """Slowly: the layer's own norm on one embedding after another."""
    neox = hasattr(lm.model, "gpt_neox")
    site = resolve_sites(lm, "gpt_neox.layers.1.mlp" if neox else "model.layers.1.mlp")[0]
    coder = random_coder(site)
    found = latent_tokens(lm, coder, site, TOP)
    layer = (lm.model.gpt_neox if neox else lm.model.model).layers[1]
    embedding = lm.model.get_input_embeddings().weight
    ids = spelling(lm)
    slow = np.zeros((30, len(ids)))
    for column, token in enumerate(ids):
        x = layer.post_attention_layernorm(embedding[token][None, None])[0, 0]
        for latent in range(30):
            slow[latent, column] = float(coder.W_enc[latent] @ x)
    for latent in range(30):
        order = np.argsort(-slow[latent])[:TOP]
        assert found.read[latent].tolist() == [ids[i] for i in order]
        np.testing.assert_allclose(found.read_score[latent], slow[latent, order], rtol=1e-4, atol=1e-5)


def test_at_the_first_layer_of_parallel_residuals_read_is_the_true_pre_activation(neox: LanguageModel) -> None:
    """Whatever the text: there the FFN reads the embedding and nothing else."""
    site = resolve_sites(neox, "gpt_neox.layers.0.mlp")[0]
    coder = random_coder(site)
    found = latent_tokens(neox, coder, site, len(spelling(neox)))
    tokens = torch.randint(1, 300, (1, 40))
    with torch.no_grad(), capture(neox, [site]) as seen:
        neox.model(tokens)
        true = coder.pre(seen[site.module][0][0]) - coder.b_enc
    for latent in range(30):
        score = dict(zip(found.read[latent].tolist(), found.read_score[latent].tolist(), strict=True))
        known = [(score[t], float(z)) for t, z in zip(tokens[0].tolist(), true[:, latent], strict=True) if t in score]
        assert len(known) > 30
        np.testing.assert_allclose(*zip(*known, strict=True), rtol=1e-3, atol=1e-4)


def test_a_planted_latent_reads_its_own_token(planted) -> None:
    """Its codes are centred and of size 1, so that a new layer norm does what the identity before the FFN does."""
    model = copy.deepcopy(planted.lm.model)
    model.gpt_neox.layers[0].post_attention_layernorm = nn.LayerNorm(planted.lm.d_model)
    found = latent_tokens(wrap_lm(model, planted.lm.tokenizer, "planted"), planted.coder, SITE, 3)
    assert found.read[:SPOKEN_TOKENS, 0].tolist() == list(range(1, SPOKEN_TOKENS + 1))


def test_a_coder_of_the_stream_has_no_norm_before_it(neox: LanguageModel) -> None:
    site = resolve_sites(neox, "gpt_neox.layers.0")[0]
    coder = random_coder(site)
    found = latent_tokens(neox, coder, site, 1)
    ids = spelling(neox)
    score = coder.W_enc @ neox.model.get_input_embeddings().weight[ids].T
    assert found.read[:, 0].tolist() == [ids[i] for i in score.argmax(1).tolist()]


def test_tokens_without_text_are_never_named(neox: LanguageModel) -> None:
    site = resolve_sites(neox, "gpt_neox.layers.0.mlp")[0]
    found = latent_tokens(neox, random_coder(site), site, 10**6)
    assert set(found.read.ravel().tolist()) == set(found.promoted.ravel().tolist()) == set(spelling(neox))


def test_an_sae_of_an_ffn_reads_no_embedding(neox: LanguageModel) -> None:
    site = Site("gpt_neox.layers.0.mlp", "resid", 16, 16)
    found = latent_tokens(neox, random_coder(site), site, 3)
    assert found.read.shape == found.read_score.shape == (30, 0) and found.promoted.shape == (30, 3)


def test_a_coder_of_another_width_is_refused(neox: LanguageModel) -> None:
    with pytest.raises(ModelError, match="of one width"):
        latent_tokens(neox, random_coder(Site("gpt_neox.layers.0.mlp", "mlp", 8, 8)), SITE)
