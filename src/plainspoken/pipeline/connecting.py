"""Connecting: what the weights alone connect with a latent, and over texts; the size of what each head moves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from plainspoken.circuits.beside import Said, said_of
from plainspoken.circuits.connected import Compared, Connected, Head, MeanLink, OverTexts, Say, SourceLayer, connected
from plainspoken.circuits.connected_file import HeadNorms, save_connections
from plainspoken.circuits.graph import Node
from plainspoken.circuits.means import MeanAttribution, mean_attributions
from plainspoken.circuits.overlaps import control_overlap, mean_overlap, told_tops
from plainspoken.circuits.weights import connections, ov_norms
from plainspoken.errors import ModelError, UsageError
from plainspoken.language.counted import counted
from plainspoken.lm.anatomy import anatomy
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.own_coders import own_coders
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.study_looks import Subject, coder_of
from plainspoken.pipeline.workplace import Workplace
from plainspoken.report.figures.heads import ov_png
from plainspoken.store import sha256_file, write_atomic
from plainspoken.store.manifest import versions
from plainspoken.types import Rows

FOLDER, FILE, NORMS, PICTURE = "connections", "connections.json", "heads.json", "heads.png"
PART = "explain"
"""Which documents are looked at: those that sentences are written from, never those that anything is measured on."""
CONTROLS = 20
"""Other latents of the layer, at most, whose pullbacks are the control of an overlap."""


@dataclass(frozen=True)
class ConnectionSettings:
    """What is told of a latent."""

    top: int = 10
    """Tokens and latents of each kind."""
    through: Head | None = None
    """The one head, by layer and number, through which latents are told; None: any."""
    texts: int = 0
    """Rows of explain documents over which means are taken."""


@dataclass(frozen=True, eq=False)
class ConnectionsMade:
    """A latent's connections and where they were written."""

    found: Connected
    files: Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class NormsMade:
    """The norms of all heads and where they were written."""

    found: HeadNorms
    files: Mapping[str, Path]


def connect(
    workplace: Workplace, latent: tuple[int, int], settings: ConnectionSettings, out: Path | None = None
) -> ConnectionsMade:
    """Writes RUN/connections/NAME/connections.json. The run must be brought up to `train`.

    Raises UsageError, naming the nearest, for a latent that there is not, for a head that does not stand between, and
    for a latent that fires nowhere in the texts that were to be looked at; nothing is written then.
    """
    circuits = RunCircuits(workplace)
    subject = Subject(*latent)
    coder_of(circuits, subject)
    about = {"settings": asdict(settings)}

    def say(layer: int, number: int) -> Said:
        return said_of(circuits.tell(Node("latent", layer, index=number)))

    def spell(token: int) -> str:
        return table[token].decode("utf-8", "backslashreplace") if token < len(table) else ""

    table = circuits.lm.pieces.table
    site = circuits.site_of_layer[subject.layer]
    found = connected(circuits.weights, site, latent, settings.top, say, spell, settings.through)
    if settings.texts:
        rows = load_rows(workplace, PART)
        found = replace(found, texts=_over_texts(workplace, circuits, subject, rows, settings, say))
        about["corpus"] = {"part": rows.part, "rows": rows.fingerprint}
    found = replace(found, about=circuits.about(**about))
    path = (out or workplace.path(FOLDER) / _name(subject, settings)) / FILE
    save_connections(found, path)
    return ConnectionsMade(found, {FILE: path})


def make_norms(workplace: Workplace, out: Path | None = None) -> NormsMade:
    """Writes RUN/connections/heads.png and heads.json, which names the picture's hash.

    Raises ModelError for a model whose attention holds what is no number, or that is not the one of the run's coders'
    (CoderError); nothing is written then.
    """
    lm, folder = workplace.lm, out or workplace.path(FOLDER)
    own_coders(workplace)
    found = ov_norms(anatomy(lm))
    if not bool(found.isfinite().all()):
        layer, head = (int(i) for i in (~found.isfinite()).nonzero()[0])
        raise ModelError(f"head {layer}/{head} of {lm.name} has a weight that is no finite number: load the model anew")
    norms = tuple(map(tuple, found.tolist()))
    files = {NORMS: folder / NORMS, PICTURE: folder / PICTURE}
    with write_atomic(files[PICTURE]) as file:
        file.write(ov_png(norms))
    about = {
        "model": lm.name,
        "model_fingerprint": lm.fingerprint,
        "picture": sha256_file(files[PICTURE]),
        "seed": workplace.config.seed,
        "versions": versions(),
    }
    told = HeadNorms(norms, about)
    save_connections(told, files[NORMS])
    return NormsMade(told, files)


