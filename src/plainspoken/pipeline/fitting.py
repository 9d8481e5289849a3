"""Fit coders to a source of vectors, in the run's folders: what the stages that train have in common."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from plainspoken.activations import ALONE, MixingBuffer, Share, VectorSource, collect, vector_bytes
from plainspoken.activations.stored import StoredVectors
from plainspoken.coders import CoderSpec, save_coder
from plainspoken.config.named import short_name
from plainspoken.language.counted import agreeing, counted
from plainspoken.pipeline.workplace import Workplace
from plainspoken.train import FinishText, has_checkpoint, remove_checkpoint, train_coders
from plainspoken.train.processes import Processes
from plainspoken.types import Rows, Site

STORE_LIMIT = 2**34
"""Stores of up to so many bytes are kept where nobody says otherwise."""


def sources(workplace: Workplace, sites: Sequence[Site], rows: Rows, folder: Path) -> list[VectorSource]:
    """What to train the sites on, as `train.source` asks: a store each, or one mixing buffer of them all.

    Coders of stores are trained one after the other, and need memory for one; those of a buffer together, so that the
    text is read once.
    """
    train, processes = workplace.config.train, workplace.processes
    fits = vector_bytes(sites) * rows.token_count <= STORE_LIMIT
    shared = {
        "batch": train.batch,
        "seed": workplace.config.seed,
        "outlier_norm": train.outlier_norm,
        "share": share_of(processes),
    }
    with workplace.progress.track("reading activations", len(rows.tokens)) as advance:
        if train.source == "store" or (train.source == "auto" and fits):
            stores = collect(workplace.lm, sites, rows, folder, advance, share=shared["share"])
            return [StoredVectors({module: store}, rows, **shared) for module, store in stores.items()]
        return [MixingBuffer(workplace.lm, sites, rows, vectors=train.buffer, device=workplace.lm.device, **shared)]


def share_of(processes: Processes) -> Share:
    """A process's share of the vectors."""
    if processes.world == 1:
        return ALONE

    def total(partial: torch.Tensor) -> torch.Tensor:
        return processes.total(partial)

    return Share(processes.rank, processes.world, total)


def fit(
    workplace: Workplace,
    source: VectorSource,
    sites: Mapping[str, Site],
    specs: Mapping[str, CoderSpec],
    folders: Mapping[str, Path],
    rows: Rows,
    label: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A coder for each of the source's sites, trained in its folder, from its last checkpoint where there is one.

    Writes coder.safetensors, coder.json and log.jsonl. Site by site: what was masked, and the last line of the log. A
    site's checkpoint goes when its coder stands, so that a kill costs one site at most.
    """
    config, lm, processes = workplace.config, workplace.lm, workplace.processes
    for site in source.sites:
        counts = source.survey(site).counts
        if counts.outliers:
            workplace.progress.say(
                f"{site}: {counts.outliers:,} of {counted(counts.examined, 'vector')} "
                f"{agreeing(counts.outliers, 'is an outlier', 'are outliers')} and not trained on "
                f"(norms above {config.train.outlier_norm:g} times the median; train.outlier_norm)"
            )
    if any(has_checkpoint(folders[site]) for site in source.sites):
        workplace.progress.say(f"training {label} goes on from its last checkpoint")
    text = FinishText(lm, sites, rows) if config.train.finish_tokens else None
    total = config.train.tokens + config.train.finish_tokens * len(source.sites)
    with workplace.progress.track(f"training {label}", total) as advance:
        coders = train_coders(source, specs, config.train, folders, config.seed, advance, lm.device, processes, text)
    extra = {"lm": short_name(lm.name), "lm_fingerprint": lm.fingerprint, "seed": config.seed}
    extra |= {"prefixes": list(config.train.prefixes)} if config.train.prefixes else {}
    for site, coder in coders.items() if processes.first else ():
        save_coder(folders[site], coder, sites[site], extra)
        remove_checkpoint(folders[site])
        counts = source.survey(site).counts
        masked = {
            "text_tokens": counts.text,
            "bos_masked": counts.bos,
            "vectors_examined": counts.examined,
            "outliers_masked": counts.outliers,
        }
        yield site, {**masked, **_last_line(folders[site] / "log.jsonl")}


def _last_line(path: Path) -> dict[str, float | int]:
    lines = path.read_text("utf-8").splitlines()
    return {f"final_{name}": value for name, value in json.loads(lines[-1]).items()} if lines else {}
