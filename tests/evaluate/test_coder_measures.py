"""Measures of a coder: the laws of a perfect, a silent and a constant one; equality with slow oracles."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from plainspoken.activations import stream
from plainspoken.coders import Coder, CoderSpec
from plainspoken.corpus.rows import spread
from plainspoken.evaluate import coder_record, measure_coder
from plainspoken.evaluate.coder_measures import PASSES, Resampled, density
from plainspoken.evaluate.reconstruction import reconstruct
from plainspoken.lm import resolve_sites
from plainspoken.lm.hooks import splice
from plainspoken.lm.loss import token_nll
from plainspoken.types import Site
from planted import LATENTS, SITE, fires, make_rows, own_words

OUTPUT = Site(SITE.module, "resid", SITE.d_out, SITE.d_out)


def copying(width: int) -> Coder:
    """An SAE that loses nothing: a latent for each side of each coordinate."""
    coder = Coder(CoderSpec("sae", "relu", 2 * width, None, False, width, width)).requires_grad_(False)
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    coder.W_enc[:], coder.W_dec[:] = both, both
    return coder


def constant(y: np.ndarray) -> Coder:
    """A coder that puts out y whatever it reads."""
    coder = Coder(CoderSpec("transcoder", "topk", 4, 2, False, SITE.d_in, len(y))).requires_grad_(False)
    coder.b_dec[:] = torch.from_numpy(y)
    return coder


def vectors(lm, site, rows):
    """(x, y, document) at every token of the text, all of them at once."""
    x, y, document = [], [], []
    for batches in stream(lm, [site], rows):
        batch = batches[site.module]
        x.append(batch.x[batch.mask])
        y.append(batch.y[batch.mask])
        owner = rows.document[batch.first_row : batch.first_row + len(batch.tokens)]
        document.append(np.repeat(owner, batch.mask.sum(1).numpy()))
    return torch.cat(x), torch.cat(y), np.concatenate(document)


def test_a_perfect_coder_leaves_nothing_unexplained_and_the_model_as_it_is(planted):
    rows = own_words(planted.lm, planted.calibrate)
    record = coder_record(measure_coder(planted.lm, OUTPUT, copying(OUTPUT.d_out), rows), 50, 0)
    assert record["fvu"] == pytest.approx(0, abs=1e-12)
    assert record["ce_spliced"] == pytest.approx(record["ce_original"], abs=1e-6)
    assert record["kl"] == pytest.approx(0, abs=1e-6)
    for name in ("recovered_zero", "recovered_mean"):
        assert record[name] == pytest.approx(1, abs=1e-5)
    assert record["l0"] == pytest.approx(OUTPUT.d_out)  # one side of every coordinate
    assert record["dead"] < 0.5


def test_a_coder_that_says_only_the_mean_has_fvu_1_and_recovers_nothing_over_it(planted):
    rows = own_words(planted.lm, planted.calibrate)
    _, y, _ = vectors(planted.lm, SITE, rows)
    coder = constant(y.double().mean(0).float().numpy())
    record = coder_record(measure_coder(planted.lm, SITE, coder, rows), 50, 0)
    assert record["fvu"] == pytest.approx(1, abs=1e-6)
    assert record["recovered_mean"] == pytest.approx(0, abs=1e-4)
    assert record["ce_spliced"] == pytest.approx(record["ce_mean"], abs=1e-6)
    assert (record["dead"], record["l0"]) == (1, 0)
    assert record["density"]["silent"] == 4 and sum(record["density"]["latents"]) == 0


def test_a_coder_that_says_nothing_is_the_site_at_zero(planted):
    coder = constant(np.zeros(SITE.d_out, np.float32))
    record = coder_record(measure_coder(planted.lm, SITE, coder, own_words(planted.lm, planted.calibrate)), 50, 0)
    assert record["ce_spliced"] == record["ce_zero"] > record["ce_original"]
    assert record["recovered_zero"] == 0


@pytest.mark.parametrize("batch_rows", [1, 5, 100])
def test_fvu_is_the_two_pass_formula_whatever_the_batches_and_no_mean_of_their_ratios(planted_skip, batch_rows):
    lm, coder, rows = planted_skip.lm, planted_skip.coder, planted_skip.calibrate
    x, y, document = vectors(lm, SITE, rows)
    error = (y.double() - coder(x).double()).square().sum(1)
    spread_ = (y.double() - y.double().mean(0)).square().sum(1)
    found = reconstruct(lm, SITE, coder, rows, batch_rows=batch_rows)
    once = np.ones((1, len(rows.keys)))
    assert found.fvu(once)[0] == pytest.approx(float(error.sum() / spread_.sum()), rel=1e-9)
    np.testing.assert_allclose(found.mean, y.double().mean(0).numpy(), atol=1e-9)
    ratios = [
        float(error[some].sum() / (y[some].double() - y[some].double().mean(0)).square().sum())
        for some in torch.arange(len(x)).split(50)
    ]
    assert abs(np.mean(ratios) - found.fvu(once)[0]) > 1e-3
    drawn = np.random.default_rng(0).multinomial(len(rows.keys), np.full(len(rows.keys), 1 / len(rows.keys)))
    again = torch.from_numpy(np.repeat(np.arange(len(x)), drawn[document]))
    oracle = error[again].sum() / (y[again].double() - y[again].double().mean(0)).square().sum()
    assert found.fvu(drawn[None].astype(float))[0] == pytest.approx(float(oracle), rel=1e-9)


def test_firings_are_those_that_are_known(planted):
    found = reconstruct(planted.lm, SITE, planted.coder, planted.calibrate)
    known = fires(planted.calibrate)
    np.testing.assert_array_equal(found.firings, known.sum(axis=(0, 1)))
    assert found.l0(np.ones((1, len(planted.calibrate.keys))))[0] == known.sum() / planted.calibrate.token_count
    assert found.dead == 4 / LATENTS
    shown = density(found.rate, planted.calibrate.token_count)
    assert sum(shown["latents"]) + shown["silent"] == LATENTS and shown["silent"] == 4
    low, high = shown["log10_rate"][0], shown["log10_rate"][-1]
    assert 10**low <= 1 / planted.calibrate.token_count and high == 0
    assert len(shown["log10_rate"]) == len(shown["latents"]) + 1


def test_losses_are_those_of_splicing_by_hand(planted_skip):
    lm, coder, rows = planted_skip.lm, planted_skip.coder, own_words(planted_skip.lm, planted_skip.calibrate)
    record = coder_record(measure_coder(lm, SITE, coder, rows), 50, 0)
    _, y, _ = vectors(lm, SITE, rows)
    mean = y.double().mean(0).float()
    text, mask = torch.from_numpy(rows.tokens), torch.from_numpy(rows.mask)

    def loss(output) -> float:
        def replaced(x, y):
            return torch.where(mask[:, :, None], output(x.flatten(0, 1)).view_as(y), y)

        with torch.no_grad(), splice(lm, {SITE: replaced}):
            return float(token_nll(lm, text, mask).double().sum() / mask[:, 1:].sum())

    ways = {
        "ce_spliced": coder,
        "ce_zero": lambda x: torch.zeros(len(x), SITE.d_out),
        "ce_mean": lambda x: mean.expand(len(x), -1),
    }
    for name, output in ways.items():
        assert record[name] == pytest.approx(loss(output), rel=1e-5)
    original = float(token_nll(lm, text, mask).double().sum() / mask[:, 1:].sum())
    assert record["ce_original"] == pytest.approx(original, rel=1e-5)
    for base in ("zero", "mean"):
        expected = 1 - (record["ce_spliced"] - original) / (record[f"ce_{base}"] - original)
        assert record[f"recovered_{base}"] == pytest.approx(expected, rel=1e-3)


def test_every_mean_has_an_interval_around_it_and_progress_goes_through_every_pass(planted):
    done = []
    measured = measure_coder(planted.lm, SITE, planted.coder, planted.calibrate, progress=done.append)
    assert sum(done) == PASSES * len(planted.calibrate.tokens)
    record = coder_record(measured, 400, 0)
    for name in ("fvu", "l0", "ce_original", "ce_spliced", "ce_zero", "ce_mean", "increase", "kl"):
        assert record[f"{name}_low"] < record[name] < record[f"{name}_high"]
    assert record == coder_record(measured, 400, 0)


def test_one_document_has_figures_and_no_bounds(planted):
    rows = planted.calibrate
    one = replace(rows, tokens=rows.tokens[:1], mask=rows.mask[:1], document=rows.document[:1])
    record = coder_record(measure_coder(planted.lm, SITE, planted.coder, one), 50, 0)
    assert record["documents"] == 1
    for name in ("fvu", "l0", "ce_original", "ce_spliced", "ce_zero", "ce_mean", "increase", "kl"):
        assert np.isfinite(record[name])
        assert (record[f"{name}_low"], record[f"{name}_high"]) == (None, None)


def test_the_same_coder_twice_differs_by_nothing_in_any_draw(planted):
    one, other = (Resampled(measure_coder(planted.lm, SITE, planted.coder, planted.calibrate), 50, 0) for _ in range(2))
    np.testing.assert_array_equal(one.increase, other.increase)
    np.testing.assert_array_equal(one.fvu, other.fvu)


def test_documents_without_rows_are_no_documents(planted):
    rows = planted.calibrate
    some = rows.document < 10
    cut = replace(rows, tokens=rows.tokens[some], mask=rows.mask[some], document=rows.document[some])
    whole = replace(cut, keys=rows.keys[:10])
    found, expected = (coder_record(measure_coder(planted.lm, SITE, planted.coder, r), 50, 0) for r in (cut, whole))
    assert found.pop("density") == expected.pop("density")
    assert found == pytest.approx(expected) and found["documents"] == 10


@pytest.mark.parametrize("family", ["neox", "llama"])
def test_a_decoder_layer_is_measured_alike(request, family):
    lm = request.getfixturevalue(family)
    (site,) = resolve_sites(lm, "*.layers.0")
    record = coder_record(measure_coder(lm, site, copying(site.d_out), make_rows("calibrate")), 20, 0)
    assert record["fvu"] == pytest.approx(0, abs=1e-10)
    assert record["kl"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("tokens", [1, 40, 200, 10**6])
def test_rows_that_are_spread_are_as_many_as_fit_from_as_many_documents_as_there_are(tokens):
    rows = make_rows("calibrate", documents=12)
    some = spread(rows, tokens)
    assert len(some.tokens) == 1 or some.token_count <= tokens
    assert len(some.tokens) == len(rows.tokens) or some.token_count > tokens - rows.tokens.shape[1]
    assert (np.diff(some.document) >= 0).all()
    if len(set(some.document)) < 12:  # no document is read twice before every one is read once
        assert len(set(some.document)) == len(some.document)
