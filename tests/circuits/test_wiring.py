"""What the weights say of latents is what dense products of the model's own modules say, in every family."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import plainspoken.circuits.ranked as module
from families_made import FAMILIES, made_coders, made_lm
from plainspoken.circuits.dashboard import Connections, wiring
from plainspoken.circuits.ranked import ranked
from plainspoken.circuits.vocabulary import TokenEffects, exciting, unembedding
from plainspoken.circuits.weights import decoder_vectors, weights_of
from plainspoken.coders import Coder, CoderSpec
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import Anatomy, Layer, anatomy
from plainspoken.types import Site

K = 7


@pytest.fixture(params=list(FAMILIES))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return made_lm(request.param)


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every matrix is cut both ways, unevenly."""
    monkeypatch.setattr(module, "BLOCK", 100)
    monkeypatch.setattr(module, "ACROSS", 7)


def holds(found: TokenEffects, dense: Tensor, best: Callable[[Tensor], Tensor]) -> None:
    """The k best of each row of a dense product, by whatever makes the largest the best."""
    order = best(dense).argsort(1, descending=True)[:, :K]
    assert np.array_equal(found.token, order.numpy())
    np.testing.assert_allclose(found.effect, dense.gather(1, order).numpy(), rtol=1e-5, atol=1e-6)


def layer_at(of: Anatomy, site: Site) -> Layer:
    """The layer whose FFN the site is."""
    [layer] = [layer for layer in of.layers if layer.ffn == site.module]
    return layer


def test_promoted_and_suppressed_are_the_ends_of_a_dense_product(lm: LanguageModel) -> None:
    """Of the final norm without its factor, and the unembedding, of a latent's output in the place of the stream."""
    coders = made_coders(lm)
    of = anatomy(lm)
    for site, coder in coders.items():
        layer = layer_at(of, site)
        f = coder.W_dec if layer.ffn_out is None else coder.W_dec * layer.ffn_out.weight
        final = of.final
        x = f - f.mean(1, keepdim=True) if final.centred else f
        dense = (x * final.weight) @ of.W_U.T
        dense = (dense - dense.mean(1, keepdim=True)).detach()
        found = wiring(of, coders, site, K)
        holds(found.promoted, dense, torch.clone)
        holds(found.suppressed, dense, torch.neg)


def test_exciting_tokens_are_those_whose_embedding_moves_the_pre_activation_most(lm: LanguageModel) -> None:
    """The FFN's own norm, as the model has it, applied to the embedding alone, is read by the coder."""
    coders = made_coders(lm)
    of = anatomy(lm)
    for site, coder in coders.items():
        layer = layer_at(of, site)
        decoder = lm.model.get_submodule(layer.module)
        name = {"gpt2": "ln_2"}.get(lm.model.config.model_type, "post_attention_layernorm")
        name = "pre_feedforward_layernorm" if hasattr(decoder, "pre_feedforward_layernorm") else name
        dense = (coder.W_enc @ getattr(decoder, name)(of.W_E * of.scale).T).detach()
        found = wiring(of, coders, site, K).exciting
        assert found is not None
        holds(found, dense, torch.clone)


def test_tokens_without_text_are_left_out(lm: LanguageModel) -> None:
    """And the others are ranked as if they were all, by what they are with them."""
    coders, of = made_coders(lm), anatomy(lm)
    site = next(iter(coders))
    pieces = [b"" if i % 3 else b"t" for i in range(len(of.W_E) - 20)]
    every, found = wiring(of, coders, site, len(of.W_E)), wiring(of, coders, site, K, pieces=pieces)
    for name in ("promoted", "suppressed", "exciting"):
        kept = [[i for i in row if i < len(pieces) and pieces[i]][:K] for row in getattr(every, name).token.tolist()]
        assert getattr(found, name).token.tolist() == kept


def test_dashboards_and_studies_name_the_same_tokens_with_the_same_scores(lm: LanguageModel) -> None:
    coders, of = made_coders(lm), anatomy(lm)
    for site, coder in coders.items():
        layer, found = of.layers.index(layer_at(of, site)), wiring(of, coders, site, K)
        whole = exciting(of, site, coder.W_enc)
        assert found.exciting is not None and whole is not None
        for latent in (0, 17):
            [promoted] = unembedding(of, decoder_vectors(weights_of(of, coders), layer, torch.tensor([latent])))
            read = whole[latent]
            for shown, scores in ((found.promoted, promoted), (found.suppressed, promoted), (found.exciting, read)):
                order = scores.argsort(descending=shown is not found.suppressed)[:K]
                assert shown.token[latent].tolist() == order.tolist()
                np.testing.assert_allclose(shown.effect[latent], scores[order].numpy(), rtol=1e-4, atol=1e-5)


