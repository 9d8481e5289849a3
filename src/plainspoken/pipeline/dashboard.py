"""Dashboards of a run: from its firing tables, coders and model, and its explanations and scores where it has them."""

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from jaxtyping import Float

from plainspoken.circuits.dashboard import STEPS, Wiring, wiring
from plainspoken.circuits.dashboard_file import VERSION, About, Dashboards, write_dashboards
from plainspoken.coders import Coder, fingerprint
from plainspoken.config.named import short_name
from plainspoken.errors import ModelError, RunError, SiteError
from plainspoken.latents import FiringTable
from plainspoken.latents.dashboard import Activity, Shown, activity
from plainspoken.lm.anatomy import anatomy
from plainspoken.pipeline import explanations
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.machine import content_hash
from plainspoken.pipeline.own_coders import own_coders
from plainspoken.pipeline.progress import SILENT, Progress
from plainspoken.pipeline.shelves import load_rows, load_scores, load_simulation
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report.dashboards import write_dashboards_page
from plainspoken.scorers.simulation import SHOWN
from plainspoken.store import StageFolder, StageKey
from plainspoken.types import Explanation, Rows, Site

FOLDER, FILE, PAGE = "dashboards", "dashboards.safetensors", "dashboards.html"
PART = "explain"
"""What is shown is the text that sentences are written from: never the text that anything is measured on."""
KEPT = 10
"""Tokens, sources and targets of each latent."""


@dataclass(frozen=True)
class Made:
    """The dashboards of one site: where they lie and what they show."""

    site: str
    file: Path
    page: Path
    latents: int
    explained: int


def make_dashboards(
    root: Path, site: str | None, shown: Shown, device: str | None = None, progress: Progress = SILENT
) -> tuple[Made, ...]:
    """Writes RUN/dashboards/SITE/ for one of the run's sites, or all of them, and says what it wrote.

    Raises SiteError, naming the nearest, for a site that the run does not have, and RunError for one that is not
    encoded: nothing is written then. What was there before is replaced only once the new is whole.
    """
    workplace = Workplace(root, stored_config(root, lm__device=device), STAGES, progress)
    with workplace.locked(wait=True):
        chosen = _chosen(workplace, site)
        for each in chosen:
            _require_encoded(workplace, each)
        coders = own_coders(workplace)  # of all sites: latents of others are sources and targets
        rows = load_rows(workplace, PART)
        return tuple(_make(workplace, each, coders, rows, shown) for each in chosen)


def _chosen(workplace: Workplace, site: str | None) -> Sequence[Site]:
    if site is None:
        return workplace.sites
    names = [each.module for each in workplace.sites]
    if site not in names:
        nearest = difflib.get_close_matches(site, names, n=1, cutoff=0.0)[0]
        raise SiteError(f"{site} is no site of {workplace.root}; nearest: {nearest} (its sites: {', '.join(names)})")
    return [each for each in workplace.sites if each.module == site]


def _require_encoded(workplace: Workplace, site: Site) -> None:
    folder = workplace.folder(Unit("encode", site.module))
    if folder.manifest() is None:
        raise RunError(
            f"{workplace.root} has no firing table of {site.module} yet; make it with: plainspoken encode "
            f"{workplace.root}"
        )
    folder.verify()
    if not is_of(workplace, "encode", "train", site):
        raise RunError(
            f"{workplace.root} has firings of {site.module} by another coder than the one it holds now; make them anew "
            f"with: plainspoken encode {workplace.root}"
        )


def is_of(workplace: Workplace, stage: str, before: str, site: Site) -> bool:
    """Whether a stage has read what an earlier one holds now, sentences that were changed since among it."""
    manifest = workplace.folder(Unit(stage, site.module)).manifest()
    source = Unit(before, site.module)
    now = content_hash(workplace.stage(before), workplace.folder(source))
    return manifest is not None and manifest.inputs[source.name] == now


