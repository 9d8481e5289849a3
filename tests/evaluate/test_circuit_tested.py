"""A circuit put to the test: kept whole it is the model; ablated, it stands beside random latents; it is drawn."""

import numpy as np
import pytest
import torch

from copied import copies, with_relu
from families_made import made_prompt
from plainspoken.circuits.behaviour import Behaviour, difference
from plainspoken.circuits.contributions import find
from plainspoken.circuits.keeping import ablated
from plainspoken.errors import UsageError
from plainspoken.evaluate.ablation import ablation, random_draws
from plainspoken.evaluate.kept import conditions_of, kept, numbers_of
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
    np.testing.assert_allclose(curves.latents.random[:, [0, -1]] - curves.latents.strongest[[0, -1]], 0, atol=1e-4)
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


def test_a_control_needs_a_draw(scene):
    with pytest.raises(UsageError, match="at least one draw"):
        random_draws(scene[2], [], 0, 0)


@pytest.mark.parametrize(
    ("units", "numbers"), [(1, (0, 1)), (2, (0, 1, 2)), (6, (0, 1, 2, 4, 6)), (8, (0, 1, 2, 4, 8))]
)
def test_numbers_kept_double_up_to_all(units, numbers):
    assert numbers_of(units) == numbers
