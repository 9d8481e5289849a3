"""Encode: firing tables over the explain and the calibrate rows, and what there is to say of each latent in numbers."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int

from plainspoken.coders import Coder, load_coder
from plainspoken.latents import encode_rows, latent_weight, loss_metric, statistics
from plainspoken.pipeline.shelves import load_rows, save_statistics
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Part, Rows, Site

METRIC_ROWS = 48
"""Rows whose gradients make the metric of the loss: its diagonal is stable from a few dozen on."""
PARTS: tuple[Part, ...] = ("explain", "calibrate")


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes PART/ (a firing table) and PART.statistics.safetensors for both parts at each site."""
    wanted = {unit.site for unit in units}
    sites = [site for site in workplace.sites if site.module in wanted]
    coders = {site: load_coder(workplace.path("train", site.module)).to(workplace.lm.device) for site in sites}
    rows = {part: load_rows(workplace, part) for part in PARTS}
    tables = {}
    for part, these in rows.items():
        folders = {site: workplace.path("encode", site.module) / part for site in sites}
        with workplace.progress.track(f"encoding the {part} part", len(these.tokens)) as advance:
            tables[part] = encode_rows(workplace.lm, coders, these, folders, advance)
    for site in sites:
        weight = _weights(workplace, site, coders[site], rows["explain"])
        counts: dict[str, float] = {}
        for part in PARTS:
            found = statistics(tables[part][site], coders[site].W_dec)
            save_statistics(workplace.path("encode", site.module) / f"{part}.statistics.safetensors", found, weight)
            counts |= {f"{part}_tokens": found.tokens, f"{part}_firings": int(found.firings.sum())}
            counts[f"{part}_silent_latents"] = int((found.firings == 0).sum())
        yield Outcome(Unit("encode", site.module), counts)


def _weights(workplace: Workplace, site: Site, coder: Coder, rows: Rows):
    """The weight of each latent in the model's loss, from a few rows of the explain part."""
    some = spread_rows(rows, METRIC_ROWS)
    few = Rows(rows.tokens[some], rows.mask[some], rows.document[some], rows.keys, rows.part)
    salt = hashlib.sha256(f"loss metric {site.module} {workplace.config.seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(salt[:7], "little"))
    with workplace.progress.track(f"weighing the latents of {site.module}", len(few.tokens)) as advance:
        metric = loss_metric(workplace.lm, site, few, generator, advance)
    return latent_weight(coder.W_dec, metric).numpy()


def spread_rows(rows: Rows, n: int) -> Int[np.ndarray, " some"]:
    """Indices of n rows, in order: the middle one of each of the first n documents, then the first ones not yet taken.

    The first n rows of a corpus of long files would be one file's, and its start.
    """
    _, first, length = np.unique(rows.document, return_index=True, return_counts=True)
    middle = (first + length // 2)[:n]
    rest = np.setdiff1d(np.arange(len(rows.tokens)), middle)
    return np.sort(np.concatenate([middle, rest[: n - len(middle)]]))
