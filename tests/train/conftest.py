"""Stores to train on: what a small network makes of noise, and sparse sums of directions."""

import pytest
import torch

from plainspoken.activations import ActivationStore


@pytest.fixture(scope="module")
def fit() -> ActivationStore:
    """500 vectors through a small random network: 7.8 batches an epoch, so that batches reach over its end."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 6, generator=generator)
    hidden = (x @ torch.randn(6, 20, generator=generator)).relu()
    return ActivationStore(x, hidden @ torch.randn(20, 5, generator=generator) + 1.0, "random network")


@pytest.fixture(scope="module")
def mixed() -> ActivationStore:
    """2,000 sums of a few of 40 directions in twelve dimensions, and a linear image of them."""
    generator = torch.Generator().manual_seed(1)
    directions, share = torch.randn(40, 12, generator=generator), torch.rand(2000, 40, generator=generator)
    strength = torch.where(share > 0.92, torch.rand(2000, 40, generator=generator) + 0.5, 0.0)
    x = strength @ directions + 1.0
    return ActivationStore(x, x @ torch.randn(12, 8, generator=generator), "mixed")
