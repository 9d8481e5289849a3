"""Report: the files of the run, read once more, as one page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from plainspoken.language.counted import agreeing, counted
from plainspoken.pipeline import explanations
from plainspoken.pipeline.asked import latents_by_kind, llm_costs
from plainspoken.pipeline.company import latents_in_prompt
from plainspoken.pipeline.provenance import provenance, speakers
from plainspoken.pipeline.score_table import scores_found
from plainspoken.pipeline.shelves import (
    load_calibration,
    load_log,
    load_scores,
    load_simulation,
    load_statistics,
    load_table,
    scoring_rows,
)
from plainspoken.pipeline.speech import NOT_CHOSEN
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages.evaluate import absent_controls
from plainspoken.pipeline.stages.measure import load_measures
from plainspoken.pipeline.stages.simulate import load_simulations
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report import (
    Activity,
    Card,
    Edit,
    Example,
    FailureKind,
    FailureRow,
    FrontierPoint,
    Interval,
    LatentScore,
    Measured,
    ReportData,
    SiteReport,
    Unanswered,
    choose_examples,
    choose_latents,
    coder_report,
    gate_report,
    interval_of,
    measured_by_site,
    scorer_report,
    write_report,
)
from plainspoken.scorers.simulation import SHOWN
from plainspoken.store import Manifest, read_json
from plainspoken.types import Explanation, Rows

JOINT = "all"
_FACTS = (
    "words_mean", "words_max", "latents", "explained", "not_chosen", "firings", "firings_explained", "mostly_explained",
)  # fmt: skip
EDIT_CONDITIONS = ("rewritten-as-written", "rewritten-without-edit")


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes report.html into the run folder."""
    with workplace.progress.track("writing the report", None):
        data = report_data(workplace)
        write_report(data, workplace.root / "report.html")
    yield Outcome(units[0], {"sites": len(data.sites), "cards": sum(len(site.cards) for site in data.sites)})


def report_data(workplace: Workplace) -> ReportData:
    """Everything on the page, from the run's files alone."""
    results = read_json(workplace.path("evaluate") / "results.json")
    frontier = read_json(workplace.path("frontier") / "frontier.json")["points"]
    measured = measured_by_site(results["conditions"])
    rows = scoring_rows(workplace)
    sites = tuple(
        _site_report(workplace, site.module, rows, measured[site.module], results, frontier) for site in workplace.sites
    )
    joint = None
    if JOINT in measured:
        joint = SiteReport(
            site=JOINT,
            **_facts(results, JOINT),
            conditions=_shown(measured[JOINT]),
            frontier=_frontier(frontier, JOINT),
        )
    warnings = _warnings(workplace, sites, results)
    costs, by = llm_costs(workplace.root), speakers(workplace.config)
    return ReportData(sites, joint, provenance(workplace), warnings, costs, by)


def _site_report(
    workplace: Workplace,
    module: str,
    rows: Rows,
    measured: Sequence[Measured],
    results: Mapping[str, Any],
    frontier: Sequence[Mapping[str, Any]],
) -> SiteReport:
    statistics, _ = load_statistics(workplace, module, "calibrate")
    latents = len(statistics.rate)
    written = explanations.read_explanations(workplace.path("explain", module), latents)
    failures, kinds = _failures(workplace, module, written)
    simulated = Manifest.load(workplace.path("simulate", module) / "manifest.json")
    counts = simulated.counts
    # A manifest of before its failures told the share that they are of has none of these.
    lacking = [failure for failure in simulated.failures if failure.get("share") == "evaluate"]
    scores = _scores(workplace, module, statistics.rate)
    return SiteReport(
        site=module,
        **_facts(results, module),
        conditions=_shown(measured),
        frontier=_frontier(frontier, module),
        scores=scores,
        cards=_cards(workplace, module, rows, scores, written),
        edits=_edits(workplace, module, results["edits"], failures),
        failures=failures,
        coder=coder_report(load_measures(workplace, module), load_log(workplace, module)),
        kinds=kinds,
        unanswered=Unanswered(
            counts.get("evaluate_pairs_unanswered", 0),
            counts.get("evaluate_pairs_asked", 0),
            tuple(FailureKind("simulate", *each) for each in latents_by_kind("simulate", lacking)),
        ),
        discarded=counts.get("evaluate_discarded"),
        gate=gate_report(counts),
        scorers=tuple(map(scorer_report, scores_found(workplace, module))),
        in_prompt=latents_in_prompt(workplace.config),
    )