def _make(workplace: Workplace, site: Site, coders: dict[Site, Coder], rows: Rows, shown: Shown) -> Made:
    began = monotonic()
    found = _dashboards(workplace, site, coders, rows, shown)
    folder = StageFolder(workplace.path(FOLDER, site.module))
    inputs = {
        name: content_hash(workplace.stage(name), workplace.folder(Unit(name, site.module)))
        for name in ("train", "encode", "explain", "calibrate")
        if workplace.folder(Unit(name, site.module)).manifest() is not None
    }
    key = StageKey(FOLDER, site.module, VERSION, {**asdict(shown), "kept": KEPT}, inputs)
    folder.begin(key, keep=(FILE, PAGE))
    file, page = folder.path / FILE, folder.path / PAGE
    with workplace.progress.track(f"writing the dashboards of {site.module}", None):
        write_dashboards(file, found)
        write_dashboards_page(found, page)
    explained = len(found.explanations)
    counts = {"latents": found.latents, "explained": explained}
    folder.commit(key, seed=workplace.config.seed, seconds=monotonic() - began, counts=counts)
    return Made(site.module, file, page, found.latents, explained)


def _dashboards(workplace: Workplace, site: Site, coders: dict[Site, Coder], rows: Rows, shown: Shown) -> Dashboards:
    seed, coder, lm = workplace.config.seed, coders[site], workplace.lm
    table = FiringTable.open(workplace.path("encode", site.module) / PART, rows)
    with workplace.progress.track(f"reading the firings of {site.module}", table.latents) as advance:
        firings = activity(table, coder.W_dec, shown, seed, advance)
    wires = _wiring(workplace, site, coders)
    drawn, strongest = firings.examples, firings.strongest
    assert strongest is not None, "what is read of a table has its strongest windows"
    used, document = np.unique(rows.document[np.concatenate([drawn.row, strongest.row])], return_inverse=True)
    written = _explanations(workplace, site, table.latents)
    return Dashboards(
        about=About(
            site=site.module, kind=site.kind, lm=short_name(lm.name), lm_fingerprint=lm.fingerprint,
            coder=fingerprint(workplace.path("train", site.module)), part=PART, rows=rows.fingerprint,
            tokens=rows.token_count, seed=seed, shown=shown, documents=tuple(rows.keys[i] for i in used.tolist()),
        ),
        activity=firings,
        document=document[: len(drawn.row)].astype(np.int32),
        wiring=wires,
        pieces={token: lm.pieces.table[token] for token in _tokens(firings, wires)},
        explanations=written,
        fidelity=_fidelity(workplace, site, written),
        strongest_document=document[len(drawn.row) :].astype(np.int32),
    )  # fmt: skip


def _wiring(workplace: Workplace, site: Site, coders: dict[Site, Coder]) -> Wiring | None:
    """None, with a warning, for a model of a family whose weights nothing here can read as maps."""
    try:
        of = anatomy(workplace.lm)
    except ModelError as error:
        workplace.progress.warn(f"{error}; until then dashboards have no promoted tokens, sources or targets")
        return None
    with workplace.progress.track(f"weights of {site.module}", STEPS) as advance:
        return wiring(of, coders, site, KEPT, advance, workplace.lm.pieces.table)


def _tokens(firings: Activity, wires: Wiring | None) -> list[int]:
    """Every token that occurs."""
    found = [firings.examples.token, *([] if firings.strongest is None else [firings.strongest.token])]
    if wires is not None:
        parts = (wires.promoted, wires.suppressed, wires.exciting)
        found += [part.token.ravel() for part in parts if part is not None]
    return np.unique(np.concatenate(found)).tolist()


def _explanations(workplace: Workplace, site: Site, latents: int) -> dict[int, Explanation]:
    if workplace.folder(Unit("explain", site.module)).manifest() is None:
        return {}
    return explanations.read_explanations(workplace.path("explain", site.module), latents)


def _fidelity(
    workplace: Workplace, site: Site, written: dict[int, Explanation]
) -> dict[str, Float[np.ndarray, " latents"]]:
    """The simulation's scores on the scorers' documents, NaN where a latent has no sentence or none that was scored."""
    if workplace.folder(Unit("calibrate", site.module)).manifest() is None:
        return {}
    if not is_of(workplace, "simulate", "explain", site):
        workplace.progress.warn(
            f"sentences of {site.module} were changed since they were scored, so the dashboards show no scores; score "
            f"them with: plainspoken score {workplace.root}"
        )
        return {}
    scores = load_scores(workplace, site.module)
    _, texts, _ = load_simulation(workplace.path("simulate", site.module) / "scoring.safetensors")
    spoken = texts.any(axis=1) & np.isin(np.arange(len(texts)), list(written))
    found = {name: getattr(scores, name) for name in SHOWN}
    return {name: np.where(each.defined & spoken, each.values, np.nan) for name, each in found.items()}
