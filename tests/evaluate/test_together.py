"""All FFNs replaced at once: nothing lost by copies of them; the same as splicing by hand; each alone beside."""

import pytest
import torch

from copied import copies, with_relu
from plainspoken.activations import stream
from plainspoken.coders import Coder, CoderSpec
from plainspoken.corpus import spread
from plainspoken.evaluate.coder_measures import coder_record, measure_coder
from plainspoken.evaluate.together import CONDITIONS, measure_together, passes
from plainspoken.lm import resolve_sites
from plainspoken.lm.hooks import splice
from plainspoken.lm.loss import token_nll
from planted import make_rows, own_words


@pytest.fixture(scope="module")
def rows(neox):
    """What the model itself says: any harm to it is harm to its loss there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return own_words(neox, spread(make_rows("calibrate", documents=12), 90))


def test_copies_of_the_ffns_leave_the_model_as_it_is(neox, rows):
    lm = with_relu(neox)
    record = measure_together(lm, copies(lm), rows).record(50, 0)
    for each in (record["together"], *record["alone"].values()):
        assert each["ce_coders"] == pytest.approx(each["ce_original"], abs=1e-5)
        assert each["kl_coders"] == pytest.approx(0, abs=1e-5)
    assert record["together"]["kl_zero"] > 1e-3 and record["together"]["kl_mean"] > 1e-3


def test_losses_are_those_of_splicing_all_sites_by_hand(neox, rows):
    coders = _random(neox)
    record = measure_together(neox, coders, rows, rows_per_batch=3).record(50, 0)["together"]
    text, mask = torch.from_numpy(rows.tokens), torch.from_numpy(rows.mask)
    means = _means(neox, coders, rows)
    ways = {
        "coders": lambda site, x, y: coders[site](x.flatten(0, 1)).view_as(y),
        "zero": lambda site, x, y: torch.zeros_like(y),
        "mean": lambda site, x, y: means[site].expand_as(y),
    }

    def spliced(site, output):
        return lambda x, y: torch.where(mask[:, :, None], output(site, x, y), y)

    for name, output in ways.items():
        with torch.no_grad(), splice(neox, {site: spliced(site, output) for site in coders}):
            loss = float(token_nll(neox, text, mask).double().sum() / mask[:, 1:].sum())
        assert record[f"ce_{name}"] == pytest.approx(loss, rel=1e-5)
    for base in ("zero", "mean"):
        gap = record[f"ce_{base}"] - record["ce_original"]
        assert record[f"recovered_{base}"] == pytest.approx(1 - record["increase"] / gap, rel=1e-6)


def test_a_site_alone_has_the_figures_of_its_coder_alone(neox, rows):
    coders = _random(neox)
    alone = measure_together(neox, coders, rows).record(50, 0)["alone"]
    for site, coder in coders.items():
        single = coder_record(measure_coder(neox, site, coder, rows), 50, 0)
        for ours, theirs in (("ce_coders", "ce_spliced"), ("kl_coders", "kl"), ("ce_zero", "ce_zero"), *(
            (name, name) for name in ("ce_mean", "increase", "recovered_zero", "recovered_mean")
        )):  # fmt: skip
            for bound in ("", "_low", "_high"):
                assert alone[site.module][ours + bound] == approximately(single[theirs + bound])


def test_a_single_site_is_not_measured_twice_and_the_figures_are_those_of_the_seed(neox, rows):
    coders = dict([next(iter(_random(neox).items()))])
    done = []
    found = measure_together(neox, coders, rows, progress=done.append)
    assert found.alone == {} and sum(done) == passes(1) * len(rows.tokens)
    assert set(found.together.losses) == set(CONDITIONS)
    first, again = (found.record(200, 0) for _ in range(2))
    assert first == again != found.record(200, 1)
    together = first["together"]
    assert together["ce_coders_low"] < together["ce_coders"] < together["ce_coders_high"]


def test_progress_goes_through_every_pass(neox, rows):
    done = []
    measure_together(neox, _random(neox), rows, progress=done.append)
    assert sum(done) == passes(2) * len(rows.tokens)


def approximately(value):
    """None is None: an ablation that does no harm in a draw has no share recovered."""
    return None if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)


def _random(lm):
    """Random transcoders at both FFNs."""
    found = {}
    for site in resolve_sites(lm, "gpt_neox.layers.*.mlp"):
        coder = Coder(CoderSpec("transcoder", "topk", 20, 4, False, site.d_in, site.d_out)).requires_grad_(False)
        for parameter in coder.parameters():
            parameter.normal_(0, 0.3)
        found[site] = coder
    return found


def _means(lm, coders, rows):
    """Each FFN's mean output in the model as it is."""
    found = {site: [] for site in coders}
    for batches in stream(lm, list(coders), rows):
        for site in coders:
            batch = batches[site.module]
            found[site].append(batch.y[batch.mask])
    return {site: torch.cat(each).double().mean(0).float() for site, each in found.items()}
