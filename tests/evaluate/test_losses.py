"""Losses under the conditions: the planted model's laws, and a slow oracle that splices token by token."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from plainspoken.calibrators import Calibration
from plainspoken.coders import Coder, CoderSpec
from plainspoken.errors import ActivationError
from plainspoken.evaluate import Condition, Plan, joint_conditions, measure, site_conditions
from plainspoken.lm import resolve_sites
from plainspoken.rewrite import Baseline, Mixture, Prediction, SiteMaterial, spans
from plainspoken.types import Simulation
from planted import LATENTS, SITE, Planted, fallible, fires, make_rows, maximum, perfect

PLAN = Plan((0.1, 0.5, 1.0), ("best", "random", "mass"), 2, "all", 0)


def silent(rows):
    return np.zeros_like(fires(rows), float)


def run(planted: Planted, material: SiteMaterial, plan: Plan = PLAN, **options):
    """Losses by (name, fraction, order, draw)."""
    conditions = site_conditions(material, plan)
    losses = measure(planted.lm, planted.evaluate, {SITE.module: material}, conditions, **options)
    return {(c.name, c.fraction, c.order, c.draw): loss for c, loss in zip(conditions, losses, strict=True)}


def oracle(lm, rows, outputs, positions="all"):
    """(nll, kl, agreed, tokens) summed by document; `outputs[module](x, row, i)` is a site's output at one token."""
    where = spans(rows.mask, positions)
    sums = np.zeros((4, len(rows.keys)))
    for row in range(len(rows.tokens)):
        text = torch.from_numpy(rows.tokens[row : row + 1].astype(np.int64))
        own = lm.model(text).logits[0].double().log_softmax(-1)
        hooks = [
            lm.model.get_submodule(module).register_forward_hook(one_by_one(make, row, np.flatnonzero(spliced)))
            for module, make in outputs.items()
            for spliced in [where.spliced[row]]
        ]
        now = lm.model(text).logits[0].double().log_softmax(-1)
        for hook in hooks:
            hook.remove()
        for i in np.flatnonzero(where.measured[row]):
            sums[:, rows.document[row]] += tally(own[i], now[i], int(text[0, i + 1]))
    return sums


def one_by_one(make, row, places):
    """A forward hook that makes the output anew at some places, one after another."""

    def hook(module, args, output):
        y = output[0] if isinstance(output, tuple) else output
        x = y if isinstance(output, tuple) or isinstance(module, GradientCheckpointingLayer) else args[0]
        new = y.clone()
        for i in places:
            new[0, i] = make(x[0, i], row, i)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return hook


def tally(own, now, target):
    """What one token adds to a document's sums."""
    kl = (own.exp() * (own - now)).sum()
    return [float(-now[target]), float(kl), float(own.argmax() == now.argmax()), 1.0]


