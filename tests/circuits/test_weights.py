"""Connections of weights: with a prompt's factors put in, they are what is attributed at the prompt."""

from copy import deepcopy

import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt, relative
from plainspoken.circuits.direct import direct, readers_of
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.targets import firing_targets, latent_targets, output_targets
from plainspoken.circuits.vocabulary import de_embedding, ends, unembedding
from plainspoken.circuits.weights import (
    Weights,
    connections,
    decoder_vectors,
    encoder_directions,
    ov_norms,
    pullback,
    pullback_heads,
    pushforward,
    pushforward_heads,
    weights_of,
)
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import anatomy


def made_weights(family: str, at: tuple[int, ...] = (0, 2)) -> tuple[LanguageModel, dict, Weights]:
    lm = made_lm(family)
    coders = made_coders(lm, at)
    return lm, coders, weights_of(anatomy(lm), coders)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pullback_times_z_and_the_held_factors_is_what_latents_contribute(family: str) -> None:
    """Law 6, exactly: factor of the target's norm, of the norm behind the coder, W_dec n, z."""
    lm, coders, weights = made_weights(family)
    frozen = freeze(lm, coders, made_prompt(8), torch.float64)
    targets, upper, lower = firing_targets(frozen, 2), frozen.layers[2], frozen.layers[0]
    found = direct(frozen, readers_of(frozen, targets)).latents[:, 0]
    units = connections(weights, 0, 2, upper.latents.latent)
    assert torch.equal(units, pullback(weights, 0, encoder_directions(weights, 2, upper.latents.latent)))
    for b in range(len(targets)):
        p = int(targets.position[b])
        mine = slice(int(lower.latents.start[p]), int(lower.latents.start[p + 1]))
        factor = upper.ffn_factor[p]
        if lower.ffn_out_factor is not None:
            factor = factor * lower.ffn_out_factor[p]
        wanted = factor * units[b, lower.latents.latent[mine]] * lower.latents.value[mine]
        assert relative(found[b, : len(wanted)], wanted) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pullback_through_heads_times_mix_and_stream_is_what_heads_contribute(family: str) -> None:
    lm, coders, weights = made_weights(family)
    frozen = freeze(lm, coders, made_prompt(8), torch.float64)
    targets, upper = firing_targets(frozen, 2), frozen.layers[2]
    found = direct(frozen, readers_of(frozen, targets)).heads[:, 1]
    reads = pullback_heads(weights.of, 1, encoder_directions(weights, 2, upper.latents.latent))
    layer = frozen.layers[1]
    seen = torch.einsum("sd,bhd->bhs", layer.stream, reads) * layer.mix[:, targets.position].transpose(0, 1)
    assert relative(found, seen * upper.ffn_factor[targets.position][:, None, None]) < 1e-9
    one = pullback_heads(weights.of, 1, encoder_directions(weights, 2, upper.latents.latent), torch.tensor([3]))
    assert relative(one[:, 0], reads[:, 3]) < 1e-12


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "gemma2"])
def test_a_connection_through_a_head_is_what_the_head_carries_of_a_latent(family: str) -> None:
    lm, coders, weights = made_weights(family)
    frozen = freeze(lm, coders, made_prompt(8), torch.float64)
    lower, layer, upper = frozen.layers
    some = torch.tensor([0, 5, 40])
    units = connections(weights, 0, 2, some, through=(1, 2))
    targets = latent_targets(frozen, 2, torch.full((3,), 7), some)
    source, latent = int(lower.latents.position[20]), int(lower.latents.latent[20])
    moved = layer.W_O[2].T @ (layer.W_V[layer.group[2]] @ lower.latents.written[20]) * layer.mix[2, 7, source]
    factor = layer.mix[2, 7, source] * lower.latents.value[20] * upper.ffn_factor[7]
    if lower.ffn_out_factor is not None:
        factor = factor * lower.ffn_out_factor[source]
    assert relative(targets.direction @ moved, units[:, latent] * factor) < 1e-9


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma", "gemma3"])
def test_de_embeddings_are_what_the_prompts_own_tokens_contribute(family: str) -> None:
    lm, coders, weights = made_weights(family)
    frozen = freeze(lm, coders, made_prompt(8), torch.float64)
    targets, upper = firing_targets(frozen, 2), frozen.layers[2]
    scores = de_embedding(weights.of, encoder_directions(weights, 2, upper.latents.latent))
    tokens = frozen.tokens[targets.position]
    wanted = scores.gather(1, tokens[:, None])[:, 0] * upper.ffn_factor[targets.position]
    assert relative(direct(frozen, readers_of(frozen, targets)).token, wanted) < 1e-9


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_unembeddings_are_what_latents_contribute_to_demeaned_logits(family: str) -> None:
    lm, coders, weights = made_weights(family)
    frozen = freeze(lm, coders, made_prompt(8), torch.float64)
    latents, of = frozen.layers[2].latents, weights.of
    mine = slice(int(latents.start[7]), int(latents.start[8]))
    scores = unembedding(of, decoder_vectors(weights, 2, latents.latent[mine]))
    W_U = of.W_U - of.W_U.mean(0)
    targets = output_targets(frozen, torch.full((len(W_U),), 7), W_U, torch.zeros(len(W_U), dtype=torch.float64))
    out = frozen.layers[2].ffn_out_factor
    factor = frozen.final_factor[7] * latents.value[mine] * (1 if out is None else out[7])
    assert relative(latents.written[mine] @ targets.direction.T, scores * factor[:, None]) < 1e-9
    found = ends(scores, 4)
    for b in range(len(scores)):
        order = scores[b].argsort(descending=True)
        assert found.highest[b].tolist() == order[:4].tolist()
        assert found.lowest[b].tolist() == order.flip(0)[:4].tolist()
        assert torch.equal(found.lowest_score[b], scores[b, found.lowest[b]])


