"""A circuit put to the test: kept whole it is the model; ablated, it stands beside random latents; it is drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from copied import copies, with_relu
from families_made import made_prompt
from plainspoken.circuits.behaviour import Behaviour, difference
from plainspoken.circuits.contributions import find
from plainspoken.circuits.keeping import ablated
from plainspoken.errors import UsageError
from plainspoken.evaluate.ablation import Ablation, ablation, apart, random_draws
from plainspoken.evaluate.kept import Curve, Kept, conditions_of, kept, kept_points, numbers_of
from plainspoken.report.figures import kept_picture

PROMPTS = tuple((0, *made_prompt(5 + seed % 3, seed).tolist()) for seed in range(12))
ALL = Behaviour(PROMPTS, (3,) * 12, (7,) * 12)
FINDING, TELLING = ALL.some(range(6)), ALL.some(range(6, 12))


@pytest.fixture(scope="module")
def scene(neox):
    """A ReLU model, copies of its FFNs, and what was found on the first half of the prompts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = with_relu(neox)
        coders = copies(lm)
    return lm, coders, find(lm, coders, FINDING)


def test_with_copies_of_the_ffns_the_curves_of_latents_and_neurons_are_one_and_end_at_the_model(scene):
    lm, coders, found = scene
    done = []
    curves = kept(lm, coders, TELLING, found, draws=2, seed=0, progress=done.append)
    assert sum(done) == conditions_of(found, 2)
    np.testing.assert_allclose(curves.latents.strongest, curves.neurons.strongest, atol=1e-4)
    np.testing.assert_allclose(curves.latents.strongest[-1], difference(lm, TELLING), atol=1e-4)
    np.testing.assert_array_equal(curves.latents.random[:, 0], np.tile(curves.latents.strongest[0], (2, 1)))
    assert np.abs(curves.latents.random[0, 3] - curves.latents.strongest[3]).max() > 1e-3
    record = curves.record(100, 0)
    assert [point["kept"] for point in record["latents"]["strongest"]] == list(numbers_of(32 * 2))
    assert record["coders"] == pytest.approx(record["original"], abs=1e-4)
    assert all(point["difference"] == pytest.approx(0, abs=1e-4) for point in record["apart"])
    gap = record["original"] - record["mean_ablated"]
    for point in record["latents"]["random"]:
        share = None if gap <= 0 else pytest.approx((point["difference"] - record["mean_ablated"]) / gap, abs=1e-6)
        assert point["recovered"] == share
        assert point["difference_low"] <= point["difference"] <= point["difference_high"]
    assert record == kept(lm, coders, TELLING, found, draws=2, seed=0).record(100, 0)
    assert "strongest latents" in kept_picture(record, "a-kept").wide


def test_the_change_is_paired_by_prompt_and_draws_stand_apart(scene):
    lm, coders, found = scene
    latents = found.latents.strongest()[:4]
    drawn = random_draws(found, latents, 5, seed=0)
    measured = ablation(lm, coders, TELLING, latents, drawn)
    record = measured.record(200, 0)
    original = difference(lm, TELLING)
    with ablated(lm, coders, latents):
        assert record["change"] == pytest.approx((difference(lm, TELLING) - original).mean())
    for units, change in zip(drawn, record["draws"], strict=True):
        assert not set(units) & set(latents)
        with ablated(lm, coders, units):
            assert change == pytest.approx((difference(lm, TELLING) - original).mean())
    assert record["change_random"] == pytest.approx(np.mean(record["draws"]))
    assert record["over_random"] == pytest.approx(record["change"] - record["change_random"])
    # Paired: narrower than with the spread between prompts, which all conditions share, counted twice.
    assert record["change_low"] <= record["change"] <= record["change_high"]
    nothing = ablation(lm, coders, TELLING, [], [[]]).record(200, 0)
    assert (nothing["change"], nothing["change_low"], nothing["change_high"]) == (0, 0, 0)


def made_up(original, without, random):
    return Ablation(((0, 1),), tuple(((0, 2 + i),) for i in range(len(random))), original, without, random)


