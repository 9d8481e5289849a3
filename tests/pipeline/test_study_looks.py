"""A restricted look shows nothing of layer 0's coder, and says where it has not looked further."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.circuits.study import Known
from plainspoken.coders import Coder
from plainspoken.latents import FiringTable
from plainspoken.pipeline import study_looks
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit import Prompt, RunCircuits
from plainspoken.pipeline.shelves import load_rows, load_table
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.study_looks import Subject, circuit_lines, firing_prompts
from plainspoken.pipeline.workplace import Workplace

SITE = "gpt_neox.layers.1.mlp"
RESTRICTED = Known(restricted=True, revealed=(), scored=False)


@pytest.fixture
def circuits(both_layers: Path) -> RunCircuits:
    return RunCircuits(Workplace(both_layers, stored_config(both_layers), STAGES))


@pytest.fixture
def table(both_layers: Path) -> FiringTable:
    workplace = Workplace(both_layers, stored_config(both_layers), STAGES)
    return load_table(workplace, SITE, load_rows(workplace, "explain"))


def told(circuits: RunCircuits, table: FiringTable) -> list[str]:
    latent = int(np.diff(table.pointer).argmax())
    prompts: list[Prompt] = firing_prompts(circuits, table, latent, 1)
    return circuit_lines(circuits, prompts[0], Subject(1, latent), RESTRICTED)


def with_random_skip(coder: Coder, seed: int) -> Coder:
    """Another coder of the same size: all its weights are random, its skip's among them."""
    found = Coder(replace(coder.spec, skip=True), torch.float32)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(0, 0.1, generator=draw)
    return found.requires_grad_(False)


def test_restricted_circuits_are_the_same_whatever_the_coder_of_layer_0(
    circuits: RunCircuits, table: FiringTable
) -> None:
    site, shown = circuits.site_of_layer[0], []
    coder = circuits.coders[site]
    for seed in range(2):
        circuits.coders[site] = with_random_skip(coder, seed)
        shown.append(told(circuits, table))
    assert any("token @" in line for line in shown[0])
    assert shown[0] == shown[1]


def test_paths_that_were_not_looked_through_are_told(
    circuits: RunCircuits, table: FiringTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("not looked through" in line for line in told(circuits, table))
    monkeypatch.setattr(study_looks, "_TRIED", 3)
    assert any("of the 3 strongest paths" in line for line in told(circuits, table))
