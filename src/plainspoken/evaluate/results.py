"""The records of `evaluate/results.json`: every condition with its intervals and its tests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from plainspoken.evaluate.conditions import LADDERS, Condition, Order
from plainspoken.evaluate.facts import SiteFacts
from plainspoken.evaluate.losses import DocumentLosses
from plainspoken.evaluate.statistics import (
    LEVEL,
    PairedDifference,
    holm,
    paired_difference,
    recovered,
    samples,
    with_interval,
)
from plainspoken.rewrite import Coverage, Mixture

BASELINES = ("zero-latents", "zero-output", "mean-latents")
# What the claims are about: conditions in which explanations have a part.
_TESTED = ("rewritten", "shuffled", "shuffled-refit", "oracle-support", "oracle-magnitude")
COVERED = 0.99
"""The share of the pairs answered below which no verdict is stated of a condition.

What got no answer is put at 0, and taught the calibration nothing, of which intervals and tests over documents know
nothing: they tell of the rewrite with these gaps. A hundredth of the pairs is as much of the firings as a gate may lose
by default (`simulate.gate_recall`).
"""


@dataclass(frozen=True, eq=False)
class Measured:
    """A site's conditions (or those of all sites together) and their losses, random orders still draw by draw.

    `spliced`: the tokens at which a treatment stands.
    """

    site: str
    conditions: Sequence[Condition]
    losses: Sequence[DocumentLosses]
    orders: tuple[Order, ...]
    spliced: Bool[np.ndarray, "rows t"]


@dataclass(frozen=True)
class Analysis:
    """How surely: `bootstrap` draws of documents, `margin` of equivalence in nats a token, the seed of the draws."""

    bootstrap: int
    margin: float
    seed: int


@dataclass(frozen=True, eq=False)
class _Row:
    """One condition, its draws averaged: the first stands for all. Losses: of documents with a token measured."""

    drawn: Sequence[Condition]
    losses: DocumentLosses

    @property
    def condition(self) -> Condition:
        """The first draw."""
        return self.drawn[0]

    @property
    def draws(self) -> int:
        """How many there are."""
        return len(self.drawn)

    @property
    def place(self) -> tuple[str, float | None, str | None]:
        """Name, fraction, order: no two rows of a part have the same."""
        return self.condition.name, self.condition.fraction, self.condition.order


def records(parts: Sequence[Measured], facts: Mapping[str, SiteFacts], analysis: Analysis) -> list[dict[str, Any]]:
    """One record a condition, in the order measured; with every latent replaced, one for each order.

    p values are corrected (Holm) over all tests of one kind in the list: the conditions in which explanations have a
    part, against each of the three baselines. Below `COVERED` a record says `withheld` in the place of its verdicts;
    its tests are corrected for all the same, so that those of the others do not hang on who got answers.
    """
    found = [(part, row) for part in parts for row in _rows(part)]
    tested = [
        (i, baseline) for i, (_, row) in enumerate(found) if row.condition.kind in _TESTED for baseline in BASELINES
    ]
    tables = {part.site: _Table(part, analysis) for part in parts}
    differences = [tables[found[i][0].site].against(found[i][1], baseline) for i, baseline in tested]
    better = holm([difference.p_below() for difference in differences])
    alike = holm([difference.p_within(analysis.margin) for difference in differences])
    tests: dict[int, dict[str, Any]] = {}
    for (i, baseline), difference, p, q in zip(tested, differences, better, alike, strict=True):
        tests.setdefault(i, {})[baseline] = _test(difference, p, q, analysis.margin)
    out = []
    for i, (part, row) in enumerate(found):
        record = tables[part.site].record(row)
        record |= (
            _verdict(tests.get(i), withheld(record["coverage"], record["coverage_calibrate"]))
            | facts[part.site].record()
        )
        several = row.condition.kind in LADDERS and row.condition.fraction == 1
        out += [record | {"order": order} for order in part.orders] if several else [record]
    return out


def edit_effects(parts: Sequence[Measured], analysis: Analysis) -> list[dict[str, Any]]:
    """What people's edits did to the loss: rewritten minus the same without the edit, below 0 where it helped.

    `latent` None: all edits of the site (or of all sites) together. p: two-sided, not corrected; None where it is
    `withheld`, since one of the two lacks answers.
    """
    out = []
    for part in parts:
        rows = {(row.condition.name, row.condition.fraction): row for row in _rows(part)}
        table, whole = _Table(part, analysis), rows.get(("rewritten", 1.0))
        for (name, _), row in rows.items():
            kind, _, latent = name.partition(":")
            if whole is None or kind not in ("rewritten-as-written", "rewritten-without-edit"):
                continue
            difference = paired_difference(whole.losses.nll, row.losses.nll, row.losses.tokens)
            ends = difference.p_below(), difference.p_above()
            lacks = next((why for each in (whole, row) if (why := withheld(*table.coverages(each)))), None)
            p = None if None in ends or lacks else min(1.0, *(2 * end for end in ends if end is not None))
            out.append(
                {"site": part.site, "latent": int(latent) if latent else None, "withheld": lacks}
                | with_interval("effect", table.ce(whole) - table.ce(row))
                | {"p": p}
            )
    return out


def withheld(coverage: float | None, calibrated: float | None) -> str | None:
    """What stands in the place of a verdict where fewer than `COVERED` of the pairs were answered; None where not.

    `calibrated`: of those of the calibrate part, which the calibration was to learn from. Either is enough.
    """
    lacks = []
    if coverage is not None and coverage < COVERED:
        lacks.append(f"{_lacking(coverage)} of the pairs got no answer and stand at 0")
    if calibrated is not None and calibrated < COVERED:
        lacks.append(f"{_lacking(calibrated)} of the pairs to calibrate on got no answer, and taught nothing")
    if not lacks:
        return None
    mend = "--force simulate asks for them again, and for nothing that was answered"
    return f"withheld: {'; '.join(lacks)}; {mend}"


def _lacking(share: float) -> str:
    return f"{100 * (1 - share):.1f} %"


class _Table:
    """One part's losses resampled by document: the same documents for every condition.

    Figures are arrays [1 + draws]: the estimate itself, every document once, and then its bootstrap values.
    """

    def __init__(self, part: Measured, analysis: Analysis) -> None:
        self._part = part
        every = list(_rows(part))
        self._rows = {row.condition.name: row for row in every if row.condition.fraction is None}
        self._controls = {row.place[1:]: row for row in every if row.condition.name == "shuffled"}
        tokens = self._rows["original"].losses.tokens
        self._counts = samples(len(tokens), analysis.bootstrap, analysis.seed)
        self._tokens = self._counts @ tokens
        self._base = {name: self.ce(row) for name, row in self._rows.items()}

    def ce(self, row: _Row) -> Float[np.ndarray, " values"]:
        """Cross-entropy, nats a token."""
        return self._per_token(row.losses.nll)

    def against(self, row: _Row, baseline: str) -> PairedDifference:
        """The condition minus a baseline."""
        return paired_difference(row.losses.nll, self._rows[baseline].losses.nll, row.losses.tokens)

    def record(self, row: _Row) -> dict[str, Any]:
        """The figures of one condition."""
        condition, losses, base, ce = row.condition, row.losses, self._base, self.ce(row)
        mixtures = [treatment for treatment in condition.treatments.values() if isinstance(treatment, Mixture)]
        calibrators = dict.fromkeys(mixture.prediction.calibration.name for mixture in mixtures)
        out: dict[str, Any] = {
            "site": self._part.site,
            "condition": condition.name,
            "fraction": condition.fraction,
            "order": condition.order,
            "draws": row.draws,
            "calibrator": ", ".join(calibrators) or None,
        }
        out |= dict(zip(("coverage", "coverage_calibrate"), self.coverages(row), strict=True))
        out |= with_interval("ce", ce)
        out |= with_interval("increase", ce - base["original"])
        out |= with_interval("recovered", recovered(base["zero-latents"], base["coder"], ce))
        out |= with_interval("recovered_over_output", recovered(base["zero-output"], base["coder"], ce))
        out |= with_interval("recovered_over_mean", recovered(base["mean-latents"], base["coder"], ce))
        out |= with_interval("above_shuffled", self._above_shuffled(row))
        out |= with_interval("kl", self._per_token(losses.kl))
        out |= with_interval("top1", self._per_token(losses.agreed))
        return out | {"documents": len(losses.tokens), "tokens": int(losses.tokens.sum())}

    def coverages(self, row: _Row) -> tuple[float | None, float | None]:
        """The shares of the (latent, token) pairs asked about that were answered, over all draws: rewritten, calibrate.

        The second is of what the calibration was to learn from, where there is one that learned and that has a part: an
        oracle of where to fire takes the true activation there.
        """
        told = [t for drawn in row.drawn for t in drawn.treatments.values() if isinstance(t, Mixture)]
        rewritten = (t.prediction.coverage(self._part.spliced, t.chosen) for t in told)
        calibrated = (t.prediction.calibrated(t.chosen) for t in told if t.mode != "magnitude")
        return sum(rewritten, Coverage(0, 0)).share, sum(calibrated, Coverage(0, 0)).share

    def _above_shuffled(self, row: _Row) -> Float[np.ndarray, " values"]:
        """Recovered less that of the shuffled control of the same latents; NaN for any but the rewrite itself."""
        control = self._controls.get(row.place[1:])
        if row.condition.name != "rewritten" or control is None or row.draws != control.draws:
            return np.full(len(self._counts), np.nan)
        base = self._base
        mine, its = (recovered(base["zero-latents"], base["coder"], self.ce(each)) for each in (row, control))
        return mine - its

    def _per_token(self, sums: Float[np.ndarray, " documents"]) -> Float[np.ndarray, " values"]:
        return (self._counts @ sums) / self._tokens


def _rows(part: Measured) -> Iterator[_Row]:
    """The part's conditions with their draws averaged, in order."""
    gathered: dict[tuple, tuple[list[Condition], list[DocumentLosses]]] = {}
    for condition, losses in zip(part.conditions, part.losses, strict=True):
        key = (condition.name, condition.fraction, condition.order)
        conditions, draws = gathered.setdefault(key, ([], []))
        conditions.append(condition)
        draws.append(losses)
    for conditions, draws in gathered.values():
        mean = DocumentLosses.average(draws)
        kept = mean.tokens > 0
        yield _Row(conditions, DocumentLosses(mean.nll[kept], mean.kl[kept], mean.agreed[kept], mean.tokens[kept]))


