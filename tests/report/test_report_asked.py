"""What the page says of language models: who spoke, what was asked, what is lacking; free English stays text."""

from dataclasses import replace

import pytest

from plainspoken.cli.asked import show_costs
from plainspoken.llm.cost import Cost
from plainspoken.llm.spent import Spent
from plainspoken.report import (
    FailureKind,
    FailureRow,
    Interval,
    ReportData,
    Speaker,
    Speakers,
    Unanswered,
    gate_report,
    headline,
    render_report,
    scorer_report,
)


def covered(data: ReportData, coverage: float | None, withheld: str | None = None) -> ReportData:
    (site,) = data.sites
    rows = tuple(replace(row, coverage=coverage, withheld=withheld, p_beats_zero=1e-4) for row in site.conditions)
    return replace(data, sites=(replace(site, conditions=rows),))


WITHHELD = "withheld: 12.7 % of the pairs got no answer and stand at 0; --force simulate asks for them again"


@pytest.mark.parametrize(
    ("coverage", "said"), [(0.995, "Incomplete: 0.50% of"), (0.99999, "Incomplete: less than 0.01% of")]
)
def test_an_incomplete_rewrite_leads_the_page(data: ReportData, coverage: float, said: str) -> None:
    sentence = headline(covered(data, coverage)).sentence
    assert sentence.startswith(said) and "keeps" in sentence


def test_what_lacks_in_the_calibration_leads_the_page_too(data: ReportData) -> None:
    (site,) = data.sites
    rows = tuple(replace(row, coverage=1.0, calibrated=0.995) for row in site.conditions)
    lacking = replace(data, sites=(replace(site, conditions=rows),))
    assert headline(lacking).sentence.startswith("Incomplete: 0.50% of what it was asked to calibrate by got no answer")
    assert "100.0% answered, 99.5% of those to calibrate on" in render_report(lacking)


def test_below_the_coverage_of_a_verdict_the_page_states_none_and_keeps_its_figures(data: ReportData) -> None:
    told = headline(covered(data, 0.873, WITHHELD))
    assert told.sentence.startswith("Incomplete, verdict withheld: 12.7 % of the pairs got no answer and stand at 0")
    assert (
        "71% [68, 74]" in told.sentence and "−40% [−43, −37]" in told.sentence and "--force simulate" in told.sentence
    )
    claims = ("keeps 71%", "Better than", "do about as well", "equivalent", "worse than", "not ruled out")
    assert not [claim for claim in claims if claim in f"{told.sentence} {' '.join(told.notes)}"]
    page = render_report(covered(data, 0.873, WITHHELD))
    assert page.count("87.3% answered") >= 2 and "answered" not in render_report(data).replace("unanswered", "")


def test_a_control_that_lacks_answers_is_compared_with_nothing(data: ReportData) -> None:
    (site,) = data.sites
    near = replace(
        next(row for row in site.conditions if row.condition == "rewritten"), condition="shuffled", fraction=1.0
    )
    rows = [row for row in site.conditions if row.condition != "shuffled"]
    for lacks, compared in ((None, True), (WITHHELD, False)):
        control = replace(near, withheld=lacks, coverage=0.873 if lacks else 1.0, recovered=Interval(0.7, 0.6, 0.8))
        said = headline(replace(data, sites=(replace(site, conditions=(*rows, control)),)))
        assert ("do about as well" in " ".join(said.notes)) == compared
        assert ("12.7% of the control’s pairs got no answer" in said.sentence) != compared


@pytest.mark.parametrize("coverage", [None, 1.0])
def test_a_whole_one_is_not_called_incomplete(data: ReportData, coverage: float | None) -> None:
    assert "Incomplete" not in headline(covered(data, coverage)).sentence


def test_that_few_latents_have_a_sentence_leads_the_page(data: ReportData) -> None:
    (site,) = data.sites
    few = replace(site, explained=1, latents=20, mostly_explained=False, firings=16.0, firings_explained=0.4)
    assert headline(replace(data, sites=(few,))).sentence.startswith(
        "Only 1 of 20 latents (5.0%, with 2.5% of the firings) has a sentence; the others are put at 0. Rewritten"
    )
    drawn = replace(few, not_chosen=15)
    assert headline(replace(data, sites=(drawn,))).sentence.startswith(
        "A sample: 5 of 20 latents were tried, and 1 (5.0%, with 2.5% of the firings) has a sentence; the others"
    )
    assert "(5.0%)" in headline(replace(data, sites=(replace(few, firings=None),))).sentence
    assert headline(data).sentence.startswith("Rewritten")


