"""Dashboards of a random model's random coder, with whatever tokens, sentences and names a test wants in them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from families_made import VOCABULARY, made_coders, made_lm
from plainspoken.circuits.dashboard import wiring
from plainspoken.circuits.dashboard_file import About, Dashboards
from plainspoken.latents import FiringTable
from plainspoken.latents.dashboard import Shown, activity
from plainspoken.lm.anatomy import anatomy
from plainspoken.types import Explanation, Rows


def made_dashboards(
    sentences: Mapping[int, str] | None = None, pieces: Mapping[int, bytes] | None = None, document: str = "a.txt"
) -> Dashboards:
    """48 latents of a middle layer, with sources and targets, over 30 rows of 20 tokens; latent 3 never fires."""
    torch.manual_seed(0)
    lm = made_lm("gpt_neox")
    coders = made_coders(lm, at=(0, 1, 2))
    site = list(coders)[1]
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, VOCABULARY, (30, 20)).astype(np.int32)
    rows = Rows(
        tokens, np.ones((30, 20), bool), np.repeat(np.arange(3, dtype=np.int32), 10), (document, "b", "c"), "explain"
    )
    fires = [np.flatnonzero(generator.random(600) < 0.2) if latent != 3 else np.zeros(0, int) for latent in range(48)]
    pointer = np.concatenate([[0], np.cumsum([len(each) for each in fires])])
    value = generator.exponential(size=pointer[-1]).astype(np.float32)
    shown = Shown(bands=3, per_band=2, window=6, bins=5)
    found = activity(FiringTable(pointer, np.concatenate(fires), value, rows), coders[site].W_dec, shown, 7)
    spelled = {token: f"t{token}".encode() for token in range(VOCABULARY)} | dict(pieces or {})
    said = {latent: Explanation(latent, text, 3, "rules") for latent, text in (sentences or {}).items()}
    correlation = np.where(np.isin(np.arange(48), list(said)), 0.5, np.nan)
    about = About(
        site=site.module, kind=site.kind, lm=lm.name, lm_fingerprint="f" * 64, coder="c" * 64, part="explain",
        rows=rows.fingerprint, tokens=rows.token_count, seed=7, shown=shown, documents=rows.keys,
    )  # fmt: skip
    where = rows.document[found.examples.row].astype(np.int32)
    assert found.strongest is not None
    strongest = rows.document[found.strongest.row].astype(np.int32)
    wires = wiring(anatomy(lm), coders, site, 4)
    return Dashboards(about, found, where, wires, spelled, said, {"correlation": correlation}, strongest)


def without_wiring(dashboards: Dashboards) -> Dashboards:
    """The same of a model whose weights could not be read."""
    return replace(dashboards, wiring=None, fidelity={})
