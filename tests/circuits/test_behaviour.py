"""A behaviour: contributions are sums of rows; what is kept, ablated and drawn; neurons in the place of latents."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.profiler import ProfilerActivity, profile

from copied import copies, with_relu
from families_made import FAMILIES, made_coders, made_lm, made_prompt, made_scene, relative
from neurons_oracle import with_neurons
from plainspoken.circuits.adjoint import columns, rows
from plainspoken.circuits.behaviour import Behaviour, difference
from plainspoken.circuits.contributions import latent_contributions, neuron_contributions
from plainspoken.circuits.draws import random_order, random_units
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.keeping import ablated, only_latents, only_neurons
from plainspoken.circuits.targets import ffn_of, logit_targets
from plainspoken.errors import UsageError
from plainspoken.lm.anatomy import anatomy
from plainspoken.lm.hooks import splice

PROMPTS = tuple((0, *made_prompt(t, seed).tolist()) for t, seed in ((6, 0), (9, 1), (6, 2), (4, 3)))
MADE = Behaviour(PROMPTS, (3, 4, 5, 6), (7, 8, 9, 10))


def of_neox(lm, begun=True):
    """A behaviour in the vocabulary of the shared small models."""
    return Behaviour(PROMPTS, (3, 4, 5, 6), (7, 8, 9, 10), begun)


@pytest.fixture(scope="module")
def perfect(neox):
    """A ReLU model in float64 and copies of its FFNs."""
    lm = with_relu(neox, torch.float64)
    return lm, copies(lm)


def test_the_difference_is_that_of_each_prompt_alone(neox):
    found = difference(neox, MADE)
    for i, prompt in enumerate(PROMPTS):
        logits = neox.model(torch.tensor([prompt])).logits[0, -1]
        assert found[i] == pytest.approx(float(logits[MADE.wanted[i]] - logits[MADE.other[i]]), abs=1e-5)
    np.testing.assert_allclose(difference(neox, MADE.some([2, 0])), found[[2, 0]], atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_rows_make_up_the_logit_and_leave_the_ffn_as_it_is(family):
    frozen = made_scene(family).frozen
    neurons = with_neurons(frozen)
    targets = logit_targets(neurons, 8, None, [3, 5])
    logits = frozen.logits[8]
    assert relative(rows(neurons, targets).sum(0) + targets.offset, logits[[3, 5]] - logits.mean()) < 1e-9
    for layer in range(len(frozen.layers)):
        assert relative(ffn_of(neurons, layer), ffn_of(frozen, layer)) < 1e-9
    # What no neuron writes is the FFN's bias: the same at every token, where no norm stands after the FFN.
    error = neurons.layers[0].error
    if frozen.layers[0].ffn_out_factor is None:
        assert float((error - error[0]).abs().max()) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_contribute_what_their_written_vectors_do(family):
    """Held against every neuron's vector at every token, which `neuron_contributions` never forms."""
    lm = made_lm(family)
    found = neuron_contributions(lm, [0, 2], MADE, torch.float64)
    for i, prompt in enumerate(PROMPTS):
        frozen = with_neurons(freeze(lm, {}, prompt, torch.float64))
        direction = torch.zeros(1, len(frozen.anatomy.W_U), dtype=torch.float64)
        direction[0, MADE.wanted[i]], direction[0, MADE.other[i]] = 1, -1
        row = rows(frozen, logit_targets(frozen, len(prompt) - 1, direction))[:, 0]
        for layer in (0, 2):
            units = frozen.layers[layer].latents
            text = units.position > 0
            wanted = torch.zeros(found.value[layer].shape[1], dtype=torch.float64)
            wanted.index_add_(0, units.latent[text], row[columns(frozen).layers[layer].latents][text])
            np.testing.assert_allclose(found.value[layer][i], wanted.numpy(), rtol=1e-9, atol=1e-12)
            np.testing.assert_array_equal(np.flatnonzero(found.fires[layer][i]), units.latent[text].unique().numpy())


