"""What freezing leaves: a perfect coder has no errors, a model is as before, and any random model obeys the laws."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from families_made import CONTEXT, FAMILIES, VOCABULARY, WIDTH, Scene, made_coders, made_lm, made_prompt, made_scene
from plainspoken.circuits.adjoint import columns, rows
from plainspoken.circuits.attribution import attribution_graph, root_of
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Node
from plainspoken.circuits.intervene import Intervention, running
from plainspoken.circuits.respond import respond
from plainspoken.circuits.targets import Targets, firing_targets, logit_targets
from plainspoken.coders import ACTIVATIONS, Coder, CoderSpec
from plainspoken.errors import ModelError
from plainspoken.lm import LanguageModel, resolve_sites, splice, token_nll
from plainspoken.lm.patterns import capture_patterns, eager_attention, hold_patterns


def _relu_model(family: str) -> LanguageModel:
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    if family == "gpt2":
        config = hf.GPT2Config(**sizes, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=CONTEXT)
        config.activation_function = "relu"
        model = hf.GPT2LMHeadModel(config)
    else:
        config = hf.GPTNeoXConfig(
            **sizes, hidden_size=WIDTH, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=CONTEXT, hidden_act="relu", use_parallel_residual=family == "parallel",
        )  # fmt: skip
        model = hf.GPTNeoXForCausalLM(config)
    model = model.double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return replace(made_scene("gpt2").lm, model=model)


def _copied(ffn: Any) -> Coder:
    if hasattr(ffn, "c_fc"):
        W_in, b_in, W_out, b_out = ffn.c_fc.weight.T, ffn.c_fc.bias, ffn.c_proj.weight, ffn.c_proj.bias
    else:
        first, second = ffn.dense_h_to_4h, ffn.dense_4h_to_h
        W_in, b_in, W_out, b_out = first.weight, first.bias, second.weight.T, second.bias
    coder = Coder(CoderSpec("transcoder", "relu", len(W_in), None, False, WIDTH, WIDTH), torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(
            (coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec), (W_in, b_in, W_out, b_out), strict=True
        ):
            mine.copy_(theirs)
    return coder.requires_grad_(False)


@pytest.mark.parametrize("family", ["gpt2", "serial", "parallel"])
def test_a_copy_of_the_ffn_has_no_errors_and_leaves_the_loss(family: str) -> None:
    lm = _relu_model(family)
    path = "transformer.h.*.mlp" if family == "gpt2" else "gpt_neox.layers.*.mlp"
    coders = {site: _copied(lm.model.get_submodule(site.module)) for site in resolve_sites(lm, path)}
    prompt = made_prompt(9)
    frozen = freeze(lm, coders, prompt, torch.float64)
    assert all(float(layer.error.abs().max()) < 1e-12 for layer in frozen.layers)
    before = token_nll(lm, prompt[None], torch.ones(1, 9, dtype=torch.bool))
    with splice(lm, {site: lambda x, y, c=coder: c(x[0])[None] for site, coder in coders.items()}):
        after = token_nll(lm, prompt[None], torch.ones(1, 9, dtype=torch.bool))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-12)


def _hold(scene: Scene) -> AbstractContextManager:
    patterns = [layer.pattern for layer in scene.frozen.layers]
    return hold_patterns(scene.lm, scene.frozen.anatomy, patterns)


CONTEXTS: dict[str, Callable[[Scene], AbstractContextManager]] = {
    "eager": lambda scene: eager_attention(scene.lm),
    "capture": lambda scene: capture_patterns(scene.lm, scene.frozen.anatomy),
    "hold": _hold,
    "free": lambda scene: running(scene.frozen, [Intervention(0, 1)], "free"),
    "held": lambda scene: running(
        scene.frozen, [Intervention(0, 1), Intervention(2, 3, kind="set", amount=2.0)], "held"
    ),
}


def _state(lm: LanguageModel) -> tuple:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())
    return hooks, lm.model.config._attn_implementation, torch.is_grad_enabled()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("context", CONTEXTS)
def test_the_model_is_as_before_even_after_an_exception(family: str, context: str) -> None:
    scene = made_scene(family)
    tokens, state = scene.frozen.tokens[None], _state(scene.lm)
    before = scene.lm.model(tokens, use_cache=False).logits
    with pytest.raises(ZeroDivisionError), CONTEXTS[context](scene):
        scene.lm.model(tokens, use_cache=False)
        raise ZeroDivisionError
    assert _state(scene.lm) == state
    assert torch.equal(scene.lm.model(tokens, use_cache=False).logits, before)


def test_patterns_of_another_length_are_refused_and_the_model_is_as_before() -> None:
    scene = made_scene("llama")
    state = _state(scene.lm)
    with pytest.raises(ModelError, match="patterns of 9 tokens are held, and the model was given 4"), _hold(scene):
        scene.lm.model(scene.frozen.tokens[None, :4], use_cache=False)
    assert _state(scene.lm) == state


@pytest.mark.parametrize("family", FAMILIES)
def test_holding_a_models_own_patterns_changes_nothing(family: str) -> None:
    scene = made_scene(family)
    tokens = scene.frozen.tokens[None]
    with eager_attention(scene.lm):
        before = scene.lm.model(tokens, use_cache=False).logits
        with _hold(scene):
            held = scene.lm.model(tokens, use_cache=False).logits
    # Grouped sums, in another order: nothing else differs.
    torch.testing.assert_close(held, before, rtol=1e-6, atol=1e-6)


@dataclass(frozen=True)
class Drawn:
    """Any family, one to three layers, coders at any of them, skips or none, any activation, any short prompt."""

    family: str
    layers: int
    tied: bool
    at: tuple[int, ...]
    skips: tuple[int, ...]
    activation: str
    t: int
    seed: int

    def frozen(self) -> Frozen:
        torch.manual_seed(self.seed)
        lm = made_lm(self.family, self.layers, self.tied)
        coders = made_coders(lm, self.at, self.skips, self.activation, latents=12, k=3)
        return freeze(lm, coders, made_prompt(self.t, self.seed), torch.float64)


@st.composite
def drawn(draw) -> Drawn:
    layers = draw(st.integers(1, 3))
    at = tuple(sorted(draw(st.sets(st.integers(0, layers - 1)))))
    skips = tuple(i for i in at if draw(st.booleans()))
    family, activation = draw(st.sampled_from(sorted(FAMILIES))), draw(st.sampled_from(sorted(ACTIVATIONS)))
    return Drawn(
        family, layers, draw(st.booleans()), at, skips, activation, draw(st.integers(1, 12)), draw(st.integers(0, 999))
    )


def _all_targets(frozen: Frozen) -> list[Targets]:
    coded = [i for i, layer in enumerate(frozen.layers) if layer.coder is not None]
    return [firing_targets(frozen, i) for i in coded] + [logit_targets(frozen, frozen.t - 1, None, [0, 7])]


@settings(max_examples=30, derandomize=True)
@given(drawn())
def test_any_random_model_obeys_the_laws(model: Drawn) -> None:
    frozen = model.frozen()
    where = columns(frozen)
    by_target = [(targets, rows(frozen, targets)) for targets in _all_targets(frozen)]
    wanted = [layer.latents.pre for layer in frozen.layers if layer.coder is not None]
    logits = frozen.logits[-1]
    wanted.append(logits[[0, 7]] - logits.mean())
    for (targets, row), value in zip(by_target, wanted, strict=True):
        size = float(row.abs().sum(0).max()) if len(targets) else 0
        assert torch.allclose(row.sum(0) + targets.offset, value, rtol=0, atol=1e-9 * max(1, size))
    for i, layer in enumerate(frozen.layers):
        for entry in {0, len(layer.latents) // 2, len(layer.latents) - 1} if len(layer.latents) else ():
            latent, position = int(layer.latents.latent[entry]), int(layer.latents.position[entry])
            moved = respond(frozen, [Intervention(i, latent, (position,), "scale", 1.25)], "held")
            for targets, row in by_target:
                edge = row[where.layers[i].latents.start + entry]
                size = float(row.abs().max()) if len(targets) else 0
                assert torch.allclose(moved.of(targets), 0.25 * edge, rtol=0, atol=1e-9 * max(1, size))


@settings(max_examples=10, derandomize=True)
@given(drawn())
def test_any_random_models_graph_adds_up(model: Drawn) -> None:
    frozen = model.frozen()
    nodes = [Node("logit", position=frozen.t - 1, index=i) for i in (0, 7)]
    root = root_of(frozen, logit_targets(frozen, frozen.t - 1, None, [0, 7]), nodes)
    graph = attribution_graph(frozen, root, [str(i) for i in range(frozen.t)])
    entered = np.bincount(graph.target, graph.weight, len(graph.nodes)) + graph.offset + graph.rest
    for i in np.unique(graph.target):
        value = graph.nodes[i].value
        assert value is not None
        assert abs(entered[i] - value) < 1e-9 * max(1, np.abs(graph.weight[graph.target == i]).sum())
