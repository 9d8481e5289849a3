"""Measure: what a coder keeps of its site, before anything is said of its latents.

On calibrate documents: the coder was not trained on them, and a coder that is chosen by these figures has not been
chosen by the text that the rewrite is evaluated on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from plainspoken.coders import ACTIVATIONS, CoderSpec, load_coder
from plainspoken.corpus import spread
from plainspoken.evaluate import coder_record, measure_coder
from plainspoken.evaluate.coder_measures import PASSES
from plainspoken.pipeline.shelves import load_log, load_rows
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report import coder_report
from plainspoken.report.figures import coder_picture
from plainspoken.report.svg import standalone
from plainspoken.store import read_json, write_json, write_text

MEASURES, PICTURE = "measures.json", "coder.svg"


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes measures.json and coder.svg at each site."""
    config, lm = workplace.config, workplace.lm
    rows = spread(load_rows(workplace, "calibrate"), config.measure.tokens)
    sites = {site.module: site for site in workplace.sites}
    for unit in units:
        assert unit.site is not None
        coder = load_coder(workplace.path("train", unit.site)).to(lm.device)
        with workplace.progress.track(f"measuring the coder at {unit.site}", PASSES * len(rows.tokens)) as advance:
            measured = measure_coder(lm, sites[unit.site], coder, rows, config.evaluate.rows_per_batch, advance)
        record = coder_record(measured, config.evaluate.bootstrap, config.seed)
        if config.coder.load is None and config.train.sparsity is None and off(record["l0"], coder.spec):
            workplace.progress.warn(
                f"{unit.site}: at a token {record['l0']:.1f} of the latents fire, where coder.k asks for "
                f"{coder.spec.k}: the training was too short to be steered there; raise train.tokens"
            )
        folder = workplace.path("measure", unit.site)
        write_json(folder / MEASURES, {"site": unit.site, "part": rows.part, "rows": rows.fingerprint, **record})
        picture = coder_picture(coder_report(record, load_log(workplace, unit.site)), "coder")
        write_text(folder / PICTURE, standalone(picture.wide))
        told = ("tokens", "documents", "fvu", "l0", "dead", "increase", "recovered_zero", "recovered_mean")
        yield Outcome(unit, {name: record[name] for name in told})


OFF = 0.2
"""How far from `coder.k` the latents that fire at a token may be, as a share of it, before it is said."""


def off(l0: float, spec: CoderSpec) -> bool:
    """Whether a coder that is steered to k fires far more or fewer; one that takes the k largest cannot."""
    return spec.k is not None and ACTIVATIONS[spec.activation].by != "row" and abs(l0 / spec.k - 1) > OFF


def load_measures(workplace: Workplace, site: str) -> dict[str, Any]:
    """The record of measures.json at a site."""
    return read_json(workplace.path("measure", site) / MEASURES)