def agree(losses, expected):
    np.testing.assert_array_equal(losses.tokens, expected[3])
    np.testing.assert_allclose(losses.nll, expected[0], rtol=1e-5)
    np.testing.assert_allclose(losses.kl, expected[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(losses.agreed, expected[2])


def test_the_planted_latents_fire_as_they_are_known_to(planted):
    x = planted.lm.model.get_input_embeddings()(torch.from_numpy(planted.evaluate.tokens.astype(np.int64)))
    z = planted.coder.dense(planted.coder.encode(x.flatten(0, 1))).view(*x.shape[:2], LATENTS)

    np.testing.assert_array_equal(z.numpy() * planted.evaluate.mask[:, :, None], fires(planted.evaluate) * maximum())


@pytest.mark.parametrize("keep", ["all", "top-k"])
@pytest.mark.parametrize("positions", ["all", "last"])
def test_perfect_explanations_recover_the_coder_exactly(planted, keep, positions):
    found = run(planted, planted.material(perfect), replace(PLAN, keep=keep), positions=positions)
    coder = found["coder", None, None, 0]
    for (name, *_), losses in found.items():
        if name in ("rewritten", "oracle-support", "oracle-magnitude"):
            np.testing.assert_array_equal(losses.nll, coder.nll)
            np.testing.assert_array_equal(losses.kl, coder.kl)
    assert found["shuffled", 1.0, "best", 0].nll.sum() != coder.nll.sum()


@pytest.mark.parametrize("calibrator", ["linear", "quantile"])
def test_perfect_explanations_recover_the_coder_under_calibrators_that_fit(planted, calibrator):
    found = run(planted, planted.material(perfect, calibrator))
    np.testing.assert_allclose(found["rewritten", 1.0, "best", 0].nll, found["coder", None, None, 0].nll, rtol=1e-5)


def test_silent_explanations_are_zero_latents_exactly(planted_skip):
    found = run(planted_skip, planted_skip.material(silent))
    np.testing.assert_array_equal(found["rewritten", 1.0, "best", 0].nll, found["zero-latents", None, None, 0].nll)
    np.testing.assert_array_equal(
        found["oracle-magnitude", 1.0, "best", 0].nll, found["zero-latents", None, None, 0].nll
    )


def test_silent_explanations_calibrated_by_the_mean_are_mean_latents(planted):
    found = run(planted, planted.material(silent, "conditional_mean"))
    np.testing.assert_allclose(
        found["rewritten", 1.0, "best", 0].nll, found["mean-latents", None, None, 0].nll, rtol=1e-6
    )


def test_what_is_not_explained_is_nought_and_not_its_mean(planted):
    found = run(planted, planted.material(perfect, "conditional_mean", explained=np.zeros(LATENTS, bool)))
    np.testing.assert_array_equal(found["rewritten", 1.0, "best", 0].nll, found["zero-latents", None, None, 0].nll)


def test_rewriting_no_latent_is_the_coder_exactly(planted_skip):
    material = planted_skip.material(fallible)
    nothing = Condition("rewritten", {SITE.module: Mixture(material.prediction, np.zeros(LATENTS, bool))}, 0.0, "best")
    coder = Condition("coder", {SITE.module: Baseline("coder")})
    found = measure(planted_skip.lm, planted_skip.evaluate, {SITE.module: material}, [nothing, coder])
    np.testing.assert_array_equal(found[0].nll, found[1].nll)


@pytest.mark.parametrize("positions", ["all", "last"])
@pytest.mark.parametrize("keep", ["all", "top-k"])
def test_every_condition_equals_a_splice_made_token_by_token(planted_skip, positions, keep):
    rows, coder = planted_skip.evaluate, planted_skip.coder
    # The k largest are certain only where no two are equal: levels of many sizes, straight to activations.
    calibrator, simulator = ("none", partial(fallible, fractional=True)) if keep == "top-k" else ("linear", fallible)
    material = planted_skip.material(simulator, calibrator, explained=np.arange(LATENTS) != 3)
    plan = Plan((0.4, 0.8, 1.0), ("mass",), 1, keep, 0)
    conditions = site_conditions(material, plan)
    measured = measure(
        planted_skip.lm, rows, {SITE.module: material}, conditions, positions=positions, rows_per_batch=4
    )
    for condition, losses in zip(conditions, measured, strict=True):
        outputs = {}
        if condition.treatments:
            outputs = {SITE.module: partial(slow_output, coder, material, condition.treatments[SITE.module])}
        agree(losses, oracle(planted_skip.lm, rows, outputs, positions))
        if not outputs:
            np.testing.assert_array_equal(losses.kl, 0)
            np.testing.assert_array_equal(losses.agreed, losses.tokens)


def slow_output(coder, material, treatment, x, row, i):
    """What a site puts out at one token, latent by latent."""
    true, rest = (coder.W_enc @ x + coder.b_enc).relu(), coder.b_dec + coder.W_skip @ x
    if isinstance(treatment, Baseline):
        if treatment.kind == "zero-output":
            return 0 * rest
        of_kind = {"coder": true, "zero-latents": 0 * true, "mean-latents": torch.from_numpy(material.mean).float()}
        return of_kind[treatment.kind] @ coder.W_dec + rest
    prediction, z = treatment.prediction, true.clone()
    here = prediction.simulation.position == row * prediction.simulation.t + i
    listed = dict(zip(prediction.simulation.latent[here], prediction.simulation.level[here], strict=True))
    for latent in map(int, np.flatnonzero(treatment.chosen)):
        level = listed.get(latent, np.float32(0))
        curves = prediction.sizes if treatment.mode == "support" else prediction.calibration
        value = float(np.interp(level, *curves.curve(latent))) if prediction.explained[latent] else 0.0
        fires = true[latent] > 0
        spoken_of = float(true[latent]) if level > 0 else 0.0
        z[latent] = {"simulated": value, "support": value if fires else 0.0, "magnitude": spoken_of}[treatment.mode]
    if treatment.keep == "top-k":
        z[z < z.sort(descending=True).values[coder.spec.k - 1]] = 0
    return z @ coder.W_dec + rest


def test_the_size_of_batches_changes_nothing(planted):
    material = planted.material(fallible, "conditional_mean")
    one, many = (run(planted, material, rows_per_batch=size) for size in (1, 100))
    for key, losses in one.items():
        np.testing.assert_allclose(losses.nll, many[key].nll, rtol=1e-6)
        np.testing.assert_allclose(losses.kl, many[key].kl, rtol=1e-4, atol=1e-5)


def test_a_model_that_does_not_name_its_head_is_measured_alike(planted, monkeypatch):
    material, conditions = planted.material(fallible), [Condition("original", {})]
    conditions += [Condition("coder", {SITE.module: Baseline("coder")})]
    first = measure(planted.lm, planted.evaluate, {SITE.module: material}, conditions)
    monkeypatch.setattr(planted.lm.model, "get_output_embeddings", lambda: None)
    second = measure(planted.lm, planted.evaluate, {SITE.module: material}, conditions)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one.nll, other.nll, rtol=1e-6)


def test_bos_and_padding_are_never_spliced(planted):
    material = planted.material(fallible)
    seen = []
    ways = [Condition("zero-output", {SITE.module: Baseline("zero-output")})]
    module = planted.lm.model.get_submodule("gpt_neox.layers.0.post_mlp_dropout")
    watch = module.register_forward_hook(lambda m, args, out: seen.append(args[0].clone()))
    measure(planted.lm, planted.evaluate, {SITE.module: material}, ways, rows_per_batch=100)
    watch.remove()
    original, spliced = seen[0], seen[-1]
    untouched = (original == spliced).all(dim=-1).numpy()
    zero = (spliced == 0).all(dim=-1).numpy()
    assert (untouched != zero).all()
    assert zero.sum() == planted.evaluate.mask.sum() and not zero[:, 0].any()


def test_several_sites_at_once_each_read_what_the_splices_before_them_leave(neox):
    rows = make_rows("evaluate")
    sites = resolve_sites(neox, "gpt_neox.layers.*.mlp")
    coders = {}
    for site in sites:
        coder = Coder(CoderSpec("transcoder", "topk", 32, 32, False, 16, 16)).requires_grad_(False)
        for weight in coder.parameters():
            weight.normal_(0, 0.3)
        coders[site.module] = coder
    everything = {site.module: Baseline("coder") for site in sites}
    materials = {site.module: _bare(site, coders[site.module]) for site in sites}
    joint = Condition("coder", everything)
    alone = [Condition("coder", {site.module: Baseline("coder")}) for site in sites]
    losses = measure(neox, rows, materials, [joint, *alone])
    outputs = {m: lambda x, row, i, c=c: (c.W_enc @ x + c.b_enc).relu() @ c.W_dec + c.b_dec for m, c in coders.items()}
    agree(losses[0], oracle(neox, rows, outputs))
    for site, one in zip(sites, losses[1:], strict=True):
        agree(one, oracle(neox, rows, {site.module: outputs[site.module]}))


@pytest.mark.parametrize("family", ["neox", "llama"])
@pytest.mark.parametrize("pattern", ["*.layers.0.mlp", "*.layers.1.mlp", "*.layers.0", "*.layers.1"])
def test_running_on_from_a_site_is_running_the_whole_model(request, family, pattern):
    lm, rows = request.getfixturevalue(family), make_rows("evaluate")
    (site,) = resolve_sites(lm, pattern)
    coder = Coder(CoderSpec("sae" if site.kind == "resid" else "transcoder", "topk", 32, 32, False, 16, 16))
    coder.requires_grad_(False)
    for weight in coder.parameters():
        weight.normal_(0, 0.3)
    condition = Condition("coder", {site.module: Baseline("coder")})
    found = measure(lm, rows, {site.module: _bare(site, coder)}, [condition])
    outputs = {site.module: lambda x, row, i: (coder.W_enc @ x + coder.b_enc).relu() @ coder.W_dec + coder.b_dec}
    agree(found[0], oracle(lm, rows, outputs))


def _bare(site, coder) -> SiteMaterial:
    """Material for baselines alone."""
    latents, nothing = coder.spec.latents, np.zeros(0, np.int64)
    curves = Calibration("none", np.zeros((latents, 1), np.float32), np.zeros((latents, 1), np.float32))
    simulation = Simulation(nothing, nothing, np.zeros(0, np.float32), latents, 1, 1, "")
    prediction = Prediction(simulation, curves, curves, np.ones(latents, bool))
    return SiteMaterial(site, coder, prediction, prediction, prediction, np.zeros(latents), np.zeros(latents), (), None)


@pytest.mark.parametrize("rows_per_batch", [1, 16])
def test_a_splice_that_overflows_names_its_document_and_condition(planted, rows_per_batch):
    rows, latent, document = planted.evaluate, 4, 5
    elsewhere = (rows.tokens == latent + 1) & (rows.document != document)[:, None]
    tokens = np.where(elsewhere, latent + 2, rows.tokens)
    tokens[rows.document == document, 1] = latent + 1
    rows = replace(rows, tokens=tokens.astype(np.int32))
    coder = deepcopy(planted.coder)
    coder.W_dec[latent] = torch.finfo(torch.float32).max
    conditions = [Condition(name, {SITE.module: Baseline(name)}) for name in ("zero-output", "coder")]
    told = rf"condition 'coder' at {SITE.module} in document '{rows.keys[document]}' \(evaluate, row \d+; "
    with pytest.raises(ActivationError, match=told):
        measure(planted.lm, rows, {SITE.module: _bare(SITE, coder)}, conditions, rows_per_batch=rows_per_batch)


def test_a_model_whose_own_losses_are_not_finite_is_not_blamed_on_a_condition(planted):
    lm = replace(planted.lm, model=deepcopy(planted.lm.model))
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[3] = torch.inf
    conditions = [Condition("coder", {SITE.module: Baseline("coder")})]
    with pytest.raises(ActivationError, match="the model as it is in document 'evaluate-"):
        measure(lm, planted.evaluate, {SITE.module: _bare(SITE, planted.coder)}, conditions)


def test_joint_conditions_of_one_planted_site_are_its_own(planted):
    material = planted.material(fallible)
    alone = run(planted, material)
    conditions = joint_conditions([material], PLAN)
    losses = measure(planted.lm, planted.evaluate, {SITE.module: material}, conditions)
    for condition, found in zip(conditions, losses, strict=True):
        expected = alone[condition.name, condition.fraction, condition.order, condition.draw]
        np.testing.assert_array_equal(found.nll, expected.nll)
