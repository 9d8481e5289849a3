"""One latent's weights in tokens, as all latents' are told at once; between latents, as the frozen model moves them."""

import pytest
import torch

from families_made import FAMILIES, made_scene, relative
from plainspoken.circuits import named
from plainspoken.circuits.targets import latent_targets
from plainspoken.coders import Coder, CoderSpec
from plainspoken.latents.named_tokens import latent_tokens
from plainspoken.lm import LanguageModel, resolve_sites
from plainspoken.lm.anatomy import anatomy


@pytest.mark.parametrize("family", ["neox", "llama"])
def test_tokens_are_those_that_are_named_of_all_latents_at_once(family: str, request: pytest.FixtureRequest) -> None:
    lm: LanguageModel = request.getfixturevalue(family)
    path = {"neox": "gpt_neox.layers.1.mlp", "llama": "model.layers.1.mlp"}[family]
    (site,) = resolve_sites(lm, path)
    coder = Coder(CoderSpec("transcoder", "topk", 6, 2, False, site.d_in, site.d_out)).requires_grad_(False)
    for parameter in coder.parameters():
        parameter.normal_()
    told, of = latent_tokens(lm, coder, site, 10), anatomy(lm)
    for latent in range(6):
        read, promoted = torch.from_numpy(told.read[latent]), torch.from_numpy(told.promoted[latent])
        torch.testing.assert_close(
            named.deembedded(of, 1, coder, latent)[read],
            torch.from_numpy(told.read_score[latent]),
            rtol=1e-4,
            atol=1e-4,
        )
        # One is less the mean over the vocabulary, the same for all tokens: their differences are alike.
        here = named.promoted(of, 1, coder, latent)[promoted]
        there = torch.from_numpy(told.promoted_score[latent])
        torch.testing.assert_close(here - here[0], there - there[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_connections_are_what_a_firing_latent_adds_directly_but_for_activation_and_norm_factors(family: str) -> None:
    scene = made_scene(family)
    frozen, of = scene.frozen, anatomy(scene.lm)
    first, last = frozen.layers[0], frozen.layers[2]
    assert first.coder is not None and last.coder is not None
    fired, latent = first.latents, 5
    position = fired.position
    targets = latent_targets(frozen, 2, position, torch.full_like(position, latent))
    added = (fired.written * targets.direction).sum(-1)
    out = torch.ones(frozen.t).to(added) if first.ffn_out_factor is None else first.ffn_out_factor
    factors = fired.value * out[position] * last.ffn_factor[position]
    found = named.from_earlier(of, 2, last.coder, latent, 0, first.coder)
    assert relative(factors * found[fired.latent].double(), added) < 1e-5
    for source in fired.latent[:4].tolist():
        back = named.to_later(of, 0, first.coder, source, 2, last.coder)
        assert float(back[latent]) == pytest.approx(float(found[source]), rel=1e-4, abs=1e-6)
