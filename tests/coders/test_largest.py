"""The two-step search names what torch's own top-k names."""

import pytest
import torch

from plainspoken.coders.largest import largest


@pytest.mark.parametrize(("m", "k"), [(5, 5), (64, 1), (256, 1), (640, 2), (1024, 4), (1000, 1), (3 * 1024, 3)])
def test_the_largest_are_topks(m: int, k: int) -> None:
    entries = torch.randn(9, m)
    values, indices = largest(entries, k)
    wanted = entries.topk(k, dim=1)
    assert torch.equal(values, entries.gather(1, indices))
    found, order = values.sort(dim=1, descending=True)
    assert torch.equal(found, wanted.values)
    assert torch.equal(indices.gather(1, order), wanted.indices)


def test_ties_infinities_and_no_rows() -> None:
    """Where entries tie, the values are still topk's, and no entry is named twice."""
    entries = torch.randint(-2, 3, (50, 1024)).float()
    entries[0, 7], entries[1] = torch.inf, -torch.inf
    values, indices = largest(entries, 4)
    assert torch.equal(values.sort(dim=1, descending=True).values, entries.topk(4, dim=1).values)
    assert torch.equal(values, entries.gather(1, indices))
    assert all(len(set(row)) == 4 for row in indices.tolist())
    assert largest(entries[:0], 4)[0].shape == (0, 4)
