"""Measure: what a coder keeps of its site, before anything is said of its latents.

On calibrate documents: the coder was not trained on them, and a coder that is chosen by these figures has not been
chosen by the text that the rewrite is evaluated on.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from plainspoken.coders import load_coder
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
        folder = workplace.path("measure", unit.site)
        write_json(folder / MEASURES, {"site": unit.site, "part": rows.part, "rows": rows.fingerprint, **record})
        picture = coder_picture(coder_report(record, load_log(workplace, unit.site)), "coder")
        write_text(folder / PICTURE, standalone(picture.wide))
        told = ("tokens", "documents", "fvu", "l0", "dead", "increase", "recovered_zero", "recovered_mean")
        yield Outcome(unit, {name: record[name] for name in told})


def load_measures(workplace: Workplace, site: str) -> dict[str, Any]:
    """The record of measures.json at a site."""
    return read_json(workplace.path("measure", site) / MEASURES)