def test_no_vector_is_formed_for_every_neuron_and_token():
    """A layer's written vectors are tokens x neurons x d numbers; no tensor that large is ever made."""
    lm = made_lm("gpt2")
    prompt = (0, *made_prompt(11).tolist())
    neurons, d = len(anatomy(lm).layers[0].W_out), lm.d_model
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        neuron_contributions(lm, [0, 2], Behaviour((prompt,), (3,), (7,)))
    largest = max(event.self_cpu_memory_usage for event in seen.events())
    assert 0 < largest < 4 * 12 * neurons * d


@pytest.mark.parametrize("family", FAMILIES)
def test_contributions_are_sums_of_rows_over_the_text(family):
    lm = made_lm(family)
    coders = made_coders(lm)
    found = latent_contributions(lm, coders, MADE, torch.float64)
    assert set(found.value) == {0, 2}
    total, tokens = {0: torch.zeros(48, dtype=torch.float64), 2: torch.zeros(48, dtype=torch.float64)}, 0
    for i, prompt in enumerate(PROMPTS):
        text = torch.arange(len(prompt)) > 0
        frozen, tokens = freeze(lm, coders, prompt, torch.float64, text=text), tokens + len(prompt) - 1
        direction = torch.zeros(1, len(frozen.anatomy.W_U), dtype=torch.float64)
        direction[0, MADE.wanted[i]], direction[0, MADE.other[i]] = 1, -1
        row = rows(frozen, logit_targets(frozen, len(prompt) - 1, direction))[:, 0]
        for layer in (0, 2):
            latents, wanted = frozen.layers[layer].latents, np.zeros(48)
            for j in range(len(latents)):
                at = columns(frozen).layers[layer].latents.start + j
                wanted[int(latents.latent[j])] += float(row[at])
                total[layer][int(latents.latent[j])] += latents.value[j]
            np.testing.assert_allclose(found.value[layer][i], wanted, atol=1e-9)
            np.testing.assert_array_equal(np.flatnonzero(found.fires[layer][i]), latents.latent.unique().numpy())
    for layer in (0, 2):
        assert relative(found.mean[layer], total[layer] / tokens) < 1e-9


def test_the_strongest_are_ordered_by_size_whatever_the_sign_and_silent_ones_come_last(neox):
    lm = made_lm("gpt_neox")
    found = latent_contributions(lm, made_coders(lm), MADE, torch.float64)
    order = found.strongest()
    size = [np.abs(found.of(unit)).mean() for unit in order]
    assert size == sorted(size, reverse=True)
    assert any(found.of(unit).mean() < 0 for unit in order[:20])
    everything = found.everything()
    assert everything[: len(order)] == order and len(set(everything)) == len(everything) == 96
    assert all(not found.fires[layer][:, i].any() for layer, i in everything[len(order) :])


def test_copies_of_relu_ffns_contribute_what_the_neurons_do(perfect):
    lm, coders = perfect
    latents = latent_contributions(lm, coders, MADE, torch.float64)
    neurons = neuron_contributions(lm, [0, 1], MADE, torch.float64)
    for layer in (0, 1):
        np.testing.assert_allclose(latents.value[layer], neurons.value[layer], atol=1e-9)
        np.testing.assert_array_equal(latents.fires[layer], neurons.fires[layer])
        assert relative(latents.mean[layer], neurons.mean[layer]) < 1e-9
    assert latents.strongest() == neurons.strongest()


@pytest.mark.parametrize("begun", [True, False])
def test_with_copies_of_the_ffns_keeping_latents_is_keeping_neurons(perfect, begun):
    lm, coders = perfect
    behaviour = of_neox(lm, begun)
    found = latent_contributions(lm, coders, behaviour, torch.float64)
    original = difference(lm, behaviour)
    order = found.everything()
    for k in (0, 1, 5, 20, len(order)):
        with only_latents(lm, coders, order[:k], found.mean, begun):
            latents = difference(lm, behaviour)
        with only_neurons(lm, order[:k], found.mean, begun):
            neurons = difference(lm, behaviour)
        np.testing.assert_allclose(latents, neurons, atol=1e-9)
        assert (np.abs(latents - original).max() < 1e-9) == (k == len(order))
    np.testing.assert_array_equal(difference(lm, behaviour), original)


