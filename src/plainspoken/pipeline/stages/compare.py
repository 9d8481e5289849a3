"""Compare: what each coder costs the model on the evaluate part, beside how sparse it is; kinds paired at equal k."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plainspoken.coders import load_coder
from plainspoken.evaluate import MeasuredCoder, Resampled, coder_record, measure_coder
from plainspoken.evaluate.coder_measures import PASSES
from plainspoken.evaluate.statistics import with_interval
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages.coders import Variant, variants
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report import ComparedCoder, interval_of
from plainspoken.report.figures.comparison import comparison_picture, comparison_png
from plainspoken.report.svg import standalone
from plainspoken.store import Manifest, write_atomic, write_json, write_text
from plainspoken.store.manifest import versions

COMPARISON, PICTURE = "compare.json", "compare"
YARDSTICK = "sae"
NOTE = (
    "All coders write the FFN's output. The transcoders predict it from the FFN's input; the SAE reconstructs it from "
    "itself, so it reads what it is to write, and computes no part of the FFN."
)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes compare.json, compare.svg and compare.png."""
    config, folder = workplace.config, workplace.path("compare")
    known = variants(workplace)
    measured = _measured(workplace, known)
    points = [
        {"kind": v.kind, "k": v.k, **coder_record(coder, config.evaluate.bootstrap, config.seed)}
        for v, coder in measured.items()
    ]
    apart = _differences(measured, config.evaluate.bootstrap, config.seed)
    write_json(folder / COMPARISON, {**_provenance(workplace), "points": points, "differences": apart})
    compared = [compared_coder(point) for point in points]
    write_text(folder / f"{PICTURE}.svg", standalone(comparison_picture(compared, "coders-comparison").wide))
    with write_atomic(folder / f"{PICTURE}.png") as file:
        file.write(comparison_png(compared))
    yield Outcome(units[0], {"coders": len(points), "tokens": points[0]["tokens"], "documents": points[0]["documents"]})


def compared_coder(point: Mapping[str, Any]) -> ComparedCoder:
    """A point of compare.json as the figure takes it."""
    names = ("l0", "increase", "fvu")
    return ComparedCoder(point["kind"], point["k"], **{name: interval_of(point, name) for name in names})


def _measured(workplace: Workplace, known: Sequence[Variant]) -> dict[Variant, MeasuredCoder]:
    rows, lm = load_rows(workplace, "evaluate"), workplace.lm
    found = {}
    with workplace.progress.track("measuring coders", PASSES * len(rows.tokens) * len(known)) as advance:
        for variant in known:
            coder = load_coder(workplace.path("coders", variant.name)).to(lm.device)
            per_batch = workplace.config.evaluate.rows_per_batch
            found[variant] = measure_coder(lm, variant.site, coder, rows, per_batch, advance)
    return found


def _differences(measured: Mapping[Variant, MeasuredCoder], bootstrap: int, seed: int) -> list[dict[str, Any]]:
    """Every other kind minus the SAE of the same k: in loss (nats a token) and FVU, the same documents in both."""
    drawn = {(v.kind, v.k): Resampled(coder, bootstrap, seed) for v, coder in measured.items()}
    return [
        {"kind": kind, "against": YARDSTICK, "k": k}
        | with_interval("increase", one.increase - drawn[YARDSTICK, k].increase)
        | with_interval("fvu", one.fvu - drawn[YARDSTICK, k].fvu)
        for (kind, k), one in drawn.items()
        if kind != YARDSTICK and (YARDSTICK, k) in drawn
    ]


def _provenance(workplace: Workplace) -> dict[str, Any]:
    """What the figures are of, as the manifests beside them have it."""
    stages = [workplace.stage(name) for name in ("corpus", "coders")]
    settings = {name: value for stage in stages for name, value in workplace.settings(stage).items()}
    folders = {unit.name: workplace.path(unit.stage, unit.site) for stage in stages for unit in workplace.units(stage)}
    inputs = {name: Manifest.load(path / "manifest.json").output_digest for name, path in folders.items()}
    return {
        "site": workplace.sites[0].module,
        "part": "evaluate",
        "note": NOTE,
        "settings": settings,
        "seed": workplace.config.seed,
        "versions": versions(),
        "inputs": inputs,
    }