def _over_texts(
    workplace: Workplace, circuits: RunCircuits, subject: Subject, rows: Rows, settings: ConnectionSettings, say: Say
) -> OverTexts:
    seed, layer, number = workplace.config.seed, subject.layer, subject.latent
    sources = [lower for lower in circuits.weights.coders if lower < layer]
    if not sources:
        raise UsageError(
            f"no coder stands before layer {layer}, so that there are no earlier latents to take means of: leave "
            "--texts out, or name a latent of a later layer"
        )
    coders = {circuits.site_of_layer[at]: coder for at, coder in circuits.weights.coders.items()}
    wanted = min(settings.texts, len(rows.tokens))
    with workplace.progress.track("contributions over texts (rows)", wanted) as advance:
        means = mean_attributions(
            circuits.lm, coders, rows, layer, [number], sources, wanted, seed, torch.float32, advance
        )
    by_source = means.of[0]
    if by_source is None:
        looked = f"{counted(means.rows, 'row')} of the {PART} part ({counted(means.tokens, 'token')})"
        raise UsageError(
            f"latent {subject.name} fires nowhere in the {looked} that were looked at: take more with --texts (there "
            f"are {len(rows.tokens):,}), or leave it out"
        )
    controls = _controls(means.fired, subject, seed)
    firings = next(iter(by_source.values())).firings
    return OverTexts(
        part=rows.part,
        rows=means.rows,
        documents=means.documents,
        tokens=means.tokens,
        firings=int(firings.sum()),
        firing_documents=len(firings),
        controls=tuple(controls),
        layers=tuple(_source_layer(circuits, by_source[source], controls, settings.top, say) for source in sources),
    )


def _controls(fired: np.ndarray, subject: Subject, seed: int) -> list[int]:
    """Other latents of the layer that fire in the texts, at random."""
    others = fired[fired != subject.latent]
    generator = np.random.default_rng([seed, 0xC0, subject.layer, subject.latent])
    return sorted(generator.permutation(others)[:CONTROLS].tolist())


def _source_layer(
    circuits: RunCircuits, mean: MeanAttribution, controls: Sequence[int], top: int, say: Say
) -> SourceLayer:
    asked = torch.tensor([mean.latent, *controls])
    pullbacks = connections(circuits.weights, mean.source, mean.layer, asked).double().cpu().numpy()
    latents = pullbacks.shape[1]
    largest = [i for i in np.argsort(-np.abs(mean.mean), kind="stable")[:top].tolist() if mean.mean[i] != 0]
    said = {i: say(mean.source, i) for i in largest}
    tops = told_tops(mean)
    overlap = [mean_overlap(mean, pullbacks[0], each) for each in tops]
    control = [control_overlap(mean, pullbacks[1:], each) if controls else None for each in tops]
    return SourceLayer(
        mean.source,
        latents,
        tuple(
            MeanLink(mean.source, i, float(mean.mean[i]), float(pullbacks[0, i]), each.text, each.fidelity)
            for i, each in said.items()
        ),
        tuple(
            Compared(o.top, o.share, o.low, o.high, *((c.share, c.low, c.high) if c else (None, None, None)))
            for o, c in zip(overlap, control, strict=True)
        ),
        int(np.count_nonzero(mean.mean)),
    )


def _name(subject: Subject, settings: ConnectionSettings) -> str:
    """A folder's name: the latent, and what else was asked for."""
    through = "" if settings.through is None else "-through-{}-{}".format(*settings.through)
    texts = f"-texts-{settings.texts}" if settings.texts else ""
    return f"latent-{subject.layer}-{subject.latent}{through}{texts}"
