"""Find conditions in a site's list: the rewrite of everything, a curve over fractions, the baselines."""

from plainspoken.report.data import Measured, ReportData, SiteReport

ORDERS = ("best", "random", "mass")

# The order of the short table and of the figure at its side: from what is best down to the controls.
WHOLE = (
    "original",
    "coder",
    "oracle-support",
    "oracle-magnitude",
    "rewritten",
    "mean-latents",
    "zero-latents",
    "zero-output",
    "shuffled-refit",
    "shuffled",
)

MEANING = {
    "original": "the model as it is",
    "coder": "the coder’s true latents",
    "rewritten": "every latent from its sentence",
    "shuffled": "control: each gets another’s sentence",
    "shuffled-refit": "control: the same, calibrated anew",
    "oracle-support": "true firings, sentence’s sizes",
    "oracle-magnitude": "sentence’s firings, true sizes",
    "mean-latents": "every latent at its mean",
    "zero-latents": "every latent at zero",
    "zero-output": "whole output zero, bias too",
}


def meaning(condition: str) -> str:
    """What a condition is, in a few words; nothing of one that is not known."""
    kind, _, calibrator = condition.partition(":")
    if kind == "rewritten" and calibrator:
        return f"the same, calibrated by {calibrator.replace('_', ' ')}"
    return MEANING.get(condition, "")


def _rank(row: Measured) -> tuple[float, int]:
    order = ORDERS.index(row.order) if row.order in ORDERS else len(ORDERS)
    return (-(row.fraction or 0.0), order)


def whole(site: SiteReport, condition: str) -> Measured | None:
    """The condition at its largest fraction (1 unless the run left it out); at 1 all orders are the same."""
    rows = [row for row in site.conditions if row.condition == condition]
    return min(rows, key=_rank) if rows else None


def whole_rows(site: SiteReport) -> tuple[Measured, ...]:
    """Every condition once, at its largest fraction, in the order of `WHOLE`, variants by their kind; others last."""
    names = {row.condition: None for row in site.conditions}
    place = {name: rank for rank, name in enumerate(WHOLE)}
    found = (
        whole(site, name) for name in sorted(names, key=lambda name: place.get(name.partition(":")[0], len(WHOLE)))
    )
    return tuple(row for row in found if row is not None)


def curve(site: SiteReport, condition: str, order: str | None) -> tuple[Measured, ...]:
    """A condition against the fraction rewritten, ascending; the first record of each fraction counts."""
    found: dict[float, Measured] = {}
    for row in site.conditions:
        if row.condition == condition and row.order == order and row.fraction is not None:
            found.setdefault(row.fraction, row)
    return tuple(found[fraction] for fraction in sorted(found))


def orders_of(site: SiteReport, condition: str) -> tuple[str | None, ...]:
    """The orders in which a condition was measured, the known ones first."""
    found = {row.order for row in site.conditions if row.condition == condition and row.fraction is not None}
    known: list[str | None] = [order for order in ORDERS if order in found]
    return (*known, *sorted(found - set(known), key=str))


def subject(data: ReportData) -> SiteReport:
    """What the headline speaks of: the joint rewrite where there is one, else the first site."""
    return data.joint or data.sites[0]