def test_ablating_nothing_changes_nothing_and_ablating_all_leaves_error_and_bias(perfect):
    lm, coders = perfect
    original = difference(lm, MADE)
    with ablated(lm, coders, []):
        np.testing.assert_array_equal(difference(lm, MADE), original)
    everything = [(layer, i) for layer, coder in enumerate(coders.values()) for i in range(coder.spec.latents)]

    def bias_alone(coder):
        return lambda x, y: torch.cat([y[:, :1], coder.b_dec.expand_as(y)[:, 1:]], 1)

    with ablated(lm, coders, everything):
        found = difference(lm, MADE)
    with splice(lm, {site: bias_alone(coder) for site, coder in coders.items()}):
        np.testing.assert_allclose(found, difference(lm, MADE), atol=1e-9)
    np.testing.assert_array_equal(difference(lm, MADE), original)


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_an_ablated_latent_is_subtracted_where_it_fires_and_what_the_coder_misses_stays(family):
    lm = made_lm(family)
    coders = made_coders(lm)
    units = latent_contributions(lm, coders, MADE, torch.float64).strongest()[:6]
    sites = dict(zip((0, 2), coders.items(), strict=True))

    def by_hand(layer, coder):
        def replaced(x, y):
            new = y.clone()
            for t in range(1, y.shape[1]):
                z = coder.dense(coder.encode(x[:, t]))
                for _, latent in (unit for unit in units if unit[0] == layer):
                    new[:, t] -= z[:, latent, None] * coder.W_dec[latent]
            return new

        return replaced

    with ablated(lm, coders, units):
        found = difference(lm, MADE)
    with splice(lm, {site: by_hand(layer, coder) for layer, (site, coder) in sites.items()}):
        np.testing.assert_allclose(found, difference(lm, MADE), atol=1e-9)
    assert np.abs(found - difference(lm, MADE)).max() > 1e-6


def test_a_bos_keeps_its_ffn_since_no_coder_knows_it():
    lm = made_lm("gpt_neox")
    coders = made_coders(lm)
    found = latent_contributions(lm, coders, MADE, torch.float64)
    seen = {}

    def see(name):
        return lm.model.get_submodule("gpt_neox.layers.0.mlp").register_forward_hook(
            lambda module, args, y: seen.__setitem__(name, y[:, 0].clone())
        )

    handle = see("original")
    difference(lm, MADE.some([1]))
    handle.remove()
    everything = found.everything()
    neurons = neuron_contributions(lm, [0, 2], MADE, torch.float64)
    contexts = {
        "ablated": ablated(lm, coders, everything),
        "latents": only_latents(lm, coders, [], found.mean),
        "neurons": only_neurons(lm, [], neurons.mean),
    }
    for name, context in contexts.items():
        with context:
            handle = see(name)
            difference(lm, MADE.some([1]))
            handle.remove()
        assert torch.equal(seen[name], seen["original"]), name


def test_kept_latents_fire_and_the_others_stand_at_their_mean():
    lm = made_lm("gpt_neox")
    coders = made_coders(lm)
    found = latent_contributions(lm, coders, MADE, torch.float64)
    kept = found.strongest()[:5]
    sites = dict(zip((0, 2), coders.items(), strict=True))

    def by_hand(layer, coder):
        def replaced(x, y):
            new = y.clone()
            for t in range(1, y.shape[1]):
                z, now = coder.dense(coder.encode(x[:, t])), found.mean[layer].repeat(len(x), 1)
                for _, latent in (unit for unit in kept if unit[0] == layer):
                    now[:, latent] = z[:, latent]
                new[:, t] = now @ coder.W_dec + coder.b_dec + coder.skip(x[:, t])
            return new

        return replaced

    with only_latents(lm, coders, kept, found.mean):
        shown = difference(lm, MADE)
    with splice(lm, {site: by_hand(layer, coder) for layer, (site, coder) in sites.items()}):
        np.testing.assert_allclose(shown, difference(lm, MADE), atol=1e-9)


