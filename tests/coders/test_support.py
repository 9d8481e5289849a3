"""The three sums over a support equal their dense forms, and the quick searches equal the slow."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plainspoken.coders.bfloat16 import candidates, rounded_skip
from plainspoken.coders.support import Dense, Sparse


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 20), st.floats(0.0, 1.0), st.integers(0, 1000))
def test_sums_over_a_list_equal_dense_products(n: int, latents: int, share: float, seed: int) -> None:
    """Of rows of any length, empty ones and empty lists included."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, latents, generator=generator) < share
    left, table = (torch.randn(rows, 3, dtype=torch.float64, generator=generator) for rows in (n, latents))
    dense = torch.randn(n, latents, dtype=torch.float64, generator=generator) * mask
    sparse, whole = Sparse.where(mask), Dense(latents)
    values = dense[mask]
    torch.testing.assert_close(sparse.row_sum(values, table), whole.row_sum(dense, table))
    torch.testing.assert_close(sparse.latent_sum(values, left), whole.latent_sum(dense, left))
    torch.testing.assert_close(sparse.dot(left, table), whole.dot(left, table)[mask])
    torch.testing.assert_close(sparse.total(values), whole.total(dense))
    assert torch.equal(sparse.latents_where(values > 0.5), whole.latents_where(dense > 0.5))
    vector = torch.randn(latents, generator=generator)
    assert torch.equal(sparse.of_latent(vector), vector.expand(n, -1)[mask])
    assert torch.equal(sparse.row, mask.nonzero()[:, 0])


@pytest.mark.parametrize("latents", [2**15, 2**15 + 8])
def test_sorting_by_latent_holds_on_both_sides_of_sixteen_bits(latents: int) -> None:
    indices = torch.stack([torch.randperm(latents)[:5] for _ in range(6)])
    indices[0, 0] = latents - 1
    support = Sparse.regular(indices, latents)
    assert support.latent[support.order].tolist() == sorted(indices.flatten().tolist())


def test_candidates_hold_the_largest() -> None:
    """Of the 32 largest of 4,096 pre-activations of width 256, all but one in ten thousand at most."""
    generator = torch.Generator().manual_seed(0)
    x, W = torch.randn(300, 256, generator=generator), torch.randn(4096, 256, generator=generator) / 16
    b = torch.randn(4096, generator=generator) / 16
    found = candidates(x, W, b, 32)
    assert found.shape == (300, 40)
    pre = torch.addmm(b, x, W.T)
    hit = torch.zeros_like(pre, dtype=torch.bool).scatter_(1, found, True)
    right = hit.gather(1, pre.topk(32, dim=1).indices)
    assert float(right.double().mean()) > 0.9999
    assert candidates(x[:0], W, b, 32).shape == (0, 40)
    assert candidates(x, W[:33], b[:33], 32).shape == (300, 33)


def test_the_rounded_skip_is_the_skip_to_a_part_in_500() -> None:
    generator = torch.Generator().manual_seed(0)
    x, W = torch.randn(64, 32, generator=generator), torch.randn(16, 32, generator=generator, requires_grad=True)
    weight = torch.randn(64, 16, generator=generator)
    exact, rounded = x @ W.T, rounded_skip(x, W)
    assert ((rounded - exact).norm() / exact.norm()).item() < 1 / 200
    (slow,) = torch.autograd.grad((exact * weight).sum(), W)
    (quick,) = torch.autograd.grad((rounded * weight).sum(), W)
    assert float((quick - slow).norm() / slow.norm()) < 1 / 200