def test_intervals_of_random_latents_know_that_other_draws_come_out_otherwise():
    """Of prompts that are all alike only draws are resampled; of both, both; how others lie is not known of one."""
    generator = np.random.default_rng(0)
    values, prompts = generator.normal(size=20), generator.normal(size=50)
    alike = made_up(np.zeros(50), np.full(50, -3.0), np.repeat(values[:, None], 50, axis=1)).record(4000, 1)
    assert (alike["change_low"], alike["change_high"]) == (-3, -3)
    low, high = stats.norm.interval(0.95, values.mean(), values.std() / np.sqrt(20))
    assert alike["change_random"] == pytest.approx(values.mean())
    assert alike["change_random_low"] == pytest.approx(low, abs=0.06)
    assert alike["change_random_high"] == pytest.approx(high, abs=0.06)
    assert alike["over_random_high"] == pytest.approx(-3 - alike["change_random_low"])
    one = made_up(np.zeros(50), prompts, prompts[None]).record(1000, 1)
    assert one["change_random"] == pytest.approx(one["change"]) and one["change_low"] < one["change_high"]
    assert one["over_random"] == pytest.approx(0) and one["over_random_low"] is None is one["change_random_high"]
    twice = made_up(np.zeros(50), prompts, np.stack([prompts, prompts])).record(1000, 1)
    assert (twice["over_random_low"], twice["over_random_high"]) == pytest.approx((0, 0), abs=1e-12), "paired by prompt"
    both = made_up(np.zeros(50), prompts, values[:, None] + prompts).record(4000, 1)
    width = both["change_random_high"] - both["change_random_low"]
    assert width == pytest.approx(3.92 * np.sqrt(values.var() / 20 + prompts.var() / 50), rel=0.08)


def of_orders(random):
    """Curves of one latent and one neuron of two; random orders as given at one kept, [draws prompts]."""
    prompts = random.shape[1]
    floor, original = np.zeros(prompts), np.full(prompts, 2.0)
    line = np.stack([floor, original, original])
    curve = Curve((0, 1, 2), line, np.stack([np.zeros_like(random), random], 1))
    return Kept(original, original, curve, curve)


def test_intervals_of_random_orders_know_that_other_orders_come_out_otherwise():
    generator = np.random.default_rng(2)
    values, prompts = generator.normal(size=20), generator.normal(size=50)
    told = of_orders(np.repeat(values[:, None], 50, axis=1)).record(4000, 1)["neurons"]["random"][1]
    low, high = stats.norm.interval(0.95, values.mean(), values.std() / np.sqrt(20))
    assert told["difference"] == pytest.approx(values.mean())
    assert (told["difference_low"], told["difference_high"]) == pytest.approx((low, high), abs=0.06)
    for end in ("", "_low", "_high"):
        assert told[f"recovered{end}"] == pytest.approx(told[f"difference{end}"] / 2)
    both = of_orders(values[:, None] + prompts).record(4000, 1)["latents"]["random"][1]
    width = both["difference_high"] - both["difference_low"]
    assert width == pytest.approx(3.92 * np.sqrt(values.var() / 20 + prompts.var() / 50), rel=0.08)


def test_of_one_random_order_no_interval_is_told():
    told = of_orders(np.random.default_rng(3).normal(size=(1, 50))).record(100, 1)["latents"]["random"][1]
    assert told["difference"] is not None and told["difference_low"] is None is told["recovered_high"]


def test_no_random_units_are_told_where_the_strongest_are_all_that_fire(scene):
    """From there on a random order keeps the very units that the strongest line keeps."""
    lm, coders, found = scene
    silenced = dict(found.latents.fires)
    silenced[0] = silenced[0].copy()
    silenced[0][:, 5:] = False  # as if most of a layer never fired on the finding prompts
    latents = replace(found.latents, fires=silenced)
    firing = len(latents.strongest())
    record = kept(lm, coders, TELLING, replace(found, latents=latents), draws=3, seed=0).record(100, 0)
    some = [number for number in numbers_of(64) if number < firing]
    assert [point["kept"] for point in record["latents"]["random"]] == some != list(numbers_of(64))
    for number, (strongest, _, random, _) in kept_points(record):
        assert strongest is not None and (random is None) == (number >= firing)
        assert random is None or number == 0 or random["difference"] != strongest["difference"]


def test_apart_is_the_difference_prompt_by_prompt_and_draw_by_draw():
    generator = np.random.default_rng(1)
    first, second = (made_up(*generator.normal(size=(2, 30)), generator.normal(size=(4, 30))) for _ in range(2))
    less = made_up(first.original - second.original, first.without - second.without, first.random - second.random)
    record = less.record(300, 5)
    found = apart(first, second, 300, 5)
    assert found and all(record[name] == value for name, value in found.items())
    assert set(apart(first, first, 300, 5).values()) == {0.0}


def test_a_control_of_fewer_latents_than_the_circuit_has_is_refused(scene):
    found = scene[2]
    everything = found.latents.strongest()
    with pytest.raises(UsageError, match="too few for a control of as many"):
        random_draws(found, everything[: len(everything) // 2 + 3], 2, 0)


def test_a_control_needs_a_draw(scene):
    with pytest.raises(UsageError, match="at least one draw"):
        random_draws(scene[2], [], 0, 0)


@pytest.mark.parametrize(
    ("units", "numbers"), [(1, (0, 1)), (2, (0, 1, 2)), (6, (0, 1, 2, 4, 6)), (8, (0, 1, 2, 4, 8))]
)
def test_numbers_kept_double_up_to_all(units, numbers):
    assert numbers_of(units) == numbers