def _facts(results: Mapping[str, Any], site: str) -> dict[str, Any]:
    """How many latents have an explanation, and of how many words: every record of the site says it."""
    record = next(record for record in results["conditions"] if record["site"] == site)
    return {name: record[name] for name in _FACTS}


def _shown(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """Without the conditions that only tell what edits did."""
    return tuple(m for m in measured if not m.condition.startswith(EDIT_CONDITIONS))


def _scores(workplace: Workplace, module: str, rate: np.ndarray) -> tuple[LatentScore, ...]:
    """Of the latents with a sentence that could be read: of the others nothing was said."""
    scores = load_scores(workplace, module)
    _, texts, _ = load_simulation(workplace.path("simulate", module) / "scoring.safetensors")
    return tuple(
        LatentScore(latent, float(rate[latent]), *(getattr(scores, name).of(latent) for name in SHOWN))
        for latent in np.flatnonzero(texts.any(axis=1)).tolist()
    )


def _cards(
    workplace: Workplace,
    module: str,
    rows: Rows,
    scores: Sequence[LatentScore],
    written: Mapping[int, Explanation],
) -> tuple[Card, ...]:
    each = max(1, workplace.config.report.cards // 3)
    spoken = [score for score in scores if score.latent in written]
    chosen = choose_latents(spoken, rows.token_count, each)
    examples = _examples(workplace, module, rows, [score.latent for _, score in chosen])
    cards = []
    for rank, score in chosen:
        explanation = written[score.latent]
        edited = explanation.explainer == explanations.EDITED
        by = "" if edited else explanation.explainer
        cards.append(Card(rank, score, explanation.text, explanation.words, examples[score.latent], edited, by))
    return tuple(cards)


def _examples(workplace: Workplace, module: str, rows: Rows, latents: Sequence[int]) -> dict[int, tuple[Example, ...]]:
    """Text for the cards: of documents that no explanation was written from, and nothing calibrated on."""
    table = load_table(workplace, module, rows)
    simulation = load_simulations(workplace, module, "scoring")
    calibration = load_calibration(workplace, module)
    found = {}
    for latent in latents:
        said = simulation.latent == latent
        value = calibration.apply(simulation.latent[said], simulation.level[said].astype(np.float32))
        simulated = Activity(simulation.position[said], value, float(calibration.floor[latent]))
        found[latent] = choose_examples(rows, workplace.lm.pieces.table, Activity(*table.latent(latent)), simulated)
    return found


def _edits(
    workplace: Workplace, module: str, effects: Sequence[Mapping[str, Any]], failures: Sequence[FailureRow]
) -> tuple[Edit, ...]:
    problems = {failure.latent: failure.reason for failure in failures if failure.kind is None}
    by_latent = {effect["latent"]: effect for effect in effects if effect["site"] == module}
    found = []
    for edit in explanations.edits(workplace.path("explain", module)):
        # Where there are too many edits to measure each alone, what all of them together did is told of each.
        alone = edit.latent in by_latent
        record = by_latent.get(edit.latent if alone else None)
        effect, lacks = _effect(record), None if record is None else record["withheld"]
        scope = "latent" if alone else "site"
        found.append(Edit(edit.latent, edit.old or "", edit.new, effect, scope, problems.get(edit.latent), lacks))
    return tuple(found)


def _effect(record: Mapping[str, Any] | None) -> Interval | None:
    if record is None or record["effect"] is None:
        return None
    return Interval(record["effect"], record["effect_low"], record["effect_high"])


def _failures(
    workplace: Workplace, module: str, written: Mapping[int, Explanation]
) -> tuple[tuple[FailureRow, ...], tuple[FailureKind, ...]]:
    """Those worth a line each (not the latents that a sample left out), and how many there are of each kind."""
    found, kinds = list[FailureRow](), list[FailureKind]()
    for stage in ("explain", "simulate"):
        manifest = Manifest.load(workplace.path(stage, module) / "manifest.json")
        # A person may have explained what the explainer could not.
        lasting = [record for record in manifest.failures if stage == "simulate" or record["latent"] not in written]
        kinds += [FailureKind(stage, *each) for each in latents_by_kind(stage, lasting)]
        told = [record for record in lasting if record.get("kind") != NOT_CHOSEN]
        found += [_failure(stage, rows, written) for rows in _by_latent(stage, told)]
    return tuple(found), tuple(sorted(kinds, key=lambda kind: -kind.latents))


def _by_latent(stage: str, failures: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The failures that stand in one line: of `simulate` all answers that one latent lacks, of whatever share."""
    found: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for place, record in enumerate(failures):
        lacks = stage == "simulate" and record.get("kind") is not None
        found.setdefault((record["latent"], -1 if lacks else place), []).append(record)
    return list(found.values())


def _failure(stage: str, records: Sequence[Mapping[str, Any]], written: Mapping[int, Explanation]) -> FailureRow:
    first = records[0]
    latent, kind, lacking = first["latent"], first.get("kind"), tuple[tuple[str, str], ...]()
    if stage == "simulate" and kind is not None:
        # A manifest of before its failures told the share that they are of has none of these.
        lacking = tuple((", ".join(filter(None, (r.get("share"), r["kind"]))), r["reason"]) for r in records)
    reason = "; ".join(f"{where}: {why}" for where, why in lacking) or first["reason"]
    text = written[latent].text if latent in written else None
    return FailureRow(latent, stage, reason, first.get("column"), first.get("expected"), text, kind, lacking)


def _frontier(points: Sequence[Mapping[str, Any]], module: str) -> tuple[FrontierPoint, ...]:
    return tuple(
        FrontierPoint(
            point["budget"],
            point["words_mean"],
            recovered,
            interval_of(point, "shuffled"),
            point["coverage"],
            # Points of before these were recorded have none of them.
            point.get("coverage_calibrate"),
            point.get("withheld"),
            point.get("explained"),
            point.get("latents"),
        )
        for point in points
        if point["site"] == module and point["words_mean"] is not None
        if (recovered := interval_of(point, "recovered")) is not None
    )


def _warnings(workplace: Workplace, sites: Sequence[SiteReport], results: Mapping[str, Any]) -> tuple[str, ...]:
    told = list(Manifest.load(workplace.path("corpus") / "manifest.json").counts["warnings"])
    for site in sites:
        broken = [failure for failure in site.failures if failure.stage == "simulate" and failure.kind is None]
        if broken:
            which = ", ".join(str(failure.latent) for failure in broken[:10])
            told.append(
                f"{site.site}: what is said of {counted(len(broken), 'latent')} could not be read; "
                f"{agreeing(len(broken), 'it counts as a failure and is', 'they count as failures and are')} "
                f"put at 0 (latent {which})"
            )
        if site.unanswered is not None and site.unanswered.pairs:
            told.append(_incomplete(site, site.unanswered))
    return (*told, *absent_controls(results))


def _incomplete(site: SiteReport, lacking: Unanswered) -> str:
    kinds = "; ".join(f"{kind.kind}: {counted(kind.latents, 'latent')}" for kind in lacking.kinds)
    why = f" ({kinds})" if kinds else ""
    return (
        f"{site.site}: this rewrite is incomplete. Of {counted(lacking.asked, '(latent, token) pair')} that the "
        f"simulator was asked about on the evaluate documents {lacking.pairs:,} got no answer and "
        f"{agreeing(lacking.pairs, 'is', 'are')} put at 0{why}. --force simulate asks for what lacks, and for "
        "nothing that was answered before."
    )
