"""A small report filled by hand: the figures of the spec's example, two cards, an edit, two failures."""

from collections.abc import Callable

import pytest

from plainspoken.report import (
    Card,
    CoderReport,
    Edit,
    Example,
    FailureRow,
    FrontierPoint,
    Interval,
    LatentScore,
    Measured,
    Provenance,
    ReportData,
    SiteReport,
)

FRACTIONS = (0.01, 0.2, 1.0)
ZERO, CODER, MEAN = 2.509, 1.990, 2.493

Measure = Callable[..., Measured]


@pytest.fixture(scope="session")
def measure() -> Measure:
    """A condition from its loss alone, as the spec defines recovered."""

    def made(condition: str, ce: float, fraction: float | None = None, order: str | None = None, **changed: object):
        share, over = (ZERO - ce) / (ZERO - CODER), (MEAN - ce) / (MEAN - CODER)
        fixed = condition in ("coder", "zero-latents")
        values: dict[str, object] = {
            "site": "model.layers.2.mlp", "condition": condition, "fraction": fraction, "order": order,
            "calibrator": "conditional_mean", "ce": Interval(ce, ce - 0.05, ce + 0.05),
            "increase": Interval(ce - 1.924, ce - 1.93, ce - 1.918),
            "recovered": Interval(share, share, share) if fixed else Interval(share, share - 0.03, share + 0.03),
            "over_mean": Interval(over, over - 0.03, over + 0.03), "kl": Interval(0.1, 0.09, 0.11),
            "top1": Interval(0.9, 0.88, 0.92), "documents": 127, "tokens": 31_204,
        }  # fmt: skip
        return Measured(**(values | changed))  # type: ignore[arg-type]

    return made


@pytest.fixture(scope="session")
def conditions(measure: Measure) -> tuple[Measured, ...]:
    """Every condition of the spec's section 3, three fractions, three orders."""
    nothing = {"increase": Interval(0.0, 0.0, 0.0), "recovered": None, "over_mean": None,
               "kl": Interval(0.0, 0.0, 0.0), "top1": Interval(1.0, 1.0, 1.0)}  # fmt: skip
    rows = [measure("original", 1.924, **nothing)]
    baselines = {"coder": CODER, "zero-latents": ZERO, "zero-output": 2.516, "mean-latents": MEAN}
    rows += [measure(name, ce) for name, ce in baselines.items()]
    for order in ("best", "random", "mass"):
        rows += [measure("rewritten", CODER + 0.15 * fraction, fraction, order) for fraction in FRACTIONS]
    rows += [measure("shuffled", CODER + 0.7266 * fraction, fraction, "random") for fraction in FRACTIONS]
    return tuple(rows)


@pytest.fixture(scope="session")
def example() -> Example:
    """A line of code, cut as a tokenizer might, one character of it over two tokens."""
    pieces = (b"def", b" gre", b"et", b"(", b"name", b"):", b"\n", b"       ", b" #", b" \xe2\x82", b"\xac", b" <b>")
    true = (0.0, 0.0, 2.5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    simulated = (0.0, 0.0, 2.0, 0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.25, 0.0)
    return Example("json/encoder.py", "strongest", pieces, true, simulated)


@pytest.fixture(scope="session")
def coder() -> CoderReport:
    """A measured coder, one figure of it not defined."""
    return CoderReport(
        latents=10, tokens=24_000, fvu=Interval(0.16, 0.15, 0.17), l0=Interval(16.0, 16.0, 16.0), dead=0.1,
        ce_original=Interval(1.92, 1.9, 1.95), increase=Interval(0.066, 0.06, 0.07), kl=Interval(0.05, 0.04, 0.06),
        recovered_zero=Interval(0.89, 0.88, 0.9), recovered_mean=None, log10_rate=(-5.0, -4.0, -3.0, -2.0, -1.0, 0.0),
        density=(0, 1, 3, 4, 1), silent=1, training=((51_200, 1.4), (102_400, 0.4), (153_600, 0.2)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def site(conditions: tuple[Measured, ...], example: Example, coder: CoderReport) -> SiteReport:
    """One site with everything a site can have."""
    scores = tuple(
        LatentScore(latent, 0.001 * (latent + 1), 0.9 - 0.1 * latent, 0.8, 1 - 0.001 * latent, 0.7)
        for latent in range(9)
    )
    undefined = LatentScore(9, 0.0, None, None, None, None)
    return SiteReport(
        site="model.layers.2.mlp", words_mean=58.3, words_max=180, latents=10, explained=9, conditions=conditions,
        frontier=tuple(
            FrontierPoint(words, 0.97 * words, Interval(share, share - 0.02, share + 0.02))
            for words, share in ((15, 0.4), (60, 0.71), (240, 0.85))
        ),
        scores=(*scores, undefined),
        cards=(
            Card("best", scores[0], "9 at “self” after “.”; otherwise silent.", 6, (example,), edited=True),
            Card("worst", scores[8], "3 at a digit.", 4, (example,)),
        ),
        edits=(Edit(0, "9 at “self”.", "9 at “self” after “.”.", Interval(-0.0004, -0.0007, -0.0001)),),
        failures=(
            FailureRow(7, "simulate", "the sentence does not parse", 6, "a quotation", "8 at the thing"),
            FailureRow(9, "explain", "never fires on the explain documents"),
        ),
        coder=coder,
    )  # fmt: skip


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    """Where the figures come from."""
    return Provenance(
        model="stories260K", corpus="samples.safetensors", eval_corpus="tinystories.jsonl", seed=0,
        command="plainspoken run --lm stories260K --site model.layers.2.mlp", method=(("Positions", "all"),),
        versions=(("torch", "2.13.0"),), inputs=(("model", "ab" * 32),), seconds=(("train", 38.2), ("evaluate", 71.0)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def data(site: SiteReport, provenance: Provenance) -> ReportData:
    """A report on one site."""
    return ReportData((site,), None, provenance, ("3 evaluate documents also stand in the fit text: dropped.",))