def test_random_units_are_none_of_the_chosen_of_their_layers_firing_and_seeded():
    generator = np.random.default_rng(0)
    fires = {0: generator.random((20, 60)) < 0.3, 3: generator.random((20, 60)) < np.linspace(0, 0.9, 60)}
    chosen = [(0, 4), (3, 50), (3, 55), (0, 9), (3, 12)]
    for seed in range(30):
        drawn = random_units(fires, chosen, np.random.default_rng(seed))
        assert not set(drawn) & set(chosen) and len(set(drawn)) == len(chosen)
        assert [layer for layer, _ in drawn] == [layer for layer, _ in chosen]
        assert all(fires[layer][:, i].any() for layer, i in drawn)
        assert drawn == random_units(fires, chosen, np.random.default_rng(seed))
        for (layer, i), (_, like) in zip(drawn, chosen, strict=True):
            assert abs(int(fires[layer][:, i].sum()) - int(fires[layer][:, like].sum())) <= 8
    assert len({tuple(random_units(fires, chosen, np.random.default_rng(seed))) for seed in range(30)}) > 20


def test_of_units_that_fire_equally_often_every_one_may_be_drawn():
    fires = {0: np.ones((5, 60), bool)}
    drawn = [random_units(fires, [(0, 7), (0, 30)], np.random.default_rng(seed)) for seed in range(400)]
    counts = np.bincount([number for each in drawn for _, number in each], minlength=60)
    assert counts[[7, 30]].sum() == 0 and np.delete(counts, [7, 30]).min() > 0
    assert stats.chisquare(np.delete(counts, [7, 30])).pvalue > 1e-4


def test_where_a_layer_has_no_more_that_fire_fewer_are_drawn():
    fires = {0: np.array([[True, True, True, False, False]])}
    assert random_units(fires, [(0, 0), (0, 1)], np.random.default_rng(0)) == [(0, 2)]


def test_a_random_order_has_as_many_of_each_layer_at_every_beginning():
    order = [(i % 3, i) for i in range(30)] + [(0, 40), (0, 41)]
    drawn = random_order(order, np.random.default_rng(1))
    assert sorted(drawn) == sorted(order) and drawn != order
    assert [layer for layer, _ in drawn] == [layer for layer, _ in order]
    assert drawn == random_order(order, np.random.default_rng(1))


@pytest.mark.parametrize("units", [[(1, 0)], [(0, 48)], [(0, -1)]])
def test_units_that_there_are_not_are_told(units):
    lm = made_lm("gpt_neox")
    coders = made_coders(lm)
    rest = latent_contributions(lm, coders, MADE.some([0]), torch.float64).mean
    with pytest.raises(UsageError, match=f"{units[0][1]}"), ablated(lm, coders, units):
        pass
    with pytest.raises(UsageError, match="latent"), only_latents(lm, coders, units, rest):
        pass
    neurons = neuron_contributions(lm, [0, 2], MADE.some([0]), torch.float64).mean
    units = [(layer, 99 if i > 0 else i) for layer, i in units]
    with pytest.raises(UsageError, match="neuron"), only_neurons(lm, units, neurons):
        pass


def test_a_behaviour_has_prompts_with_text_and_two_tokens_each():
    with pytest.raises(UsageError, match="at least one prompt"):
        Behaviour((), (), ())
    with pytest.raises(UsageError, match="1 prompts, 2 wanted"):
        Behaviour(((0, 1),), (1, 2), (3,))
    with pytest.raises(UsageError, match="prompt 1 of the behaviour has no text"):
        Behaviour(((0, 1), (0,)), (1, 1), (2, 2))
