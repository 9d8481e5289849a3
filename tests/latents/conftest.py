"""A small corpus of rows, two sites of a small model with coders at them, and their dense codes, slowly computed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.coders import Coder, CoderSpec
from plainspoken.latents import FiringTable, encode_rows
from plainspoken.lm import LanguageModel, capture, resolve_sites
from plainspoken.types import Rows, Site


@pytest.fixture(scope="session")
def rows() -> Rows:
    """Seven rows of 16 tokens from three documents, BOS in front, padding of different lengths behind."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, (7, 16)).astype(np.int32)
    mask = np.zeros((7, 16), bool)
    for r, length in enumerate((16, 16, 3, 16, 9, 16, 2)):
        mask[r, 1:length] = True
    tokens[~mask] = 0
    return Rows(tokens, mask, np.array([0, 0, 0, 1, 1, 2, 2], np.int32), ("a", "b", "c"), "explain")


@pytest.fixture(scope="session")
def coders(neox: LanguageModel) -> dict[Site, Coder]:
    """One random coder of 40 latents, some of which never fire, at each FFN."""
    made = {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for site in resolve_sites(neox, "gpt_neox.layers.*.mlp"):
            coder = Coder(CoderSpec("transcoder", "topk", 40, 4, False, site.d_in, site.d_out))
            for parameter in coder.parameters():
                parameter.normal_()
            coder.b_enc[:5] = -1000.0
            made[site] = coder.requires_grad_(False)
    return made


@pytest.fixture(scope="session")
def dense(neox: LanguageModel, coders: dict[Site, Coder], rows: Rows) -> dict[Site, np.ndarray]:
    """The latents [row * t, latents] of every site, 0 outside the text: what no code of ours ever builds."""
    with torch.no_grad(), capture(neox, list(coders)) as seen:
        neox.model(torch.from_numpy(rows.tokens).long())
        out = {}
        for site, coder in coders.items():
            x = seen[site.module][0].flatten(0, 1)
            z = coder.dense(coder.encode(x)) * torch.from_numpy(rows.mask).flatten().unsqueeze(1)
            out[site] = z.numpy()
    return out


@pytest.fixture(scope="session")
def tables(
    neox: LanguageModel, coders: dict[Site, Coder], rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> dict[Site, FiringTable]:
    folder: Path = tmp_path_factory.mktemp("tables")
    return encode_rows(neox, coders, rows, {site: folder / site.module for site in coders}, batch_rows=2)