def test_latents_without_explanation_are_told_with_their_reasons(data: ReportData) -> None:
    kinds = (
        FailureKind("explain", "refused", 2),
        FailureKind("explain", "not chosen", 5),
        FailureKind("simulate", "server", 3),
    )
    (site,) = data.sites
    said = headline(replace(data, sites=(replace(site, explained=3, kinds=kinds, discarded=0.034),)))
    assert any("(not chosen 5; refused 2), put at 0" in note for note in said.notes), said.notes
    assert any("3.4% went to anything but a level" in note for note in said.notes)
    page = render_report(replace(data, sites=(replace(site, kinds=kinds, unanswered=Unanswered(7, 900)),)))
    assert "Of 900 (latent, token) pairs of the evaluate documents 7 got no answer" in page


def test_a_latent_that_lacks_answers_stands_in_one_line_with_the_shares_of_each_kind(data: ReportData) -> None:
    lacking = (("calibrate, server", "3 pairs got no answer"), ("evaluate, cut prompt", "1 pair got no answer"))
    (site,) = data.sites
    row = FailureRow(7, "simulate", "all of it", kind="server", lacking=lacking)
    page = render_report(replace(data, sites=(replace(site, failures=(row,)),)))
    for where, why in lacking:
        assert f"<div><b>{where}</b>: {why}</div>" in page
    assert "all of it" not in page


@pytest.mark.slow
def test_where_latents_share_a_prompt_an_edit_s_effect_is_said_to_be_of_its_own_levels(data: ReportData) -> None:
    (site,) = data.sites
    told = "latents stood in one prompt of the simulator: the effect of one edit is of its own latent’s levels alone"
    assert f"Up to 20 {told}" in render_report(replace(data, sites=(replace(site, in_prompt=20),)))
    assert told not in render_report(data)
    (edit,) = site.edits
    for other in (replace(edit, effect_scope="site"), replace(edit, effect=None)):
        assert told not in render_report(replace(data, sites=(replace(site, in_prompt=20, edits=(other,)),)))


def test_a_stand_in_is_called_one_before_anything_else_is_said_and_nothing_is_claimed(data: ReportData) -> None:
    speakers = Speakers(Speaker("default", "pocket", "in process"), Speaker("last-token", "pocket", "in process"), True)
    told = headline(replace(covered(data, 1.0), speakers=speakers))
    assert told.sentence.startswith("A trial of the pipeline, not of explanations: a small in-process model stands in")
    assert "71% [68, 74]" in told.sentence and "−40% [−43, −37]" in told.sentence
    claims = ("keeps 71%", "Better than", "do about as well", "not ruled out")
    assert not [claim for claim in claims if claim in f"{told.sentence} {' '.join(told.notes)}"]
    assert told.notes[0] == "Explained by default (pocket, in process), simulated by last-token (pocket, in process)."
    rules = headline(replace(data, speakers=Speakers(Speaker("rules"), Speaker("rules"))))
    assert not any("simulated by" in note for note in rules.notes), "the rules need no introduction"


def test_the_bill_is_on_the_page(data: ReportData) -> None:
    spent = Spent(12, 2, 10, 1_234_567, 1_000_000, 890, 12.5, {"server": 3})
    page = render_report(replace(data, costs=(Cost("simulate", "judge <b>", spent, 2.0, 10.0),)))
    for shown in ("judge &lt;b&gt;", "1,234,567", "1,000,000", "234,567", "890", "2.48", "server 3"):
        assert shown in page
    assert "What was asked of language models" not in render_report(data)
    assert Cost("simulate", "judge", spent).money is None, "where no price is set nothing is free"


def test_what_was_paid_earlier_and_what_nobody_told_stand_beside_the_bill(
    data: ReportData, capsys: pytest.CaptureFixture[str]
) -> None:
    spent = Spent(
        12, 5, 7, 1000, 10, 80, 1.0, earlier_requests=5, earlier_prompt_tokens=4_321, earlier_completion_tokens=99,
        earlier_seconds=2.5, untold=2, cached_untold=3,
    )  # fmt: skip
    cost = Cost("simulate", "judge", spent, 2.0, 10.0)
    page = render_report(replace(data, costs=(cost,)))
    for shown in (
        "5 requests, 4,321 prompt and 99 answer tokens, 2.5 s, 0.01",
        "≥ 1,000",
        "≥ 80",
        "did not tell the tokens of 2",
    ):
        assert shown in page
    assert "of 3 answers the server did not tell all that its prefix cache had" in page
    show_costs([cost])
    told = " ".join(capsys.readouterr().out.split())
    assert "paid earlier (simulate): 5 requests, 4,321 prompt and 99 answer tokens, 2.5 s, cost 0.01" in told
    assert "not told (simulate): the tokens of 2 answers; sums of tokens and the cost are lower bounds" in told
    assert "not told (simulate): all that was cached of 3 answers" in told and "≥1,000" in told
    whole = render_report(replace(data, costs=(Cost("simulate", "judge", Spent(1, 0, 1, 5)),)))
    assert "did not tell" not in whole and "≥ 5" not in whole