def test_sources_and_targets_are_the_largest_of_all_pairs_and_meet_each_other(lm: LanguageModel) -> None:
    coders = made_coders(lm, at=(0, 1, 2))
    of = anatomy(lm)
    sites = list(coders)
    pairs: dict[tuple[int, int], Tensor] = {}
    for s, t in ((0, 1), (0, 2), (1, 2)):
        before, after = of.layers[s], of.layers[t]
        f = coders[sites[s]].W_dec
        f = f if before.ffn_out is None else before.ffn_out.unfolded(f)
        ones = torch.ones(len(f), dtype=f.dtype)
        pairs[s, t] = (after.ffn_norm.linear(f, ones) @ coders[sites[t]].W_enc.T).detach()
    for place, site in enumerate(sites):
        found = wiring(of, coders, site, K)
        assert found.sites == tuple(each.module for each in sites)
        agrees(found.sources, {s: pairs[s, t].T for s, t in pairs if t == place})
        agrees(found.targets, {t: pairs[s, t] for s, t in pairs if s == place})


def agrees(found: Connections, dense: dict[int, Tensor]) -> None:
    if not dense:
        assert found.latent.shape == (48, 0)
        return
    whole = torch.cat(list(dense.values()), 1)
    order = whole.abs().argsort(1, descending=True)[:, :K]
    np.testing.assert_allclose(found.weight, whole.gather(1, order).numpy(), rtol=1e-5, atol=1e-6)
    for latent in range(len(whole)):
        for s, i, w in zip(found.site[latent], found.latent[latent], found.weight[latent], strict=True):
            np.testing.assert_allclose(w, float(dense[int(s)][latent, int(i)]), rtol=1e-5, atol=1e-6)
    assert (found.weight < 0).any(), "inhibition is found"


def test_an_sae_of_the_stream_reads_without_a_norm_and_one_of_an_ffn_reads_no_embedding() -> None:
    lm = made_lm("llama")
    of = anatomy(lm)
    coder = Coder(CoderSpec("sae", "topk", 20, 3, False, 24, 24), lm.dtype)
    torch.nn.init.normal_(coder.W_enc)
    torch.nn.init.normal_(coder.W_dec)
    stream = Site("model.layers.0", "resid", 24, 24)
    ffn = Site("model.layers.1.mlp", "resid", 24, 24)
    coders = {stream: coder, ffn: coder}
    found, other = wiring(of, coders, stream, K), wiring(of, coders, ffn, K)
    assert found.exciting is not None
    holds(found.exciting, (coder.W_enc @ (of.W_E * of.scale).T).detach(), torch.clone)
    assert other.exciting is None
    assert other.sources.latent.shape == found.targets.latent.shape == (20, 0)


def test_half_precision_is_summed_in_float32() -> None:
    rows, columns = torch.randn(9, 64), torch.randn(50, 64).bfloat16()
    [found] = ranked(rows, [columns], 3, (torch.abs,))
    exact = rows @ columns.float().T
    assert np.array_equal(found.index, exact.abs().topk(3).indices.numpy())
    np.testing.assert_allclose(found.value, exact.gather(1, exact.abs().topk(3).indices).numpy(), rtol=1e-5)


def test_fewer_are_kept_where_there_are_fewer() -> None:
    [found] = ranked(torch.randn(4, 3), [torch.randn(2, 3), torch.randn(3, 3)], 10, (torch.abs,))
    assert found.index.shape == (4, 5)
    assert np.array_equal(np.sort(found.index, 1), np.tile(np.arange(5), (4, 1)))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = torch.randn(30, 5).double(), [torch.randn(40, 5).double(), torch.randn(9, 5).double()]
    cut = ranked(rows, columns, 6, (torch.clone, torch.neg), centred=True)
    monkeypatch.undo()
    for one, other in zip(cut, ranked(rows, columns, 6, (torch.clone, torch.neg), centred=True), strict=True):
        assert np.array_equal(one.index, other.index)
        np.testing.assert_allclose(one.value, other.value, rtol=1e-6)
