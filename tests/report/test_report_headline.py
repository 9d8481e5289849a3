"""The headline claims what the interval allows, with the right sign."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.report import Interval, Measured, Provenance, ReportData, SiteReport, headline

PROVENANCE = Provenance("m", "c", None, 0, "plainspoken run")


def one_site(rewritten: Measured, shuffled: Measured | None = None) -> ReportData:
    rows = (rewritten,) if shuffled is None else (rewritten, shuffled)
    site = SiteReport(rewritten.site, 58.3, 180, 10, 10, rows)
    return ReportData((site,), None, PROVENANCE)


def test_the_sentence_of_the_example(data: ReportData) -> None:
    said = headline(data)
    assert said.sentence == (
        "Rewritten in plain English (mean 58 words a latent), model.layers.2.mlp keeps 71% [68, 74] of what its coder "
        "does; with the explanations shuffled, −40% [−43, −37]."
    )
    assert said.notes[0] == (
        "Loss in nats a token on 127 documents, 31,204 tokens: original 1.924, coder 1.990, rewritten 2.140, latents "
        "zero 2.509."
    )
    assert said.notes[-1] == "9 of 10 latents have an explanation; the others are failures, put at 0."


def test_below_zero_it_is_worse_than_zero(measure: Callable[..., Measured]) -> None:
    said = headline(one_site(measure("rewritten", 2.7, 1.0, "best"))).sentence
    assert "does worse than with every latent at zero: −37% [−40, −34]" in said
    assert "keeps" not in said


def test_an_interval_that_touches_zero_claims_nothing(measure: Callable[..., Measured]) -> None:
    rewritten = measure("rewritten", 2.5, 1.0, "best", recovered=Interval(0.017, -0.02, 0.05))
    assert "which may be nothing: the interval touches zero" in headline(one_site(rewritten)).sentence
    equivalent = headline(one_site(replace(rewritten, equivalent_to_zero=True))).sentence
    assert "equivalent to every latent at zero" in equivalent


def test_without_a_gap_there_is_nothing_to_keep(measure: Callable[..., Measured]) -> None:
    said = headline(one_site(measure("rewritten", 2.5, 1.0, "best", recovered=None))).sentence
    assert "cannot be judged" in said
    assert "%" not in said


def test_a_test_that_shows_nothing_is_said_first(measure: Callable[..., Measured]) -> None:
    notes = headline(one_site(measure("rewritten", 2.1, 1.0, "best", p_beats_zero=0.36))).notes
    assert notes[0].startswith("Better than zero ablation is not shown: p = 0.36")
    notes = headline(one_site(measure("rewritten", 2.1, 1.0, "best", p_beats_zero=2e-5))).notes
    assert notes[-1] == "Better than zero ablation: p < 0.001, paired by document."


def test_what_the_coder_itself_lacks_is_said(data: ReportData) -> None:
    # (2.516 - 1.990) / (2.516 - 1.924)
    assert "Its coder keeps 89% of what the module does, counted from an output of zero." in headline(data).notes


def test_a_single_document_is_owned_to(measure: Callable[..., Measured]) -> None:
    notes = headline(one_site(measure("rewritten", 2.1, 1.0, "best", documents=1))).notes
    assert notes[0].startswith("Measured on a single document")
    notes = headline(one_site(measure("rewritten", 2.1, 1.0, "best", documents=3))).notes
    assert notes[0] == "Measured on 3 documents: intervals over so few are too narrow."


@pytest.mark.parametrize("value", [0.7, -0.3])
def test_without_bounds_nothing_is_claimed(measure: Callable[..., Measured], value: float) -> None:
    share = Interval(value, None, None)
    row = measure("rewritten", 2.1, 1.0, "best", documents=1, recovered=share, over_mean=share)
    said = headline(one_site(row, replace(row, condition="shuffled")))
    assert "[–]" in said.sentence and "how sure that is cannot be told from one document" in said.sentence
    assert "touches zero" not in said.sentence and "worse" not in said.sentence
    assert not any(note.startswith(("Over", "Shuffled")) for note in said.notes)


def test_a_control_that_does_as_well_is_said_first(measure: Callable[..., Measured]) -> None:
    rewritten = measure("rewritten", 2.2, 1.0, "best", over_mean=Interval(0.01, -0.02, 0.04))
    notes = headline(one_site(rewritten, measure("shuffled", 2.21, 1.0, "best"))).notes
    assert notes[0].startswith("Shuffled explanations do about as well")
    assert "no better than a constant is not ruled out" in notes[1]


def test_more_than_the_control_is_judged_by_the_difference_in_the_same_documents(
    measure: Callable[..., Measured],
) -> None:
    """Intervals that overlap may differ surely, and those that do not are not what decides."""
    share, control = (
        Interval(0.30, 0.20, 0.40),
        measure("shuffled", 2.4, 1.0, "best", recovered=Interval(0.25, 0.15, 0.35)),
    )
    for apart, surely in ((Interval(0.05, 0.02, 0.08), True), (Interval(0.05, -0.01, 0.11), False)):
        told = headline(
            one_site(measure("rewritten", 2.35, 1.0, "best", recovered=share, above_shuffled=apart), control)
        )
        assert ("with the explanations shuffled, 25% [15, 35]" in told.sentence) and "keeps 30%" in told.sentence
        assert ("not shown to be more than" in told.sentence) != surely
        assert any(note.startswith("Shuffled explanations do about as well") for note in told.notes) != surely


def test_what_the_test_does_not_show_is_not_claimed(measure: Callable[..., Measured]) -> None:
    said = headline(one_site(measure("rewritten", 2.1, 1.0, "best", p_beats_zero=0.36))).sentence
    assert said.endswith("of what its coder does, not shown to be better than every latent at zero.")


def test_several_sites_are_spoken_of_together(site: SiteReport, measure: Callable[..., Measured]) -> None:
    rows = tuple(replace(row, site="all") for row in site.conditions)
    joint = SiteReport("all", 57.6, 180, 20, 20, rows)
    said = headline(ReportData((site, site), joint, PROVENANCE)).sentence
    assert "(mean 58 words a latent), all 2 sites together keep 71% [68, 74] of what their coders do" in said


def test_without_explanations_there_are_no_words_to_average(measure: Callable[..., Measured]) -> None:
    mute = SiteReport("s", None, None, 10, 0, (measure("rewritten", 2.5, 1.0, "best"),))
    assert "(no latent has an explanation)" in headline(ReportData((mute,), None, PROVENANCE)).sentence


def test_a_run_that_stops_short_says_how_far_it_went(measure: Callable[..., Measured]) -> None:
    assert "(20.0% of the latents, mean 58 words" in headline(one_site(measure("rewritten", 2.0, 0.2, "best"))).sentence


@given(st.floats(-3, 1.5), st.floats(0, 1), st.floats(0, 1))
def test_an_unqualified_claim_needs_a_lower_bound_above_zero(value: float, below: float, above: float) -> None:
    share = Interval(value, value - below, value + above)
    ce = Interval(2.0, 1.9, 2.1)
    row = Measured("s", "rewritten", 1.0, "best", "linear", ce, None, share, None, None, None, 3, 30)
    said = headline(one_site(row)).sentence
    assert ("keeps" in said and "touches zero" not in said) == (share.low > 0)
    assert ("worse than" in said) == (share.high < 0)
    assert ("touches zero" in said) == (share.low <= 0 <= share.high)