def test_free_english_of_any_kind_stays_text_in_its_own_direction(data: ReportData) -> None:
    (site,) = data.sites
    strange = "First line\nsecond \u202e<script>alert(1)</script>\u202c \u05e9\u05dc\u05d5\u05dd " + "x" * 20_000
    card = replace(site.cards[0], text=strange, edited=False, explainer="best_of<i>")
    page = render_report(replace(data, sites=(replace(site, cards=(card,)),)))
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert '<p class="sentence" dir="auto">First line\nsecond' in page
    assert "by best_of&lt;i&gt;" in page
    style = page[page.index("<style>") : page.index("</style>")]
    for rule in ("white-space: pre-line", "overflow-wrap: anywhere", "max-height", "unicode-bidi: isolate"):
        assert rule in style


def test_an_interval_is_still_needed_for_a_claim(data: ReportData) -> None:
    (site,) = data.sites
    rows = tuple(replace(row, coverage=0.995, recovered=Interval(0.0, -1.0, 1.0)) for row in site.conditions)
    said = headline(replace(data, sites=(replace(site, conditions=rows),))).sentence
    assert said.startswith("Incomplete: 0.50%") and "touches zero" in said


@pytest.mark.slow
@pytest.mark.checked
def test_the_gate_is_on_the_page_with_what_it_loses(data: ReportData) -> None:
    gate = {
        "kind": "embedding", "target": 0.99, "latents": 30, "latents_open": 4, "documents_measured_on": 17,
        "recall": 0.9912, "recall_low": 0.985, "recall_high": 0.996, "mass_recall": None, "mass_recall_low": None,
        "mass_recall_high": None,
    }  # fmt: skip
    pairs = {
        f"{part}_pairs_{what}": count for part in ("calibrate", "scoring", "evaluate") for what, count in PAIRS.items()
    }
    (site,) = data.sites
    page = render_report(replace(data, sites=(replace(site, gate=gate_report({"gate": gate, **pairs})),)))
    for shown in (
        "<code>embedding</code>",
        "99.0%",
        '99.1%<span class="range">[98.5, 99.6]</span>',
        "<td>3,702</td>",
        "12,000,000",
        "(99.97%)",
        "4 of 30",
        "17",
    ):
        assert shown in page
    assert "tightened" not in page
    gate["tightened"] = 2
    page = render_report(replace(data, sites=(replace(site, gate=gate_report({"gate": gate, **pairs})),)))
    assert "The thresholds were tightened 2 times" in page and "a little flattered" in page
    assert gate_report(pairs) is None and "The gate" not in render_report(data)


PAIRS = {"asked": 1234, "dropped": 4_000_000}


def scored(**more) -> dict:
    names = ("auprc", "f1", "balanced_accuracy", "correlation")
    figures = {f"{name}{end}": at for name in names for end, at in (("", 0.5), ("_low", 0.25), ("_high", 0.75))}
    return {**figures, **more}


def test_scorers_are_on_the_page_beside_their_control(data: ReportData) -> None:
    record = scored(
        scorer="fuzzing", documents=9, latents=5, examples_asked=100, examples_answered=98, auprc=0.7134,
        control=scored(f1=None), above_control=scored(correlation=0.2, correlation_low=-0.1, correlation_high=0.4),
    )  # fmt: skip
    alone = {**record, "scorer": "intruder", "control": None, "above_control": None}
    (site,) = data.sites
    page = render_report(replace(data, sites=(replace(site, scorers=(scorer_report(record), scorer_report(alone))),)))
    for shown in (
        "<code>fuzzing</code>",
        '0.713<span class="range">[0.250, 0.750]',
        '+0.200<span class="range">[−0.100, +0.400]',
        "2 without an answer",
    ):
        assert shown in page
    assert page.count("own sentence</td>") == 2 and page.count("another latent’s</td>") == 1
    assert "Sentences, scored" not in render_report(data)