def _test(difference: PairedDifference, better: float | None, alike: float | None, margin: float) -> dict[str, Any]:
    return {
        "difference": difference.difference,
        "error": difference.error,
        "p_better": difference.p_below(),
        "p_better_holm": better,
        "p_equivalent": difference.p_within(margin),
        "p_equivalent_holm": alike,
    }


def _verdict(tests: Mapping[str, Mapping[str, Any]] | None, why: str | None) -> dict[str, Any]:
    """The tests, and two answers: better than both kinds of zero ablation? as good as zero-latents, no better?

    `withheld` says why there are no answers where too many pairs got none; of the tests the differences stay.
    """
    if tests is None or why is not None:
        figures = tests and {name: {k: None if k[:2] == "p_" else v for k, v in t.items()} for name, t in tests.items()}
        return {
            "tests": figures,
            "p_beats_zero": None,
            "p_beats_mean": None,
            "equivalent_to_zero": None,
            "withheld": why,
        }
    zeros = [tests[baseline]["p_better_holm"] for baseline in ("zero-latents", "zero-output")]
    alike = tests["zero-latents"]["p_equivalent_holm"]
    return {
        "tests": tests,
        "p_beats_zero": None if None in zeros else max(zeros),
        "p_beats_mean": tests["mean-latents"]["p_better_holm"],
        "equivalent_to_zero": None if alike is None else alike < LEVEL,
        "withheld": None,
    }
