"""The evaluation as a whole on the planted model: records, cache, edits, the joint rewrite."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from plainspoken.coders import Coder, CoderSpec
from plainspoken.config import EvaluateConfig
from plainspoken.errors import LeakError, StoreError
from plainspoken.evaluate import ALL_SITES, Plan, SiteFacts, evaluate, site_conditions, units
from plainspoken.evaluate.conditions import first_latents
from plainspoken.evaluate.results import COVERED
from plainspoken.lm import resolve_sites
from plainspoken.rewrite import SiteMaterial, gather
from plainspoken.types import Simulation
from planted import LATENTS, SITE, Planted, fallible, fires, make_rows, maximum, perfect, scored, table_of

CONFIG = EvaluateConfig(fractions=(0.5, 1.0), draws=2, bootstrap=100, rows_per_batch=32)
FACTS = {SITE.module: SiteFacts(words_mean=7.5, words_max=12, latents=LATENTS, explained=LATENTS, failures=0)}


def run(planted: Planted, material: SiteMaterial, config: EvaluateConfig = CONFIG, **options):
    return evaluate(planted.lm, planted.evaluate, [material], config, FACTS, seed=0, **options)


def pick(results, condition, fraction=None, order=None, site=SITE.module):
    (found,) = [
        record
        for record in results["conditions"]
        if (record["condition"], record["fraction"], record["site"]) == (condition, fraction, site)
        and (order is None or record["order"] == order)
    ]
    return found


def test_every_condition_of_the_protocol_is_measured():
    fractions, orders = EvaluateConfig().fractions, EvaluateConfig().orders
    assert fractions == (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    plan = Plan(fractions, orders, 5, "all", 0)
    found = [(c.name, c.fraction, c.order, c.draw) for c in site_conditions(_material(), plan)]
    assert len(found) == len(set(found))
    expected = {(name, None, None, 0) for name in ("original", "coder", "zero-output", "zero-latents", "mean-latents")}
    for name in ("rewritten", "shuffled", "oracle-support", "oracle-magnitude"):
        expected |= {(name, fraction, "best", 0) for fraction in fractions}
        expected |= {(name, fraction, order, 0) for fraction in fractions[:-1] for order in ("mass", "random")}
    expected |= {("rewritten", f, "random", draw) for f in fractions[:-1] for draw in range(5)}
    assert set(found) == expected | {("shuffled-refit", 1.0, "best", 0)}


def _material(latents: int = 50) -> SiteMaterial:
    """Material of which only what orders the latents matters."""
    from plainspoken.calibrators import Calibration
    from plainspoken.rewrite import Prediction
    from plainspoken.types import Simulation

    coder = Coder(CoderSpec("transcoder", "topk", latents, 3, False, 16, 16)).requires_grad_(False)
    coder.W_dec.normal_()
    nothing, rng = np.zeros(0, np.int64), np.random.default_rng(0)
    flat = Calibration("none", np.zeros((latents, 1), np.float32), np.zeros((latents, 1), np.float32))
    simulation = Simulation(nothing, nothing, np.zeros(0, np.float32), latents, 1, 1, "")
    prediction = Prediction(simulation, flat, flat, np.arange(latents) >= 5)
    score = np.where(np.arange(latents) % 7 == 0, -np.inf, rng.random(latents))
    return SiteMaterial(SITE, coder, prediction, prediction, prediction, rng.random(latents), score, (), None)


def test_orders_take_the_latents_they_say_and_fractions_are_nested():
    material = _material()
    for order in ("best", "mass", "random"):
        sizes = [first_latents(material, order, f, 0, 0) for f in (0.0, 0.001, 0.3, 0.9, 1.0)]
        assert [int(chosen.sum()) for chosen in sizes] == [0, 1, 15, 45, 50]
        assert all((small <= large).all() for small, large in pairwise(sizes))
    best = first_latents(material, "best", 0.3, 0, 0)
    rest = material.explained & ~best
    assert best[material.explained].sum() == 15 and material.score[best].min() >= material.score[rest].max()
    assert not first_latents(material, "best", 0.9, 0, 0)[~material.explained].any()  # what has no sentence comes last
    mass = material.mean * material.coder.W_dec.double().norm(dim=1).numpy()
    heavy = first_latents(material, "mass", 0.3, 0, 0)
    assert mass[heavy].min() > mass[~heavy].max()
    draws = [first_latents(material, "random", 0.3, 0, draw) for draw in (0, 0, 1)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()


def test_records_hold_what_is_promised(planted):
    planted = replace(planted, evaluate=make_rows("evaluate", documents=150))  # enough for every interval to be defined
    results = run(planted, planted.material(fallible, "conditional_mean"))
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    keys = {
        "site", "condition", "fraction", "order", "calibrator", "ce", "ce_low", "ce_high", "recovered",
        "recovered_low", "recovered_high", "recovered_over_mean", "kl", "top1", "documents", "tokens", "words_mean",
        "words_max", "latents", "explained", "failures", "increase", "draws", "p_beats_zero", "equivalent_to_zero",
    }  # fmt: skip
    for record in results["conditions"]:
        assert keys <= record.keys()
        assert record["ce_low"] <= record["ce"] <= record["ce_high"]
        assert record["tokens"] == planted.evaluate.token_count and record["documents"] == 150
    original, coder, zero = (pick(results, name) for name in ("original", "coder", "zero-latents"))
    assert (original["kl"], original["top1"], original["increase"]) == (0, 1, 0)
    assert (coder["recovered"], coder["recovered_low"], coder["recovered_high"]) == (1, 1, 1)
    assert (zero["recovered"], zero["recovered_low"], zero["recovered_high"]) == (0, 0, 0)
    assert pick(results, "mean-latents")["recovered_over_mean"] == 0
    whole = [pick(results, "rewritten", 1.0, order) for order in ("best", "random", "mass")]
    assert all({**record, "order": None} == {**whole[0], "order": None} for record in whole)
    assert whole[0]["calibrator"] == "conditional_mean" and coder["calibrator"] is None
    assert pick(results, "rewritten", 0.5, "random")["draws"] == 2


def test_one_document_has_figures_and_neither_bounds_nor_tests(planted):
    planted = replace(planted, evaluate=make_rows("evaluate", documents=1))
    results = run(planted, planted.material(fallible))
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    for record in results["conditions"]:
        assert record["documents"] == 1 and record["ce"] > 0
        assert {record[name] for name in record if name.endswith(("_low", "_high"))} == {None}
        assert record["p_beats_zero"] is record["p_beats_mean"] is record["equivalent_to_zero"] is None


def test_random_orders_are_averaged_over_their_draws(planted):
    material = planted.material(fallible)
    one, two = (run(planted, material, replace(CONFIG, draws=draws)) for draws in (1, 2))
    plan = Plan((0.5,), ("random",), 2, "all", 0)
    conditions = [c for c in site_conditions(material, plan) if c.name == "rewritten"]
    from plainspoken.evaluate import measure

    losses = measure(planted.lm, planted.evaluate, {SITE.module: material}, conditions)
    means = [loss.nll.sum() / loss.tokens.sum() for loss in losses]
    assert pick(one, "rewritten", 0.5, "random")["ce"] == pytest.approx(means[0])
    assert pick(two, "rewritten", 0.5, "random")["ce"] == pytest.approx(np.mean(means))


def test_claims_are_tested_and_corrected(planted):
    good, bad = (run(planted, planted.material(how)) for how in (perfect, lambda rows: 0.0 * fires(rows)))
    record = pick(good, "rewritten", 1.0, "best")
    for test in record["tests"].values():
        assert test["p_better"] <= test["p_better_holm"] and test["p_equivalent"] <= test["p_equivalent_holm"]
    assert record["p_beats_zero"] == max(
        record["tests"][zero]["p_better_holm"] for zero in ("zero-latents", "zero-output")
    )
    assert pick(bad, "rewritten", 1.0, "best")["p_beats_zero"] == 1
    assert pick(bad, "rewritten", 1.0, "best")["equivalent_to_zero"] is True
    assert pick(good, "original")["tests"] is None


def lacking(planted: Planted, share: float, how=perfect, **more) -> SiteMaterial:
    """Material of which so large a share of the pairs at evaluate tokens got no answer, silent ones alone."""
    material = planted.material(how, **more)
    simulation, rows = material.prediction.simulation, planted.evaluate
    silent = np.ones((rows.tokens.size, LATENTS), bool)
    silent[simulation.position, simulation.latent] = False
    silent &= rows.mask.ravel()[:, None]
    pairs = np.argwhere(silent)
    count = int(np.ceil(share * rows.mask.sum() * LATENTS))
    gap = pairs[np.sort(np.random.default_rng(0).choice(len(pairs), count, replace=False))]
    incomplete = replace(material.prediction, simulation=simulation.with_missing(*gap.T))
    return replace(material, prediction=incomplete)


def test_below_the_coverage_that_a_verdict_needs_none_is_stated_and_the_figures_stay(planted):
    whole, few, many = (run(planted, lacking(planted, share)) for share in (0.0, 0.5 * (1 - COVERED), 0.2))
    for results in (few, many):
        assert json.loads(json.dumps(results, allow_nan=False)) == results
    for name, order in (("rewritten", "best"), ("oracle-support", "best"), ("oracle-magnitude", "best")):
        sure, enough, short = (pick(results, name, 1.0, order) for results in (whole, few, many))
        assert sure["withheld"] is None and sure["coverage"] == 1
        assert enough["withheld"] is None and COVERED <= enough["coverage"] < 1 and enough["p_beats_zero"] is not None
        assert short["coverage"] == pytest.approx(0.8, abs=0.01)
        assert short["withheld"].startswith("withheld: 20.0 % of the pairs got no answer")
        assert "--force simulate" in short["withheld"]
        assert short["p_beats_zero"] is short["p_beats_mean"] is short["equivalent_to_zero"] is None
        for test in short["tests"].values():
            assert {test[p] for p in test if p.startswith("p_")} == {None} and test["difference"] is not None
        for figure in ("ce", "kl", "top1"):
            assert short[figure] is not None and short[f"{figure}_low"] is not None
    # The control got all its answers, and what is corrected for is what it was.
    assert pick(many, "shuffled", 1.0, "best")["withheld"] is None
    assert pick(many, "shuffled", 1.0, "best")["tests"] == pick(whole, "shuffled", 1.0, "best")["tests"]
    assert pick(many, "coder")["withheld"] is None


def test_answers_that_calibrate_are_needed_for_a_verdict_too(planted):
    """Curves fitted to nothing are flat at the mean: the rewrite would be mean-latents, and pass for one in words."""
    spoken, rows = planted.spoken(perfect), planted.calibrate
    silent = np.stack(np.nonzero(~(perfect(rows) > 0).reshape(-1, LATENTS) & rows.mask.reshape(-1, 1)))
    several = np.arange(silent.shape[1]) % 5 == 0
    every = np.stack(np.nonzero(np.repeat(rows.mask.reshape(-1, 1), LATENTS, 1)))
    none = np.zeros(0, np.int64)
    bare = spoken.calibrate.with_entries(none, none, np.zeros(0, np.float32))
    for calibrate in (spoken.calibrate.with_missing(*silent[:, several]), bare.with_missing(*every)):
        material = gather(
            SITE, planted.coder, replace(spoken, calibrate=calibrate), table_of(rows), maximum(),
            calibrator="conditional_mean", seed=0, score=scored(perfect),
        )  # fmt: skip
        lost = len(calibrate.missing_position) / (rows.token_count * LATENTS)
        results = run(planted, material)
        for name in ("rewritten", "shuffled", "shuffled-refit"):
            record = pick(results, name, 1.0, "best")
            assert record["coverage"] == 1 and record["coverage_calibrate"] == pytest.approx(1 - lost)
            assert record["withheld"].startswith(f"withheld: {100 * lost:.1f} % of the pairs to calibrate on got no")
            assert record["p_beats_zero"] is record["p_beats_mean"] is record["equivalent_to_zero"] is None


def test_what_learns_nothing_from_the_calibrate_part_needs_no_answers_there(planted):
    """The calibrator `none` looks at the maximum alone, and an oracle of where to fire at no curve: by either the
    figures are the same without one answer there, and so is the verdict. What learns there is withheld beside them."""
    spoken, rows = planted.spoken(fallible), planted.calibrate
    every = np.stack(np.nonzero(np.repeat(rows.mask.reshape(-1, 1), LATENTS, 1)))
    none = np.zeros(0, np.int64)
    unanswered = spoken.calibrate.with_entries(none, none, np.zeros(0, np.float32)).with_missing(*every)

    def results(calibrate: Simulation, calibrator: str, also: str):
        material = gather(
            SITE, planted.coder, replace(spoken, calibrate=calibrate), table_of(rows), maximum(),
            calibrator=calibrator, seed=0, also=(also,), score=scored(fallible),
        )  # fmt: skip
        return run(planted, material)

    learns, by_learned = ("rewritten", "shuffled", "shuffled-refit", "oracle-support"), "rewritten:conditional_mean"
    answered, bare = (results(each, "none", "conditional_mean") for each in (spoken.calibrate, unanswered))
    for name in (*learns, "oracle-magnitude"):
        record = pick(bare, name, 1.0, "best")
        assert record["coverage"] == 1 and record["coverage_calibrate"] is None and record["withheld"] is None
        assert record["p_beats_zero"] is not None
        assert record["ce"] == pick(answered, name, 1.0, "best")["ce"]
    assert pick(bare, by_learned, 1.0, "best")["withheld"].startswith("withheld: 100.0 % of the pairs to calibrate")
    learned = results(unanswered, "conditional_mean", "none")
    for name in learns:
        assert pick(learned, name, 1.0, "best")["withheld"] is not None
    for name in ("oracle-magnitude", "rewritten:none"):
        record = pick(learned, name, 1.0, "best")
        assert record["coverage_calibrate"] is None and record["withheld"] is None
    # What is rewritten itself has to be answered whatever the calibrator.
    short = run(planted, lacking(planted, 0.2))
    assert pick(short, "rewritten", 1.0, "best")["withheld"].startswith("withheld: 20.0 % of the pairs got no answer")


def test_a_partial_fraction_has_a_coverage_of_its_own_and_of_all_its_draws(planted):
    material, rows = planted.material(fallible), planted.evaluate
    at = np.flatnonzero(rows.mask)
    simulation = material.prediction.simulation
    heard = set(zip(simulation.position.tolist(), simulation.latent.tolist(), strict=True))
    gap = np.array([(p, latent) for p in at.tolist() for latent in range(12) if (p, latent) not in heard])
    material = replace(material, prediction=replace(material.prediction, simulation=simulation.with_missing(*gap.T)))
    results = run(planted, material)
    for order in ("best", "mass", "random"):
        told = []
        for draw in range(2 if order == "random" else 1):
            chosen = first_latents(material, order, 0.5, 0, draw)
            told.append(1 - chosen[gap[:, 1]].sum() / (chosen.sum() * len(at)))
        assert pick(results, "rewritten", 0.5, order)["coverage"] == pytest.approx(np.mean(told))


def test_what_is_rewritten_is_above_its_control_by_the_difference_in_the_same_documents(planted):
    planted = replace(planted, evaluate=make_rows("evaluate", documents=150))
    material = planted.material(fallible, "conditional_mean")
    results = run(planted, material)
    for fraction, order in ((1.0, "best"), (0.5, "best"), (0.5, "mass")):
        mine, control = (pick(results, name, fraction, order) for name in ("rewritten", "shuffled"))
        assert mine["above_shuffled"] == pytest.approx(mine["recovered"] - control["recovered"])
        assert mine["above_shuffled_low"] < mine["above_shuffled"] < mine["above_shuffled_high"]
        assert control["above_shuffled"] is None
    assert pick(results, "rewritten", 0.5, "random")["above_shuffled"] is None, "of other latents than the control's"
    same = run(planted, replace(material, shuffled=material.prediction))
    record = pick(same, "rewritten", 1.0, "best")
    assert record["above_shuffled"] == record["above_shuffled_low"] == record["above_shuffled_high"] == 0
    alone = run(planted, replace(material, shuffled=None, refitted=None))
    assert pick(alone, "rewritten", 1.0, "best")["above_shuffled"] is None


def test_an_edit_s_effect_is_no_finding_where_answers_lack(planted):
    as_written = planted.spoken(lambda rows: fallible(rows, seed=1))
    for share, verdict in ((0.0, True), (0.2, False)):
        material = lacking(planted, share, edited=(2,), as_written=as_written)
        (edit, both) = run(planted, material)["edits"]
        for record in (edit, both):
            assert record["effect"] is not None and (record["p"] is not None) == verdict
            assert (record["withheld"] is None) == verdict


def test_one_seed_gives_one_result(planted):
    material = planted.material(fallible)
    assert run(planted, material) == run(planted, material)


@dataclass
class Counted:
    """Progress that remembers: the first call tells what was found in the cache."""

    calls: list[int]

    def __call__(self, done: int) -> None:
        self.calls.append(done)


def test_what_is_cached_is_not_measured_again_and_an_edit_only_where_it_has_a_part(planted, tmp_path):
    material, rows = planted.material(fallible, "quantile"), len(planted.evaluate.tokens)
    fresh, again, edited = (Counted([]) for _ in range(3))
    first = run(planted, material, cache=tmp_path, progress=fresh)
    total = units(planted.evaluate, [material], CONFIG, seed=0)
    assert sum(fresh.calls) == total
    assert run(planted, material, cache=tmp_path, progress=again) == first
    assert again.calls == [total]

    def changed(rows):
        """Another sentence for latent 0: what was said of it now stands one token later."""
        moved = np.roll(fallible(rows), 1, axis=1) * rows.mask[:, :, None]
        return np.where(np.arange(LATENTS) == 0, moved, fallible(rows))

    after = planted.material(changed, "quantile")
    results = run(planted, after, cache=tmp_path, progress=edited)
    assert results == run(planted, after)
    plan = Plan(CONFIG.fractions, CONFIG.orders, CONFIG.draws, "all", 0)
    pairs = zip(site_conditions(material, plan), site_conditions(after, plan), strict=True)
    touched = [new.name for old, new in pairs if _differ(old, new)]
    assert {"rewritten", "shuffled", "oracle-support", "shuffled-refit"} <= set(touched)
    assert "coder" not in touched and touched.count("rewritten") < 2 + 2 * CONFIG.draws
    assert edited.calls[0] == total - len(touched) * rows


def _differ(old, new) -> bool:
    """Whether two conditions choose other latents, or latents of which something else is said."""
    old, new = old.treatments.get(SITE.module), new.treatments.get(SITE.module)
    if not hasattr(new, "chosen"):
        return False
    probe = (np.arange(len(make_rows("evaluate").tokens)), make_rows("evaluate").mask)
    said = [
        torch.stack([m.prediction.values(*probe), m.prediction.values(*probe, sizes=True)])[:, :, m.chosen]
        for m in (old, new)
    ]
    return bool((old.chosen != new.chosen).any()) or not torch.equal(*said)


def test_a_broken_cache_is_named(planted, tmp_path):
    material = planted.material(fallible)
    run(planted, material, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"mlp\.safetensors"):
        run(planted, material, cache=tmp_path)


def test_rows_of_another_part_are_refused(planted):
    with pytest.raises(LeakError, match="calibrate"):
        evaluate(planted.lm, planted.calibrate, [planted.material(fallible)], CONFIG, FACTS, seed=0)


def test_edits_are_measured_each_alone_and_together(planted):
    def worse(rows):
        level = perfect(rows)
        level[:, :, 3] = 9 * rows.mask  # says that it fires everywhere
        level[:, :, 4] = 0
        return level

    material = planted.material(worse, edited=(3, 4), as_written=planted.spoken(perfect))
    results = run(planted, material)
    effects = {effect["latent"]: effect for effect in results["edits"]}
    assert set(effects) == {None, 3, 4}
    rewritten, before = pick(results, "rewritten", 1.0, "best"), pick(results, "rewritten-as-written", 1.0)
    assert effects[None]["effect"] == pytest.approx(rewritten["ce"] - before["ce"])
    assert effects[None]["effect_low"] <= effects[None]["effect"] <= effects[None]["effect_high"]
    assert before["ce"] == pick(results, "coder")["ce"]
    for latent in (3, 4):
        alone = pick(results, f"rewritten-without-edit:{latent}", 1.0)
        assert effects[latent]["effect"] == pytest.approx(rewritten["ce"] - alone["ce"])
    undone = planted.material(lambda rows: np.where(np.arange(LATENTS) == 3, perfect(rows), worse(rows)))
    whole = pick(run(planted, undone), "rewritten", 1.0, "best")
    assert pick(results, "rewritten-without-edit:3", 1.0)["ce"] == pytest.approx(whole["ce"], rel=1e-9)


def test_everything_rewritten_is_measured_whichever_fractions_are_asked_for(planted):
    material = planted.material(fallible, edited=(3,), as_written=planted.spoken(perfect))
    asked, less = (run(planted, material, replace(CONFIG, fractions=f)) for f in ((0.5, 1.0), (0.5,)))
    assert less == asked
    assert {effect["latent"] for effect in less["edits"]} == {None, 3}


def test_several_sites_are_also_rewritten_together(neox):
    rows, materials, facts = make_rows("evaluate"), [], {}
    for site in resolve_sites(neox, "gpt_neox.layers.*.mlp"):
        coder = Coder(CoderSpec("transcoder", "topk", LATENTS, 8, False, 16, 16)).requires_grad_(False)
        for weight in coder.parameters():
            weight.normal_(0, 0.2)
        materials.append(_at(site, coder))
        facts[site.module] = SiteFacts(10.0 + len(facts), 20, LATENTS, 10 + 10 * len(facts), 1)
    results = evaluate(neox, rows, materials, CONFIG, facts, seed=0)
    sites = [record["site"] for record in results["conditions"]]
    assert set(sites) == {*facts, ALL_SITES}
    joint = [r for r in results["conditions"] if r["site"] == ALL_SITES]
    # Together they are put to the same test as each alone; single edits are an affair of their site.
    ways = {
        site: {(r["condition"], r["fraction"], r["order"]) for r in results["conditions"] if r["site"] == site}
        for site in (*facts, ALL_SITES)
    }
    for site in facts:
        assert {way for way in ways[site] ^ ways[ALL_SITES] if "edit" not in way[0]} == set()
    assert joint[0]["latents"] == 2 * LATENTS and joint[0]["failures"] == 2
    assert joint[0]["words_mean"] == pytest.approx((10 * 10 + 11 * 20) / 30)
    alone = [pick(results, "original", site=site)["ce"] for site in (*facts, ALL_SITES)]
    assert alone == pytest.approx([alone[0]] * 3)


def test_without_two_explanations_there_is_no_shuffled_control(planted, neox):
    def names(results):
        return {r["condition"] for r in results["conditions"]}

    alone = np.arange(LATENTS) == 4
    results = run(planted, planted.material(fallible, explained=alone))
    assert names(results) == names(run(planted, planted.material(fallible))) - {"shuffled", "shuffled-refit"}
    assert pick(results, "rewritten", 1.0, "best")["tests"]
    sites, materials = resolve_sites(neox, "gpt_neox.layers.*.mlp"), []
    for site, explained in zip(sites, (alone, ~alone), strict=True):
        coder = Coder(CoderSpec("transcoder", "topk", LATENTS, 8, False, 16, 16)).requires_grad_(False)
        materials.append(_at(site, coder, explained))
    facts = {site.module: FACTS[SITE.module] for site in sites}
    both = evaluate(neox, make_rows("evaluate"), materials, CONFIG, facts, seed=0)
    shuffled = {r["site"] for r in both["conditions"] if r["condition"].startswith("shuffled")}
    assert shuffled == {sites[1].module}  # together, one site would keep its own explanation


def _at(site, coder, explained: np.ndarray | None = None) -> SiteMaterial:
    """The planted explanations at any site: what they predict need not be true there."""
    from plainspoken.rewrite import Spoken, gather
    from planted import make_simulation, scored, table_of

    explained = np.ones(LATENTS, bool) if explained is None else explained
    parts = [
        make_simulation(make_rows(part), fallible(make_rows(part)) * explained) for part in ("calibrate", "evaluate")
    ]
    spoken = Spoken(*parts, explained)
    return gather(
        site, coder, spoken, table_of(make_rows("calibrate")), maximum(), calibrator="conditional_mean", seed=0,
        score=scored(fallible),
    )  # fmt: skip


def test_facts_are_of_the_latents_that_have_an_explanation_and_an_empty_mean_is_none():
    one, none = SiteFacts.of([3, 5, 10], 4), SiteFacts.of([], 4)
    assert one == SiteFacts(6.0, 10, 4, 3, 1)
    assert none == SiteFacts(None, None, 4, 0, 4)
    assert SiteFacts.together([one, none]) == SiteFacts(6.0, 10, 8, 3, 5)
    assert SiteFacts.together([none, none]) == SiteFacts(None, None, 8, 0, 8)
    here = replace(one, not_chosen=1, firings=4.0, firings_explained=1.0)
    there = replace(none, not_chosen=2, firings=2.0, firings_explained=0.5)
    both = SiteFacts.together([here, there])
    assert (both.not_chosen, both.firings, both.firings_explained) == (3, 6.0, 1.5)
    assert SiteFacts.together([here, none]).firings is None, "not known of one, so not of both"


def test_the_paper_protocol_measures_one_token_a_row(planted):
    results = run(planted, planted.material(fallible), replace(CONFIG, positions="last", keep="top-k"))
    rows = planted.evaluate
    assert pick(results, "original")["tokens"] == (rows.mask.sum(axis=1) >= 2).sum()
    assert results["settings"]["positions"] == "last" and results["settings"]["keep"] == "top-k"


def test_a_model_on_which_the_coder_wins_nothing_has_no_share_recovered(planted):
    material = planted.material(fallible)
    with torch.no_grad():
        useless = Coder(material.coder.spec).requires_grad_(False)
    results = run(planted, replace(material, coder=useless))
    record = pick(results, "rewritten", 1.0, "best")
    assert record["recovered"] is None and record["recovered_low"] is None
    assert record["ce"] > 0
