"""Rows: the contributions of all sources, and nothing but them, make up a target."""

import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt, relative
from plainspoken.circuits.adjoint import rows, rows_by_head
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.targets import firing_targets, logit_targets


@pytest.mark.parametrize("family", FAMILIES)
def test_all_sources_and_the_own_bias_make_up_a_latent_and_a_logit(family: str) -> None:
    lm = made_lm(family)
    frozen = freeze(lm, made_coders(lm), made_prompt(10), torch.float64)
    for layer in (0, 2):
        targets = firing_targets(frozen, layer)
        assert relative(rows(frozen, targets).sum(0) + targets.offset, frozen.layers[layer].latents.pre) < 1e-9
    targets = logit_targets(frozen, 9, None, [3, 5, 7])
    logits = frozen.logits[9]
    assert relative(rows(frozen, targets).sum(0) + targets.offset, logits[[3, 5, 7]] - logits.mean()) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_and_the_bypass_make_up_the_row(family: str) -> None:
    lm = made_lm(family)
    frozen = freeze(lm, made_coders(lm), made_prompt(10), torch.float64)
    for targets in (firing_targets(frozen, 2), logit_targets(frozen, 9, None, [3])):
        bypass, by_head = rows_by_head(frozen, targets)
        assert relative(bypass + by_head.sum((0, 1)), rows(frozen, targets)) < 1e-9