@pytest.mark.parametrize("family", FAMILIES)
def test_ov_norms_are_those_of_the_whole_products(family: str) -> None:
    of = anatomy(made_lm(family))
    found = ov_norms(of, torch.float64)
    for i, layer in enumerate(of.layers):
        for head in range(len(layer.heads.group)):
            W_V = layer.attention_norm.folded(layer.heads.W_V[layer.heads.group[head]])
            W_O = layer.heads.W_O[head]
            W_O = W_O if layer.attention_out is None else layer.attention_out.unfolded(W_O)
            assert float(found[i, head]) == pytest.approx(float(torch.linalg.norm(W_V.T @ W_O)), rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_vectors_add_onward_is_what_directions_pull_back(family: str) -> None:
    """Between two layers, and through each head, both ways give the same numbers."""
    _, _, weights = made_weights(family)
    lower, upper = torch.tensor([3, 17]), torch.tensor([0, 5, 40])
    vectors = decoder_vectors(weights, 0, lower)
    direct = connections(weights, 0, 2, upper)[:, lower]
    assert relative(pushforward(weights, 2, vectors)[:, upper], direct.T) < 1e-9
    onward = pushforward(weights, 2, pushforward_heads(weights.of, 1, vectors))[..., upper]
    for head in range(4):
        through = connections(weights, 0, 2, upper, through=(1, head))[:, lower]
        assert relative(onward[:, head], through.T) < 1e-9


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2"])
def test_weights_in_half_precision_are_summed_in_float32(family: str) -> None:
    lm = made_lm(family)
    coders = {site: coder.bfloat16() for site, coder in made_coders(lm).items()}
    weights = weights_of(anatomy(lm), coders)
    found = connections(weights, 0, 2, torch.tensor([4]))
    assert found.dtype == torch.float32
    whole = weights_of(anatomy(lm), {site: coder.double() for site, coder in coders.items()})
    assert relative(found.double(), connections(whole, 0, 2, torch.tensor([4]))) < 1e-5


@pytest.mark.parametrize("family", ["llama", "gemma", "gemma2", "gemma3"])
def test_norms_of_a_model_in_half_precision_are_its_modules_in_float32(family: str) -> None:
    """Gemma's add 1 to their weight in float32, and what half precision would round of that is a percent of it."""
    lm = made_lm(family, dtype=torch.bfloat16)
    found = anatomy(lm).final.whole(x := torch.randn(5, lm.d_model))
    assert relative(found, deepcopy(lm.model.model.norm).float()(x)) < 1e-6


def test_what_is_not_connected_is_refused() -> None:
    _, _, weights = made_weights("gpt_neox")
    some = torch.tensor([0])
    with pytest.raises(UsageError, match="layer 1 has no coder"):
        connections(weights, 1, 2, some)
    with pytest.raises(UsageError, match="writes nothing that the FFN of layer 0 reads"):
        connections(weights, 2, 0, some)
    with pytest.raises(UsageError, match="head 2/0 does not stand between"):  # parallel: its FFN does not read it
        connections(weights, 0, 2, some, through=(2, 0))
    with pytest.raises(UsageError, match="layer 1 has no head 4"):
        connections(weights, 0, 2, some, through=(1, 4))
    lm = made_lm("gpt2")
    with pytest.raises(UsageError, match="no transcoder of an FFN of this model"):
        weights_of(weights.of, made_coders(lm))
