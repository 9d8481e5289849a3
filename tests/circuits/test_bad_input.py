"""What cannot be frozen or asked of a frozen model is refused, with what, where and the mend."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf

from families_made import CONTEXT, VOCABULARY, WIDTH, made_coders, made_prompt, made_scene
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.targets import firing_targets, latent_targets, logit_targets
from plainspoken.coders import Coder, CoderSpec
from plainspoken.errors import ActivationError, CoderError, ModelError, UsageError
from plainspoken.types import Site


@pytest.fixture(scope="module")
def scene():
    return made_scene("gpt_neox-serial")


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([], f"a prompt of 0 tokens.*1 to {CONTEXT}"),
        ([1] * (CONTEXT + 1), f"a prompt of {CONTEXT + 1} tokens.*give another prompt"),
        ([1, VOCABULARY], f"token {VOCABULARY}.*0 to {VOCABULARY - 1}.*tokenizer"),
        ([1, -3], f"token -3.*0 to {VOCABULARY - 1}"),
    ],
)
def test_a_prompt_that_the_model_cannot_take(scene, tokens: list[int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        freeze(scene.lm, {}, tokens)


def test_a_coder_of_a_whole_layer_or_one_that_reconstructs_is_no_transcoder(scene) -> None:
    transcoder, sae = (Coder(CoderSpec(kind, "topk", 8, 2, False, WIDTH, WIDTH)) for kind in ("transcoder", "sae"))
    with pytest.raises(CoderError, match=r"'gpt_neox\.layers\.1' is no transcoder.*coder\.kind=transcoder"):
        freeze(scene.lm, {Site("gpt_neox.layers.1", "resid", WIDTH, WIDTH): transcoder}, [1, 2])
    with pytest.raises(CoderError, match=r"is no transcoder.*coder\.kind=transcoder"):
        freeze(scene.lm, {Site("gpt_neox.layers.1.mlp", "mlp", WIDTH, WIDTH): sae}, [1, 2])


def test_a_coder_of_another_width(scene) -> None:
    wide = Coder(CoderSpec("transcoder", "topk", 8, 2, False, 32, 32))
    with pytest.raises(CoderError, match=r"mlp' has widths 32 and 32.*24.*trained on another model"):
        freeze(scene.lm, {Site("gpt_neox.layers.1.mlp", "mlp", 32, 32): wide}, [1, 2])


@pytest.mark.parametrize("activation", ["topk", "relu", "jump_relu", "batch_topk"])
@pytest.mark.parametrize("weights", ["W_enc", "W_dec", "b_dec"])
def test_a_coder_that_holds_nan(scene, activation: str, weights: str) -> None:
    (site, coder), *_ = made_coders(scene.lm, activation=activation).items()
    getattr(coder, weights).view(-1)[7] = torch.nan
    with pytest.raises(CoderError, match=r"layers\.0\.mlp' holds a weight that is not a finite number.*again"):
        freeze(scene.lm, {site: coder}, [1, 2], torch.float64)


def test_a_model_that_holds_nan(scene) -> None:
    broken = deepcopy(scene.lm.model)
    broken.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[0, 0] = torch.nan
    with pytest.raises(ActivationError, match=r"not finite.*float32"):
        freeze(replace(scene.lm, model=broken), {}, [1, 2])


def test_latents_given_for_a_site_without_a_coder_or_of_another_shape(scene) -> None:
    site = next(iter(scene.coders))
    with pytest.raises(UsageError, match=r"has no coder here.*give its coder"):
        freeze(scene.lm, {}, [1, 2], given={site: torch.zeros(2, 48)})
    with pytest.raises(UsageError, match=r"shape \(3, 48\).*48 over 2 tokens"):
        freeze(scene.lm, scene.coders, [1, 2], given={site: torch.zeros(3, 48)})


def _other(config) -> torch.nn.Module:
    return hf.AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)


SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
UNKNOWN = {
    "opt": lambda: hf.OPTConfig(**SMALL, ffn_dim=40, word_embed_proj_dim=WIDTH, max_position_embeddings=CONTEXT),
    "bloom": lambda: hf.BloomConfig(**SMALL),
    "gptj": lambda: hf.GPTJConfig(
        vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=2, n_head=4, rotary_dim=4, n_positions=CONTEXT
    ),
    "phi": lambda: hf.PhiConfig(**SMALL, intermediate_size=40, max_position_embeddings=CONTEXT),
}


@pytest.mark.parametrize("family", UNKNOWN)
def test_an_unknown_architecture_is_refused_by_its_names(scene, family: str) -> None:
    with pytest.raises(ModelError, match=r"built unlike the families.*GPT-2.*Gemma.*lm/anatomy\.py"):
        freeze(replace(scene.lm, model=_other(UNKNOWN[family]()), name=family), {}, [1, 2, 3])


def test_an_architecture_of_known_names_that_computes_something_else_is_refused_by_the_replay(scene) -> None:
    config = hf.GraniteConfig(
        **SMALL, intermediate_size=40, num_key_value_heads=2, residual_multiplier=0.3, initializer_range=0.5,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"replay is off by .* standard deviations.*name a GPT-2"):
        freeze(replace(scene.lm, model=_other(config), name="granite"), {}, [1, 2, 3])


def test_targets_that_there_are_not(scene) -> None:
    frozen, none = scene.frozen, torch.tensor([0])
    with pytest.raises(UsageError, match=r"layer 1 has no coder.*layer that has one \(0, 2\)"):
        firing_targets(frozen, 1)
    with pytest.raises(UsageError, match=r"no layer 7.*0 to 2"):
        latent_targets(frozen, 7, none, none)
    with pytest.raises(UsageError, match=r"no latent 48.*0 to 47"):
        latent_targets(frozen, 2, none, torch.tensor([48]))
    with pytest.raises(UsageError, match=r"no position 9.*0 to 8"):
        latent_targets(frozen, 2, torch.tensor([9]), none)
    with pytest.raises(UsageError, match=r"no position -1.*0 to 8"):
        logit_targets(frozen, -1, None, [3])
    with pytest.raises(UsageError, match=f"no token {VOCABULARY}.*0 to {VOCABULARY - 1}"):
        logit_targets(frozen, 8, None, [3, VOCABULARY])


def test_a_prompt_of_one_token_and_no_coders_at_all_is_fine(scene) -> None:
    assert freeze(scene.lm, {}, made_prompt(1), torch.float64).t == 1
